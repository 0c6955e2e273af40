"""`flr compare` after `flr prepare` and `flr baselines`, as somebody would type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def models(run: Run, raw: tuple[Path, Path], columns: tuple[str, ...], tmp_path: Path) -> list[Path]:
    rows, items = raw
    data, output = tmp_path / "data", tmp_path / "baselines"
    assert not run("prepare", "--interactions", rows, "--items", items, *columns, "--output", data).exit_code
    only = ("--only", "popularity", "--only", "last-item-markov")
    assert not run("baselines", "--data", data, "--output", output, *only, "--seen-items", "include").exit_code
    return [output / "last-item-markov", output / "popularity"]


def test_two_baselines(run: Run, models: list[Path]) -> None:
    result = run("compare", *models)
    assert result.exit_code == 0, result.stderr
    title, _, _, first, second = result.stdout.splitlines()
    assert title == "test: 3 targets of 3 users"
    assert first.split()[0] == str(models[0]) and first.split()[-5:] == ["-"] * 5
    assert second.split()[0] == str(models[1])
    told = json.loads(run("compare", *models, "--metric", "hr@5", "--json").stdout)
    metrics = [json.loads((model / "metrics.json").read_text())["test"]["hr@5"] for model in models]
    assert [model["mean"] for model in told] == metrics
    assert told[1]["first_less_this"]["difference"]["mean"] == pytest.approx(metrics[0] - metrics[1])
    assert 0 <= told[1]["p_holm"] <= 1


def test_one_model_is_too_few(run: Run, models: list[Path]) -> None:
    result = run("compare", models[0])
    assert result.exit_code == 2
    assert "got 1 model, expected at least two" in result.stderr
