"""`flr recommend`: histories from options or a file, lists as a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flr.catalogue.filters import ItemFilter

from .conftest import Run


@dataclass(frozen=True)
class Item:
    item_id: str
    title: str
    probability: float
    log_prob: float


ALIEN = Item(item_id="183", title="Alien (1979)", probability=0.125, log_prob=-2.0794)


@pytest.fixture
def calls(stand_in: Callable[..., None]) -> list[dict[str, Any]]:
    """What the recommender was asked for."""
    asked: list[dict[str, Any]] = []

    class Recommender:
        @classmethod
        def load(cls, path: Path) -> Recommender:
            return cls()

        def recommend(self, histories: list[list[str]], **options: Any) -> list[list[Any]]:
            asked.append({"histories": histories, **options})
            return [[ALIEN] for _ in histories]

    stand_in("flr.recommender", Recommender=Recommender)
    return asked


def test_one_history_from_options(run: Run, calls: list[dict[str, Any]]) -> None:
    result = run("recommend", "--run", "r", "--by", "title", "--history", "Toy Story", "--history", "Heat", "-k", 3)
    assert result.exit_code == 0, result.stderr
    asked = {"k": 3, "by": "title", "exclude_seen": True, "unknown": "error", "filters": None, "factor_weights": None}
    assert calls == [{"histories": [["Toy Story", "Heat"]], **asked}]
    assert "after Toy Story | Heat" in result.stdout
    assert "12.50%" in result.stdout
    assert "Alien (1979)" in result.stdout


def test_many_histories_from_a_file(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text('["1", 95]\n\n[]\n', encoding="utf-8")
    result = run("recommend", "--run", "r", "--histories", path, "--include-seen", "--unknown", "skip", "--json")
    assert result.exit_code == 0, result.stderr
    asked = {"k": 10, "by": "id", "exclude_seen": False, "unknown": "skip", "filters": None, "factor_weights": None}
    assert calls == [{"histories": [["1", "95"], []], **asked}]
    first = json.loads(result.stdout)[0]
    assert first["history"] == ["1", "95"]
    assert first["items"] == [{"item_id": "183", "title": "Alien (1979)", "probability": 0.125, "log_prob": -2.0794}]


def test_conditions_of_one_key_are_alternatives(run: Run, calls: list[dict[str, Any]]) -> None:
    conditions = ("--where", "category=Sci-Fi", "--where", "category=a=b", "--where", "year=1995")
    result = run("recommend", "--run", "r", "--history", "1", *conditions, "--exclude", "50", "--exclude", "7")
    assert result.exit_code == 0, result.stderr
    where = {"category": ["Sci-Fi", "a=b"], "year": ["1995"]}
    assert calls[0]["filters"] == ItemFilter(exclude=["50", "7"], where=where)


@pytest.mark.parametrize("condition", ["category", "=Sci-Fi", "category="])
def test_a_condition_that_is_none(run: Run, calls: list[dict[str, Any]], condition: str) -> None:
    result = run("recommend", "--run", "r", "--history", "1", "--where", condition)
    assert (result.exit_code, calls) == (2, [])
    assert f"--where {condition!r}, expected KEY=VALUE" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no history"),
        ('["1"]\n{"a": 1}\n', "line 2: got '{\"a\": 1}', expected a list"),
        ('["1"\n', "line 1: "),
        ("[[1]]\n", "line 1: got '[[1]]'"),
    ],
)
def test_a_file_that_is_no_list_of_histories(run: Run, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(content, encoding="utf-8")
    result = run("recommend", "--run", "r", "--histories", path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_file(run: Run, tmp_path: Path) -> None:
    result = run("recommend", "--run", "r", "--histories", tmp_path / "no.jsonl")
    assert result.exit_code == 2
    assert "no.jsonl" in result.stderr


def test_neither_and_both_are_errors(run: Run) -> None:
    assert "got neither" in run("recommend", "--run", "r").stderr
    result = run("recommend", "--run", "r", "--history", "1", "--histories", "f.jsonl")
    assert result.exit_code == 2
    assert "got both" in result.stderr


def test_factors_are_steered(run: Run, calls: list[dict[str, Any]]) -> None:
    assert run("recommend", "--run", "r", "--history", "1", "--factor-weights", "1,0,2.5,1").exit_code == 0
    assert calls[0]["factor_weights"] == [1.0, 0.0, 2.5, 1.0]


@pytest.mark.parametrize("text", ["1,x", "1,,1", "nan,1", ""])
def test_factor_weights_that_are_no_numbers(run: Run, calls: list[dict[str, Any]], text: str) -> None:
    result = run("recommend", "--run", "r", "--history", "1", "--factor-weights", text)
    assert result.exit_code == 2
    assert f"--factor-weights {text!r}, expected one number per factor" in result.stderr
    assert calls == []
