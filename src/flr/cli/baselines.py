"""`flr baselines`: prepared data in, what simpler recommenders reach on it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet


def baselines(
    *,
    data: Annotated[Path, typer.Option(help="Prepared folder, made by `flr prepare`.")],
    output: Annotated[Path, typer.Option(help="Gets a folder for each baseline.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="popularity, last-item-markov, item-knn, ease, transitions, gru4rec, caser, sasrec, bert4rec or "
            "alpharec; may be repeated. Unset: all, alpharec only with --titles-from."
        ),
    ] = None,
    titles_from: Annotated[
        str | None,
        typer.Option(help="What reads titles for alpharec: a run, a Hugging Face id, a local model or smollm2-135m."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings tried for each, chosen on validation.")] = 3,
    seen_items: Annotated[
        Literal["exclude", "include"], typer.Option(help="Whether items of the history may be recommended again.")
    ] = "exclude",
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random stream.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace baselines that are already there.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit baselines on the same rows as the model, choose their settings on validation, and test them.

    Each gets the same number of trials; what is finished already is not done again.

    \b
    Examples:
      flr baselines --data data/cds --output baselines/cds --seen-items include
      flr baselines --data data/cds --output baselines/cds --only sasrec --only item-knn --seed 1
      flr baselines --data data/cds --output baselines/cds --titles-from smollm2-135m
    """
    from flr.baselines.settings import BaselineSettings
    from flr.experiments.baselines import run_baselines

    results = run_baselines(
        data,
        output,
        only=only or (),
        titles_from=titles_from,
        settings=BaselineSettings(trials=trials, seen_items=seen_items),
        seed=seed,
        overwrite=overwrite,
        progress=console.progress(quiet),
    )
    if as_json:
        console.show_json(
            [
                {"name": r.name, "n_trials": r.n_trials, "valid": r.valid.metrics, "test": r.test.metrics}
                for r in results
            ]
        )
        return
    console.show_table(
        ("", "trials", "valid NDCG@10", "valid HR@10", "test NDCG@10", "test HR@10"),
        [
            (r.name, r.n_trials, *(report.metrics[m] for report in (r.valid, r.test) for m in ("ndcg@10", "hr@10")))
            for r in results
        ],
        title=f"{int(results[0].test.metrics['n_targets']):,} test targets -> {output}",
    )
