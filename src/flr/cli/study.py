"""`flr study`: a matrix of runs, and an honest report on what holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.errors import ConfigError, FlrError

if TYPE_CHECKING:
    from flr.experiments.study_report import StudyReport
    from flr.experiments.verdicts import Claim


def study(
    file: Annotated[
        Path | None, typer.Argument(help="Study file, YAML: data sets, variants, baselines, seeds.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option(help="The study's folder: runs, tables and the report.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; unset: one per core, or one in all on a GPU.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A study of a toy world in minutes, to see how it works.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train all variants and baselines of a study on all its seeds, look at what they learned, and write the report.

    The report compares them by user, shows what factors share and what lists lose without them, who is robust and for
    whom it is good, and says which claims hold. Stopped, it goes on where it was with the same command: no run is
    trained twice, no instrument used twice.

    \b
    Examples:
      flr study --quick --output study-quick
      flr study movielens-100k.yaml --output studies/movielens-100k
      flr study movielens-100k.yaml --output studies/movielens-100k --jobs 1
      flr study ablations.yaml --output studies/ablations
    """
    if quick == (file is not None):
        raise ConfigError(f"got {'both a study file and' if quick else 'neither a study file nor'} --quick; give one")
    from flr.experiments.matrix import load_study
    from flr.experiments.quick import quick_study
    from flr.experiments.study import run_study

    progress = console.progress(quiet)
    chosen = quick_study(output) if file is None else load_study(file)
    result = run_study(chosen, output, jobs=jobs, progress=progress)
    if as_json:
        told = [
            {
                "data": c.data,
                "model": c.model,
                "rival": c.rival,
                "verdict": c.verdict,
                "p_holm": c.corrected,
                **vars(c.comparison),
            }
            for found in result.findings
            for c in found.claims
        ]
        factors = [vars(claim) for found in result.evidence for claim in found.claims]
        console.show_json({"page": result.page, "claims": told, "factors": factors, "failed": result.failed})
    else:
        _show(result)
    if result.failed:
        raise FlrError(
            f"{len(result.failed)} jobs failed, such as {result.failed[0]}; mend it and give the command again"
        )


def _show(result: StudyReport) -> None:
    for found in result.findings:
        claims = {claim.rival: claim for claim in found.claims}
        rows = [
            (model.name, *(model.figures[name].mean for name in ("ndcg@10", "hr@10")), *_versus(claims.get(model.name)))
            for model in found.models
        ]
        columns = ("", "NDCG@10", "HR@10", "compared with", "difference", "p (Holm)", "that one is better")
        console.show_table(columns, rows, title=f"{found.data}: {found.n_targets:,} targets of {found.n_users:,} users")
        console.show_line()
    for evidence in result.evidence:
        if evidence.claims:
            rows = [(claim.claim, claim.verdict) for claim in evidence.claims]
            console.show_table(("claim", "verdict"), rows, title=f"{evidence.data}: factors")
            console.show_line()
    console.show_line(f"the report: {result.page}")


def _versus(claim: Claim | None) -> tuple[str, float | None, float | None, str]:
    if claim is None:
        return "", None, None, ""
    return claim.model, claim.comparison.difference.mean, claim.corrected, claim.verdict
