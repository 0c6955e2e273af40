"""Interactions -> user sequences, catalogue, manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import ColumnError, DataError, LeakageError
from flr.prepare_config import PrepareConfig
from flr.records import TEST, TRAIN, VALID, Interactions

ITEMS = pl.DataFrame(
    {"item_id": ["z", "a", "b", "c"], "title": ["Zebra", "Anchor", "Bridge", "Candle"], "shelf": [9, 1, 2, 3]}
)


def interactions(
    rows: list[tuple[str, str, int]], items: pl.DataFrame = ITEMS, **columns: list[object]
) -> Interactions:
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    return Interactions(frame.with_columns(**{k: pl.Series(v) for k, v in columns.items()}), items, {"name": "toy"})


ROWS = [("u", "b", 5), ("v", "a", 1), ("u", "a", 3), ("u", "c", 5), ("v", "b", 2), ("u", "b", 1)]


def test_users_are_grouped_and_ordered_by_time_and_then_by_the_file() -> None:
    data = prepare(interactions(ROWS))
    sequences = data.sequences
    assert sequences.user_ids.tolist() == ["u", "v"]
    assert sequences.offsets.tolist() == [0, 4, 6]
    assert data.items["item_id"].to_list() == ["a", "b", "c"]
    assert data.items["shelf"].to_list() == [1, 2, 3]
    assert [data.items["item_id"][int(item)] for item in sequences.item_index] == ["b", "a", "b", "c", "a", "b"]
    assert sequences.timestamps.tolist() == [1, 3, 5, 5, 1, 2]
    assert sequences.split.tolist() == [TRAIN, TRAIN, VALID, TEST, TRAIN, TRAIN]
    assert sequences.item_index.dtype == np.int32
    assert sequences.split.dtype == np.int8


def test_the_manifest_tells_how_it_was_made() -> None:
    manifest = prepare(interactions(ROWS)).manifest
    assert manifest["schema_version"] == 1
    assert manifest["split"] == "leave_one_out"
    assert manifest["tie_break"] == "within a user: by time, then by place in the file"
    assert manifest["source"] == {"name": "toy"}
    assert manifest["settings"]["catalogue"] == "interacted"
    assert manifest["counts"] == {
        "users": 2,
        "items": 3,
        "items_interacted": 3,
        "interactions": 6,
        "context_rows": 0,
        "train_rows": 4,
        "valid_rows": 1,
        "test_rows": 1,
        "train_targets": 2,
        "valid_targets": 1,
        "test_targets": 1,
        "test_users": 1,
        "most_test_targets_of_a_user": 1,
    }


def test_listed_items_stay_when_asked() -> None:
    data = prepare(interactions(ROWS), PrepareConfig(catalogue="listed"))
    assert data.items["item_id"].to_list() == ["z", "a", "b", "c"]
    assert data.sequences.item_index.max() == 3


def test_an_order_column_overrules_time() -> None:
    record = interactions([("u", "a", 9), ("u", "b", 8), ("u", "c", 7)], order=[2, 1, 3])
    data = prepare(record, PrepareConfig(order_column="pos"))
    assert data.sequences.timestamps.tolist() == [8, 9, 7]
    assert data.manifest["tie_break"].startswith("within a user: by 'pos'")


def test_a_given_split_is_kept_and_checked() -> None:
    labels = ["valid", "context", "train", "test", "train", "context"]
    data = prepare(interactions(ROWS, split=labels), PrepareConfig(split="given"))
    assert data.sequences.split.tolist() == [0, 1, 2, 3, 0, 1]
    with pytest.raises(LeakageError, match=r"1 users .* 'u': test at place 2 and then valid at place 3"):
        prepare(
            interactions(ROWS, split=["valid", "context", "test", "test", "train", "train"]),
            PrepareConfig(split="given"),
        )
    with pytest.raises(ColumnError, match="no split column"):
        prepare(interactions(ROWS), PrepareConfig(split="given"))


def test_a_temporal_split_by_hand() -> None:
    rows = [(user, "abc"[(i + j) % 3], 10 * i + j) for i in range(6) for j, user in enumerate("uv")]
    data = prepare(interactions(rows), PrepareConfig(split="temporal"))
    # Ten targets: eight train, one valid, one test, alternating between the two users.
    assert data.sequences.split.tolist() == [0, 1, 1, 1, 1, 2, 0, 1, 1, 1, 1, 3]


def test_repeats_and_thin_users_and_items_are_dropped_and_counted() -> None:
    rows = [*ROWS, ("u", "c", 5), ("w", "z", 1)]
    settings = PrepareConfig(deduplicate=True, min_user_interactions=2, min_item_interactions=1)
    data = prepare(interactions(rows), settings)
    assert data.sequences.user_ids.tolist() == ["u", "v"]
    assert data.items["item_id"].to_list() == ["a", "b", "c"]
    assert data.manifest["dropped"] == {"duplicate_rows": 1, "k_core_rows": 1, "k_core_users": 1, "k_core_items": 1}
    assert data.manifest["counts"]["interactions"] == 6


def test_low_ratings_are_left_out_before_everything_else() -> None:
    rows = [*ROWS, ("w", "z", 1), ("v", "b", 9), ("u", "b", 8)]
    record = interactions(rows, rating=[5.0, 4.0, 3.5, 5.0, 4.0, 5.0, 3.4, None, float("nan")])
    settings = PrepareConfig(min_rating=3.5, min_user_interactions=2)
    data = prepare(record, settings)
    assert data.sequences.user_ids.tolist() == ["u", "v"]
    assert data.items["item_id"].to_list() == ["a", "b", "c"]
    assert data.sequences.timestamps.tolist() == [1, 3, 5, 5, 1, 2]
    assert data.sequences.split.tolist() == [TRAIN, TRAIN, VALID, TEST, TRAIN, TRAIN]
    assert data.manifest["dropped"] == {
        "rows_below_min_rating": 1,
        "unrated_rows": 2,
        "k_core_rows": 0,
        "k_core_users": 0,
        "k_core_items": 0,
    }
    assert data.manifest["settings"]["min_rating"] == 3.5
    unused = prepare(record).manifest
    assert (unused["counts"]["interactions"], unused["dropped"]) == (9, {})


def test_ratings_that_are_asked_for_and_missing() -> None:
    with pytest.raises(ColumnError, match=r"no rating column, which min_rating=4 needs; .*rating_column="):
        prepare(interactions(ROWS), PrepareConfig(min_rating=4))
    with pytest.raises(DataError, match=r"none of 6 rows is rated 6 .* highest rating is 5.0, and 1 rows have none"):
        prepare(interactions(ROWS, rating=[5.0, None, 1, 1, 1, 1]), PrepareConfig(min_rating=6))


def test_nothing_left_or_nothing_there() -> None:
    with pytest.raises(DataError, match=r"nothing is left of 6 rows .* min_user_interactions=50"):
        prepare(interactions(ROWS), PrepareConfig(min_user_interactions=50))
    with pytest.raises(DataError, match="no interactions to prepare"):
        prepare(Interactions(interactions(ROWS).frame.clear(), ITEMS))


def test_items_without_a_title() -> None:
    blank = ITEMS.with_columns(title=pl.Series(["Zebra", " ", None, "Candle"]))
    with pytest.raises(DataError, match=r"2 of 3 items have no title, such as 'a', 'b'; .*missing_title=fallback"):
        prepare(interactions(ROWS, blank))
    unlisted = interactions(ROWS, ITEMS.filter(pl.col("item_id") != "c"))
    with pytest.raises(DataError, match=r"1 of 3 items have no title, such as 'c'"):
        prepare(unlisted)
    data = prepare(unlisted, PrepareConfig(missing_title="fallback"))
    assert data.items.rows() == [("a", "Anchor", 1), ("b", "Bridge", 2), ("c", None, None)]


def test_items_listed_twice() -> None:
    with pytest.raises(DataError, match="list 'z' more than once"):
        prepare(interactions(ROWS, pl.concat([ITEMS, ITEMS])))


@given(
    st.lists(st.tuples(st.sampled_from("uvwxy"), st.sampled_from("abcz"), st.integers(0, 4)), min_size=30, max_size=80),
    st.sampled_from(["leave_one_out", "temporal"]),
)
def test_no_row_is_lost_or_reordered(rows: list[tuple[str, str, int]], split: str) -> None:
    data = prepare(interactions(rows), PrepareConfig.model_validate({"split": split}))
    sequences = data.sequences
    ids = data.items["item_id"].to_list()
    for user in range(sequences.n_users):
        mine = slice(sequences.offsets[user], sequences.offsets[user + 1])
        expected = sorted((row for row in rows if row[0] == sequences.user_ids[user]), key=lambda row: row[2])
        assert [ids[item] for item in sequences.item_index[mine]] == [item for _, item, _ in expected]
        assert (np.diff(sequences.split[mine]) >= 0).all()
    counts = data.manifest["counts"]
    assert sum(counts[f"{name}_rows"] for name in ("context", "train", "valid", "test")) == len(rows)


def test_real_cds_reproduces_the_official_split(shared_data: Path) -> None:
    folder = shared_data / "cds2015"
    settings = PrepareConfig(split="given", order_column="pos")
    data = prepare(read(folder / "interactions_raw.parquet", folder / "items.parquet", settings), settings)
    counts = data.manifest["counts"]
    assert [counts[f"{name}_targets"] for name in ("train", "valid", "test")] == [49_251, 6_156, 6_157]
    assert (counts["users"], counts["items"], counts["context_rows"]) == (7_685, 5_841, 7_685)


@pytest.mark.parametrize(
    ("split", "targets"),
    [("leave_one_out", [478_653, 2_999, 2_999]), ("temporal", [387_720, 48_465, 48_466])],
)
def test_real_movies(shared_data: Path, split: str, targets: list[int]) -> None:
    folder = shared_data / "ml-1m-exact"
    settings = PrepareConfig.model_validate({"split": split})
    data = prepare(read(folder / "interactions.parquet", folder / "items.parquet", settings), settings)
    assert [data.manifest["counts"][f"{name}_targets"] for name in ("train", "valid", "test")] == targets


def test_real_toys_lack_titles(shared_data: Path) -> None:
    folder = shared_data / "toys14-5core"
    record = read(folder / "interactions.parquet", folder / "items.parquet")
    with pytest.raises(DataError, match="166 of 11924 items have no title, such as 'B00002DHEV'"):
        prepare(record)
    counts = prepare(record, PrepareConfig(missing_title="fallback")).manifest["counts"]
    assert (counts["users"], counts["items"], counts["test_targets"]) == (19_412, 11_924, 19_412)
