"""`flr baselines` hands its options on and shows what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .conftest import Run

METRICS = {"ndcg@10": 0.0712, "hr@10": 0.1421, "n_targets": 943.0}


@pytest.fixture
def asked(stand_in: Callable[..., None]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def run_baselines(data: Path, output: Path, *, progress: Any, **options: Any) -> list[SimpleNamespace]:
        calls.append(options)
        report = SimpleNamespace(metrics=METRICS)
        return [SimpleNamespace(name="sasrec", n_trials=3, valid=report, test=report)]

    stand_in("flr.experiments.baselines", run_baselines=run_baselines)
    return calls


def test_a_table(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("baselines", "--data", "d", "--output", "o", "--only", "sasrec", "--seed", 2, "--trials", 1)
    assert result.exit_code == 0, result.stderr
    assert (asked[0]["only"], asked[0]["seed"], asked[0]["settings"].trials) == (["sasrec"], 2, 1)
    assert "943 test targets" in result.stdout
    assert "0.0712" in result.stdout


def test_json(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("baselines", "--data", "d", "--output", "o", "--seen-items", "include", "--json")
    assert json.loads(result.stdout)[0]["test"] == METRICS
    assert asked[0]["settings"].seen_items == "include"
