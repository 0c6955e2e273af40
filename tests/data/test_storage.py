"""Prepared folders: written whole, read checked."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import polars as pl
import pytest

from flr.data.preparation import prepare
from flr.data.readers import read_frames
from flr.data.storage import load_prepared, save_prepared
from flr.data.synthetic import pattern_world
from flr.errors import ArtifactError, StorageError
from flr.records import PreparedData


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return prepare(pattern_world(n_items=11, n_users=5, length=6).interactions)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path, data: PreparedData) -> None:
    saved = save_prepared(data, tmp_path / "toy")
    loaded = load_prepared(tmp_path / "toy")
    for name in ("user_ids", "offsets", "item_index", "timestamps", "split"):
        before, after = getattr(data.sequences, name), getattr(loaded.sequences, name)
        assert before.tolist() == after.tolist()
        assert before.dtype == after.dtype
    assert loaded.items.equals(data.items)
    assert loaded.manifest == saved.manifest
    assert {key: loaded.manifest[key] for key in data.manifest} == data.manifest


def test_the_folder_is_readable_by_others(tmp_path: Path, data: PreparedData) -> None:
    save_prepared(data, tmp_path / "toy")
    names = sorted(path.name for path in (tmp_path / "toy").iterdir())
    assert names == ["audit.json", "interactions.parquet", "items.parquet", "manifest.json", "users.parquet"]
    rows = pl.read_parquet(tmp_path / "toy" / "interactions.parquet")
    assert rows.columns == ["user_index", "item_index", "timestamp", "split"]
    assert rows["split"].head(6).cast(pl.String).to_list() == ["train"] * 4 + ["valid", "test"]
    manifest = json.loads((tmp_path / "toy" / "manifest.json").read_text())
    assert manifest["counts"]["test_targets"] == 5
    assert len(manifest["data_hash"]) == 64
    assert manifest["flr_version"]


def test_equal_data_has_an_equal_hash_and_other_data_another(tmp_path: Path, data: PreparedData) -> None:
    first, second = (save_prepared(data, tmp_path / name).manifest["data_hash"] for name in "ab")
    other = prepare(pattern_world(n_items=11, n_users=5, length=6, seed=1).interactions)
    assert first == second != save_prepared(other, tmp_path / "c").manifest["data_hash"]


def test_a_prepared_folder_is_overwritten_only_when_asked(tmp_path: Path, data: PreparedData) -> None:
    save_prepared(data, tmp_path / "toy")
    with pytest.raises(ArtifactError, match="toy' exists already"):
        save_prepared(data, tmp_path / "toy")
    save_prepared(data, tmp_path / "toy", overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"holds no 'manifest.json'"):
        save_prepared(data, tmp_path / "thesis", overwrite=True)


def test_a_disk_full_keeps_the_old_folder(tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    before = save_prepared(data, tmp_path / "toy").manifest

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(StorageError, match=r"toy': No space left on device; what was there before is untouched"):
        save_prepared(data, tmp_path / "toy", overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_prepared(data, tmp_path / "toy", overwrite=True)
    monkeypatch.undo()
    assert load_prepared(tmp_path / "toy").manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def edit_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


DAMAGES = {
    "no folder": (lambda folder: folder.rename(folder.with_name("gone")), r"there is no prepared folder '.*toy'"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"there is no manifest of the prepared folder"),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"schema'),
        r"cannot read the manifest of the prepared folder",
    ),
    "no files listed": (lambda folder: edit_manifest(folder, files={}), r"manifest.json does not list its files"),
    "other version": (
        lambda folder: edit_manifest(folder, schema_version=99),
        r"has schema version 99 .* reads version 1; prepare it again",
    ),
    "table missing": (lambda folder: (folder / "users.parquet").unlink(), r"damaged: users.parquet is missing"),
    "table cut short": (
        lambda folder: (folder / "items.parquet").write_bytes((folder / "items.parquet").read_bytes()[:-20]),
        r"damaged: items.parquet has SHA-256 \w{12}..., the manifest says \w{12}...; prepare it again",
    ),
    "audit changed": (lambda folder: (folder / "audit.json").write_text("{}"), r"damaged: audit.json has SHA-256"),
    "hash changed": (
        lambda folder: edit_manifest(folder, data_hash="0"),
        r"the data hash in manifest.json is not that",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_folder_is_not_read(tmp_path: Path, data: PreparedData, damage: object, message: str) -> None:
    save_prepared(data, tmp_path / "toy")
    damage(tmp_path / "toy")  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=message):
        load_prepared(tmp_path / "toy")


def test_overwriting_never_costs_other_files(data: PreparedData, tmp_path: Path) -> None:
    save_prepared(data, tmp_path / "toy")
    (tmp_path / "toy" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"toy' also holds 'notes.txt', which would be lost; move that away"):
        save_prepared(data, tmp_path / "toy", overwrite=True)
    assert (tmp_path / "toy" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("table", ["interactions", "items"])
@pytest.mark.parametrize("output", ["toy", "link"])
def test_overwriting_never_costs_what_was_read(data: PreparedData, tmp_path: Path, table: str, output: str) -> None:
    save_prepared(data, tmp_path / "toy")
    (tmp_path / "link").symlink_to(tmp_path / "toy")
    source = {table: {"path": str(tmp_path / "toy" / "items.parquet")}}
    read = PreparedData(data.sequences, data.items, data.manifest | {"source": source})
    with pytest.raises(ArtifactError, match=r"holds .*items.parquet', which the data were read from"):
        save_prepared(read, tmp_path / output, overwrite=True)


def test_an_attribute_with_a_name_of_ours_is_kept(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user_id": ["u"] * 4, "item_id": ["a", "b"] * 2, "timestamp": range(4)})
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "item_index": [5, 6]})
    save_prepared(prepare(read_frames(rows, items)), tmp_path / "toy")
    loaded = load_prepared(tmp_path / "toy").items
    assert loaded.columns == ["item_id", "title", "item_index_attribute"]
    assert loaded["item_index_attribute"].to_list() == [5, 6]
