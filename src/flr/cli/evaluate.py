"""`flr evaluate`: a run folder in, its metrics out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.errors import RequestError


def evaluate(
    *,
    run: Annotated[Path, typer.Option(help="Run folder, made by `flr train`.")],
    split: Annotated[Literal["valid", "test"], typer.Option(help="Which targets to rank for.")] = "test",
    data: Annotated[Path | None, typer.Option(help="Prepared folder; unset: the one the run was trained on.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="evaluation.KEY=VALUE", help="Rank in another way than the run was validated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results; unset: the run's own, with --set they are only shown.")
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Add the items that `flr prepare --cold-items` withheld, and tell them apart."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank the whole catalogue for every target of a split and measure it.

    The metrics go into the run's metrics.json, the per-target results beside it as Parquet.

    \b
    Examples:
      flr evaluate --run runs/ml-100k --split test
      flr evaluate --run runs/ml-100k --split valid --json
      flr evaluate --run runs/cds --set evaluation.seen_items=include
      flr evaluate --run runs/cds --set evaluation.ranking=beam
        --set evaluation.guide=last_item_markov --output runs/cds-guided
      flr evaluate --run runs/ml-100k-cold --cold
    """
    if cold:
        if split != "test":
            raise RequestError(f"got --cold with --split {split}; withheld items are targets of the test split only")
        _show_cold(run, as_json, data=data, overrides=settings or (), output=output, progress=console.progress(quiet))
        return
    from flr.training.finished import evaluate_run

    report = evaluate_run(
        run, split=split, data=data, overrides=settings or (), output=output, progress=console.progress(quiet)
    )
    if as_json:
        found = {"name": report.name, "split": report.split, "seconds": report.seconds}
        console.show_json({**found, "metrics": report.metrics})
        return
    console.show_table(
        ("metric", "value"),
        report.metrics.items(),
        title=f"{report.name} on {report.split}: {report.per_target.height:,} targets in {report.seconds:.1f} s",
    )


def _show_cold(run: Path, as_json: bool, **options: Any) -> None:
    from flr.training.finished import evaluate_cold_run

    table = evaluate_cold_run(run, **options)
    if as_json:
        console.show_json(table.to_dicts())
        return
    shown = table.select(name for name in table.columns if not name.startswith("mrr@"))
    about = "withheld items were added by titles and attributes; nothing was trained"
    console.show_table(shown.columns, shown.rows(), title=about)
