"""Amazon reviews and metadata: editions, literals of 2014, and lines that are damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from flr.data.preparation import prepare
from flr.data.readers import amazon, read
from flr.errors import ColumnError, DataError, ReadError
from flr.prepare_config import PrepareConfig

OLD = {"overall": 5.0, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1_400_000_000, "reviewText": "x"}
NEW = {"rating": 4.0, "title": "A headline", "asin": "V1", "parent_asin": "P1", "user_id": "U1"}
NEW_TIME = {"timestamp": 1_588_687_728_923}
DROP = PrepareConfig(on_bad_row="drop")


def write(path: Path, *objects: dict[str, Any] | str) -> Path:
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in objects)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_real_files_of_2018(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["amazon2018"]
    record = read(folder / "amazon2018")
    assert len(record.frame) == expected["rows"] == 258
    assert record.frame["user_id"].n_unique() == expected["users"] == 50
    assert record.frame["item_id"].n_unique() == len(record.items) == expected["items"] == 80
    assert record.frame.row(0) == ("A1OUEL01WC3NIR", "B00002NC3K", 1_501_804_800, 5.0)
    assert record.items.filter(item_id="B004Y960MU").row(0, named=True) == {
        "item_id": "B004Y960MU",
        "title": "Loctite Liquid Professional Super Glue  20-Gram Bottle (1365882)",
        "brand": "Loctite",
        "category": None,
    }
    assert record.source["interactions"]["format"] == "amazon 2018"
    assert record.source["items"]["path"].endswith("meta_Industrial_and_Scientific.json.gz")
    assert record.source["time"] == "epoch seconds"
    assert record.dropped == {}
    prepared = prepare(record, PrepareConfig(deduplicate=True))
    assert prepared.sequences.n_interactions == expected["rows_without_repeats"] == 193
    assert prepared.manifest["dropped"] == {"duplicate_rows": 65}


@pytest.mark.parametrize("name", ["Toys.jsonl", "Toys.jsonl.gz"])
def test_2023_counts_milliseconds_and_leaves_headlines_alone(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, NEW | NEW_TIME)
    record = read(path)
    assert record.frame.rows() == [("U1", "P1", 1_588_687_728, 4.0, 1_588_687_728_923)]
    assert record.items.rows() == [("P1", None)]
    assert record.source["interactions"]["format"] == "amazon 2023"
    assert record.source["time"].startswith("epoch milliseconds")
    meta = {"parent_asin": "P1", "title": "A toy", "store": "Acme", "categories": ["Toys", "Cars"], "price": 3}
    write(tmp_path / f"meta_{name}", meta)
    assert read(path).items.rows(named=True) == [
        {"item_id": "P1", "title": "A toy", "store": "Acme", "categories": "Toys; Cars"}
    ]
    assert read(path).source["items"]["format"] == "amazon 2023 metadata"


def test_what_2014_wrote_as_literals_is_parsed_and_never_run(tmp_path: Path) -> None:
    literal = "{'asin': 'B1', 'title': \"Bob's \\\"best\\\"\", 'categories': [['Toys', 'Games'], ['Cars']]}"
    rows = write(tmp_path / "reviews_Toys_5.json.gz", OLD)
    write(tmp_path / "meta_Toys.json.gz", literal)
    record = read(rows)
    assert record.items.rows() == [("B1", 'Bob\'s "best"', "Toys; Games; Cars")]
    write(tmp_path / "meta_Toys.json.gz", "{'asin': __import__('os').getcwd(), 'title': 'x'}")
    with pytest.raises(ReadError, match=r"line 1 of .*meta_Toys.json.gz' is .*getcwd.*expected one JSON object a line"):
        read(rows)


def test_ids_and_titles_stay_as_they_are(tmp_path: Path) -> None:
    long = "A long title \N{GRINNING FACE} " * 700
    rows = write(tmp_path / "a.json", OLD | {"reviewerID": 'A"1\t,\N{GRINNING FACE}'}, OLD | {"unixReviewTime": -5})
    write(tmp_path / "meta_a.json", {"asin": "B1", "title": long})
    record = read(rows)
    assert record.frame.rows() == [('A"1\t,\N{GRINNING FACE}', "B1", 1_400_000_000, 5.0), ("A1", "B1", -5, 5.0)]
    assert record.items["title"].to_list() == [long]


def test_repeats_are_kept_and_repeated_metadata_is_counted(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.json", OLD, OLD)
    meta = write(tmp_path / "meta_a.json", {"asin": "B1", "title": "x"}, {"asin": "B1", "title": "x"})
    record = read(rows, meta)
    assert (len(record.frame), record.dropped) == (2, {"repeated_item_rows": 1})
    write(meta, {"asin": "B1", "title": "x"}, {"asin": "B1", "title": "y"})
    with pytest.raises(DataError, match="several titles, such as 'B1': 'x' and 'y'"):
        read(rows, meta)


def test_items_of_a_table_may_name_their_column_alone(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.json", OLD)
    (tmp_path / "items.csv").write_text("sku,title\nB1,Anchor\n", encoding="utf-8")
    record = read(rows, tmp_path / "items.csv", PrepareConfig(item_column="sku"))
    assert (record.frame["item_id"].to_list(), record.items.rows()) == (["B1"], [("B1", "Anchor")])
    with pytest.raises(ColumnError, match=r"a.json' has no column 'sku' \(item_column\)"):
        read(rows, None, PrepareConfig(item_column="sku"))


BAD_LINES = {
    "no object": ('["a list"]', r"line 2 of .*a.json' is '\[\"a list\"\]'; expected one JSON object a line"),
    "cut off": ('{"reviewerID": "A1", "asi', r"line 2 .* is '\{\"reviewerID\": \"A1\", \"asi'"),
    "half a character": (json.dumps(OLD | {"reviewerID": "\ud83d"}), r"line 2 .* has half of a character in '\\ud83d'"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_stops_or_is_counted(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "a.json", OLD, line, OLD)
    with pytest.raises(ReadError, match=message + ".*on_bad_row=drop"):
        read(path)
    record = read(path, None, DROP)
    assert (len(record.frame), record.dropped) == (2, {"unreadable_lines": 1})


def test_a_review_without_a_time_stops_or_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", OLD, OLD | {"unixReviewTime": None})
    with pytest.raises(ReadError, match=r"'unixReviewTime' in data row 2 of .*a.json' is empty"):
        read(path)
    assert read(path, None, DROP).dropped == {"unreadable_rows": 1}


def test_columns_of_ones_own_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", NEW | NEW_TIME | {"sort_timestamp": 7})
    record = read(path, None, PrepareConfig(item_column="asin", timestamp_column="sort_timestamp"))
    assert record.frame.rows() == [("U1", "V1", 7, 4.0)]
    with pytest.raises(ColumnError, match=r"has no column 'tiemstamp'; did you mean 'timestamp'"):
        read(path, None, PrepareConfig(timestamp_column="tiemstamp"))


def test_what_is_no_review_is_not_taken_for_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "rows.jsonl", {"user_id": "u", "item_id": "i", "timestamp": 3})
    assert not amazon.recognises(plain)
    assert read(plain).source["interactions"]["format"] == "json lines"
    other = write(tmp_path / "rows.json", {"user": "u"})
    with pytest.raises(
        ReadError,
        match=r"'rows.json' by its name, and it begins with .*\"u\"\}'; expected an Amazon review on each line",
    ):
        read(other)


def test_items_of_other_kinds_keep_all_their_columns(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.json", OLD)
    items = write(tmp_path / "items.jsonl", {"asin": "B1", "title": "Anchor", "colour": "red"})
    assert read(rows, items).items.rows(named=True) == [{"item_id": "B1", "title": "Anchor", "colour": "red"}]
    assert read(rows, write(tmp_path / "m.json", {"asin": "B1", "title": "Arrow"})).items.rows() == [("B1", "Arrow")]
    (tmp_path / "i.csv").write_text("asin,title\nB1,Bridge\n")
    assert read(rows, tmp_path / "i.csv").items.rows() == [("B1", "Bridge")]
    with pytest.raises(ColumnError, match=r"meta_b.json' has no title column"):
        read(rows, write(tmp_path / "meta_b.json", {"asin": "B1"}))


def test_a_folder_with_two_files_of_reviews_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "a.json", OLD)
    write(tmp_path / "b.json", OLD)
    with pytest.raises(ReadError, match="name one file instead"):
        read(tmp_path)
    (tmp_path / "b.json").unlink()
    assert len(read(tmp_path).frame) == 1
