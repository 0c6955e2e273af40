"""Lists in a file are those of `Recommender.recommend`, whatever interrupts the writing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import flr.bulk
from flr.bulk import ListSettings, write_lists
from flr.catalogue.filters import ItemFilter
from flr.cli.people import people_of_data, shard_of
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, RequestError, UnknownItemError
from flr.progress import Step
from flr.recommender import Recommender
from toy import UNSET, prepared_ring, toy_catalogue, toy_model, toy_tokenizer
from toy_runs import toy_run

K = 3
#: Everybody of the ring has taken nearly all of it.
ASKED = ListSettings(K, exclude_seen=False)


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
    written = write_lists(run, people, tmp_path / "lists.parquet", settings=ASKED)
    assert (written.n_lists, written.n_items) == (len(people), K * len(people))
    assert (written.without, written.n_skipped) == ((), 0)
    lists = Recommender.load(run).recommend(people["history"].to_list(), K, exclude_seen=False)
    assert pl.read_parquet(written.path).rows() == rows_of(lists, people["user_id"].to_list())
    assert [path.name for path in tmp_path.iterdir()] == ["lists.parquet"]


@pytest.mark.parametrize("name", ["lists [2026].parquet", "what?.csv", "a*b.jsonl"])
def test_a_name_may_hold_signs_that_stand_for_others(name: str, run: Path, data: Path, tmp_path: Path) -> None:
    people = people_of_data(data).frame[:3]
    assert write_lists(run, people, tmp_path / name, settings=ASKED).n_lists == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_interrupted_it_goes_on_and_makes_no_part_twice(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    with pytest.raises(StoppedError):
        write_lists(run, people, output, settings=ASKED, progress=StopsAfter(3))
    assert not output.exists()
    asked: list[int] = []
    best_lists = flr.bulk.best_lists
    monkeypatch.setattr(flr.bulk, "best_lists", lambda now, a: asked.append(len(a.histories)) or best_lists(now, a))
    write_lists(run, people, output, settings=ASKED)
    assert sum(asked) == len(people) - 3 * 7
    whole = tmp_path / "whole.csv"
    write_lists(run, people, whole, settings=ASKED)
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.csv", "whole.csv"]


def asked_for(name: str, run: Path, people: pl.DataFrame, folder: Path) -> tuple[Path, pl.DataFrame, ListSettings]:
    """Return arguments of `write_lists` that differ from those of "nothing" in what is named."""
    items = [f"i{number}" for number in range(8)]
    settings = replace(ASKED, filters=ItemFilter(exclude=pl.Series(items[:4])))
    if name == "model":
        recommender = Recommender.load(run)
        with torch.no_grad():
            recommender.model.backbone.embedding.weight.mul_(-1.0)
        recommender.save(folder / "other")
        return folder / "other", people, settings
    if name == "people":
        return run, people.reverse(), settings
    if name == "filters":
        return run, people, replace(settings, filters=ItemFilter(exclude=pl.Series(items[4:])))
    return run, people, replace(settings, k=K - 1) if name == "k" else settings


@pytest.mark.parametrize("name", ["model", "people", "filters", "k"])
def test_parts_of_other_lists_are_no_part_of_these(run: Path, data: Path, tmp_path: Path, name: str) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    model, asked, settings = asked_for("nothing", run, people, tmp_path)
    with pytest.raises(StoppedError):
        write_lists(model, asked, output, settings=settings, progress=StopsAfter(3))
    model, asked, settings = asked_for(name, run, people, tmp_path)
    write_lists(model, asked, output, settings=settings)
    anew = tmp_path / "anew.csv"
    write_lists(model, asked, anew, settings=settings)
    assert output.read_bytes() == anew.read_bytes()


def test_a_part_that_was_left_over_is_not_joined(run: Path, data: Path, tmp_path: Path) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    with pytest.raises(StoppedError):
        write_lists(run, people, output, settings=ASKED, progress=StopsAfter(2))
    (parts,) = tmp_path.glob("*.parts")
    shutil.copy(parts / "000000.parquet", parts / "000099.parquet")
    write_lists(run, people, output, settings=ASKED)
    assert pl.read_csv(output)["user_id"].unique(maintain_order=True).to_list() == people["user_id"].to_list()


def test_two_processes_do_not_write_the_same_lists(run: Path, data: Path, tmp_path: Path) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"

    class Meanwhile(StopsAfter):
        def message(self, text: str) -> None:
            pass

        @contextmanager
        def task(self, name: str, total: int | None = None) -> Iterator[Step]:
            with pytest.raises(ArtifactError, match=r"is being written by another process"):
                write_lists(run, people, output, settings=ASKED)
            with super().task(name, total) as step:
                yield step

    assert write_lists(run, people, output, settings=ASKED, progress=Meanwhile(99)).n_lists == len(people)


def test_wrong_settings_leave_nothing_behind(run: Path, data: Path, tmp_path: Path) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    for wrong in ({"filters": ItemFilter(where={"yaer": 1})}, {"factor_weights": [1.0]}):
        with pytest.raises(RequestError):
            write_lists(run, people, output, settings=replace(ASKED, **wrong))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_nobody_and_nothing(run: Path, data: Path, tmp_path: Path) -> None:
    people, output = people_of_data(data).frame, tmp_path / "lists.csv"
    nobody = write_lists(run, people.clear(), output, settings=ASKED)
    assert (nobody.n_lists, nobody.n_items, pl.read_csv(output).height) == (0, 0, 0)
    only_seen = ListSettings(K, filters=ItemFilter(allow=[people["history"][0][0]]))
    written = write_lists(run, people[:1], output, settings=only_seen, overwrite=True)
    assert (written.n_lists, written.n_items, written.without) == (0, 0, ())


def test_people_without_a_known_item_may_have_what_is_popular(tmp_path: Path) -> None:
    model, compiled, config = toy_model(*UNSET)  # it has a memory
    recommender = Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)
    recommender.save(tmp_path / "model")
    people = pl.DataFrame({"user_id": ["a", "b", "c"], "history": [["i1"], ["nope"], []]})
    asked = replace(ASKED, unknown="skip", empty="popular")
    written = write_lists(tmp_path / "model", people, tmp_path / "lists.parquet", settings=asked)
    assert (written.n_lists, written.without, written.n_skipped) == (3, (), 1)
    options: dict[str, Any] = {"exclude_seen": False, "unknown": "skip", "empty": "popular"}
    lists = recommender.recommend(people["history"].to_list(), K, **options)
    assert pl.read_parquet(written.path).rows() == rows_of(lists, ["a", "b", "c"])
    assert write_lists(tmp_path / "model", people[2:], tmp_path / "new.csv", settings=asked).n_lists == 1


def test_items_of_another_data_set_with_the_same_ids_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    people, items = people_of_data(data).frame, load_prepared(data).items
    others = items.with_columns(title=pl.lit("Garden tool ") + pl.col("item_id"))
    with pytest.raises(RequestError, match=r"items with ids of the catalogue are others: 'i0' is 'Garden tool i0'"):
        write_lists(run, people, tmp_path / "lists.csv", items=others)
    assert write_lists(run, people, tmp_path / "lists.csv", items=items).n_lists == len(people)


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
        ({"user_id": ["a"], "history": [["1", None]]}, "history of user 'a' has a null among its items"),
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
