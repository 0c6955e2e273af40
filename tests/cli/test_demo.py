"""`flr demo` hands its options on and shows what came out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Run


def test_options_and_result(run: Run, stand_in: Callable[..., None]) -> None:
    asked: list[Any] = []

    def run_demo(output: Path, *, seed: int, progress: Any) -> str:
        progress.message("train: step 100")
        asked.append((output, seed))
        return "report: demo/report.html"

    stand_in("flr.experiments.demo", run_demo=run_demo)
    result = run("demo", "--seed", 1)
    assert (result.exit_code, result.stdout) == (0, "report: demo/report.html\n")
    assert result.stderr == "train: step 100\n"
    assert asked == [(Path("demo"), 1)]
