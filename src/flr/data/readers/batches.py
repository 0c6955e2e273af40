"""Large JSON lines files in batches: unpacked in one thread while another parses the few fields that are needed.

A batch in which all is as expected is parsed in one go; any other is left to the slow road, line by line, which says
what is wrong with which line. Both give the same rows.
"""

from __future__ import annotations

import gzip
import io
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import polars as pl

#: Unpacked bytes of a batch, and batches that wait: a few of them are in memory at a time.
BATCH_BYTES: Final = 16_000_000
_N_WAITING: Final = 2
_GZIP: Final = b"\x1f\x8b"
_STOP_SECONDS: Final = 0.1


class DamagedError(Exception):
    """A file cannot be unpacked to its end; who catches it says more, by reading line by line."""


class Batch(NamedTuple):
    """Whole lines of a file, and the number of the first, from 1."""

    first: int
    data: bytes


def batches(path: Path) -> Iterator[Batch]:
    """Yield the lines of a file, plain or gzipped, in batches.

    Raises:
        DamagedError: The file cannot be read or is damaged; what it held before is not to be used.
    """
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_N_WAITING)
    stopped = threading.Event()

    def put(one: bytes | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                waiting.put(one, timeout=_STOP_SECONDS)
            except queue.Full:
                continue
            break

    thread = threading.Thread(target=_unpack, args=(path, put, stopped), daemon=True)
    thread.start()
    number = 1
    try:
        while (data := waiting.get()) is not None:
            if isinstance(data, BaseException):
                raise DamagedError(str(path)) from data
            yield Batch(number, data)
            number += data.count(b"\n")
    finally:
        stopped.set()
        thread.join()


def uniform_rows(
    batch: Batch, text: tuple[str, ...], numbers: tuple[tuple[str, pl.DataType], ...]
) -> pl.DataFrame | None:
    """Return the fields of a batch in which every line is an object with all of them, else None.

    Args:
        batch: Lines.
        text: Fields that hold text; empty text does not count.
        numbers: Fields that hold numbers, and their types: whole numbers must be written as such.
    """
    data = batch.data
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    # Polars makes text of numbers, and takes the first of two fields of one name where Python takes the last.
    if any(data.count(b'"%s": "' % name.encode()) + data.count(b'"%s":"' % name.encode()) != n_lines for name in text):
        return None
    if any(data.count(b'"%s":' % name.encode()) != n_lines for name, _ in numbers):
        return None
    schema = {**dict.fromkeys(text, pl.String()), **dict(numbers)}
    try:
        frame = pl.read_ndjson(io.BytesIO(data), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    # A NUL can be half of a character, which polars turns into one.
    odd = pl.any_horizontal(
        pl.all().is_null().any(),
        *((pl.col(name) == "").any() | pl.col(name).str.contains("\0", literal=True).any() for name in text),
    )
    if len(frame) != n_lines or bool(frame.select(odd).item()):
        return None
    return frame.cast(pl.String)


def _unpack(path: Path, put: Callable[[bytes | BaseException | None], None], stopped: threading.Event) -> None:
    rest = b""
    try:
        with _open(path) as file:
            while not stopped.is_set() and (block := file.read(BATCH_BYTES)):
                whole, end, begun = block.rpartition(b"\n")
                if end:
                    put(rest + whole + end)
                    rest = begun
                else:
                    rest += block
        if rest:
            put(rest)
        put(None)
    except (EOFError, OSError, zlib.error) as error:
        put(error)


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path)) if is_gzip else path.open("rb")
