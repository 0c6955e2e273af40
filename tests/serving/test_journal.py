"""The journal: what was answered is kept, what was not may go, and damage is never passed over."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.errors import ArtifactError, StorageError
from flr.serving.journal import Journal, fingerprint, net_records

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


def test_a_disk_that_refuses_to_cut_too_leaves_no_trace_of_the_edit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(written(path), "c1")

    def refuse(*_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("flr.serving.journal.os.fsync", refuse)
    monkeypatch.setattr("flr.serving.journal.os.ftruncate", refuse)
    for _ in range(2):
        with pytest.raises(StorageError, match="refused the edit: Input/output error"):
            journal.append(ADD)
    monkeypatch.undo()
    journal.append(REMOVE)
    journal.close()
    again = Journal(path, "c1")
    assert (again.records, again.n_edits) == ([ADD, REMOVE, REMOVE], 3)


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
