"""RecBole atomic files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flr.data.readers import read
from flr.data.readers.recbole import read_atomic
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig


def test_types_are_taken_off_the_names(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text('item_id:token\ttitle:token_seq\tprice:float\n1\tThe "Big" One\t2.5\n')
    assert read_atomic(path)[0].rows(named=True) == [{"item_id": "1", "title": 'The "Big" One', "price": "2.5"}]


def test_the_items_beside_are_found_and_a_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\t1\t8.8e8\n")
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\n1\tAnchor\n")
    record = read(tmp_path)
    assert record.frame.rows() == [("u", "1", 880_000_000)]
    assert record.items.rows() == [("1", "Anchor")]
    assert record.source["interactions"]["format"] == "recbole"
    assert record.source["items"]["path"].endswith("x.item")
    (tmp_path / "y.inter").write_text("")
    with pytest.raises(ReadError, match=r"is a folder with x.inter, y.inter"):
        read(tmp_path)


def test_gzipped_files_have_types_too(tmp_path: Path) -> None:
    rows, items = (
        "user_id:token\titem_id:token\ttimestamp:float\nu\t1\t8.8e8\n",
        "item_id:token\ttitle:token_seq\n1\tA\n",
    )
    (tmp_path / "x.inter.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "x.item.gz").write_bytes(gzip.compress(items.encode()))
    for path in (tmp_path, tmp_path / "x.inter.gz"):
        record = read(path)
        assert record.frame.rows() == [("u", "1", 880_000_000)]
        assert record.items.rows() == [("1", "A")]


def test_a_header_without_types_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id\titem_id:token\n1\t2\n")
    with pytest.raises(ReadError, match=r"has the field 'user_id'; expected name:type"):
        read(tmp_path / "x.inter")


def test_columns_that_differ_in_their_types_only_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\titem_id:float\n1\t2\t3\n")
    with pytest.raises(ColumnError, match=r"header of .*x.inter' names the column 'item_id' more than once"):
        read(tmp_path / "x.inter")


def test_real_atomic_files(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["recbole"]
    record = read(folder / "recbole" / "ml-100k", None, PrepareConfig(title_column="movie_title"))
    assert len(record.frame) == expected["interactions"] == 1018
    assert record.frame["user_id"].n_unique() == expected["users"] == 50
    assert record.frame.row(0) == ("166", "346", 886_397_596, 1.0)
    assert len(record.items) == expected["items"] == 322
    assert record.items["title"][1] == "Get Shorty"
