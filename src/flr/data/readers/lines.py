"""Text files of any size, plain or gzipped, one line at a time, and what becomes of lines that cannot be read."""

from __future__ import annotations

import ast
import codecs
import gzip
import json
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import polars as pl

from flr.errors import ReadError

#: Rows that wait as Python objects before they become a piece of a table.
CHUNK_ROWS: Final = 100_000
_GZIP: Final = b"\x1f\x8b"
_SHOWN: Final = 80
#: No first line that tells a format is longer; a file without line ends is not read whole to find out.
_LONGEST_FIRST_LINE: Final = 1_000_000


class Lines:
    """The numbered lines of a text file.

    Args:
        path: Plain or gzipped, which its first bytes tell; browsers unpack files without renaming them.
        on_bad_row: Stop at lines that cannot be read, or leave them out and count them.
        encoding: Of the text; a byte order mark is left out.
    """

    def __init__(self, path: Path, *, on_bad_row: Literal["error", "drop"], encoding: str = "utf-8") -> None:
        self.path = path
        self.n_refused = 0
        self._drop = on_bad_row == "drop"
        self._encoding = encoding

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield number (from 1) and text of each line that is not blank, without its end (LF or CRLF).

        Raises:
            ReadError: The file is damaged, or a line is not in the encoding and may not be dropped.
        """
        return self._decoded(numbered(self.path))

    def within(self, data: bytes, first: int) -> Iterator[tuple[int, str]]:
        """Yield the same of some lines of the file, of which the first has the number `first`; see `__iter__`."""
        return self._decoded((n, line.rstrip(b"\r")) for n, line in enumerate(data.split(b"\n"), first))

    def _decoded(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
        for number, raw in lines:
            try:
                text = raw.decode(self._encoding)
            except UnicodeDecodeError as error:
                problem = f"is not {self._encoding} ({error.reason} at byte {error.start + 1} of the line)"
                self.refuse(number, problem, f"text in {self._encoding}, convert it, e.g. with `iconv -t UTF-8`")
                continue
            text = text.removeprefix("\ufeff") if number == 1 else text
            if text.strip():
                yield number, text

    def refuse(self, number: int, problem: str, expected: str) -> None:
        """Count a line that cannot be read.

        Raises:
            ReadError: Such lines may not be dropped.
        """
        if not self._drop:
            raise ReadError(
                f"line {number} of {str(self.path)!r} {problem}; expected {expected}; "
                "mend the line, or drop such lines with on_bad_row=drop"
            )
        self.n_refused += 1

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> number of lines left out."""
        return {"unreadable_lines": self.n_refused} if self.n_refused else {}


def open_plain(path: Path) -> BinaryIO:
    """Return a file's bytes, unpacked where its first ones say that it is gzipped, whatever its name.

    Raises:
        ReadError: The first ones say that it is UTF-16, as what spreadsheets call Unicode text is.
    """
    with path.open("rb") as file:
        head = file.read(2)
    if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise ReadError(f"{str(path)!r} is UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`")
    return cast(BinaryIO, gzip.open(path)) if head == _GZIP else path.open("rb")


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number (from 1) and bytes of each line, without its end.

    Raises:
        ReadError: The file cannot be opened, or its gzip stream is damaged or cut off: then it is not known how
            much is missing, so that nothing of it can be used.
    """
    number = 0
    try:
        with open_plain(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip(b"\r\n")
    except (EOFError, OSError, zlib.error) as error:
        raise ReadError(
            f"{str(path)!r} is damaged or cut off after line {number} ({error}); expected a whole file; fetch it again"
        ) from error


def shown(text: str) -> str:
    """Return the beginning of a text, quoted, for messages."""
    return repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")


def first_line(path: Path) -> str:
    """Return a file's first line, without its end or a byte order mark; empty where there is none.

    Raises:
        ReadError: The file cannot be opened or is damaged before the first line ends.
    """
    if not path.is_file():
        return ""
    try:
        with open_plain(path) as file:
            raw = file.readline(_LONGEST_FIRST_LINE)
    except (EOFError, OSError, zlib.error) as error:
        raise ReadError(
            f"{str(path)!r} is damaged or cut off in its first line ({error}); expected a whole file; fetch it again"
        ) from error
    return raw.decode("utf-8", errors="replace").removeprefix("\ufeff").rstrip("\r\n")


def first_object(path: Path) -> dict[str, Any]:
    """Return the JSON object or Python literal on a file's first line; empty where there is none; see `first_line`."""
    return parse_object(first_line(path)) or {}


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the object that a line holds as JSON, or as a Python literal where it is no JSON; None otherwise.

    Literals are what the Amazon files of 2014 hold. They are parsed, never run.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = literal(text)
    return value if isinstance(value, dict) else None


def literal(text: str) -> Any:
    """Return the Python literal that a text is, or None where it is none; nothing is run."""
    try:
        with warnings.catch_warnings():
            # What is odd in somebody's data, such as an unknown escape, is no news for the terminal.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def cell(value: Any) -> str | None:
    """Return a value of an object as the text of a table's cell: lists joined by ``; ``, nothing as None.

    >>> cell([["Toys", "Games"], []]), cell(5.0), cell("")
    ('Toys; Games', '5.0', None)
    """
    if isinstance(value, str):
        return value or None
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return "; ".join(filter(None, map(cell, value))) or None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


class Rows:
    """A table of text that grows row by row, held as Python objects only in pieces.

    Args:
        names: Its columns.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._schema = dict.fromkeys(names, pl.String)
        self._waiting: list[tuple[str | None, ...]] = []
        self._pieces: list[pl.DataFrame] = []

    def add(self, row: tuple[str | None, ...]) -> None:
        """Append one row."""
        self._waiting.append(row)
        if len(self._waiting) == CHUNK_ROWS:
            self._flush()

    def frame(self) -> pl.DataFrame:
        """Return the table of all rows so far."""
        self._flush()
        return pl.concat(self._pieces)

    def _flush(self) -> None:
        self._pieces.append(pl.DataFrame(self._waiting, self._schema, orient="row"))
        self._waiting = []
