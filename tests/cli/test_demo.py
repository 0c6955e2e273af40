"""`flr demo` hands its options on and shows what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flr.experiments.content import UserExample

from .conftest import Run

METRICS = {"ndcg@10": 0.0712, "hr@10": 0.1421, "mrr@10": 0.05, "coverage@10": 0.4, "n_targets": 943.0}
ASKED: list[Any] = []


@pytest.fixture(autouse=True)
def _demo(stand_in: Callable[..., None]) -> None:
    ASKED.clear()

    def run_demo(output: Path, *, seed: int, progress: Any) -> SimpleNamespace:
        progress.message("train: step 100")
        ASKED.append((output, seed))
        example = UserExample(
            "7", ["Heat (1995)"], 31, [("Alien (1979)", 0.02), ("[Rec] (2007)", 0.01)], "Alien (1979)"
        )
        reports = [SimpleNamespace(name="flr", metrics=METRICS)]
        return SimpleNamespace(
            reports=reports, examples=[example], page=output / "report.html", run=output / "run", seconds=299.7
        )

    stand_in("flr.experiments.demo", run_demo=run_demo)


def test_options_and_result(run: Run) -> None:
    result = run("demo", "--seed", 1)
    assert result.exit_code == 0
    assert result.stderr == "train: step 100\n"
    assert [(Path("demo"), 1)] == ASKED
    for shown in (
        "0.0712",
        "0.1421",
        "Alien (1979)  (taken next)",
        "[Rec] (2007)",
        "2.00%",
        "demo/report.html",
        "300 s",
    ):
        assert shown in result.stdout


def test_json_holds_metrics_and_examples(run: Run) -> None:
    shown = json.loads(run("demo", "--quiet", "--json").stdout)
    assert shown["reports"] == [{"name": "flr", "metrics": METRICS}]
    assert shown["examples"][0]["recommended"][0] == ["Alien (1979)", 0.02]
    assert shown["page"] == "demo/report.html"
