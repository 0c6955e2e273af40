"""`flr recommend`: histories from options or a file, lists as a table or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flr.bulk import ListSettings, WrittenLists
from flr.catalogue.filters import Between, ItemFilter
from flr.errors import UnknownItemError
from flr.recommender import Recommender
from toy import toy_catalogue, toy_model, toy_tokenizer

from .conftest import Run


@dataclass(frozen=True)
class Item:
    item_id: str
    title: str
    probability: float
    log_prob: float
    factor: int | None = None


ALIEN = Item(item_id="183", title="Alien (1979)", probability=0.125, log_prob=-2.0794)


@pytest.fixture
def calls(stand_in: Callable[..., None]) -> list[dict[str, Any]]:
    """What the recommender was asked for."""
    asked: list[dict[str, Any]] = []

    class Recommender:
        @classmethod
        def load(cls, path: Path) -> Recommender:
            return cls()

        def unknown_items(self, histories: list[list[str]], *, by: str) -> list[list[str]]:
            return [[item for item in history if item.startswith("NOPE")] for history in histories]

        def item_index(self, item: str, *, by: str) -> int:
            raise UnknownItemError(f"no item has the {by} {item!r}")

        def recommend(self, histories: list[list[str]], **options: Any) -> list[list[Any]]:
            asked.append({"histories": histories, **options})
            return [[ALIEN] for _ in histories]

    stand_in("flr.recommender", Recommender=Recommender)
    return asked


def test_one_history_from_options(run: Run, calls: list[dict[str, Any]]) -> None:
    result = run("recommend", "--run", "r", "--by", "title", "--history", "Toy Story", "--history", "Heat", "-k", 3)
    assert result.exit_code == 0, result.stderr
    asked = {"k": 3, "by": "title", "exclude_seen": True, "unknown": "error", "empty": "error"}
    asked |= {"filters": None, "factor_weights": None, "diversify": None}
    assert calls == [{"histories": [["Toy Story", "Heat"]], **asked}]
    assert "after Toy Story | Heat" in result.stdout
    assert "12.50%" in result.stdout
    assert "Alien (1979)" in result.stdout


def test_many_histories_from_a_file(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text('["1", 95]\n\n[]\n', encoding="utf-8")
    result = run("recommend", "--run", "r", "--histories", path, "--include-seen", "--unknown", "skip", "--json")
    assert result.exit_code == 0, result.stderr
    asked = {"k": 10, "by": "id", "exclude_seen": False, "unknown": "skip", "empty": "error"}
    asked |= {"filters": None, "factor_weights": None, "diversify": None}
    assert calls == [{"histories": [["1", "95"]], **asked}]
    first, second = json.loads(result.stdout)
    assert second == {"history": [], "items": [], "skipped": []}
    assert first["history"] == ["1", "95"]
    assert first["items"] == [
        {"item_id": "183", "title": "Alien (1979)", "probability": 0.125, "log_prob": -2.0794, "factor": None}
    ]


@pytest.mark.parametrize("n", [1, 12])
def test_what_is_skipped_is_told(run: Run, calls: list[dict[str, Any]], n: int) -> None:
    given = [word for number in range(n) for word in ("--history", f"NOPE{number}")]
    asked = ("recommend", "--run", "r", "--history", "1", *given, "--unknown", "skip")
    names = ", ".join(f"NOPE{number}" for number in range(min(n, 10))) + (" and 2 more" if n == 12 else "")
    assert f"\nskipped: {names}, which the catalogue does not have\n" in run(*asked).stdout
    (shown,) = json.loads(run(*asked, "--json").stdout)
    assert shown["skipped"] == [f"NOPE{number}" for number in range(n)]
    assert shown["history"] == ["1", *shown["skipped"]]
    assert "skipped" not in run("recommend", "--run", "r", "--history", "1", "--unknown", "skip").stdout


def test_histories_without_a_known_item_do_not_stop_the_others(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text('["1"]\n["NOPE"]\n\n[]\n["95"]\n', encoding="utf-8")
    asked = ("recommend", "--run", "r", "--histories", path, "--unknown", "skip")
    result = run(*asked, "--json")
    assert result.exit_code == 0
    assert calls[0]["histories"] == [["1"], ["95"]]
    assert [len(one["items"]) for one in json.loads(result.stdout)] == [1, 0, 0, 1]
    only = "the history holds unknown items only (skipped: NOPE, which the catalogue does not have)"
    assert f"people.jsonl, line 2: {only}; its list is empty" in result.stderr
    assert "people.jsonl, line 4: the history is empty; its list is empty" in result.stderr
    assert run(*asked).stdout.count("after ") == 2


def test_an_unknown_item_is_told_with_its_line(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text('["1"]\n["2", "NOPE"]\n', encoding="utf-8")
    result = run("recommend", "--run", "r", "--histories", path)
    assert (result.exit_code, calls) == (2, [])
    assert "people.jsonl, line 2: no item has the id 'NOPE'; or leave it out with --unknown skip" in result.stderr
    alone = run("recommend", "--run", "r", "--history", "NOPE", "--unknown", "skip")
    assert (alone.exit_code, calls) == (2, [])
    assert "--history: the history holds unknown items only (skipped: NOPE" in alone.stderr
    assert "give at least one known item" in alone.stderr


def test_conditions_of_one_key_are_alternatives(run: Run, calls: list[dict[str, Any]]) -> None:
    conditions = ("--where", "category=Sci-Fi", "--where", "category=a=b", "--where", "year=1995")
    result = run("recommend", "--run", "r", "--history", "1", *conditions, "--exclude", "50", "--exclude", "7")
    assert result.exit_code == 0, result.stderr
    where = {"category": ["Sci-Fi", "a=b"], "year": ["1995"]}
    assert calls[0]["filters"] == ItemFilter(exclude=["50", "7"], where=where)


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("year=1990..1999", Between(1990, 1999)),
        ("price=..19.99", Between(high=19.99)),
        ("price=-5..", Between(low=-5)),
        ("note=..", ".."),
        ("note=1990..now", "1990..now"),
        ("price=.5..1e3", Between(0.5, 1000)),
        ("note=1..x", "1..x"),
    ],
)
def test_ranges_of_numbers(run: Run, calls: list[dict[str, Any]], condition: str, wanted: object) -> None:
    assert run("recommend", "--run", "r", "--history", "1", "--where", condition).exit_code == 0
    assert list(calls[0]["filters"].where.values()) == [[wanted]]


def test_a_range_the_wrong_way_round(run: Run) -> None:
    result = run("recommend", "--run", "r", "--history", "1", "--where", "year=1999..1990")
    assert result.exit_code == 2
    assert "a range from 1999.0 to 1990.0 holds nothing" in result.stderr


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
    assert "got none of them" in run("recommend", "--run", "r").stderr
    result = run("recommend", "--run", "r", "--history", "1", "--histories", "f.jsonl")
    assert result.exit_code == 2
    assert "got --history and --histories" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--history", "1", "--output", "l.csv"], "got --output with --history"),
        (["--data", "d"], "got --data without --output"),
        (["--histories", "f.jsonl", "--shard", "1/2"], "got --shard without --output"),
        (["--histories", "f.jsonl", "--overwrite"], "got --overwrite without --output"),
        (["--data", "d", "--output", "l.csv", "--diversify", "factors"], "got --diversify with --output"),
    ],
)
def test_options_that_do_not_belong_together(run: Run, options: list[str], message: str) -> None:
    result = run("recommend", "--run", "r", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_people_with_ids_from_either_kind_of_file(run: Run, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    lines, table = tmp_path / "people.jsonl", tmp_path / "people.parquet"
    lines.write_text(
        '{"user_id": 7, "history": [1, "95"]}\n{"user_id": "u8", "history": ["NOPE1"]}\n', encoding="utf-8"
    )
    pl.DataFrame({"user_id": [7, 8], "history": [[1, 95], [50]]}).write_parquet(table)
    result = run("recommend", "--run", "r", "--histories", lines, "--unknown", "skip")
    assert "people.jsonl, user u8: the history holds unknown items only (skipped: NOPE1" in result.stderr
    assert run("recommend", "--run", "r", "--histories", table).exit_code == 0
    assert [call["histories"] for call in calls] == [[["1", "95"]], [["1", "95"], ["50"]]]


def test_people_without_a_known_item_may_have_what_is_popular(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = run("recommend", "--run", "r", "--empty", "popular")
    assert "what was taken most often" in alone.stdout
    path = tmp_path / "people.jsonl"
    path.write_text('["1"]\n[]\n["NOPE1"]\n', encoding="utf-8")
    told = run("recommend", "--run", "r", "--histories", path, "--unknown", "skip", "--empty", "popular")
    assert told.stdout.count("what was taken most often") == 2
    assert [call["histories"] for call in calls] == [[[]], [["1"], [], ["NOPE1"]]]
    assert {call["empty"] for call in calls} == {"popular"}


def test_an_item_that_is_named_in_the_other_way_is_told_in_the_words_of_the_command(run: Run, tmp_path: Path) -> None:
    model, compiled, config = toy_model()
    Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config).save(tmp_path / "r")
    asked = ("recommend", "--run", tmp_path / "r")
    result = run(*asked, "--history", "Heat (1995)")
    assert result.exit_code == 2
    assert "--history: no item has the id 'Heat (1995)'; it is the title of one; or leave it out" in result.stderr
    assert "(to give titles instead, say --by title)" in result.stderr
    assert "by='title'" not in result.stderr
    people = tmp_path / "people.jsonl"
    people.write_text('["Heat (1995)"]\n', encoding="utf-8")
    result = run(*asked, "--histories", people, "--output", tmp_path / "lists.csv", "--quiet")
    assert result.exit_code == 2
    assert "it is the title of one; or skip unknown items (to give titles instead, say --by title)" in result.stderr


def test_lines_end_where_lines_do_and_a_byte_order_mark_is_none(
    run: Run, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    lines = tmp_path / "people.jsonl"
    lines.write_bytes('\ufeff["one\u2028title"]\r\n["2"]\r\n'.encode())
    assert run("recommend", "--run", "r", "--histories", lines).exit_code == 0
    assert calls[0]["histories"] == [["one\u2028title"], ["2"]]


def test_a_table_of_nobody_is_refused(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "people.parquet"
    pl.DataFrame(schema={"user_id": pl.String, "history": pl.List(pl.String)}).write_parquet(table)
    result = run("recommend", "--run", "r", "--histories", table)
    assert result.exit_code == 2
    assert "people.parquet' holds no history" in result.stderr


def test_a_table_without_the_columns_is_refused(run: Run, tmp_path: Path) -> None:
    pl.DataFrame({"person": ["a"]}).write_parquet(tmp_path / "people.parquet")
    result = run("recommend", "--run", "r", "--histories", tmp_path / "people.parquet")
    assert result.exit_code == 2
    assert "expected user_id, and history with lists" in result.stderr


def test_lists_of_many_go_into_a_file(run: Run, stand_in: Callable[..., None], tmp_path: Path) -> None:
    asked: list[Any] = []

    def write_lists(run: Path, people: pl.DataFrame, output: Path, **options: Any) -> WrittenLists:
        asked.append((run, people.rows(), output, options["settings"], options["overwrite"]))
        return WrittenLists(output, 1, 3, ("u8",), 1)

    stand_in("flr.bulk", ListSettings=ListSettings, write_lists=write_lists)
    lines, output = tmp_path / "people.jsonl", tmp_path / "lists.csv"
    lines.write_text('["1"]\n["2"]\n["NOPE1"]\n', encoding="utf-8")
    to_file = ("--histories", lines, "--output", output, "--shard", "1/2", "--unknown", "skip", "-k", 3)
    result = run("recommend", "--run", "r", *to_file, "--quiet")
    assert result.exit_code == 0, result.stderr
    assert asked == [(Path("r"), [("1", ["1"]), ("3", ["NOPE1"])], output, ListSettings(3, unknown="skip"), False)]
    assert result.stdout == f"3 items for 1 people: {output}\n"
    assert "1 rows of histories were skipped" in result.stderr
    assert "1 people have no list; skipped: u8, who took nothing that the catalogue has" in result.stderr
    told = json.loads(run("recommend", "--run", "r", *to_file, "--quiet", "--json").stdout)
    assert told == {"path": str(output), "n_lists": 1, "n_items": 3, "without": ["u8"], "n_skipped": 1}


def test_factors_are_steered(run: Run, calls: list[dict[str, Any]]) -> None:
    assert run("recommend", "--run", "r", "--history", "1", "--factor-weights", "1,0,2.5,1").exit_code == 0
    assert calls[0]["factor_weights"] == [1.0, 0.0, 2.5, 1.0]


def test_factors_may_pick_in_turn(run: Run, calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ALIEN", replace(ALIEN, factor=2))
    shown = run("recommend", "--run", "r", "--history", "1", "--diversify", "factors").stdout
    assert calls[0]["diversify"] == "factors"
    assert "picked by factor" in shown and shown.rstrip().endswith("3")


@pytest.mark.parametrize("text", ["1,x", "1,,1", "nan,1", ""])
def test_factor_weights_that_are_no_numbers(run: Run, calls: list[dict[str, Any]], text: str) -> None:
    result = run("recommend", "--run", "r", "--history", "1", "--factor-weights", text)
    assert result.exit_code == 2
    assert f"--factor-weights {text!r}, expected one number per factor" in result.stderr
    assert calls == []
