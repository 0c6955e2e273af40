"""Large JSON lines files in batches: unpacked in one thread while another parses the few fields that are needed.

Strict JSON of usual values is parsed by `msgspec`, which makes Python objects of these fields alone; any other line is
left to the slow road, which says what is wrong with it. Both give the same rows.
"""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict, cast

import msgspec

from flr.data.readers.lines import numbered
from flr.errors import ReadError

#: Unpacked bytes of a batch, and batches that wait: a few of them are in memory at a time.
BATCH_BYTES: Final = 4_000_000
_N_WAITING: Final = 3
_READ_BYTES: Final = 262_144
_STOP_SECONDS: Final = 0.1
_GZIP: Final = b"\x1f\x8b"
#: What `zlib` calls a stream with the head and the checksum of gzip.
_GZIP_BITS: Final = 31
#: What a field of a plain object may hold.
_PLAIN: Final = str | float | int | bool | None | list[str | list[str]]
_NOT_PLAIN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Batch(NamedTuple):
    """Whole lines of a file: the number of the first, from 1, and their bytes."""

    first: int
    data: bytes


def batches(path: Path) -> Generator[Batch, None, None]:
    """Yield the lines of a file, plain or gzipped, in batches.

    Raises:
        ReadError: The file cannot be read or is damaged; what it held before is not to be used.
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
                raise _damage(path, data) from data
            yield Batch(number, data)
            number += data.count(b"\n")
    finally:
        stopped.set()
        thread.join()


class PlainObjects:
    """Reads a few fields of strict JSON objects as `parse_object` reads them, at many times its speed.

    What is not plain is left to `parse_object`: lines that are no such object, and fields with objects, numbers in
    lists, numbers beyond the range of floats or half a character. Of fields that are not read it lets one thing pass
    that `parse_object` refuses, whole numbers of more than 4,300 digits.

    Args:
        names: Of the fields.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        kind = TypedDict("kind", dict.fromkeys(names, _PLAIN), total=False)  # type: ignore[misc]
        self._decode = cast(Callable[[str | bytes], dict[str, Any]], msgspec.json.Decoder(kind).decode)

    def of_line(self, text: str) -> dict[str, Any] | None:
        """Return those of the fields that a line has, None where it is not plain."""
        try:
            return self._decode(text)
        except _NOT_PLAIN:
            return None

    def of_batch(self, batch: Batch) -> list[dict[str, Any]] | None:
        """Return those of the fields that each line of a batch has, None where a line is not plain."""
        try:
            # The decoder does not look whether fields that it skips are UTF-8.
            batch.data.decode()
            return [self._decode(line) for line in batch.data.removesuffix(b"\n").split(b"\n")]
        except _NOT_PLAIN:
            return None


def _damage(path: Path, error: Exception) -> ReadError:
    """Return what to say of a file that cannot be unpacked: which line is the last, where reading by line finds it."""
    try:
        for _ in numbered(path):
            pass
    except ReadError as found:
        return found
    return ReadError(f"{str(path)!r} cannot be unpacked ({error}); expected a whole file; fetch it again")


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
