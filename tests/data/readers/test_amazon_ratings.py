"""Amazon's ratings without a header: which column is whose is told by the ids, or refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flr.data.readers import read
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig

USER, ITEM, OTHER = "A3478QRKQDOPQ2", "0001713353", "B000123ABC"


def write(path: Path, *lines: str) -> Path:
    text = "".join(line + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["Toys.csv", "ratings_Toys.csv", "Toys.csv.gz"])
@pytest.mark.parametrize("edition", ["2014", "2018"])
def test_both_orders_are_read_and_told(tmp_path: Path, name: str, edition: str) -> None:
    pairs = [(USER, ITEM), (USER, OTHER), ("A1", OTHER)]
    lines = [
        ",".join([*(pair if edition == "2014" else pair[::-1]), "4.0", f"140000000{n}"]) for n, pair in enumerate(pairs)
    ]
    path = write(tmp_path / name, *lines)
    record = read(path)
    assert record.frame.rows() == [(u, i, 1_400_000_000 + n, 4.0) for n, (u, i) in enumerate(pairs)]
    assert record.source["interactions"]["format"] == f"amazon {edition} ratings"
    assert record.items["title"].to_list() == [None, None]
    (tmp_path / "meta_Toys.json").write_text(json.dumps({"asin": ITEM, "title": "It"}) + "\n")
    assert read(path).items.rows() == [(ITEM, "It")]


def test_ids_that_do_not_tell_are_refused(tmp_path: Path) -> None:
    for first, second in ((USER, USER), (ITEM, OTHER), ("7", "8")):
        path = write(tmp_path / "Toys.csv", f"{first},{second},4.0,1400000000")
        with pytest.raises(
            ReadError, match=rf"has no header.* the ids '{first}' and '{second}'; .*write a header line"
        ):
            read(path)


def test_other_files_without_a_header_are_named_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "u,7,1400000000", "u,8,1400000001")
    with pytest.raises(ColumnError, match=r"it has u, 7, 1400000000.* first line looks like a row"):
        read(path)


def test_short_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "Toys.csv", f"{ITEM},{USER},4.0,1400000000", f"{ITEM},{USER}")
    with pytest.raises(ReadError, match=r"line 2 of .* has 2 fields where there are 4 columns"):
        read(path)
    assert read(path, None, PrepareConfig(on_bad_row="drop")).dropped == {"unreadable_lines": 1}
