"""CSV and other separated text -> tables of text in which no row was bent to fit.

Polars fills rows that are too short with nulls and renames columns that are called alike; here both are said.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from flr.data.readers.lines import first_line, open_plain
from flr.errors import ColumnError, ReadError

#: Bytes looked at to tell what a file is.
_HEAD_BYTES: Final = 1 << 16
#: Control characters that no text has, in any one-byte encoding.
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


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
        ReadError: The file is empty, no text or not UTF-8, or a line has more or fewer fields than there are columns.
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
        raise ReadError(f"cannot read {str(path)!r}: {place}; mend that line and read again") from error
    if any("_duplicated_" in name for name in frame.columns):
        check_names(path, next(_rows(path, separator, quote))[1])
    return _whole_rows(frame, path, (separator, quote, names is None), on_bad_row)


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
    # What a short row lacks is its end, so that files with a full last column need no second look.
    if frame.is_empty() or frame.width == 1 or not frame[:, -1].null_count():
        return frame, {}
    try:
        rows = [(number, len(fields)) for number, fields in _rows(path, separator, quote)][has_header:]
    except csv.Error:
        rows = []
    if len(rows) != len(frame):
        # Python parts some lines otherwise, or finds a field too long: then nothing can be said of widths.
        return frame, {}
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


def _rows(path: Path, separator: str, quote: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line, from 1, and the fields of each row."""
    with open_plain(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
        for row in reader:
            yield reader.line_num, row


def _first_bad_line(path: Path, separator: str, quote: str | None) -> str | None:
    try:
        rows = _rows(path, separator, quote)
        width = len(next(rows)[1])
        for number, row in rows:
            if len(row) > width:
                shown = separator.join(row)[:80]
                return f"line {number} has {len(row)} fields where the header has {width}: {shown!r}"
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 ({error.reason} at byte {error.start}; convert it, e.g. with `iconv -t UTF-8`)"
    except (csv.Error, OSError, StopIteration):
        return None
    return None
