"""Lists in a file are those of `Recommender.recommend`, whatever interrupts the writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import flr.bulk
from flr.bulk import ListSettings, write_lists
from flr.catalogue.filters import ItemFilter
from flr.cli.people import people_of_data, shard_of
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, RequestError, UnknownItemError
from flr.progress import Step
from flr.recommender import Recommender
from toy import prepared_ring
from toy_runs import toy_run

K = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return toy_run(tmp_path_factory.mktemp("runs") / "flr", data).folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flr.bulk, "_PART_SIZE", 7)


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


class StopsAfter:
    """A `Progress` that interrupts after some steps."""

    def __init__(self, n_steps: int) -> None:
        self._left = n_steps

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(n: int = 1, note: str = "") -> None:
            self._left -= 1
            if not self._left:
                raise StoppedError

        yield step

    def message(self, text: str) -> None:
        pass


def rows_of(lists: list[list[Any]], user_ids: list[str]) -> list[tuple[Any, ...]]:
    return [
        (user_id, rank, item.item_id, item.title, item.probability, item.log_prob)
        for user_id, items in zip(user_ids, lists, strict=True)
        for rank, item in enumerate(items, start=1)
    ]


def test_everybody_gets_what_recommend_returns(run: Path, data: Path, tmp_path: Path) -> None:
    people = people_of_data(data).frame
    sequences = load_prepared(data).sequences
    assert people["user_id"].to_list() == list(sequences.user_ids)
    assert people["history"].list.len().sum() == sequences.n_interactions  # held-out rows included
    written = write_lists(run, people, tmp_path / "lists.parquet", settings=ListSettings(K))
    assert (written.n_lists, written.without, written.n_skipped) == (len(people), (), 0)
    lists = Recommender.load(run).recommend(people["history"].to_list(), K)
    assert pl.read_parquet(written.path).rows() == rows_of(lists, people["user_id"].to_list())
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]


def test_interrupted_it_goes_on_and_makes_no_part_twice(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    with pytest.raises(StoppedError):
        write_lists(run, people, output, settings=ListSettings(K), progress=StopsAfter(3))
    assert not output.exists()
    asked: list[int] = []
    best_lists = flr.bulk.best_lists
    monkeypatch.setattr(flr.bulk, "best_lists", lambda now, a: asked.append(len(a.histories)) or best_lists(now, a))
    with pytest.raises(ArtifactError, match=r"parts of lists of another settings"):
        write_lists(run, people, output, settings=ListSettings(K + 1))
    with pytest.raises(ArtifactError, match=r"parts of lists of another people"):
        write_lists(run, people.reverse(), output, settings=ListSettings(K))
    write_lists(run, people, output, settings=ListSettings(K))
    assert sum(asked) == len(people) - 3 * 7
    whole = tmp_path / "whole.csv"
    write_lists(run, people, whole, settings=ListSettings(K))
    assert output.read_bytes() == whole.read_bytes()


def test_what_is_there_is_kept_unless_asked(run: Path, data: Path, tmp_path: Path) -> None:
    people, output = people_of_data(data).frame.head(3), tmp_path / "lists.jsonl"
    output.write_text("mine")
    with pytest.raises(ArtifactError, match=r"lists\.jsonl' exists already"):
        write_lists(run, people, output)
    write_lists(run, people, output, overwrite=True)
    assert pl.read_ndjson(output)["user_id"].n_unique() == 3


def test_unknown_items_are_refused_or_skipped(run: Path, tmp_path: Path) -> None:
    people = pl.DataFrame({"user_id": ["a", "b", "c"], "history": [["i1", "nope"], ["nope"], []]})
    with pytest.raises(UnknownItemError, match=r"user 'a': no item has the id 'nope'"):
        write_lists(run, people, tmp_path / "lists.csv")
    written = write_lists(run, people, tmp_path / "lists.csv", settings=ListSettings(K, unknown="skip"))
    assert (written.n_lists, written.without, written.n_skipped) == (1, ("b", "c"), 2)
    assert pl.read_csv(written.path)["user_id"].to_list() == ["a"] * K
    with pytest.raises(RequestError, match="nobody took an item that the catalogue has"):
        write_lists(run, people[1:], tmp_path / "none.csv", settings=ListSettings(unknown="skip"))


def test_settings_hold_for_all(run: Path, data: Path, tmp_path: Path) -> None:
    people = people_of_data(data).frame.head(10)
    recommender = Recommender.load(run)
    only = [str(item) for item in recommender.catalogue.item_ids[:4]]
    options: dict[str, Any] = {
        "exclude_seen": False,
        "filters": ItemFilter(allow=only),
        "factor_weights": [0.0, 2.0, 1.0, 1.0],
    }
    written = write_lists(run, people, tmp_path / "lists.parquet", settings=ListSettings(K, **options))
    expected = recommender.recommend(people["history"].to_list(), K, **options)
    assert pl.read_parquet(written.path).rows() == rows_of(expected, people["user_id"].to_list())


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"user_id": ["a", "a"], "history": [["1"], ["2"]]}, "user 'a' is given more than once"),
        ({"user_id": ["a", None], "history": [["1"], ["2"]]}, "1 people have no user_id"),
        ({"user_id": ["a"], "history": ["1"]}, "have String as 'history', expected List"),
        ({"history": [["1"]]}, "have no column as 'user_id'"),
    ],
)
def test_people_that_are_none(run: Path, tmp_path: Path, people: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        write_lists(run, pl.DataFrame(people), tmp_path / "lists.csv")


def test_an_output_of_another_kind_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"lists\.xlsx', expected a name that ends with \.parquet, \.csv, \.jsonl"):
        write_lists(run, people_of_data(data).frame, tmp_path / "lists.xlsx")


def test_shards_are_everybody_once(data: Path) -> None:
    people = people_of_data(data)
    shards = [shard_of(people, f"{number}/5").frame for number in range(1, 6)]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert pl.concat(shards).sort("user_id").equals(people.frame.sort("user_id"))
    assert shard_of(people, None) is people
    for wrong in ("0/5", "6/5", "2", "a/b", "1/0"):
        with pytest.raises(RequestError, match="expected I/N with I from 1 to N"):
            shard_of(people, wrong)
