"""Folders as ``save_to_disk`` writes them; made here by hand, since that library is no dependency."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from flr.data.readers import read
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig

ROWS = pl.DataFrame({"user_id": ["u", "v", "u"], "item_id": [7, 8, 9], "timestamp": [100, 90, 110]})


def save(folder: Path, *shards: pl.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        shard.write_ipc_stream(folder / name)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def save_parts(folder: Path, **parts: pl.DataFrame) -> Path:
    for part, frame in parts.items():
        save(folder / part, frame)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
    return folder


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    rows = save(tmp_path / "rows", ROWS[1:], ROWS[:1])
    items = save(tmp_path / "items", pl.DataFrame({"item_id": [7, 8, 9], "title": ["Anchor", "Arrow", None]}))
    record = read(rows, items)
    assert record.frame.rows() == [("v", "8", 90), ("u", "9", 110), ("u", "7", 100)]
    assert record.items.rows() == [("7", "Anchor"), ("8", "Arrow"), ("9", None)]
    assert record.source["interactions"]["format"] == "hugging face"
    assert list(record.source["interactions"]["files"]) == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_parts_become_the_given_split(tmp_path: Path) -> None:
    folder = save_parts(tmp_path / "d", train=ROWS[:1], validation=ROWS[1:2], test=ROWS[2:])
    record = read(folder, None, PrepareConfig(split="given"))
    assert record.frame["split"].to_list() == ["train", "valid", "test"]
    assert record.source["interactions"]["parts"] == ["train", "validation", "test"]
    other = save_parts(tmp_path / "e", tain=ROWS)
    with pytest.raises(ReadError, match=r"has a part 'tain'; did you mean 'train'"):
        read(other, None, PrepareConfig(split="given"))
    assert len(read(other).frame) == 3


def test_damage_is_said(tmp_path: Path) -> None:
    folder = save(tmp_path / "d", ROWS, ROWS)
    last = folder / "data-00001-of-00002.arrow"
    whole = last.read_bytes()
    last.write_bytes(whole[:-8])
    with pytest.raises(ReadError, match=r"data-00001-of-00002.arrow' is cut off: it has no end-of-stream mark"):
        read(folder)
    last.write_bytes(b"xxxx" + whole[-8:])
    with pytest.raises(ReadError, match=r"cannot read .*data-00001-of-00002.arrow' as an Arrow stream"):
        read(folder)
    last.unlink()
    with pytest.raises(ReadError, match=r"data-00001-of-00002.arrow' does not exist; its state.json lists it"):
        read(folder)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ('{"_data_files": "x"}', r"has _data_files 'x'; expected file names"),
        ('{"_data_files": []}', r"lists no data files"),
        ('{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}', r"selection of rows .*flatten_indices"),
        ("[", r"cannot read .*state.json' .*expected what save_to_disk writes"),
        ("3", r"state.json' holds 3; expected"),
    ],
)
def test_other_states_are_said(tmp_path: Path, state: str, message: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(ReadError, match=message):
        read(tmp_path)


def test_parts_must_agree(tmp_path: Path) -> None:
    folder = save_parts(tmp_path, train=ROWS, test=ROWS.rename({"user_id": "user"}))
    with pytest.raises(
        ColumnError, match=r"part 'test' of .* has the columns user, .*expected those of 'train': user_id"
    ):
        read(folder)
    (tmp_path / "dataset_dict.json").write_text('{"splits": 3}')
    with pytest.raises(ReadError, match=r"dataset_dict.json' has splits 3; expected a list of names"):
        read(folder)


def test_headlines_of_amazon_reviews_are_no_titles(tmp_path: Path) -> None:
    told = pl.lit("Five Stars").alias("title"), pl.lit("Good.").alias("text"), pl.lit(5.0).alias("rating")
    folder = save(tmp_path / "d", ROWS.rename({"item_id": "parent_asin"}).with_columns(*told))
    assert read(folder).items.rows() == [("7", None), ("8", None), ("9", None)]
    named = read(folder, None, PrepareConfig(title_column="title"))
    assert named.items["title"].to_list() == ["Five Stars"] * 3
