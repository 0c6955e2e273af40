"""The journal: what was answered is kept, what was not may go, and damage is never passed over."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.catalogue.titles import build_catalogue
from flr.errors import ArtifactError, DataError, StorageError
from flr.live import LiveCatalogue
from flr.recommender import Recommender
from flr.serving.journal import Journal, Record, _replace, fingerprint
from flr.serving.replay import net_records, replayed
from serving.conftest import make_recommender

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


@pytest.mark.parametrize("content", [b'{"secret": "the only copy"}', b"\x00" * 40, b"0", b"two\nlines"])
def test_a_file_that_is_no_journal_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is no journal; give --journal a file of its own|is damaged in line 1"):
        Journal(tmp_path / "file", "c1")
    assert (tmp_path / "file").read_bytes() == content


def test_a_journal_of_which_only_a_part_of_the_beginning_is_there_begins_anew(path: Path) -> None:
    Journal(path, "c1").close()
    content = path.read_bytes()
    path.write_bytes(content[:20])
    Journal(path, "c1").close()
    assert path.read_bytes() == content


def test_of_two_servers_that_start_at_once_one_makes_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = list[str]()

    def while_another_starts(file: Path, records: list[Record]) -> None:
        monkeypatch.undo()
        with pytest.raises(StorageError) as error:
            Journal(path, "c1")
        refused.append(str(error.value))
        _replace(file, records)

    monkeypatch.setattr("flr.serving.journal._replace", while_another_starts)
    journal = Journal(path, "c1")
    journal.append(ADD)
    journal.close()
    assert "kept by another server" in refused[0]
    assert Journal(path, "c1").records == [ADD]


def test_two_servers_do_not_share_a_journal(path: Path) -> None:
    first = Journal(path, "c1")
    with pytest.raises(StorageError, match="kept by another server"):
        Journal(path, "c1")
    first.close()
    Journal(path, "c1").close()


def linked(path: Path) -> Path:
    """Return a link to a journal, in another folder."""
    link = path.parent.with_name("link")
    link.symlink_to(path)
    return link


def test_two_servers_do_not_share_a_journal_by_a_link(path: Path) -> None:
    first = Journal(path, "c1")
    link = linked(path)
    with pytest.raises(StorageError, match=f"the journal {str(link)!r} is kept by another server"):
        Journal(link, "c1")
    first.close()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_a_link_to_what_is_written(is_there: bool, path: Path) -> None:
    if is_there:
        written(path)
    link = linked(path)
    journal = Journal(link, "c1")
    journal.compact([REMOVE])
    journal.append(ADD)
    journal.close()
    assert link.readlink() == path
    assert Journal(path, "c1").records == [REMOVE, ADD]


def test_no_edit_is_written_to_what_a_link_led_to_before(path: Path) -> None:
    link = linked(written(path))
    journal = Journal(link, "c1")
    link.unlink()
    link.symlink_to(shutil.copy(path, path.with_name("other")))
    with pytest.raises(StorageError, match=f"the journal {str(link)!r} was moved, replaced or deleted"):
        journal.append(ADD)


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


@pytest.mark.parametrize("is_replaced", [False, True], ids=["moved", "replaced"])
def test_no_edit_is_written_where_the_next_server_does_not_look(is_replaced: bool, path: Path) -> None:
    journal = Journal(written(path), "c1")
    away = path.rename(path.with_name("away"))
    if is_replaced:
        shutil.copy(away, path)
    with pytest.raises(StorageError, match="was moved, replaced or deleted while it was open, so the edit is refused"):
        journal.append(ADD)
    away.replace(path)
    journal.append(ADD)
    journal.close()
    assert found_after_a_crash(path) == [ADD, REMOVE, ADD]


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


#: Two items that are recommended, and two that are not any more.
SHOP = pl.DataFrame(
    {"item_id": list("abcd"), "title": list("ABCD"), "price": [1.0, 2.0, 3.0, 4.0], "note": list("wxyz")}
)
RETIRED = np.array([False, False, True, True])
#: What an item says of itself beside its price: texts, and what becomes one.
NOTES = [None, "n", 1985, 1985.5, True, "1985"]
EDITS = st.lists(
    st.tuples(st.sets(st.sampled_from("abcdxyz"), min_size=1), st.integers(0, 9), st.sampled_from(NOTES)), max_size=30
)


def live_shop() -> LiveCatalogue:
    """Return a catalogue that is edited like one that is served, but compiled for no model."""
    return LiveCatalogue.of(
        build_catalogue(SHOP, RETIRED), lambda catalogue, _: cast(Any, SimpleNamespace(catalogue=catalogue))
    )


def edited(live: LiveCatalogue, record: Record) -> LiveCatalogue:
    if record["op"] == "remove":
        return live.without_items(record["item_ids"])
    return live.with_items(record["items"], cast(Any, lambda *_: ()))[0]


def listed(live: LiveCatalogue) -> dict[str, tuple[object, ...]]:
    """Return the title and the attributes of what is recommended."""
    catalogue, attributes = live.catalogue, live.catalogue.attributes
    assert attributes is not None
    retired = np.zeros(catalogue.n_items, dtype=bool) if catalogue.retired is None else catalogue.retired
    rows = zip(catalogue.item_ids, catalogue.titles, attributes.rows(), retired, strict=True)
    return {str(item_id): (title, *row) for item_id, title, row, is_gone in rows if not is_gone}


@given(EDITS)
def test_the_net_edits_lead_to_the_same_catalogue(edits: list[tuple[set[str], int, Any]]) -> None:
    live, records = live_shop(), list[Record]()
    for item_ids, value, note in edits:
        items = [
            {"item_id": item_id, "title": f"{item_id} {value}"}
            | ({} if note is None else {"price": value, "note": note})
            for item_id in sorted(item_ids - set(listed(live)))
        ]
        gone = sorted(item_ids & set(listed(live)))
        for record in ({"op": "add", "items": items}, {"op": "remove", "item_ids": gone}):
            with suppress(DataError):  # nothing would be left
                live = edited(live, record)
                records.append(record)
    net = net_records(records, frozenset("ab"))
    assert listed(reduce(edited, net, live_shop())) == listed(live)
    assert len(net) <= 6
    json.dumps(net)


def test_all_items_may_have_changed_in_parts_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.serving.replay._PER_RECORD", 1)
    again = [{"item_id": item_id, "title": f"{item_id} again"} for item_id in "abx"]
    records = [
        {"op": "add", "items": again[2:]},
        {"op": "remove", "item_ids": ["a", "b"]},
        {"op": "add", "items": again[:2]},
        {"op": "remove", "item_ids": ["x"]},
    ]
    found = listed(reduce(edited, net_records(records, frozenset("ab")), live_shop()))
    assert {item_id: row[0] for item_id, row in found.items()} == {"a": "a again", "b": "b again"}


def edits_of(recommender: Recommender, path: Path) -> None:
    """Write a journal in which all items change eleven times."""
    catalogue = recommender.catalogue
    journal = Journal(path, fingerprint(catalogue.item_ids, catalogue.titles))
    for day in range(11):
        for item_id, title in zip(catalogue.item_ids.tolist(), catalogue.titles.tolist(), strict=True):
            journal.append({"op": "remove", "item_ids": [item_id]})
            journal.append({"op": "add", "items": [{"item_id": item_id, "title": title, "year": 2000 + day}]})
    journal.close()


def years(recommender: Recommender) -> list[int]:
    assert recommender.catalogue.attributes is not None
    return recommender.catalogue.attributes["year"].to_list()


def test_a_server_starts_whose_items_have_all_changed(path: Path) -> None:
    edits_of(make_recommender(), path)
    for n_records in (242, 4):  # the first start compacts them
        recommender = make_recommender()
        journal = replayed(recommender, path)
        assert (len(journal.records), journal.n_edits) == (n_records, 242)
        assert years(recommender) == [2010] * 11
        journal.close()


def test_where_compacted_edits_cannot_be_made_all_are(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edits_of(make_recommender(), path)
    content = path.read_bytes()
    wrong = [{"op": "add", "items": [{"item_id": "n", "title": "N"}]}, {"op": "remove", "item_ids": ["nobody"]}]
    monkeypatch.setattr("flr.serving.replay.net_records", lambda *_: wrong)
    recommender = make_recommender()
    replayed(recommender, path).close()
    assert years(recommender) == [2010] * 11
    assert "not compacted, all 242 edits are made again: edit 2 of the journal" in caplog.text
    assert path.read_bytes() == content


def test_fractions_that_an_older_journal_holds_are_cut_off_as_they_were(path: Path) -> None:
    recommender = make_recommender()
    journal = Journal(path, fingerprint(recommender.catalogue.item_ids, recommender.catalogue.titles))
    journal.append({"op": "add", "items": [{"item_id": "n1", "title": "Heat Two (2025)", "year": 2025.9}]})
    journal.append({"op": "add", "items": [{"item_id": "n2", "title": "Ran (1985)", "year": True}]})
    journal.close()
    replayed(recommender, path).close()
    assert years(recommender)[-2:] == [2025, 1]


def test_a_full_disk_stops_no_server_that_only_wanted_to_compact(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edits_of(make_recommender(), path)
    content = path.read_bytes()
    disk = Disk(monkeypatch, lambda _: True)
    recommender = make_recommender()
    journal = replayed(recommender, path)
    assert years(recommender) == [2010] * 11
    assert "was not compacted: Input/output error" in caplog.text
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".lock"] == [path.name]
    disk.fails = lambda _: False
    assert journal.n_edits == 242
    journal.append(ADD)
    journal.close()
    assert path.read_bytes().startswith(content)


def test_catalogues_have_fingerprints() -> None:
    assert fingerprint(["a", "b"], ["x", "y"]) != fingerprint(["a", "b"], ["x", "z"])
    assert fingerprint(["ab"], ["c"]) != fingerprint(["a"], ["bc"])
