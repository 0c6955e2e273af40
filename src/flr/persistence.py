"""Files and folders that are either written whole or not at all.

A folder grows beside its destination under a temporary name and takes its place by one rename, so a
crash, a full disk or Ctrl-C never leaves half of it, and never harms what was there before.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from flr.errors import ArtifactError, FlrError, StorageError

#: What libraries that do not raise OSError write when the disk is full.
_FULL_DISK_WORDS = ("No space left on device", f"os error {errno.ENOSPC}", "Disk quota exceeded")


@contextmanager
def new_folder(
    path: Path, *, overwrite: bool = False, marker: str | None = None, known: Collection[str] | None = None
) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of `path` when the block ends well.

    An existing folder is renamed aside, replaced by a rename, and removed only then; when the block raises,
    the temporary folder is removed and `path` is as it was.

    Args:
        path: The folder to make, or a link to it; parents are made as needed. An existing empty one is no obstacle.
        overwrite: Replace an existing folder.
        marker: Name of a file that an existing folder must hold to be replaced, so that a mistyped path
            cannot cost an unrelated folder; None replaces any.
        known: Names of all that an existing folder may hold to be replaced, so that nothing else is lost; None
            replaces any.

    Raises:
        ArtifactError: `path` is a file; or it exists and `overwrite` is False; or it lacks the marker or holds what
            is not known; or it holds the working or home directory.
        StorageError: The disk refused a write.
    """
    # A link to a folder stays: what it points to is replaced.
    path = Path(path)
    path = path.resolve() if path.is_symlink() and path.is_dir() else path
    _check_replaceable(path, overwrite, marker, known)
    temporary = _sibling(path, "partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync_tree(temporary)
        _put_in_place(temporary, path, lambda: _check_replaceable(path, overwrite, marker, known))
    except FlrError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or any(words in str(error) for words in _FULL_DISK_WORDS):
            raise _refused(path, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON (indent 2, keys in the given order, a newline at the end) in one step.

    NumPy numbers and arrays are written as plain ones, paths as text, and numbers that are not finite as null.

    Raises:
        StorageError: The disk refused the write; what was there before is untouched.
        TypeError: `content` holds something that is not JSON.
    """
    write_text(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 in one step; see `write_bytes` for what is raised."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step.

    Raises:
        StorageError: The disk refused the write; what was there before is untouched.
    """
    path = Path(path)
    temporary = _sibling(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the call that tests make fail
        _sync_parent(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Args:
        path: The file.
        what: What it is to the user, for the message, for example ``"manifest"``.

    Raises:
        ArtifactError: The file is missing, is not JSON, or does not hold a mapping.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"there is no {what} {str(path)!r}; check the path, or make the folder again if it was left half-written"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"cannot read the {what} {str(path)!r}: {error}; make the folder again") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ArtifactError(f"the {what} {str(path)!r} holds a {kind}, expected a mapping; make the folder again")
    return content


def hold_folder(path: Path, doing: str) -> int | None:
    """Keep other processes from a folder until what is returned is closed (`os.close`), or this process ends.

    Args:
        path: The folder.
        doing: What another one does there, for the message, such as ``"trained"``.

    Returns:
        A descriptor, or None on a network's disk that knows no locks.

    Raises:
        ArtifactError: Another one holds it.
    """
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise ArtifactError(
            f"{str(path)!r} is being {doing} by another process; wait until it ends, or stop it first"
        ) from None
    except OSError:
        os.close(held)
        return None
    return held


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_replaceable(path: Path, overwrite: bool, marker: str | None, known: Collection[str] | None) -> None:
    if not path.is_dir():
        if path.exists() or path.is_symlink():
            raise ArtifactError(f"{str(path)!r} is a file, expected a folder; remove it or name another folder")
        return
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise ArtifactError(f"{str(path)!r} exists already; name another folder, or ask for overwriting")
    if marker is not None and not (path / marker).exists():
        raise ArtifactError(
            f"{str(path)!r} holds no {marker!r}, so it is not a folder of this kind and is not overwritten; "
            "name another folder, or remove it yourself"
        )
    strange = [] if known is None else sorted(one.name for one in path.iterdir() if one.name not in known)
    if strange:
        raise ArtifactError(
            f"{str(path)!r} also holds {strange[0]!r}{f' and {len(strange) - 1} more' if strange[1:] else ''}, which "
            "would be lost; move that away, or name another folder"
        )
    whole = path.resolve()
    if any(precious.is_relative_to(whole) for precious in (Path.cwd(), Path.home())):
        raise ArtifactError(f"{str(path)!r} holds your working or home directory and is not overwritten")


def _put_in_place(temporary: Path, path: Path, check: Callable[[], None]) -> None:
    check()
    aside = _sibling(path, "replaced")
    had_old = path.is_dir()
    if had_old:
        os.replace(path, aside)  # noqa: PTH105
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        if had_old:
            aside.rename(path)
        raise
    _sync_parent(path)
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(path: Path, purpose: str) -> Path:
    """Return a hidden name of its own beside `path`, so that a rename stays on one file system."""
    whole = path.absolute()
    return whole.parent / f".{whole.name}.{secrets.token_hex(4)}.{purpose}"


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync_parent(path: Path) -> None:
    # The new content is in place by now: not every file system lets a folder be synced, and none of that is an error.
    with suppress(OSError):
        _sync(path.absolute().parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"cannot write {str(path)!r}: {reason}; what was there before is untouched. "
        "Free some space or name another place, then run this again"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
