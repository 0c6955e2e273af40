"""Large JSON lines files in batches: unpacked in one thread while another parses the few fields that are needed.

A batch in which all is as expected is parsed in one go; any other is left to the slow road, line by line, which says
what is wrong with which line. Both give the same rows.
"""

from __future__ import annotations

import io
import queue
import re
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

#: Unpacked bytes of a batch, and batches that wait: a few of them are in memory at a time.
BATCH_BYTES: Final = 4_000_000
_N_WAITING: Final = 3
_READ_BYTES: Final = 262_144
_STOP_SECONDS: Final = 0.1
_GZIP: Final = b"\x1f\x8b"
#: What `zlib` calls a stream with the head and the checksum of gzip.
_GZIP_BITS: Final = 31
#: A letter that JSON need not escape, escaped: the name of a field can be written like that.
_NEEDLESS_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
#: How text begins that may be no text but a number, a truth, a list or an object.
_NO_TEXT: Final = r"^(-?[0-9]|true$|false$|[\[{])"


class DamagedError(Exception):
    """A file cannot be unpacked to its end; who catches it says more, by reading line by line."""


class Batch(NamedTuple):
    """Whole lines of a file: the number of the first, from 1, how many there are, and their bytes."""

    first: int
    n_lines: int
    data: bytes


def batches(path: Path) -> Generator[Batch, None, None]:
    """Yield the lines of a file, plain or gzipped, in batches.

    Raises:
        DamagedError: The file cannot be read or is damaged; what it held before is not to be used.
    """
    waiting: queue.Queue[bytes | Exception | None] = queue.Queue(_N_WAITING)
    stopped = threading.Event()

    def put(one: bytes | Exception | None) -> None:
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
            if isinstance(data, Exception):
                raise DamagedError(str(path)) from data
            n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
            yield Batch(number, n_lines, data)
            number += n_lines
    finally:
        stopped.set()
        thread.join()


def uniform_rows(
    batch: Batch, text: tuple[str, ...], numbers: tuple[tuple[str, pl.DataType], ...]
) -> pl.DataFrame | None:
    """Return the fields of a batch in which every line is an object with all of them, else None.

    Args:
        batch: Lines.
        text: Fields that hold text of ASCII; empty text does not count.
        numbers: Fields that hold numbers, and their types: whole numbers must be written as such.
    """
    data, schema = batch.data, {**dict.fromkeys(text, pl.String()), **dict(numbers)}
    # Of two fields of one name polars takes the first where Python takes the last.
    if any(data.count(b'"%s"' % name.encode()) != batch.n_lines for name in schema) or _NEEDLESS_ESCAPE.search(data):
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(data), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    # Polars makes a NUL of half a surrogate pair, and a sign beyond ASCII of a half and another sign.
    columns = pl.col(text)
    odd = pl.any_horizontal(
        pl.all().is_null().any(),
        (columns == "").any(),
        columns.str.contains("\0", literal=True).any(),
        (columns.str.len_bytes() != columns.str.len_chars()).any(),
    )
    if len(frame) != batch.n_lines or bool(frame.select(odd).item()):
        return None
    # Polars makes text of what is none.
    doubtful = frame.select(columns.str.contains(_NO_TEXT).any()).row(0, named=True)
    if any(is_doubtful and not _is_text(name, batch) for name, is_doubtful in doubtful.items()):
        return None
    return frame.cast(pl.String)


def _is_text(name: str, batch: Batch) -> bool:
    """Return whether the field is followed by a quotation mark on every line."""
    found = sum(batch.data.count(form % name.encode()) for form in (b'"%s": "', b'"%s":"'))
    return found == batch.n_lines


def _unpack(path: Path, put: Callable[[bytes | Exception | None], None], stopped: threading.Event) -> None:
    """Put whole lines, then None or what went wrong, whatever it is: the thread that waits is to hear of it."""
    waiting: list[bytes] = []
    n_bytes = 0
    try:
        for block in _blocks(path):
            if stopped.is_set():
                return
            n_bytes += len(block)
            end = block.rfind(b"\n") + 1 if n_bytes >= BATCH_BYTES else 0
            if end:
                put(b"".join((*waiting, block[:end])))
                waiting, n_bytes = [], len(block) - end
            waiting.append(block[end:])
        if last := b"".join(waiting):
            put(last)
        put(None)
    except Exception as error:
        put(error)


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked where they are gzipped; gzip may have several parts, and zeros after each.

    Raises:
        EOFError: The file ends within a part.
        zlib.error: A part is damaged.
    """
    with path.open("rb") as file:
        block = file.read(_READ_BYTES)
        if not block.startswith(_GZIP):
            while block:
                yield block
                block = file.read(_READ_BYTES)
            return
        part = zlib.decompressobj(_GZIP_BITS)
        while block:
            if part.eof and (block := block.lstrip(b"\0")):
                part = zlib.decompressobj(_GZIP_BITS)
            if block:
                yield part.decompress(block)
                block = part.unused_data
            block = block or file.read(_READ_BYTES)
    if not part.eof:
        raise EOFError("the file ends within a gzip stream")
