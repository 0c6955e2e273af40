"""CSV and other separated text -> tables of text in which no row was bent to fit.

Polars fills rows that are too short with nulls, renames columns that are called alike, and takes everything from one
quote that is not doubled to the next one for a single field, lines and all; here each of these is said.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl

from flr.data.readers.lines import first_line, open_plain, shown
from flr.errors import ColumnError, ReadError

#: Bytes looked at to tell what a file is.
_HEAD_BYTES: Final = 1 << 16
#: Control characters that no text has, in any one-byte encoding.
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_DOUBLE_THEM: Final = """write "12"" single" for 12" single, as Spark does with escape='"', and read again"""


class _Row(NamedTuple):
    """A row as Python's `csv` parts it: the number of its last line, from 1, its fields, and its lines as they are."""

    number: int
    fields: list[str]
    lines: list[str]


def read_text_table(
    path: Path,
    separator: str,
    quote: str | None,
    *,
    on_bad_row: Literal["error", "drop"] = "error",
    names: tuple[str, ...] | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return a text table, every column as strings and every empty field as null, and the numbers left out.

    Lines that are blank are no rows and count for nothing. They end with LF, CRLF or CR, one of them in the whole file.

    Args:
        path: UTF-8 text, or the same gzipped.
        separator: One character between fields.
        quote: Character around fields that hold a separator; None where the format has none.
        on_bad_row: Stop at rows with fewer fields than there are columns, or leave them out and count them.
        names: Columns of a file without a header; None: the first line names them.

    Raises:
        ReadError: The file is empty, no text or not UTF-8, a line has more or fewer fields than there are columns, or
            quotes within fields are not doubled, so that rows are lost.
        ColumnError: Two columns have one name.
    """
    try:
        # All columns are read even where few are used: only then are lines with too many fields noticed.
        frame = pl.read_csv(
            _with_line_feeds(path),
            separator=separator,
            quote_char=quote,
            infer_schema=False,
            truncate_ragged_lines=False,
            has_header=names is None,
            new_columns=names,
        )
    except pl.exceptions.NoDataError:
        raise ReadError(f"{str(path)!r} is empty; expected a header line and one line per row") from None
    except (pl.exceptions.ComputeError, pl.exceptions.ShapeError) as error:
        place = _first_bad_line(path, separator, quote)
        if place is None:
            raise
        raise ReadError(f"cannot read {str(path)!r}: {place}") from error
    if any("_duplicated_" in name for name in frame.columns):
        check_names(path, next(_rows(path, separator, quote)).fields)
    whole, dropped = _whole_rows(frame, path, (separator, quote, names is None), on_bad_row)
    # Polars keeps empty fields within quotes as empty texts.
    empty = [column.name for column in whole if bool((column == "").any())]
    return whole.with_columns(pl.col(empty).replace("", None)) if empty else whole, dropped


def _with_line_feeds(path: Path) -> Path | bytes:
    """Return the file, or what is in it where its lines end with CR, which Polars takes for no end.

    Raises:
        ReadError: The file is not text.
    """
    try:
        with open_plain(path) as file:
            head = file.read(_HEAD_BYTES)
            _check_text(path, head)
            return path if b"\r" not in head or b"\n" in head else (head + file.read()).replace(b"\r", b"\n")
    except (EOFError, OSError, zlib.error):
        # Polars is about to say what is wrong with it.
        return path


def _check_text(path: Path, head: bytes) -> None:
    found = _BINARY.search(head)
    if found is None:
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{str(path)!r} is no CSV text: byte {found.start() + 1} is {found.group()!r}, as in binary files; "
            "expected UTF-8 text; check that it is the right file, or export it as CSV or Parquet"
        ) from error


def first_text_line(path: Path) -> str:
    """Return a file's first line as `flr.data.readers.lines.first_line` does, also where lines end with CR."""
    return first_line(path).partition("\r")[0]


def check_names(path: Path, names: list[str]) -> None:
    """Check that the names of columns differ.

    Raises:
        ColumnError: Two do not.
    """
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ColumnError(
            f"the header of {str(path)!r} names the column {twice!r} more than once; expected different names; "
            "rename or remove one of them"
        )


def _whole_rows(
    frame: pl.DataFrame, path: Path, form: tuple[str, str | None, bool], on_bad_row: Literal["error", "drop"]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows that have as many fields as there are columns, and how many were left out."""
    separator, quote, has_header = form
    # A short row lacks its end, and a swallowed one leaves its line end: other files need no second look.
    if frame.is_empty() or frame.width == 1 or not (frame[:, -1].null_count() or _has_line_ends(frame)):
        return frame, {}
    rows, swallowing = [], None
    try:
        for row in _rows(path, separator, quote):
            rows.append((row.number, len(row.fields)))
            if swallowing is None and len(row.lines) > 1 and not _is_well_quoted(row, separator):
                swallowing = row
    except csv.Error:
        # Python finds a field too long: then nothing can be said of widths.
        return frame, {}
    rows = rows[has_header:]
    if swallowing or len(rows) != len(frame):
        raise _lost_rows(path, separator, swallowing)
    numbers, widths = np.array(rows).T
    short = (widths < frame.width) & (widths > 0)
    if short.any() and on_bad_row == "error":
        first = int(np.argmax(short))
        others = f" ({int(short.sum())} short lines in all)" if short.sum() > 1 else ""
        raise ReadError(
            f"line {numbers[first]} of {str(path)!r} has {widths[first]} fields where there are {frame.width} "
            f"columns{others}; mend the line, or drop such lines with on_bad_row=drop"
        )
    whole = frame.filter(pl.Series(widths == frame.width))
    return whole, {"unreadable_lines": int(short.sum())} if short.any() else {}


def _has_line_ends(frame: pl.DataFrame) -> bool:
    return any(bool(column.str.contains("\n", literal=True).any()) for column in frame)


def _is_well_quoted(row: _Row, separator: str) -> bool:
    """Return whether every field of a row is free of quotes, or is within quotes with all others doubled."""
    field = rf'(?:"(?:[^"]|"")*+"|[^"{re.escape(separator)}]*+)'
    return re.fullmatch(rf"{field}(?:{re.escape(separator)}{field})*+", "".join(row.lines).rstrip("\r\n")) is not None


def _lost_rows(path: Path, separator: str, row: _Row | None) -> ReadError:
    """Return what to say where rows were swallowed between two quotes; None: the row is yet to be found."""
    bad = row or next((one for one in _rows(path, separator, '"') if not _is_well_quoted(one, separator)), None)
    place = _unlike_quote(bad) if bad else f"quotes within its fields are not doubled; {_DOUBLE_THEM}"
    return ReadError(f"cannot read {str(path)!r}: {place}")


def _unlike_quote(row: _Row) -> str:
    first, text = row.number - len(row.lines) + 1, shown(row.lines[0].strip())
    return f"line {first} has a quote within a field that is not doubled: {text}; {_DOUBLE_THEM}"


def _rows(path: Path, separator: str, quote: str | None) -> Iterator[_Row]:
    """Yield each row, parted as Polars does: at LF, or at CR in files without LF."""
    end = "\r" if "\r" in first_line(path) else "\n"
    with open_plain(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline=end) as text:
        taken: list[str] = []

        def lines() -> Iterator[str]:
            for line in text:
                taken.append(line)
                # A CR within a line would be an end, or an error.
                yield line.replace("\r", "")

        reader = csv.reader(lines(), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        for fields in reader:
            yield _Row(reader.line_num, fields, taken.copy())
            taken.clear()


def _first_bad_line(path: Path, separator: str, quote: str | None) -> str | None:
    """Return which line is why a file cannot be read, and what to do; None where no line is to blame."""
    badly_quoted = None
    try:
        rows = _rows(path, separator, quote)
        width = len(next(rows).fields)
        for row in rows:
            if quote and badly_quoted is None and not _is_well_quoted(row, separator):
                badly_quoted = row
            if len(row.fields) > width and badly_quoted is None:
                text = separator.join(row.fields)[:80]
                had = f"has {len(row.fields)} fields where the header has {width}: {text!r}"
                return f"line {row.number} {had}; mend that line and read again"
    except UnicodeDecodeError as error:
        what = f"{error.reason} at byte {error.start}; convert it, e.g. with `iconv -t UTF-8`"
        return f"it is not UTF-8 ({what}); mend that line and read again"
    except (csv.Error, OSError, StopIteration):
        pass
    return None if badly_quoted is None else _unlike_quote(badly_quoted)
