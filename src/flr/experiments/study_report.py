"""The report of a study: one page, the same as Markdown, and its table as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from flr.experiments.charts import interval_rows
from flr.experiments.evidence_findings import DataEvidence
from flr.experiments.factor_sections import disentanglement, interventions, profiles, stability
from flr.experiments.matrix import Study
from flr.experiments.outcome_sections import robustness, slices
from flr.experiments.page_parts import Page
from flr.experiments.page_tables import csv_of, escaped, latex
from flr.experiments.report import template
from flr.experiments.verdicts import LEVEL, METRIC, Claim, DataFindings, ModelFigures, shown_seeds, told_seeds
from flr.persistence import read_json, write_text

#: Seeds below which a report says how many there were: few show large differences only.
_ENOUGH_SEEDS: Final = 5


@dataclass(frozen=True)
class StudyReport:
    """Where the report of a study is, and what it says.

    Attributes:
        page, text: ``report.html`` and ``report.md``.
        findings: By data set.
        evidence: What instruments found, in the same order.
        failed: Jobs that failed, with the reason.
    """

    page: Path
    text: Path
    findings: tuple[DataFindings, ...]
    evidence: tuple[DataEvidence, ...]
    failed: tuple[str, ...]


def write_study_report(
    study: Study,
    output: Path,
    findings: Sequence[DataFindings],
    evidence: Sequence[DataEvidence],
    failed: Sequence[str],
) -> StudyReport:
    """Write ``report.html`` and ``report.md`` into the study's folder, and beside them all their figures.

    ``results.csv`` and ``results.tex`` compare models, ``evidence-*.csv`` and ``.tex`` hold what instruments found, and
    ``claims.csv`` each verdict with its figures and the file they come from.

    Args:
        study: What was run.
        output: The study's folder.
        findings: By data set.
        evidence: In the same order.
        failed: Jobs that failed, with the reason.

    Raises:
        StorageError: The disk refused a write.
    """
    rows = [row for found in findings for row in _rows(found)]
    content: dict[str, Any] = {
        "study": study,
        "summary": [
            sentence
            for found, more in zip(findings, evidence, strict=True)
            for sentence in (*_summary(study, found), *_summary_of_factors(more))
        ],
        "parts": [_part(found) for found in findings],
        "claims": _claims(findings, evidence),
        "evidence": [_evidence_part(study, *each) for each in zip(findings, evidence, strict=True)],
        "failed": list(failed),
        "facts": _facts(output, findings, evidence),
        "level": LEVEL,
        "shown_p": shown_p,
        "shown_seeds": shown_seeds,
    }
    write_text(output / "report.html", template("study.html.j2").render(content))
    write_text(output / "report.md", template("study.md.j2", escape=False).render(content).rstrip() + "\n")
    frame = pl.DataFrame(rows)
    write_text(output / "results.csv", frame.write_csv())
    write_text(output / "results.tex", _latex(frame))
    write_text(output / "claims.csv", pl.DataFrame(content["claims"], infer_schema_length=None).write_csv())
    _write_evidence(output, evidence, content["evidence"])
    return StudyReport(output / "report.html", output / "report.md", tuple(findings), tuple(evidence), tuple(failed))


def _evidence_part(study: Study, found: DataFindings, evidence: DataEvidence) -> dict[str, Any]:
    ranked = sorted(found.models, key=lambda model: -model.figures[METRIC].mean)
    page = Page(study, evidence, [model.name for model in ranked])
    asked = (disentanglement, profiles, interventions, stability, robustness, slices)
    return {"data": found.data, "sections": [section for make in asked for section in make(page)]}


def _write_evidence(output: Path, evidence: Sequence[DataEvidence], parts: Sequence[dict[str, Any]]) -> None:
    """Write every table as CSV, those of the page as LaTeX, and remove those that are no longer made."""
    for path in (*output.glob("evidence-*.csv"), *output.glob("evidence-*.tex")):
        path.unlink()
    for name in dict.fromkeys(name for found in evidence for name in found.tables):
        content = csv_of({found.data: found.tables.get(name, pl.DataFrame()) for found in evidence})
        if content is not None:
            write_text(output / f"evidence-{name}.csv", content)
    by_file: dict[str, list[str]] = {}
    for part in parts:
        for section in part["sections"]:
            for table in section.tables:
                by_file.setdefault(table.source.replace(".csv", ".tex"), []).append(f"% {part['data']}\n{latex(table)}")
    for name, texts in by_file.items():
        write_text(output / name, "\n".join(texts))


def _claims(findings: Sequence[DataFindings], evidence: Sequence[DataEvidence]) -> list[dict[str, Any]]:
    """Return every claim with its verdict, figures and the file they come from: about factors first."""
    of_factors = [
        {
            "data": claim.data,
            "claim": claim.claim,
            "verdict": claim.verdict,
            "value": claim.value,
            "low": claim.low,
            "high": claim.high,
            "figures": claim.told,
            "source": f"evidence-{claim.source}.csv",
        }
        for found in evidence
        for claim in found.claims
    ]
    return of_factors + [_told(claim) for found in findings for claim in found.claims]


def _rows(found: DataFindings) -> list[dict[str, Any]]:
    claims = {claim.rival: claim for claim in found.claims}
    return [{"data": found.data, **_row(model, claims.get(model.name))} for model in found.models]


def _row(model: ModelFigures, claim: Claim | None) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model.name, "seeds": model.figures[METRIC].n}
    row |= {"weights": model.n_weights, "weights with assistant": model.n_with_assistant}
    for metric, spread in model.figures.items():
        row |= {metric: spread.mean, f"{metric} sd": spread.sd if spread.n > 1 else None}
    of_claim = {
        "compared with": None if claim is None else claim.model,
        "seeds compared": None if claim is None else claim.n_seeds,
        "difference": None if claim is None else claim.comparison.difference.mean,
        "low": None if claim is None else claim.comparison.difference.low,
        "high": None if claim is None else claim.comparison.difference.high,
        "detectable": None if claim is None else claim.detectable,
        "p t": None if claim is None else claim.comparison.t_p_value,
        "p signed ranks": None if claim is None else claim.comparison.signed_rank_p_value,
        "p (Holm)": None if claim is None else claim.corrected,
        "verdict": None if claim is None else claim.verdict,
    }
    return row | of_claim


def _part(found: DataFindings) -> dict[str, Any]:
    figures = [model.figures[METRIC] for model in found.models]
    drawing = interval_rows(
        [model.name for model in found.models],
        [spread.mean for spread in figures],
        [spread.sd for spread in figures],
        METRIC.upper(),
        spread_name="standard deviations over seeds",
    )
    return {"found": found, "rows": _rows(found), "drawing": drawing}


def shown_p(p_value: float) -> str:
    """Return a p-value as reports show it.

    >>> shown_p(0.0312), shown_p(1e-9)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _summary(study: Study, found: DataFindings) -> list[str]:
    """Return what the claim came to on one data set, in plain words."""
    on = f"On {found.data} ({found.n_targets:,} test targets of {found.n_users:,} users)"
    sentences = []
    for name, rivals in (("the controls", study.controls), ("the baselines", study.baselines)):
        claims = [claim for claim in found.claims if claim.rival in rivals]
        if not claims:
            continue
        told = [
            f"{verdict} against {', '.join(claim.rival for claim in claims if claim.verdict == verdict)}"
            for verdict in ("holds", "does not hold", "undecided")
            if any(claim.verdict == verdict for claim in claims)
        ]
        sentences.append(f"{on}, whether {study.reference} is better than {name}: {'; '.join(told)}.")
    few = [f"{claim.rival} ({claim.n_seeds})" for claim in found.claims if claim.n_seeds < _ENOUGH_SEEDS]
    if few:
        sentences.append(f"{on}, compared on fewer than {_ENOUGH_SEEDS} seeds: {', '.join(few)}.")
    if found.missing:
        sentences.append(f"{on}, no finished run to compare of: {', '.join(found.missing)}.")
    return sentences


def _summary_of_factors(evidence: DataEvidence) -> list[str]:
    """Return what the claims about factors came to, in one sentence; none where none is made."""
    told = [
        f"{verdict}: {', '.join(claim.claim for claim in evidence.claims if claim.verdict == verdict)}"
        for verdict in ("holds", "does not hold", "undecided")
        if any(claim.verdict == verdict for claim in evidence.claims)
    ]
    return [f"On {evidence.data}, what is claimed of factors: {'; '.join(told)}."] if told else []


def _told(claim: Claim) -> dict[str, Any]:
    difference = claim.comparison.difference
    figures = (
        f"{difference.mean:+.4f} {METRIC.upper()} on the {told_seeds(claim.n_seeds)}, 95 % interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}, p {shown_p(claim.corrected)} after Holm"
    )
    if claim.detectable:
        figures += f"; the t test would find one of {claim.detectable:.4f} four times in five"
    return {
        "data": claim.data,
        "claim": f"{claim.model} is better than {claim.rival}",
        "verdict": claim.verdict,
        "value": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "figures": figures,
        "source": "results.csv",
    }


def _facts(output: Path, findings: Sequence[DataFindings], evidence: Sequence[DataEvidence]) -> dict[str, str]:
    """Return how the study was made; what differs between its runs is told of all."""
    paths = sorted((output / "runs").glob("*/*/*/run.json"))
    runs = [read_json(path, "run") for path in paths]
    names = dict.fromkeys(name for run in runs for name in run["versions"])
    models = [model for found in findings for model in found.models]
    of_baselines = sum(model.hours for model in models if model.is_baseline)
    of_variants = sum(model.hours for model in models if not model.is_baseline)
    return {
        **{f"data hash of {found.data}": found.data_hash[:16] for found in findings},
        "training": f"{of_variants:.2f} hours of all variants and seeds, {of_baselines:.2f} of all trials of baselines",
        "evidence": f"{sum(found.hours for found in evidence):.2f} hours of all models and seeds",
        "machine": _distinct(_machine(run["machine"]) for run in runs),
        "commit": _by_commit((path.parent.parent.name, run["commit"]) for path, run in zip(paths, runs, strict=True)),
        "begun": _distinct(sorted(run["started"][:10] for run in runs)),
        **{name: _distinct(str(run["versions"].get(name, "?")) for run in runs) for name in names},
    }


def _by_commit(made: Iterable[tuple[str, str | None]]) -> str:
    """Return the commits that runs were made by, and of which variant where there are several.

    >>> _by_commit([("flr", "a" * 40), ("flr", "b" * 40), ("no-gate", "b" * 40)])
    'aaaaaaaaaaaa (flr) and bbbbbbbbbbbb (flr, no-gate)'
    """
    variants: dict[str, dict[str, None]] = {}
    for variant, commit in made:
        variants.setdefault((commit or "")[:12] or "unknown, flr was no git checkout", {})[variant] = None
    if len(variants) == 1:
        return next(iter(variants))
    return " and ".join(f"{commit} ({', '.join(names)})" for commit, names in variants.items())


def _distinct(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(values))


def _machine(facts: Mapping[str, Any]) -> str:
    processor = f", {facts['processor']}" if facts.get("processor") else ""
    known = {"cores": facts.get("cores"), "GB": facts.get("memory_gb")}
    size = "".join(f", {number} {unit}" for unit, number in known.items() if number)
    gpus = "".join(f", {name}" for name in facts["gpus"])
    return f"{facts['platform']}{processor}{size}{gpus}, {facts['threads']} threads a run"


def _latex(frame: pl.DataFrame) -> str:
    r"""Return the table as a LaTeX tabular; a difference is bold only where the claim holds after correction."""
    head = r"data & model & seeds & NDCG@10 & HR@10 & compared with & difference & 95 \% & detectable & $p$ (Holm)"
    lines = [r"\begin{tabular}{llrrrlrrrr}", rf"{head} \\ \hline"]
    for row in frame.iter_rows(named=True):
        difference, ends, detectable = "", "", ""
        if row["difference"] is not None:
            difference, detectable = f"{row['difference']:+.4f}", f"{row['detectable']:.4f}"
            ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
        if row["verdict"] == "holds":
            difference = rf"\textbf{{{difference}}}"
        p_value = "" if row["p (Holm)"] is None else f"${shown_p(row['p (Holm)'])}$"
        scores = [_score(row[name], row[f"{name} sd"]) for name in ("ndcg@10", "hr@10")]
        data, model, other = (escaped(row[name] or "") for name in ("data", "model", "compared with"))
        cells = [data, model, str(row["seeds"]), *scores, other, difference, ends, detectable, p_value]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\end{tabular}", ""])


def _score(mean: float, deviation: float | None) -> str:
    return f"{mean:.4f}" if deviation is None else rf"{mean:.4f} $\pm$ {deviation:.4f}"
