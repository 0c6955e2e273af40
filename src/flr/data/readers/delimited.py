"""CSV, TSV, Parquet and JSON lines -> interactions, by the names of their columns."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl

from flr.config import PrepareConfig
from flr.data.readers.formats import RawTable, about_file
from flr.data.readers.lines import numbered, shown
from flr.errors import ReadError

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".inter": "recbole",
    ".item": "recbole",
}


def recognises(path: Path) -> bool:
    """Return whether a path may be a table; what is none of any kind is said when it is read."""
    return not path.is_dir()


def recognises_items(path: Path) -> bool:
    """Return whether a path may be a table; see `recognises`."""
    return recognises(path)


def items_beside(path: Path) -> Path | None:
    """Return None: a table names no other."""
    return None


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of one file; see `read_table`."""
    return RawTable(read_table(path), about_file(path, recognise(path)))


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of one file; see `read_table`."""
    return read_interactions(path, settings)


def recognise(path: Path) -> str:
    """Return the format that a file's name tells, for example ``"csv"`` for ``rows.csv.gz``.

    Raises:
        ReadError: The name ends like no known format.
    """
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in FORMATS:
        raise ReadError(
            f"cannot tell the format of {path.name!r} by its name; expected one ending in "
            f"{', '.join(FORMATS)} (text also with .gz); rename or convert it"
        )
    return FORMATS[suffix]


def existing_file(path: Path) -> Path:
    """Return `path`.

    Raises:
        ReadError: There is no such file.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ReadError(f"{str(path)!r} {what}; expected a data file, check the path")
    return path


def read_table(path: Path) -> pl.DataFrame:
    """Return all columns of a file in file order; those of text files are strings.

    Raises:
        ReadError: The file is missing, of no known format, or damaged.
    """
    existing_file(path)
    form = recognise(path)
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        "csv": lambda path: read_text_table(path, ",", '"'),
        "tsv": lambda path: read_text_table(path, "\t", '"'),
        "parquet": pl.read_parquet,
        # Every line is looked at for the types: ids that are numbers in most lines and text in some are text.
        "json lines": lambda path: pl.read_ndjson(path, infer_schema_length=None),
        "recbole": lambda path: read_text_table(path, "\t", None),
    }
    try:
        return readers[form](path)
    except ReadError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        place = _first_bad_object(path) if form == "json lines" else None
        reason = place or str(error).splitlines()[0]
        raise ReadError(f"cannot read {str(path)!r} as {form}: {reason}; mend or convert the file") from error


def read_text_table(path: Path, separator: str, quote: str | None) -> pl.DataFrame:
    """Return a text table, every column as strings and every empty field as null.

    Args:
        path: UTF-8 text, or the same gzipped.
        separator: One character between fields.
        quote: Character around fields that hold a separator; None where the format has none.

    Raises:
        ReadError: The file is empty, not UTF-8, or a line has more fields than the header.
    """
    try:
        # All columns are read even where few are used: only then are lines with too many fields noticed.
        return pl.read_csv(path, separator=separator, quote_char=quote, infer_schema=False, truncate_ragged_lines=False)
    except pl.exceptions.NoDataError:
        raise ReadError(f"{str(path)!r} is empty; expected a header line and one line per row") from None
    except pl.exceptions.ComputeError as error:
        place = _first_bad_line(path, separator, quote)
        if place is None:
            raise
        raise ReadError(f"cannot read {str(path)!r}: {place}; mend that line and read again") from error


def _first_bad_object(path: Path) -> str | None:
    for number, raw in numbered(path):
        text = raw.decode("utf-8", errors="replace")
        try:
            found = json.loads(text or "{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or "\N{REPLACEMENT CHARACTER}" in text:
            return f"line {number} is {shown(text)}, no JSON object in UTF-8"
    return None


def _first_bad_line(path: Path, separator: str, quote: str | None) -> str | None:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)
            width = len(next(rows))
            for row in rows:
                if len(row) > width:
                    shown = separator.join(row)[:80]
                    return f"line {rows.line_num} has {len(row)} fields where the header has {width}: {shown!r}"
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 ({error.reason} at byte {error.start}; convert it, e.g. with `iconv -t UTF-8`)"
    except (csv.Error, OSError, StopIteration):
        return None
    return None
