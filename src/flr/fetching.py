"""Public files that travel inside Python wheels: fetched once through pip, checked, cached, offline afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flr.errors import ArtifactError, FetchError
from flr.persistence import file_sha256, new_folder, read_json, write_json

_RECEIPT: Final = "fetched.json"
_PIP_TIMEOUT_SECONDS: Final = 1800


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
        with new_folder(folder, overwrite=True) as new:
            _extract(wheel, members, new)
            hashes = {name: file_sha256(new / name) for name in members.values()}
            write_json(new / _RECEIPT, {"requirement": requirement, "wheel_sha256": sha256, "files": hashes})
    return folder


def _is_intact(folder: Path, sha256: str, members: Mapping[str, str]) -> bool:
    try:
        receipt = read_json(folder / _RECEIPT, "receipt")
        hashes = receipt["files"]
        return bool(
            receipt["wheel_sha256"] == sha256
            and set(hashes) == set(members.values())
            and all(file_sha256(folder / name) == value for name, value in hashes.items())
        )
    except (ArtifactError, KeyError, TypeError, OSError):
        return False


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
