"""Frames in memory are read as files are: any type of ids and times, by standard names or by the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas
import polars as pl
import pytest

import flr
from flr.errors import ColumnError, ReadError

#: Three people, whose times sort otherwise as texts; seconds since 1970.
ROWS = pl.DataFrame(
    {
        "user_id": [7, 7, 7, 8, 8, 8],
        "item_id": [1, 2, 3, 2, 3, 1],
        "timestamp": [1_398_902_400, 1_400_025_600, 1_401_580_800, 1_398_902_401, 1_400_025_601, 1_401_580_801],
    }
)
ITEMS = pl.DataFrame({"item_id": [1, 2, 3], "title": ["Heat", "Alien", "Fargo"], "year": [1995, 1979, 1996]})
AS_DATES = ROWS.with_columns(pl.from_epoch("timestamp"))


def last_items(read: flr.Interactions) -> dict[str, str]:
    data = flr.prepare(read)
    last = data.sequences.item_index[data.sequences.offsets[1:] - 1]
    return dict(zip(data.sequences.user_ids.tolist(), data.items["title"].gather(last).to_list(), strict=True))


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS.lazy(),
        ROWS.to_dict(as_series=False),
        ROWS.reverse(),
        AS_DATES,
        AS_DATES.with_columns(pl.col("timestamp").dt.strftime("%F %T")),
        ROWS.with_columns(pl.col("timestamp") * 1000),
        pandas.DataFrame(ROWS.to_dict(as_series=False)),
        pandas.DataFrame(AS_DATES.to_dict(as_series=False)),
        pandas.DataFrame(ROWS.cast({"user_id": pl.Float64}).to_dict(as_series=False)),
    ],
    ids=[
        "seconds",
        "lazy",
        "columns",
        "reversed",
        "dates",
        "texts",
        "milliseconds",
        "pandas",
        "pandas-dates",
        "floats",
    ],
)
def test_any_form_of_the_same_rows_is_the_same(rows: Any) -> None:
    read = flr.read_frames(rows, ITEMS)
    assert read.frame.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    assert last_items(read) == {"7": "Fargo", "8": "Heat"}
    assert flr.prepare(read).items["year"].to_list() == [1995, 1979, 1996]


def test_settings_name_columns_and_make_titles() -> None:
    rows = ROWS.rename({"user_id": "who", "timestamp": "when"})
    settings = flr.PrepareConfig(user_column="who", timestamp_column="when", title_template="{title} ({year})")
    assert last_items(flr.read_frames(rows, ITEMS, settings)) == {"7": "Fargo (1996)", "8": "Heat (1995)"}


def test_what_pandas_holds_as_nan_is_a_missing_value() -> None:
    rows = pandas.DataFrame({"user": ["a", "a", None], "item": ["x", "y", "y"], "time": [1.0, float("nan"), 3.0]})
    with pytest.raises(ReadError, match=r"'user' in data row 3 of 'rows' is empty|'time' in data row 2"):
        flr.read_frames(rows)
    read = flr.read_frames(rows, settings=flr.PrepareConfig(on_bad_row="drop"))
    assert (len(read.frame), read.dropped) == (1, {"unreadable_rows": 2})


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ColumnError, match=r"rows: got a builtins\.int, which makes no table"):
        flr.read_frames(7)


@pytest.mark.parametrize(
    ("rows", "items", "message"),
    [
        (AS_DATES, ITEMS, r"column 'user_id' of the frame has type Int64, expected String; flr\.read_frames"),
        (AS_DATES.cast({"user_id": pl.String, "item_id": pl.String}), ITEMS, "'timestamp' of the frame has type Dat"),
        (ROWS.cast(pl.String).cast({"timestamp": pl.Int64}), ITEMS, "column 'item_id' of the items has type Int64"),
        (ROWS.rename({"user_id": "who"}), ITEMS, r"the frame has no column 'user_id', but \['who'"),
        (pandas.DataFrame({"user_id": ["a"]}), ITEMS, "the frame is a DataFrame, expected a frame of polars"),
    ],
)
def test_a_record_of_ones_own_has_the_right_types(rows: Any, items: pl.DataFrame, message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        flr.prepare(flr.Interactions(rows, items))


def test_a_record_of_ones_own_has_no_empty_times() -> None:
    rows = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["x", "y"], "timestamp": [1, None]})
    with pytest.raises(ColumnError, match="column 'timestamp' of the frame is empty in 1 rows"):
        flr.prepare(flr.Interactions(rows, pl.DataFrame({"item_id": ["x", "y"], "title": ["X", "Y"]})))


def test_moments_of_python_keep_their_order() -> None:
    moments = [datetime(2014, 5, day, tzinfo=UTC) for day in (13, 9, 11)]
    rows = {"user": ["a"] * 3, "item": ["x", "y", "z"], "time": moments, "title": ["X", "Y", "Z"]}
    assert last_items(flr.read_frames(rows)) == {"a": "X"}


def test_rows_within_a_second_are_repeats_only_at_one_time() -> None:
    rows = pl.DataFrame({"user_id": ["u"] * 4, "item_id": [2, 1, 1, 1], "timestamp": [1001.5, 1001.0, 1001.5, 1001.0]})
    data = flr.prepare(flr.read_frames(rows, ITEMS), flr.PrepareConfig(deduplicate=True))
    assert data.items["item_id"].gather(data.sequences.item_index).to_list() == ["1", "2", "1"]
    assert data.manifest["dropped"]["duplicate_rows"] == 1
    assert data.manifest["tie_break"] == "within a user: by time, fractions of a second too, then by place in the file"


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        ([0.5, 0.25, -3.0, 0.25], [3, 2, 1, 2]),
        (["0.5", "0.25", "-3", "0.25"], [3, 2, 1, 2]),
        (pl.Series(["0.50", "0.25", "-3.00", "0.25"]).cast(pl.Decimal(10, 2)), [3, 2, 1, 2]),
        ([4.0, 3.0, 1.0, 3.0], [4, 3, 1, 3]),
        (["4.0", "3.0", "1.0", "3.0"], [4, 3, 1, 3]),
        ([9_007_199_254_740_993, 9_007_199_254_740_992, -1, 0], [9_007_199_254_740_993, 9_007_199_254_740_992, -1, 0]),
    ],
)
def test_an_order_may_be_any_numbers(steps: Any, order: list[int]) -> None:
    rows = ROWS.head(4).with_columns(pl.Series("step", steps))
    read = flr.read_frames(rows, ITEMS, flr.PrepareConfig(order_column="step"))
    assert read.frame["order"].to_list() == order


@pytest.mark.parametrize("steps", [[1.5, float("nan"), 2.0], ["1.5", "second", "2"]])
def test_an_order_that_is_no_number_is_said(steps: list[object]) -> None:
    rows = ROWS.head(3).with_columns(pl.Series("step", steps))
    with pytest.raises(ReadError, match=r"'step' in data row 2 of 'rows' is .*, no number"):
        flr.read_frames(rows, ITEMS, flr.PrepareConfig(order_column="step"))


@pytest.mark.parametrize("name", ["user_id", "item_id", "timestamp", "title", "split", "rating", "step"])
@pytest.mark.parametrize("wrap", [pl.struct, pl.concat_list])
def test_a_list_or_a_record_is_no_value(name: str, wrap: Any) -> None:
    rows = ROWS.with_columns(title=pl.lit("A"), split=pl.lit("train"), rating=pl.lit(5.0), step=pl.lit(1))
    settings = flr.PrepareConfig(split="given", min_rating=1, order_column="step")
    with pytest.raises(ColumnError, match=rf"column '{name}' of 'rows' has type (Struct|List).*, expected one value"):
        flr.read_frames(rows.with_columns(wrap(name).alias(name)), None, settings)


def test_a_rating_that_nobody_asks_for_may_be_anything() -> None:
    read = flr.read_frames(ROWS.with_columns(pl.struct(value=pl.lit(5.0)).alias("rating")), ITEMS)
    assert "rating" not in read.frame.columns


def test_bytes_are_texts_where_they_are_utf8() -> None:
    rows = ROWS.head(2).with_columns(user_id=pl.Series([b"caf\xc3\xa9", b"\xff"]))
    with pytest.raises(ReadError, match=r"'user_id' in data row 2 of 'rows' is b'\\xff', not readable"):
        flr.read_frames(rows, ITEMS)
    dropped = flr.read_frames(rows, ITEMS, flr.PrepareConfig(on_bad_row="drop"))
    assert dropped.frame["user_id"].to_list() == ["caf\xe9"]
    titles = pl.DataFrame({"item_id": [1, 2], "title": [b"Heat", b"\xff"]})
    assert flr.read_frames(ROWS.head(2), titles).items["title"].to_list() == ["Heat", None]


def test_times_beyond_whole_numbers_are_unreadable_rows() -> None:
    rows = ROWS.with_columns(timestamp=pl.lit(2**64 - 1, dtype=pl.UInt64))
    with pytest.raises(ReadError, match=r"'timestamp' in data row 1 of 'rows' is 18446744073709551615, no time"):
        flr.read_frames(rows, ITEMS)


def test_attributes_called_like_titles_are_kept_under_names_of_their_own() -> None:
    items = ITEMS.rename({"title": "name"}).with_columns(title=pl.lit("a"), title_attribute=pl.lit("b"))
    read = flr.read_frames(ROWS, items, flr.PrepareConfig(title_column="name"))
    assert read.items.columns == ["item_id", "title", "year", "title_attribute_attribute", "title_attribute"]
    assert read.items.row(0) == ("1", "Heat", 1995, "a", "b")
