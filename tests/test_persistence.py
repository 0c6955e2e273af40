"""Whole or not at all: folders and files that survive errors, full disks and mistyped paths."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from flr.errors import ArtifactError, DataError, StorageError
from flr.persistence import file_sha256, new_folder, read_json, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "runs" / "one") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "runs" / "one").exists()
    assert (tmp_path / "runs" / "one" / "a.txt").read_text() == "a"
    assert names(tmp_path / "runs") == ["one"]


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "one"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(ArtifactError, match=r"one' exists already; name another folder"), new_folder(target):
        pytest.fail("the block must not run")
    with new_folder(target, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(target) == ["new.txt"]
    assert names(tmp_path) == ["one"]


def test_an_empty_folder_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with new_folder(tmp_path / "one") as folder:
        (folder / "a.txt").write_text("a")
    assert names(tmp_path / "one") == ["a.txt"]


@pytest.mark.parametrize("old", [[], ["old.txt"]])
def test_a_link_to_a_folder_stays(tmp_path: Path, old: list[str]) -> None:
    (tmp_path / "disk").mkdir()
    for name in old:
        (tmp_path / "disk" / name).write_text("old")
    (tmp_path / "one").symlink_to("disk")
    with new_folder(tmp_path / "one", overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert (tmp_path / "one").is_symlink()
    assert names(tmp_path / "disk") == ["new.txt"]
    assert names(tmp_path) == ["disk", "one"]


def test_a_folder_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(ArtifactError, match=r"holds no 'manifest.json'"),
        new_folder(tmp_path, overwrite=True, marker="manifest.json"),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["thesis.txt"]


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with (
        pytest.raises(ArtifactError, match="holds your working or home directory"),
        new_folder(tmp_path, overwrite=True),
    ):
        pytest.fail("the block must not run")


def test_a_file_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("")
    with pytest.raises(ArtifactError, match="one' is a file, expected a folder"), new_folder(tmp_path / "one"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("error", [DataError("bad"), KeyboardInterrupt(), ValueError("bad")])
def test_an_error_in_the_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "one"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(type(error)), new_folder(target, overwrite=True) as folder:
        (folder / "half.txt").write_text("half")
        raise error
    assert names(tmp_path) == ["one"]
    assert names(target) == ["old.txt"]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_disk_full_while_replacing_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    target = tmp_path / "one"
    target.mkdir()
    (target / "old.txt").write_text("old")
    calls = []
    real = os.replace

    def replace(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == failing_call:
            full_disk()
        real(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    refused = pytest.raises(StorageError, match=r"one': No space left on device; what was there before is untouched")
    with refused, new_folder(target, overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(tmp_path) == ["one"]
    assert names(target) == ["old.txt"]


def test_a_disk_full_in_a_library_that_knows_no_oserror(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="untouched"), new_folder(tmp_path / "one"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert names(tmp_path) == []


def test_json_is_written_in_one_step_and_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.json"
    write_json(path, {"b": np.float32(0.5), "a": [np.int64(2), float("nan")], "p": Path("x"), "é": np.arange(2)})
    assert path.read_text(encoding="utf-8") == (
        '{\n  "b": 0.5,\n  "a": [\n    2,\n    null\n  ],\n  "p": "x",\n  "é": [\n    0,\n    1\n  ]\n}\n'
    )
    assert read_json(path, "thing")["a"] == [2, None]


def test_a_disk_full_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(StorageError, match=r"x.json': No space left on device; what was there before is untouched"):
        write_json(path, {"a": 2})
    assert read_json(path, "thing") == {"a": 1}
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no manifest '.*x.json'; check the path"),
        (b'{"a": ', r"cannot read the manifest '.*x.json'"),
        (b"\xff\xfe", r"cannot read the manifest '.*x.json'"),
        (b"[1]", r"the manifest '.*x.json' holds a list, expected a mapping"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_json(tmp_path / "x.json", "manifest")


def test_sha256(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "abc")
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
