"""`flr demo`: the whole road on real data, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet

if TYPE_CHECKING:
    from flr.experiments.content import UserExample
    from flr.records import Report


def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, run and report.html.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random stream.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch MovieLens-100K, train, evaluate beside five baselines, recommend, and write a report.

    \b
    Examples:
      flr demo
      flr demo --output demo-1 --seed 1
    """
    from flr.experiments.demo import run_demo

    result = run_demo(output, seed=seed, progress=console.progress(quiet))
    if as_json:
        reports = [{"name": report.name, "metrics": report.metrics} for report in result.reports]
        facts = {"run": result.run, "page": result.page, "seconds": result.seconds}
        console.show_json({**facts, "reports": reports, "examples": result.examples})
        return
    _show_results(result.reports)
    for example in result.examples:
        _show_example(example)
    console.show_line(f"the model: {result.run} (try `flr recommend --run {result.run} --by title --history ...`)")
    console.show_line(f"the report: {result.page}, after {result.seconds:.0f} s")


def _show_results(reports: Sequence[Report]) -> None:
    names = ("ndcg@10", "hr@10", "mrr@10", "coverage@10")
    n_targets = int(reports[0].metrics["n_targets"])
    console.show_table(
        ("", *(name.upper() for name in names)),
        [(report.name, *(report.metrics[name] for name in names)) for report in reports],
        title=f"{n_targets:,} held-out targets, all unseen items ranked",
    )
    console.show_line()


def _show_example(example: UserExample) -> None:
    console.show_table(
        ("rank", "probability", "title"),
        [
            (rank, f"{probability:.2%}", f"{title}  (taken next)" if title == example.taken_next else title)
            for rank, (title, probability) in enumerate(example.recommended, start=1)
        ],
        title=f"user {example.user_id}, after ... " + " | ".join(example.history[-3:]),
    )
    console.show_line(f"taken next: {example.taken_next}\n")
