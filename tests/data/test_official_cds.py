"""The CDs of D3 and LatentR3: the official rows come out of our preparation, and what mending changes is counted.

The raw files are not here, but the rows they became are: 61,564 official targets with their histories. Targets for
training have no exact times (bracketed to at most two days) and no users' order in the file, which D3's ties hang on.
"""

from __future__ import annotations

import collections
import graphlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.prepare_config import PrepareConfig
from flr.records import CONTEXT, SPLITS, Interactions, PreparedData

WINDOW = 10
PARTS = ("train", "valid", "test")
#: The day in which D3's first cut falls.
CUT_DAY = 1_504_656_000


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> pl.DataFrame:
    """All rows with their users, places and official parts; `row` is the place among the official rows."""
    return pl.read_parquet(shared_data / "cds2015" / "interactions_raw.parquet")


@pytest.fixture(scope="module")
def items(shared_data: Path) -> pl.DataFrame:
    return pl.read_parquet(shared_data / "cds2015" / "items.parquet").select("item_id", "title")


@pytest.fixture(scope="module")
def in_their_order(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows with users in the order of D3's file, as far as official rows of one exact day give it away."""
    official = raw.filter(pl.col("row") >= 0).sort("row")
    telling = official.filter((pl.col("split") != "train") | (pl.col("timestamp") == CUT_DAY))
    assert (len(telling), telling["ts_err_days"].max()) == (12_365, 0)
    before: dict[str, set[str]] = {user: set() for user in raw["user_id"].unique(maintain_order=True)}
    for _, day in telling.group_by(["timestamp"], maintain_order=True):
        users = day["user_id"].to_list()
        runs = [user for place, user in enumerate(users) if place == 0 or users[place - 1] != user]
        # On no day does a user appear twice: D3 writes user by user and then sorts by time, stably.
        assert len(runs) == len(set(runs))
        for one, other in itertools.pairwise(runs):
            before[other].add(one)
    # And no two days contradict each other, or this would raise.
    rank = {user: place for place, user in enumerate(graphlib.TopologicalSorter(before).static_order())}
    return raw.with_columns(rank=pl.col("user_id").replace_strict(rank)).sort("rank", "pos")


def prepared(rows: pl.DataFrame, items: pl.DataFrame, **settings: Any) -> PreparedData:
    frame = rows.select("user_id", "item_id", "timestamp", order=pl.col("pos").cast(pl.Int64))
    return prepare(Interactions(frame, items), PrepareConfig.model_validate({"order_column": "pos", **settings}))


def parts_of(data: PreparedData, rows: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with the part that each got as `ours`."""
    sequences = data.sequences
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    ours = pl.DataFrame(
        {
            "user_id": pl.Series(sequences.user_ids[users], dtype=pl.String),
            "pos": pl.Series(np.arange(sequences.n_interactions) - sequences.offsets[users], dtype=pl.Int32),
            "ours": pl.Series([SPLITS[code] for code in sequences.split]),
        }
    )
    joined = rows.join(ours, on=["user_id", "pos"], how="left", maintain_order="left")
    assert joined["ours"].null_count() == 0
    return joined


def n_targets(data: PreparedData) -> list[int]:
    return [data.manifest["counts"][f"{part}_targets"] for part in PARTS]


def test_every_official_row_comes_out_with_its_history(shared_data: Path, raw: pl.DataFrame) -> None:
    folder = shared_data / "cds2015"
    settings = PrepareConfig(split="given", order_column="pos")
    data = prepare(read(folder / "interactions_raw.parquet", folder / "items.parquet", settings), settings)
    sequences, ids = data.sequences, data.items["item_id"].to_numpy()
    got = {}
    for code in range(1, 4):
        for user, target in zip(*sequences.targets(code), strict=True):
            past = slice(max(int(sequences.offsets[user]), target - WINDOW), target)
            history = ids[sequences.item_index[past]].tolist(), sequences.timestamps[past].tolist()
            place = (sequences.user_ids[user], int(target - sequences.offsets[user]))
            got[place] = (SPLITS[code], ids[sequences.item_index[target]], int(sequences.timestamps[target]), *history)
    seen: dict[str, list[tuple[str, int]]] = collections.defaultdict(list)
    official = {}
    for user, item, time, part, pos, row in (
        raw.sort("user_id", "pos").select("user_id", "item_id", "timestamp", "split", "pos", "row").iter_rows()
    ):
        if row >= 0:
            past_rows = seen[user][-WINDOW:]
            official[user, pos] = (part, item, time, [one for one, _ in past_rows], [when for _, when in past_rows])
        seen[user].append((item, time))
    assert [sum(one[0] == part for one in official.values()) for part in PARTS] == [49_251, 6_156, 6_157]
    assert got == official


def test_cutting_anew_gives_the_official_parts(in_their_order: pl.DataFrame, items: pl.DataFrame) -> None:
    data = prepared(in_their_order, items, split="temporal", cut_ties="user")
    assert n_targets(data) == [49_251, 6_156, 6_157]
    ours = parts_of(data, in_their_order)
    assert ours.filter(pl.col("ours") != pl.col("split")).is_empty()
    # In which order: exactly theirs where days are exact; of training rows only day by day, for whose days and users'
    # order nothing is left to tell.
    cut = ours.filter(pl.col("row") >= 0).sort("timestamp", "rank", "pos").with_row_index("place")
    elsewhere = cut.filter(pl.col("place") != pl.col("row"))
    assert dict(elsewhere["split"].value_counts().iter_rows()) == {"train": 48_177}
    assert cut.sort("row")["timestamp"].equals(cut["timestamp"])


@pytest.mark.parametrize(("ties", "n_other"), [("file", 42), ("user", 28), ("whole", 85)])
def test_without_their_order_of_users_few_rows_change_parts(
    raw: pl.DataFrame, items: pl.DataFrame, ties: str, n_other: int
) -> None:
    """The table here is sorted by time and name, so that users of one day stand in another order than D3's."""
    ours = parts_of(prepared(raw, items, split="temporal", cut_ties=ties), raw)
    assert len(ours.filter(pl.col("ours") != pl.col("split"))) == n_other


def test_the_whole_protocol_to_the_letter_leaves_all_rows(in_their_order: pl.DataFrame, items: pl.DataFrame) -> None:
    data = prepared(in_their_order, items, strict_latentr3=True)
    ours = parts_of(data, in_their_order)
    assert ours.filter(pl.col("ours") != pl.col("split")).is_empty()
    assert len(ours) == data.sequences.n_interactions == 69_249
    assert not any(data.manifest["dropped"].values())
    assert data.items["title"].equals(items["title"])
    # The window is theirs: two years are too few for 5,000 items (of what is left of the data in its 5-core).
    found = {"2017-10": 1, "2016-10": 1_106, "2015-10": 5_841}
    assert data.manifest["window"] == {"start": "2015-10", "end": "2018-11", "items_by_start": found}


MENDED: dict[str, tuple[dict[str, Any], list[int], tuple[int, int], dict[str, int]]] = {
    # Setting that mends -> targets of each part, users, items, and what was dropped.
    "repeats": (
        {"deduplicate": True},
        [47_161, 5_895, 5_896],
        (7_398, 5_707),
        {"duplicate_rows": 1_265, "k_core_rows": 1_634, "k_core_users": 287, "k_core_items": 134},
    ),
    "markup": (
        {"title_rule": "readable"},
        [48_448, 6_056, 6_056],
        (7_593, 5_790),
        {"untitled_rows": 648, "untitled_items": 29, "k_core_rows": 448, "k_core_users": 90, "k_core_items": 22},
    ),
    "parted days": ({"cut_ties": "whole"}, [49_199, 6_175, 6_190], (7_685, 5_841), {}),
    "all": (
        {"deduplicate": True, "title_rule": "readable", "cut_ties": "whole"},
        [46_495, 5_809, 5_858],
        (7_308, 5_655),
        {
            "duplicate_rows": 1_265,
            "untitled_rows": 440,
            "untitled_items": 29,
            "k_core_rows": 2_074,
            "k_core_users": 375,
            "k_core_items": 157,
        },
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_mending_changes(in_their_order: pl.DataFrame, items: pl.DataFrame, name: str) -> None:
    mends, targets, left, dropped = MENDED[name]
    data = prepared(in_their_order, items, strict_latentr3=True, **mends)
    counts = data.manifest["counts"]
    assert n_targets(data) == targets
    assert (counts["users"], counts["items"]) == left
    assert {reason: n for reason, n in data.manifest["dropped"].items() if n} == dropped
    # What was left out, what is context and what is a target make all rows again.
    out = sum(dropped.get(reason, 0) for reason in ("duplicate_rows", "untitled_rows", "k_core_rows"))
    assert out + counts["users"] + sum(targets) == 69_249
    assert int((data.sequences.split == CONTEXT).sum()) == counts["users"]


def test_the_default_mends_all_of_it(in_their_order: pl.DataFrame, items: pl.DataFrame) -> None:
    data = prepared(in_their_order, items, protocol="latentr3")
    assert n_targets(data) == MENDED["all"][1]
    titles = data.items.join(items, on="item_id", suffix="_before")
    assert len(titles.filter(pl.col("title") != pl.col("title_before"))) == 76
    assert data.items.filter(pl.col("title").str.contains("<span")).is_empty()
