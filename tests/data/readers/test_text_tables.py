"""Rows of text that do not fit their columns, columns of one name, and half characters in JSON lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from flr.data.readers import read
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig

DROP = PrepareConfig(on_bad_row="drop")
HEADER = "user_id,item_id,timestamp,rating\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.tsv"])
def test_a_line_that_is_too_short_stops_or_is_counted(tmp_path: Path, name: str) -> None:
    text = HEADER + 'u,i,1,5\n\n"u,\nv",j,2\nu,k,3,\nu\nu,m,4,3\n\n'
    text = text.replace(",", "\t") if name == "rows.tsv" else text
    path = write(tmp_path / name, text)
    message = r"line 5 of .*rows.* has 3 fields where there are 4 columns \(2 short lines in all\); .*on_bad_row=drop"
    with pytest.raises(ReadError, match=message):
        read(path)
    record = read(path, None, DROP)
    assert record.frame.rows() == [("u", "i", 1, 5.0), ("u", "k", 3, None), ("u", "m", 4, 3.0)]
    assert record.dropped == {"unreadable_lines": 2}


def test_blank_lines_are_no_rows_and_empty_fields_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "\ufeff" + HEADER + "u,i,1,\n\nu,j,2,\n\n")
    record = read(path)
    assert record.frame.rows() == [("u", "i", 1, None), ("u", "j", 2, None)]
    assert record.dropped == {}


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.tsv"])
@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_may_end_with_a_carriage_return(tmp_path: Path, name: str, end: str) -> None:
    text = (HEADER + "u,i,1,5\n\nu,j,2,\n").replace("\n", end)
    path = write(tmp_path / name, text.replace(",", "\t") if name == "rows.tsv" else text)
    assert read(path).frame.rows() == [("u", "i", 1, 5.0), ("u", "j", 2, None)]


def test_a_short_line_is_found_between_carriage_returns(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"line 3 of .*rows.csv' has 2 fields where there are 4 columns;"):
        read(write(tmp_path / "rows.csv", HEADER.replace("\n", "\r") + "u,i,1,5\ru,j\r"))


@pytest.mark.parametrize(
    "content",
    [
        b"\xca\xf6\xd2\x02*\x1d\xde\xce\xb2CH\x95\xeenC\xb8\x8e\rx\r",
        b"PK\x03\x04\x14\x00\x06\x00\xe9,\n",
        b"a\rb\x00\xff",
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_bytes_that_are_no_text(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=r"rows.* is no CSV text: byte \d+ is .*export it as CSV"):
        read(tmp_path / name)


def test_short_lines_of_items_count_too(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", HEADER + "u,i,1,5\n")
    items = write(tmp_path / "items.csv", "item_id,title,brand\ni,Anchor,Acme\nj\n")
    with pytest.raises(ReadError, match=r"line 3 of .*items.csv' has 1 fields where there are 3 columns;"):
        read(rows, items)
    record = read(rows, items, DROP)
    assert (record.items["item_id"].to_list(), record.dropped) == (["i"], {"unreadable_lines": 1})


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.csv.gz"])
def test_two_columns_of_one_name_are_an_error(tmp_path: Path, name: str) -> None:
    text = "user_id,item_id,timestamp,item_id\nu,i,1,j\n"
    path = write(tmp_path / name, text.replace(",", "\t") if name == "rows.tsv" else text)
    with pytest.raises(ColumnError, match=r"header of .*rows.* names the column 'item_id' more than once; .*rename"):
        read(path)


def test_a_column_that_is_called_so_is_no_repeat(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "user_id,item_id,timestamp,item_id_duplicated_0\nu,i,1,j\n")
    assert read(path).frame.rows() == [("u", "i", 1)]


@pytest.mark.parametrize("half", [r"\ud83d", r"a\uD83Dx", r"\udbffb"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_half_a_character_stops_or_is_counted(tmp_path: Path, half: str, name: str) -> None:
    good = '{"user_id": "n\\u0000", "item_id": "\\ud83d\\ude00", "timestamp": 1}\n'
    bad = f'{{"user_id": "u", "item_id": "{half}", "timestamp": 2}}\n'
    path = write(tmp_path / name, good + "\n" + bad + good)
    with pytest.raises(ReadError, match=r"line 3 of .*rows.jsonl.* has half of a character in .*on_bad_row=drop"):
        read(path)
    record = read(path, None, DROP)
    assert record.frame.rows() == [("n\0", "\N{GRINNING FACE}", 1)] * 2
    assert record.dropped == {"unreadable_lines": 1}


def test_half_a_character_in_a_list_of_an_item(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", HEADER + "u,i,1,5\n")
    items = write(tmp_path / "items.jsonl", '{"item_id": "i", "title": "It", "tags": ["\\ud83d"]}\n')
    with pytest.raises(ReadError, match=r"line 1 of .*items.jsonl' has half of a character"):
        read(rows, items)


@pytest.mark.parametrize("order", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "u.data"])
def test_unicode_text_of_spreadsheets_is_named(tmp_path: Path, name: str, order: str) -> None:
    mark = "" if order == "utf-16" else "\ufeff"
    (tmp_path / name).write_bytes(f"{mark}user_id,item_id,timestamp\na,b,1\n".encode(order))
    with pytest.raises(ReadError, match=r"is UTF-16, expected UTF-8; convert it with `iconv -f UTF-16 -t UTF-8`"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('"Abbey Road 12\\" LP"', '"Revolver 12\\" LP"'),
        ('"Abbey Road 12\\""', '"Revolver 12\\""'),
        ('Abbey Road 12" LP', 'Revolver 12" LP'),
    ],
)
@pytest.mark.parametrize("name", ["items.csv", "items.tsv", "items.csv.gz"])
@pytest.mark.parametrize("on_bad_row", ["error", "drop"])
def test_rows_between_two_quotes_that_are_not_doubled_are_never_lost(
    tmp_path: Path, name: str, first: str, second: str, on_bad_row: str
) -> None:
    rows = write(tmp_path / "rows.csv", HEADER + "u,1,1,5\nu,4,2,5\n")
    text = f"item_id,title,brand\n1,Help,EMI\n2,{first},EMI\n3,Let It Be,EMI\n4,{second},EMI\n5,Rubber Soul,EMI\n"
    items = write(tmp_path / name, text.replace(",", "\t") if name == "items.tsv" else text)
    with pytest.raises(ReadError, match=r"line 3 has a quote within a field that is not doubled: '2.*Abbey"):
        read(rows, items, PrepareConfig.model_validate({"on_bad_row": on_bad_row}))


def test_doubled_quotes_and_line_ends_within_quotes_are_read(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", HEADER + "u,1,1,5\nu,2,2,5\n")
    items = write(
        tmp_path / "items.csv", 'item_id,title,note\r\n1,"Help 12"", a\r\n""single""\\",\r\n2,Heat,"a\rb"\r\n'
    )
    assert read(rows, items).items.rows() == [("1", 'Help 12", a\r\n"single"\\', None), ("2", "Heat", "a\rb")]
