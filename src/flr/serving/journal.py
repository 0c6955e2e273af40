"""The journal of catalogue edits: what was added and removed since the model was saved, one checksummed record a line.

1. A record is on the disk (fsync) before its end, a line feed, is; and its end before its edit is seen by anybody, and
   before it is answered.
2. A last line without an end is what is left of an edit that was refused, or that a killed process never answered: it
   is cut off, with a warning. Anything else that is wrong is damage, and refused: an answered edit is never dropped in
   silence. So a disk that fails, and will not take anything back either, leaves nothing of a refused edit, unless it
   fails between a record and its end being on it: then whoever asked is told that the edit may come back.
3. The first record names the catalogue the edits belong to; a journal of another one is refused.
4. `compact` rewrites many records as the few that come to the same; the first record keeps how many fewer they are,
   so that edits go on being counted.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flr.errors import ArtifactError, StorageError

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_CHECK = 16

Record = dict[str, Any]


def fingerprint(item_ids: Iterable[object], titles: Iterable[object]) -> str:
    """Return what tells one catalogue from another."""
    digest = hashlib.sha256()
    for item_id, title in zip(item_ids, titles, strict=True):
        digest.update(json.dumps([str(item_id), str(title)]).encode())
    return digest.hexdigest()[:32]


class Journal:
    """An open journal.

    Args:
        path: The file, or a link to it; made where there is none.
        catalogue: Fingerprint of the catalogue that the edits are made to.

    Attributes:
        records: Edits found when it was opened, to be made again.
        n_edits: Edits ever written, compacted ones too.

    Raises:
        ArtifactError: A record is damaged, the journal is of another catalogue or version, or the file is no journal.
        StorageError: The disk refuses.
    """

    def __init__(self, path: Path, catalogue: str) -> None:
        self.path, self._catalogue = path, catalogue
        # What a link leads to is locked and replaced, not the link, so that one file is one journal by any name.
        self._target = Path(os.path.realpath(path))
        with ExitStack() as unless_opened:
            try:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                # A file beside it, which is never replaced, so that all lock the same one.
                lock = self._target.with_name(f"{self._target.name}.lock")
                self._lock = unless_opened.enter_context(lock.open("ab"))
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.records, n_compacted = self._open()
                self.n_edits = n_compacted + len(self.records)
                self._reopen()
            except BlockingIOError:
                raise StorageError(f"the journal {str(path)!r} is kept by another server; give each its own") from None
            except OSError as error:
                raise StorageError(f"the journal {str(path)!r} cannot be written: {error.strerror}") from error
            unless_opened.pop_all()

    def append(self, record: Record) -> None:
        """Put an edit on the disk.

        Raises:
            StorageError: The disk refuses, or the file is no longer where it was. A server that starts later does not
                find the edit; where it may, the error says so. No further edit is taken while what is left of one
                cannot be cut off.
        """
        if not self._is_in_place():
            raise StorageError(
                f"the journal {str(self.path)!r} was moved, replaced or deleted while it was open, so the edit is "
                "refused: put it back, or start the server again"
            )
        line, is_ending = _line(record), False
        try:
            self._cut_refused()
            self._put(line[:-1])
            is_ending = True
            self._put(line[-1:])
        except OSError as error:
            is_gone = self._take_back()
            raise StorageError(self._refusal(error, may_come_back=is_ending and not is_gone)) from error
        self._end += len(line)
        self.n_edits += 1

    def compact(self, records: Sequence[Record]) -> None:
        """Put other records, which come to the same, in the place of all there are; whole or not at all."""
        try:
            _replace(self._target, [self._head(self.n_edits - len(records)), *records])
        except OSError as error:
            raise StorageError(f"the journal {str(self.path)!r} was not compacted: {error.strerror}") from error
        self._file.close()
        self._reopen()

    def close(self) -> None:
        self._take_back()  # what is left of a refused edit, if the disk lets it go by now
        self._file.close()
        self._lock.close()

    def _reopen(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def _is_in_place(self) -> bool:
        """Whether what is written to is what a server that starts later will read."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def _put(self, content: bytes) -> None:
        if os.write(self._file.fileno(), content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file.fileno())

    def _take_back(self) -> bool:
        """Return whether nothing of a refused edit is left on the disk; one that refuses may refuse this too."""
        try:
            self._cut_refused()
            os.fsync(self._file.fileno())
        except OSError:
            return False
        return True

    def _cut_refused(self) -> None:
        """Cut off what is left of a refused edit."""
        if self._file.seek(0, os.SEEK_END) != self._end:
            os.ftruncate(self._file.fileno(), self._end)

    def _refusal(self, error: OSError, *, may_come_back: bool) -> str:
        if may_come_back:
            return (
                f"the journal {str(self.path)!r} refused the edit and could not take it back: {error.strerror}; it may "
                "be made when the server starts again, so look at /v1/items then"
            )
        return f"the journal {str(self.path)!r} refused the edit: {error.strerror}; free some space"

    def _head(self, n_compacted: int = 0) -> Record:
        return {"op": "open", "format": _FORMAT, "catalogue": self._catalogue, "n_compacted": n_compacted}

    def _open(self) -> tuple[list[Record], int]:
        """Return the edits, and how many more there were before they were compacted."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole, end, torn = content.rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        records = [_parse(line, number, self.path) for number, line in enumerate(lines, start=1)]
        if not records:
            if not _line(self._head()).startswith(torn):
                raise ArtifactError(f"{str(self.path)!r} is no journal; give --journal a file of its own")
            _replace(self._target, [self._head()])
            return [], 0
        self._check(records[0])
        if torn:
            _LOG.warning("journal: the last record was cut short (%d bytes) and never answered; cut off", len(torn))
            with self.path.open("r+b") as file:
                file.truncate(len(content) - len(torn))
                os.fsync(file.fileno())
        return records[1:], int(records[0].get("n_compacted", 0))  # journals of flr 0.1 may lack it

    def _check(self, head: Record) -> None:
        if head.get("op") != "open" or head.get("format") != _FORMAT:
            raise ArtifactError(f"{str(self.path)!r} begins with {head!r}, expected a journal of format {_FORMAT}")
        if head["catalogue"] != self._catalogue:
            raise ArtifactError(
                f"the journal {str(self.path)!r} belongs to the catalogue {head['catalogue']}, the run has "
                f"{self._catalogue}; give the run it was kept for, or another --journal"
            )


def _line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return hashlib.sha256(body).hexdigest()[:_CHECK].encode() + b" " + body + b"\n"


def _parse(line: bytes, number: int, path: Path) -> Record:
    check, _, body = line.partition(b" ")
    try:
        if hashlib.sha256(body).hexdigest()[:_CHECK].encode() != check:
            raise ValueError("its checksum is wrong")
        record = json.loads(body)
        if not isinstance(record, dict):
            raise ValueError("it is no record")
    except ValueError as error:
        raise ArtifactError(
            f"the journal {str(path)!r} is damaged in line {number} ({error}); restore it from a backup, or move it "
            "away to serve the catalogue without its edits"
        ) from error
    return record


def _replace(path: Path, records: Sequence[Record]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.writelines(_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
