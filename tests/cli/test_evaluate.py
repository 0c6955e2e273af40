"""`flr evaluate`: a report as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flr.records import Report

from .conftest import Run


@pytest.fixture
def calls(stand_in: Callable[..., None]) -> list[dict[str, Any]]:
    """What the evaluation was asked for."""
    asked: list[dict[str, Any]] = []

    def evaluate_run(run: Path, *, progress: Any, **options: Any) -> Report:
        asked.append({"run": run, **options})
        metrics = {"ndcg@10": 0.0641, "hr@10": float("nan")}
        return Report("flr", options["split"], metrics, pl.DataFrame({"rank": [1, 2]}), 1.25)

    def evaluate_cold_run(run: Path, *, progress: Any, **options: Any) -> pl.DataFrame:
        asked.append({"run": run, "cold": True, **options})
        return pl.DataFrame({"scorer": ["flr"], "targets": ["cold"], "n_targets": [96], "ndcg@10": [0.0123]})

    stand_in("flr.training.finished", evaluate_run=evaluate_run, evaluate_cold_run=evaluate_cold_run)
    return asked


def test_a_table(run: Run, calls: list[dict[str, Any]]) -> None:
    result = run("evaluate", "--run", "runs/x")
    assert result.exit_code == 0, result.stderr
    assert calls == [{"run": Path("runs/x"), "split": "test", "data": None, "overrides": (), "output": None}]
    assert result.stdout.splitlines()[0] == "flr on test: 2 targets in 1.2 s"
    assert "0.0641" in result.stdout


def test_json_has_null_for_what_is_undefined(run: Run, calls: list[dict[str, Any]]) -> None:
    ranked = ("--set", "evaluation.ranking=beam", "--output", "o")
    result = run("evaluate", "--run", "runs/x", "--split", "valid", "--data", "d", *ranked, "--json")
    asked = {"overrides": ["evaluation.ranking=beam"], "output": Path("o")}
    assert calls == [{"run": Path("runs/x"), "split": "valid", "data": Path("d"), **asked}]
    assert json.loads(result.stdout) == {
        "name": "flr", "split": "valid", "seconds": 1.25, "metrics": {"ndcg@10": 0.0641, "hr@10": None}
    }  # fmt: skip


def test_cold_items_have_a_table_of_their_own(run: Run, calls: list[dict[str, Any]]) -> None:
    result = run("evaluate", "--run", "runs/x", "--cold")
    assert result.exit_code == 0, result.stderr
    assert calls == [{"run": Path("runs/x"), "cold": True, "data": None, "overrides": (), "output": None}]
    assert result.stdout.splitlines()[-1].split() == ["flr", "cold", "96", "0.0123"]
    as_json = json.loads(run("evaluate", "--run", "runs/x", "--cold", "--json").stdout)
    assert as_json == [{"scorer": "flr", "targets": "cold", "n_targets": 96, "ndcg@10": 0.0123}]


def test_no_cold_item_is_validated_on(run: Run, calls: list[dict[str, Any]]) -> None:
    result = run("evaluate", "--run", "runs/x", "--cold", "--split", "valid")
    assert (result.exit_code, calls) == (2, [])
    assert "got --cold with --split valid" in result.stderr


def test_a_folder_that_is_no_run(run: Run, tmp_path: Path) -> None:
    result = run("evaluate", "--run", tmp_path / "nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(tmp_path / "nothing") in result.stderr
    assert "Traceback" not in result.stderr
