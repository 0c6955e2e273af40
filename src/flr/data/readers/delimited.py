"""CSV, TSV, Parquet (also parts of Spark's) and JSON lines -> interactions, by the names of their columns."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from pathlib import Path
from typing import Final, Literal

import polars as pl

from flr.data.readers.formats import RawTable, about_file, about_files
from flr.data.readers.lines import Lines, numbered, open_plain, shown
from flr.data.readers.text_tables import first_text_line, read_text_table
from flr.errors import DataError, ReadError
from flr.prepare_config import PrepareConfig

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

#: From here on floats do not hold every whole number.
_INEXACT: Final = 2.0**53
#: What CSV files have in place of commas, by the habits of a country or a program.
_OTHER_SEPARATORS: Final = (";", "\t", "|")


def recognises(path: Path) -> bool:
    """Return whether a path may be a table, or a folder of parts; what is none of any kind is said when it is read."""
    return not path.is_dir() or bool(_parts(path))


def recognises_items(path: Path) -> bool:
    """Return whether a path may be a table; see `recognises`."""
    return recognises(path)


def items_beside(path: Path) -> Path | None:
    """Return None: a table names no other."""
    return None


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of one file, see `read_table`, or of the parts in a folder, in the order of their names.

    Raises:
        ReadError: A part is damaged, or parts have different columns.
    """
    if path.is_dir():
        parts = _parts(path)
        frames = [read_table(part)[0] for part in parts]
        try:
            return RawTable(pl.concat(frames, how="vertical_relaxed"), about_files(path, "parquet", parts))
        except pl.exceptions.PolarsError as error:
            raise ReadError(f"the parts of {str(path)!r} have different columns ({error}); write them anew") from error
    frame, dropped = read_table(path, settings.on_bad_row)
    about, (separator, _) = about_file(path, recognise(path)), _separator_and_quote(path)
    if about["format"] == "csv" and separator != ",":
        about["note"] = f"its fields are separated by {separator!r}"
    return RawTable(frame, about, dropped)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of one file or folder; see `read_interactions`."""
    return read_interactions(path, settings)


def _parts(folder: Path) -> list[Path]:
    """Return the parts of a table as Spark writes them: Parquet files beside names that begin with ``_`` or a dot."""
    files = sorted(one for one in folder.iterdir() if not one.name.startswith(("_", ".")))
    is_whole = all(one.is_file() and one.name.startswith("part-") and one.suffix == ".parquet" for one in files)
    return files if is_whole else []


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


def read_table(path: Path, on_bad_row: Literal["error", "drop"] = "error") -> tuple[pl.DataFrame, dict[str, int]]:
    """Return all columns of a file in file order, those of text files as strings, and the numbers left out.

    Raises:
        ReadError: The file is missing, of no known format, or damaged, or a line cannot be read and may not be
            dropped.
        ColumnError: Two columns have one name.
    """
    existing_file(path)
    form = recognise(path)
    try:
        if form == "parquet":
            return pl.read_parquet(path), {}
        if form == "json lines":
            return _read_json_lines(path, on_bad_row)
        separator, quote = _separator_and_quote(path)
        return read_text_table(path, separator, quote, on_bad_row=on_bad_row)
    except DataError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        place = _first_bad_object(path) if form == "json lines" else None
        reason = place or str(error).splitlines()[0]
        raise ReadError(f"cannot read {str(path)!r} as {form}: {reason}; mend or convert the file") from error


def _separator_and_quote(path: Path) -> tuple[str, str | None]:
    """Return what parts the fields of a text table: in a CSV file without a comma in its header, what is there."""
    form = recognise(path)
    if form != "csv":
        return "\t", None if form == "recbole" else '"'
    header = re.sub('"[^"]*"', "", first_text_line(path))
    # A table of one column is of no use here, so that nothing is lost by taking another mark for the separator.
    return max((",", *_OTHER_SEPARATORS), key=header.count) if "," not in header else ",", '"'


def _read_json_lines(path: Path, on_bad_row: Literal["error", "drop"]) -> tuple[pl.DataFrame, dict[str, int]]:
    try:
        frame = _read_objects(_without_mark(path))
    except pl.exceptions.PolarsError:
        if on_bad_row == "error":
            raise
        return _good_objects(path)
    # Polars turns half of a surrogate pair into a NUL, and two people whose names differ there into one.
    suspect = any(kind.is_nested() or _has_nul(frame[name]) for name, kind in frame.schema.items())
    halves = _lines_with_halves(path) if suspect else []
    if not halves:
        return frame, {}
    _, number, text = halves[0]
    if on_bad_row == "error":
        raise ReadError(
            f"line {number} of {str(path)!r} has half of a character in {shown(text)}; expected whole ones (a pair of "
            "surrogates); mend the line, or drop such lines with on_bad_row=drop"
        )
    bad = pl.Series([row for row, _, _ in halves], dtype=pl.UInt32)
    kept = frame.with_row_index("flr_row").filter(~pl.col("flr_row").is_in(bad.implode())).drop("flr_row")
    return kept, {"unreadable_lines": len(halves)}


def _read_objects(source: Path | bytes) -> pl.DataFrame:
    """Return the table of JSON lines, as text what floats do not hold to the last digit: two ids would become one."""
    # Every line is looked at for the types: ids that are numbers in most lines and text in some are text.
    frame = pl.read_ndjson(source, infer_schema_length=None)
    inexact = [one.name for one in frame if one.dtype == pl.Float64 and bool((one.abs() >= _INEXACT).any())]
    as_text = dict.fromkeys(inexact, pl.String)
    return pl.read_ndjson(source, infer_schema_length=None, schema_overrides=as_text) if inexact else frame


def _without_mark(path: Path) -> Path | bytes:
    """Return the file, or what is in it after a byte order mark, which Polars takes for text."""
    try:
        with open_plain(path) as file:
            return file.read() if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else path
    except (EOFError, OSError, zlib.error):
        # Polars is about to say what is wrong with it.
        return path


def _good_objects(path: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the table of the lines that are JSON objects, and how many others were left out."""
    lines, good = Lines(path, on_bad_row="drop"), list[str]()
    for number, text in lines:
        if _is_object(text):
            good.append(text)
        else:
            lines.refuse(number, f"is {shown(text)}", "a JSON object")
    return _read_objects("\n".join(good).encode()), lines.dropped


def _is_object(text: str) -> bool:
    """Return whether a line is a JSON object of whole characters; NaN and Infinity are no JSON."""
    try:
        found = json.loads(text, parse_constant=_refuse)
        # Half of a character cannot be encoded.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _has_nul(column: pl.Series) -> bool:
    return column.dtype == pl.String and bool(column.str.contains("\0", literal=True).any())


def _lines_with_halves(path: Path) -> list[tuple[int, int, str]]:
    """Return row, number and text of each line with half of a surrogate pair."""
    found, row = [], -1
    for number, raw in numbered(path):
        row += bool(raw.strip())
        if b"\\ud" in raw or b"\\uD" in raw:
            try:
                json.dumps(json.loads(raw), ensure_ascii=False).encode()
            except UnicodeEncodeError:
                found.append((row, number, raw.decode("utf-8", errors="replace")))
    return found


def _first_bad_object(path: Path) -> str | None:
    for number, raw in numbered(path):
        text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
        if "\N{REPLACEMENT CHARACTER}" in text or (text.strip() and not _is_object(text)):
            return f"line {number} is {shown(text)}, no JSON object in UTF-8"
    return None
