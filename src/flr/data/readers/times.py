"""Times as files write them -> seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from flr.errors import ReadError

#: Epoch unit -> units per second and the magnitude from which on a number is taken for the next finer unit
#: (1e11 seconds are in the year 5138; 1e11 milliseconds are in 1973).
UNITS: Final = {
    "seconds": (1, 1e11),
    "milliseconds": (1_000, 1e14),
    "microseconds": (1_000_000, 1e17),
    "nanoseconds": (1_000_000_000, float("inf")),
}
#: Up to this share, times of the other kind are mistakes among the others.
_FEW: Final = 0.01
_ISO_FORMATS: Final = ("%FT%T%.f", "%F %T%.f", "%FT%H:%M", "%F %H:%M", "%F")
#: Numbers that may be dates without hyphens.
_FIRST_DAY, _LAST_DAY = 19_000_101, 21_001_231
_NUMBER: Final = r"^\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*$"


@dataclass(frozen=True)
class Times:
    """A column of times, read.

    Attributes:
        seconds: Whole seconds since 1970 (rounded down), Int64; null where unreadable.
        finer: The same in the file's own unit where it is finer than a second and says more, else None.
        form: How they were written, for the manifest, for example ``"epoch milliseconds"``.
    """

    seconds: pl.Series
    finer: pl.Series | None
    form: str


def read_times(column: pl.Series, where: str) -> Times:
    """Return the times of a column of numbers, dates, or text holding epoch numbers or ISO 8601.

    The unit of epoch numbers is told by their size. ISO times without an offset are taken as UTC.

    Args:
        column: Of any integer, float, date, datetime or string type.
        where: File and column, for messages.

    Raises:
        ReadError: The type cannot hold times, or numbers of different units, or numbers and ISO 8601, are mixed; one
            in a hundred of the other kind is no mixture, but null as what cannot be read.
    """
    if column.dtype == pl.Date:
        return Times(column.cast(pl.Datetime("us")).dt.epoch("s"), None, "date")
    if isinstance(column.dtype, pl.Datetime):
        return _times(column.dt.epoch("us"), "microseconds", "datetime")
    if column.dtype == pl.String:
        head = column.drop_nulls().head(1000)
        text, mostly_iso = column, head.str.contains(_NUMBER).sum() * 2 < len(head)
        column = _iso_microseconds(text) if mostly_iso else numbers_of(text)
        _check_one_kind(text.filter(column.is_null()), column.count(), where, is_iso=mostly_iso)
        if mostly_iso:
            return _times(column, "microseconds", "ISO 8601")
    if not column.dtype.is_numeric():
        raise ReadError(f"{where} has type {column.dtype}; expected epoch numbers, dates or ISO 8601 text")
    column = numbers_of(column)
    if (days := _compact_days(column)) is not None:
        return Times(days, None, "dates as YYYYMMDD")
    column, unit = _of_one_unit(column, where)
    return _times(column, unit, f"epoch {unit}")


def _check_one_kind(unread: pl.Series, n_read: int, where: str, *, is_iso: bool) -> None:
    """Check that what could not be read as the one kind of time is not of the other kind."""
    unread = unread.drop_nulls()
    if unread.is_empty() or not n_read:
        return
    other = unread.filter(unread.str.contains(_NUMBER) if is_iso else _iso_microseconds(unread).is_not_null())
    if len(other) > _FEW * n_read:
        n_numbers, n_iso = (len(other), n_read) if is_iso else (n_read, len(other))
        raise ReadError(
            f"{where} mixes epoch numbers ({_rows(n_numbers)}) and ISO 8601 ({_rows(n_iso)}), such as {other[0]!r} "
            "among the others; write all of them as one of the two"
        )


def _rows(n: int) -> str:
    return f"{n:,} row" if n == 1 else f"{n:,} rows"


def _times(values: pl.Series, unit: str, form: str) -> Times:
    per_second = UNITS[unit][0]
    if values.dtype.is_float():
        values = pl.select(pl.when(values.is_finite()).then(values)).to_series()
        seconds = (values / per_second).floor().cast(pl.Int64, strict=False)
        whole = bool((values % per_second == 0).all())
    else:
        # Unsigned numbers may be too large for it.
        seconds = values.cast(pl.Int64, strict=False) // per_second
        whole = per_second == 1 or bool((values % per_second == 0).all())
    return Times(seconds, None if whole else values, form)


def as_whole(numbers: pl.Series) -> pl.Series | None:
    """Return numbers that have no fractions as whole ones, nulls as they are; None where that would change one."""
    whole = numbers.cast(pl.Int64, strict=False)
    is_whole = whole.null_count() == numbers.null_count() and bool((whole == numbers).all())
    return whole if is_whole else None


def numbers_of(column: pl.Series) -> pl.Series:
    """Return texts and decimals as whole numbers, or as floats where that loses no value that a float would keep."""
    if isinstance(column.dtype, pl.Decimal):
        whole = as_whole(column)
        return column.cast(pl.Float64) if whole is None else whole
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count():
        return whole
    real = text.cast(pl.Float64, strict=False)
    return whole if real.null_count() == whole.null_count() else real


def _iso_microseconds(text: pl.Series) -> pl.Series:
    text = text.str.strip_chars()
    with_offset = text.str.replace(" ", "T").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    read = with_offset.dt.epoch("us")
    for form in _ISO_FORMATS:
        if read.null_count() == text.null_count():
            break
        naive = text.str.to_datetime(form, time_unit="us", strict=False).dt.epoch("us")
        read = pl.select(pl.coalesce(read, naive)).to_series()
    if read.null_count() > text.null_count():
        # Hours alone as the offset, as Postgres writes it, and an offset after minutes.
        whole = text.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)(Z|[+-]\d\d(?::?\d\d)?)$", "${1}:00${2}")
        whole = whole.str.replace(r"(T[\d:.]+[+-]\d\d)$", "${1}:00")
        with_hours = whole.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False).dt.epoch("us")
        read = pl.select(pl.coalesce(read, with_hours)).to_series()
    return read


def _compact_days(numbers: pl.Series) -> pl.Series | None:
    """Return the seconds of numbers that all are dates such as 20171001, None where they are not.

    As seconds, all of them would be within three weeks of the summer of 1970.
    """
    whole = numbers.drop_nulls()
    if whole.is_empty() or not bool(whole.is_between(_FIRST_DAY, _LAST_DAY).all()):
        return None
    days = numbers.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
    is_whole = days.null_count() == numbers.null_count() and bool((whole.cast(pl.Int64) == whole).all())
    return days.cast(pl.Datetime("us")).dt.epoch("s") if is_whole else None


def _of_one_unit(numbers: pl.Series, where: str) -> tuple[pl.Series, str]:
    """Return epoch numbers, null where a few are of another unit than the others, such as -1 for none, and the unit."""
    sizes = numbers.cast(pl.Float64).abs()
    sizes = pl.select(pl.when((sizes > 0) & sizes.is_finite()).then(sizes)).to_series()
    edges = [0.0, *(limit for _, limit in UNITS.values())]
    of_unit = {
        unit: sizes.is_between(low, high, closed="left").fill_null(False)
        for unit, low, high in zip(UNITS, edges, edges[1:], strict=False)
    }
    counts = {unit: int(mask.sum()) for unit, mask in of_unit.items()}
    unit = max(counts, key=lambda one: counts[one])
    others = [mask for other, mask in of_unit.items() if other != unit and counts[other]]
    if sum(counts.values()) - counts[unit] > _FEW * counts[unit]:
        low, high = (float(size) for size in (sizes.min(), sizes.max()))  # type: ignore[arg-type]
        raise ReadError(
            f"{where} mixes epoch {_unit_of(low)} (such as {low:.0f}) and {_unit_of(high)} (such as {high:.0f}); "
            "convert all of them to seconds"
        )
    for mask in others:
        numbers = numbers.set(mask, None)
    return numbers, unit


def _unit_of(size: float) -> str:
    return next(unit for unit, (_, limit) in UNITS.items() if size < limit)
