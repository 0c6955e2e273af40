"""Files out of wheels, without a network: pip is replaced by a stub that copies a local wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flr.errors import FetchError
from flr.fetching import cache_folder, fetch_wheel_members
from flr.persistence import file_sha256

MEMBERS = {"toy/data/rows.inter": "rows.inter", "toy/data/rows.item": "rows.item"}
Pip = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mirror" / "toy-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/data/rows.inter", "user_id:token\n1\n")
        archive.writestr("toy/data/rows.item", "item_id:token\n7\n")
        archive.writestr("toy/../../evil.txt", "evil")
    return path


@pytest.fixture
def pip_calls(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "cache"))
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def failing_pip(stderr: str) -> Pip:
    return lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr)


def fetch(wheel: Path, members: dict[str, str] | None = None, sha256: str | None = None) -> Path:
    return fetch_wheel_members("toy==1.0", sha256 or file_sha256(wheel), members or MEMBERS, "toy-rows")


def test_files_are_fetched_once_and_read_offline_afterwards(wheel: Path, pip_calls: list[list[str]]) -> None:
    folder = fetch(wheel)
    assert folder == cache_folder() / "toy-rows"
    assert sorted(path.name for path in folder.iterdir()) == ["fetched.json", "rows.inter", "rows.item"]
    assert (folder / "rows.item").read_text() == "item_id:token\n7\n"
    assert fetch(wheel) == folder
    assert len(pip_calls) == 1
    assert pip_calls[0][1:4] == ["-m", "pip", "download"]
    assert pip_calls[0][-1] == "toy==1.0"


@pytest.mark.parametrize("damage", ["changed", "removed", "no receipt"])
def test_a_damaged_cache_is_fetched_again(wheel: Path, pip_calls: list[list[str]], damage: str) -> None:
    folder = fetch(wheel)
    if damage == "changed":
        (folder / "rows.item").write_text("item_id:token\n8\n")
    else:
        (folder / ("rows.item" if damage == "removed" else "fetched.json")).unlink()
    assert (fetch(wheel) / "rows.item").read_text() == "item_id:token\n7\n"
    assert len(pip_calls) == 2


def test_a_wheel_put_there_by_hand_needs_no_pip(
    wheel: Path, pip_calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache_folder() / "wheels").mkdir(parents=True)
    shutil.copy(wheel, cache_folder() / "wheels")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (fetch(wheel) / "rows.inter").exists()
    assert pip_calls == []


@pytest.mark.usefixtures("pip_calls")
def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(wheel: Path) -> None:
    with pytest.raises(FetchError, match=rf"has SHA-256 {file_sha256(wheel)}, expected {'0' * 64}"):
        fetch(wheel, sha256="0" * 64)
    assert not (cache_folder() / "toy-rows").exists()


@pytest.mark.usefixtures("pip_calls")
def test_a_missing_member_is_an_error(wheel: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere\.txt"):
        fetch(wheel, {"toy/nowhere.txt": "x"})
    assert not (cache_folder() / "toy-rows").exists()


@pytest.mark.usefixtures("pip_calls")
def test_no_network_names_the_way_by_hand(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "WARNING: Retrying\nERROR: No matching distribution found for toy==1.0\n"
    monkeypatch.setattr(subprocess, "run", failing_pip(noise))
    with pytest.raises(FetchError, match=r"'toy==1.0': ERROR: No matching .*by hand.*put the wheel into .*wheels"):
        fetch(wheel)


@pytest.mark.usefixtures("pip_calls")
def test_no_pip_names_the_remedy(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"has no pip; run .* -m ensurepip"):
        fetch(wheel)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "flr"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "flr"
    monkeypatch.setenv("FLR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
