"""The journal: what was answered is kept, what was not may go, and damage is never passed over."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.errors import ArtifactError, StorageError
from flr.serving.journal import Journal, Record, fingerprint
from flr.serving.replay import net_records

ADD = {"op": "add", "items": [{"item_id": "n1", "title": "Ünder (1999)"}]}
REMOVE = {"op": "remove", "item_ids": ["i1"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edits" / "journal"


def written(path: Path) -> Path:
    journal = Journal(path, "c1")
    journal.append(ADD)
    journal.append(REMOVE)
    journal.close()
    return path


def test_what_was_written_is_read_again(path: Path) -> None:
    assert Journal(written(path), "c1").records == [ADD, REMOVE]


@pytest.mark.parametrize("n_cut", [1, 5, 40])
def test_a_torn_last_record_is_cut_off_with_a_warning(n_cut: int, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = written(path).read_bytes()
    path.write_bytes(content[:-n_cut])
    with caplog.at_level(logging.WARNING, "flr"):
        journal = Journal(path, "c1")
    assert journal.records == [ADD]
    assert "cut short" in caplog.text
    journal.append(REMOVE)
    journal.close()
    assert path.read_bytes() == content


def test_damage_is_refused_and_named(path: Path) -> None:
    lines = written(path).read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"n1", b"n2") + lines[2])
    with pytest.raises(ArtifactError, match="damaged in line 2 \\(its checksum is wrong\\)"):
        Journal(path, "c1")


def test_a_journal_of_another_catalogue_or_version_is_refused(path: Path) -> None:
    written(path)
    with pytest.raises(ArtifactError, match="belongs to the catalogue c1, the run has c2"):
        Journal(path, "c2")


def test_two_servers_do_not_share_a_journal(path: Path) -> None:
    first = Journal(path, "c1")
    with pytest.raises(StorageError, match="kept by another server"):
        Journal(path, "c1")
    first.close()
    Journal(path, "c1").close()


def test_a_refused_write_leaves_the_journal_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(written(path), "c1")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flr.serving.journal.os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        journal.append(ADD)
    monkeypatch.undo()
    assert path.read_bytes() == before
    journal.append(ADD)
    journal.close()
    assert Journal(path, "c1").records == [ADD, REMOVE, ADD]


class Disk:
    """A disk whose operations are counted and can be made to fail.

    Args:
        fails: Says of the number of an operation whether it fails; a write that fails leaves half of what was written.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
        self.n_done, self.fails = 0, fails
        write, fsync, ftruncate = os.write, os.fsync, os.ftruncate
        monkeypatch.setattr(os, "fsync", lambda number: self._do(fsync, number))
        monkeypatch.setattr(os, "ftruncate", lambda number, size: self._do(ftruncate, number, size))

        def half(number: int, content: bytes) -> int:
            return self._do(write, number, content, instead=lambda: write(number, content[: len(content) // 2]))

        monkeypatch.setattr(os, "write", half)

    def _do(self, operation: Callable[..., Any], *arguments: Any, instead: Callable[[], Any] = lambda: None) -> Any:
        self.n_done += 1
        if self.fails(self.n_done):
            instead()
            raise OSError(5, "Input/output error")
        return operation(*arguments)


def found_after_a_crash(path: Path) -> list[Record]:
    """Return what a server finds whose predecessor was killed at this moment."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    journal = Journal(copy, "c1")
    journal.close()
    return journal.records


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("for_good", [True, False], ids=["for good", "once"])
def test_a_disk_that_fails_at_any_moment_brings_back_no_refused_edit_unannounced(
    number: int, for_good: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(written(path), "c1")
    disk = Disk(monkeypatch, lambda n: n >= number if for_good else n == number)
    said = ""
    try:
        journal.append(ADD)
    except StorageError as error:
        said = str(error)
    disk.fails = lambda _: False
    found = found_after_a_crash(path)
    assert found[:2] == [ADD, REMOVE]
    if not said:
        assert found[2:] == [ADD]
    elif "it may be made when the server starts again" not in said:
        assert "refused the edit: Input/output error" in said
        assert found[2:] == []
    # What has to be told: the end of the record may be there, and nothing can be done about it.
    assert ("may be made" in said) == (for_good and number in (3, 4))
    assert (not said) == (number > 4)
    journal.append(REMOVE)  # the disk works again
    journal.close()
    again = Journal(path, "c1")
    assert again.records == [ADD, REMOVE, *([] if said else [ADD]), REMOVE]
    assert again.n_edits == len(again.records)


def test_a_journal_that_is_closed_takes_back_what_it_may_have_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(written(path), "c1")
    disk = Disk(monkeypatch, lambda n: n >= 4)
    with pytest.raises(StorageError, match="it may be made when the server starts again, so look at /v1/items then"):
        journal.append(ADD)
    disk.fails = lambda _: False
    assert found_after_a_crash(path) == [ADD, REMOVE, ADD]
    journal.close()
    assert found_after_a_crash(path) == [ADD, REMOVE]


def test_no_edit_is_taken_behind_the_rest_of_a_refused_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(written(path), "c1")
    disk = Disk(monkeypatch, lambda n: n >= 2)
    with pytest.raises(StorageError, match="refused the edit: Input/output error"):
        journal.append(ADD)
    size = path.stat().st_size
    with pytest.raises(StorageError, match="refused the edit: Input/output error"):
        journal.append(REMOVE)
    assert path.stat().st_size == size
    disk.fails = lambda _: False
    assert found_after_a_crash(path) == [ADD, REMOVE]
    journal.append(REMOVE)
    assert found_after_a_crash(path) == [ADD, REMOVE, REMOVE]


def test_a_compacted_journal_goes_on(path: Path) -> None:
    journal = Journal(written(path), "c1")
    journal.compact([REMOVE])
    journal.append(ADD)
    journal.close()
    assert Journal(path, "c1").records == [REMOVE, ADD]


EDITS = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from(["a", "b", "x", "y"]), st.integers(0, 9)),
    max_size=30,
)


@given(EDITS)
def test_the_net_edits_lead_to_the_same_catalogue(edits: list[tuple[str, str, int]]) -> None:
    base = {"a": -1, "b": -1}
    state, records = dict(base), []
    for op, item, value in edits:
        if op == "add" and item not in state:
            state[item] = value
            records.append({"op": "add", "items": [{"item_id": item, "title": value}]})
        elif op == "remove" and item in state:
            del state[item]
            records.append({"op": "remove", "item_ids": [item]})
    again = dict(base)
    net = net_records(records, frozenset(base))
    for record in net:
        for item in record.get("items", ()):
            assert item["item_id"] not in again
            again[item["item_id"]] = item["title"]
        for item_id in record.get("item_ids", ()):
            del again[item_id]
    assert again == state
    assert len(net) <= 3
    json.dumps(net)


def test_catalogues_have_fingerprints() -> None:
    assert fingerprint(["a", "b"], ["x", "y"]) != fingerprint(["a", "b"], ["x", "z"])
    assert fingerprint(["ab"], ["c"]) != fingerprint(["a"], ["bc"])
