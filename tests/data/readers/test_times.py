"""Times as files write them, one column at a time."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from flr.data.readers.times import read_times
from flr.errors import ReadError


@pytest.mark.parametrize(
    ("values", "seconds", "form"),
    [
        ([0, 86_400], [0, 86_400], "epoch seconds"),
        ([-86_400, 10], [-86_400, 10], "epoch seconds"),
        ([1_500_000_000_123, 1_500_000_001_000], [1_500_000_000, 1_500_000_001], "epoch milliseconds"),
        ([1_500_000_000_000_001], [1_500_000_000], "epoch microseconds"),
        ([1_500_000_000_000_000_001], [1_500_000_000], "epoch nanoseconds"),
        ([1.5e9, float("nan"), float("inf")], [1_500_000_000, None, None], "epoch seconds"),
        (["inf", "881250949"], [None, 881_250_949], "epoch seconds"),
        (["8.81250949E8", "881250950"], [881_250_949, 881_250_950], "epoch seconds"),
        (["1997-12-04T15:55:49Z", "1997-12-04 15:55:49"], [881_250_949, 881_250_949], "ISO 8601"),
        (["1997-12-04T17:55:49+02:00", "never"], [881_250_949, None], "ISO 8601"),
        (["1997-12-04 15:55:49+00", "1997-12-04T15:55Z"], [881_250_949, 881_250_900], "ISO 8601"),
        (["1997-12-04 17:55:49.5+02", "1997-12-04T17:55+0200"], [881_250_949, 881_250_900], "ISO 8601"),
        (["19971204", None, "20000229"], [881_193_600, None, 951_782_400], "dates as YYYYMMDD"),
        ([19971204.0, None], [881_193_600, None], "dates as YYYYMMDD"),
        ([19971204, 19971399], [19_971_204, 19_971_399], "epoch seconds"),
        ([1_500_000_000_000] * 100 + [-1], [1_500_000_000] * 100 + [None], "epoch milliseconds"),
        ([date(1997, 12, 4)], [881_193_600], "date"),
        ([datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)], [881_250_949], "datetime"),
    ],
)
def test_a_column_is_read(values: list[object], seconds: list[int | None], form: str) -> None:
    times = read_times(pl.Series("t", values), "'t' of 'rows.csv'")
    assert (times.seconds.to_list(), times.form) == (seconds, form)


def test_decimals_are_read_like_floats() -> None:
    times = read_times(pl.Series("t", ["1500000000.900", "1500000000.100", None]).cast(pl.Decimal(20, 3)), "t")
    assert times.seconds.to_list() == [1_500_000_000, 1_500_000_000, None]
    assert times.finer is not None
    assert times.finer.arg_sort(nulls_last=True).to_list() == [1, 0, 2]
    whole = read_times(pl.Series("t", ["1500000000123456789"]).cast(pl.Decimal(38, 2)), "t")
    assert whole.form == "epoch nanoseconds"
    assert whole.finer is not None
    assert whole.finer.to_list() == [1_500_000_000_123_456_789]


def test_what_is_finer_than_a_second_is_kept_for_the_order() -> None:
    times = read_times(pl.Series("t", [1_500_000_000_900, 1_500_000_000_100]), "t")
    assert times.seconds.to_list() == [1_500_000_000, 1_500_000_000]
    assert times.finer is not None
    assert times.finer.arg_sort().to_list() == [1, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [([True], "'t' has type Boolean"), ([1_500_000_000, 1_500_000_000_000], "mixes epoch seconds .* and milliseconds")],
)
def test_what_is_no_time_is_said(values: list[object], said: str) -> None:
    with pytest.raises(ReadError, match=said):
        read_times(pl.Series("t", values), "'t'")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["1700000000", "2024-01-03", None, "", "1700000001"],
            r"\(2 rows\) and ISO 8601 \(1 row\), such as '2024-01-03'",
        ),
        (
            ["2024-01-03", "1700000000", "never", "2024-01-04"],
            r"\(1 row\) and ISO 8601 \(2 rows\), such as '1700000000'",
        ),
    ],
)
def test_numbers_among_iso_are_told_apart_from_what_is_no_time(values: list[str | None], said: str) -> None:
    with pytest.raises(ReadError, match=r"'t' mixes epoch numbers " + said + ".*write all of them as one"):
        read_times(pl.Series("t", values), "'t'")
