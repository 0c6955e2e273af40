"""Public files, inside Python wheels or at a public address: fetched once, checked, cached, offline afterwards."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from flr.errors import ArtifactError, FetchError, StorageError
from flr.persistence import file_sha256, new_folder, read_json, write_json
from flr.progress import SILENT, Progress, Step

_RECEIPT: Final = "fetched.json"
_PIP_TIMEOUT_SECONDS: Final = 1800
_WEB_TIMEOUT_SECONDS: Final = 60
_CHUNK: Final = 1 << 20


def cache_folder() -> Path:
    """Return where fetched files are kept: ``$FLR_CACHE``, else ``$XDG_CACHE_HOME/flr``, else ``~/.cache/flr``."""
    if os.environ.get("FLR_CACHE"):
        return Path(os.environ["FLR_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "flr"


def fetch_wheel_members(requirement: str, sha256: str, members: Mapping[str, str], folder_name: str) -> Path:
    """Return a cached folder with some files of a wheel, fetching the wheel only where they are not there yet.

    A wheel of the right checksum that lies in ``<cache>/wheels/`` is taken instead of asking the network.

    Args:
        requirement: Pinned requirement, for example ``"recbole==1.2.1"``.
        sha256: Checksum of the wheel, hexadecimal.
        members: Path inside the wheel -> file name in the folder.
        folder_name: Name of the folder in the cache.

    Raises:
        FetchError: pip is missing or failed, the checksum is wrong, or the wheel lacks a member.
        StorageError: The disk refused a write.
    """
    folder = cache_folder() / folder_name
    if _is_intact(folder, sha256, members):
        return folder
    with tempfile.TemporaryDirectory(prefix="flr-fetch-") as scratch:
        wheel = _wheel_at_hand(sha256) or _download(requirement, sha256, Path(scratch))
        try:
            with new_folder(folder, overwrite=True) as new:
                _extract(wheel, members, new)
                hashes = {name: file_sha256(new / name) for name in members.values()}
                write_json(new / _RECEIPT, {"requirement": requirement, "wheel_sha256": sha256, "files": hashes})
        except StorageError:
            if not _is_intact(folder, sha256, members):  # another process may have been quicker
                raise
    return folder


def _is_intact(folder: Path, sha256: str, members: Mapping[str, str]) -> bool:
    return (_receipt(folder, set(members.values())) or {}).get("wheel_sha256") == sha256


def _receipt(folder: Path, wanted: set[str]) -> dict[str, Any] | None:
    """Return the receipt of a cached folder that holds these files, unharmed; else None."""
    try:
        receipt = read_json(folder / _RECEIPT, "receipt")
        hashes = receipt["files"]
        intact = set(hashes) == wanted and all(file_sha256(folder / name) == value for name, value in hashes.items())
    except (ArtifactError, KeyError, TypeError, OSError):
        return None
    return receipt if intact else None


def _wheel_at_hand(sha256: str) -> Path | None:
    wheels = sorted((cache_folder() / "wheels").glob("*.whl"))
    return next((wheel for wheel in wheels if file_sha256(wheel) == sha256), None)


def _download(requirement: str, sha256: str, scratch: Path) -> Path:
    remedy = (
        f"fetch it by hand on a machine that can: `pip download --no-deps {requirement}`, "
        f"and put the wheel into {str(cache_folder() / 'wheels')!r}"
    )
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"cannot fetch {requirement!r}: this Python ({sys.executable}) has no pip; "
            f"run `{sys.executable} -m ensurepip`, or {remedy}"
        )
    options = ["--no-deps", "--only-binary=:all:", "-q", "--disable-pip-version-check", "--dest", str(scratch)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"cannot fetch {requirement!r}: {error}; check the network, or {remedy}") from error
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        reason = lines[-1] if lines else f"pip ended with code {done.returncode}"
        raise FetchError(f"cannot fetch {requirement!r}: {reason}; check the network, or {remedy}")
    got = file_sha256(wheels[0])
    if got != sha256:
        raise FetchError(f"{wheels[0].name} has SHA-256 {got}, expected {sha256}; use another mirror, or {remedy}")
    return wheels[0]


def _extract(wheel: Path, members: Mapping[str, str], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, name in members.items():
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"cannot take the files out of {wheel.name}: {error}; expected another wheel") from error


@dataclass(frozen=True)
class WebFile:
    """A file at a public address.

    Attributes:
        address: Where it is.
        md5: The checksum its publisher states, hexadecimal; None where none is published.
        members: For a zip archive, path inside -> file name in the cache; None keeps the file as it is.
    """

    address: str
    md5: str | None = None
    members: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[1]

    @property
    def names(self) -> tuple[str, ...]:
        """Files it becomes in the cache."""
        return (self.name,) if self.members is None else tuple(self.members.values())


def fetch_web_files(
    files: Sequence[WebFile], folder_name: str, *, at_hand: Iterable[Path] = (), progress: Progress = SILENT
) -> Path:
    """Return a cached folder with public files, fetching them only where they are not there yet.

    Args:
        files: What the folder holds.
        folder_name: Name of the folder in the cache.
        at_hand: Files that the user has already, each called as at its address; these are not fetched.
        progress: Told about the bytes.

    Raises:
        FetchError: An address could not be reached, a checksum is wrong, an archive lacks a member, or a file at hand
            is missing or called like none of them.
        StorageError: The disk refused a write.
    """
    folder = cache_folder() / folder_name
    given = _by_name(files, at_hand)
    wanted = {name for file in files for name in file.names}
    if not given and _receipt(folder, wanted) is not None:
        return folder
    with tempfile.TemporaryDirectory(prefix="flr-fetch-") as scratch, new_folder(folder, overwrite=True) as new:
        for file in files:
            path = given.get(file.name) or _download_web(file, Path(scratch), progress)
            _check_md5(file, path)
            if file.members is None:
                shutil.copyfile(path, new / file.name)
            else:
                _extract(path, file.members, new)
        hashes = {name: file_sha256(new / name) for name in sorted(wanted)}
        write_json(new / _RECEIPT, {"addresses": [file.address for file in files], "files": hashes})
    return folder


def _by_name(files: Sequence[WebFile], at_hand: Iterable[Path]) -> dict[str, Path]:
    known = {file.name for file in files}
    given = {}
    for path in at_hand:
        if path.name not in known or not path.is_file():
            what = "is not there" if path.name in known else f"is none of {', '.join(sorted(known))}"
            raise FetchError(f"the file {str(path)!r} {what}; give the file as its publisher calls it")
        given[path.name] = path
    return given


def _download_web(file: WebFile, scratch: Path, progress: Progress) -> Path:
    target = scratch / file.name
    try:
        with urllib.request.urlopen(file.address, timeout=_WEB_TIMEOUT_SECONDS) as answer, target.open("wb") as out:
            total = answer.headers.get("Content-Length")
            with progress.task(f"fetch {file.name}, bytes", int(total) if total else None) as step:
                n_bytes = _copy(answer, out, step)
        if total and n_bytes != int(total):
            raise http.client.IncompleteRead(b"", int(total) - n_bytes)
    except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
        raise FetchError(
            f"cannot fetch {file.address}: {error}; check the network, or fetch it by hand and name it with --from-file"
        ) from error
    return target


def _copy(source: http.client.HTTPResponse, target: BinaryIO, step: Step) -> int:
    """Copy to the end and return the number of bytes."""
    n_bytes = 0
    while chunk := source.read(_CHUNK):
        target.write(chunk)
        step(len(chunk))
        n_bytes += len(chunk)
    return n_bytes


def _check_md5(file: WebFile, path: Path) -> None:
    if file.md5 is None:
        return
    with path.open("rb") as opened:
        got = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != file.md5:
        raise FetchError(
            f"{str(path.name)!r} has MD5 {got}, its publisher states {file.md5}; fetch it again from {file.address}"
        )
