"""`flr demo`: the whole road on real data, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet


def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, run and report.html.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random stream.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch MovieLens-100K, train, evaluate beside two baselines, recommend, and write a report.

    \b
    Examples:
      flr demo
      flr demo --output demo-1 --seed 1
    """
    from flr.experiments.demo import run_demo

    result = run_demo(output, seed=seed, progress=console.progress(quiet))
    if as_json:
        console.show_json(result)
        return
    console.show_line(str(result))
