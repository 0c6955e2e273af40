"""CSV, TSV, Parquet and JSON lines: equal content gives equal records; damage gives one clear line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from flr.data.readers import read
from flr.errors import ColumnError, DataError, ReadError
from flr.prepare_config import PrepareConfig

ROWS = [("u1", "7", 5.0, 100), ("u2", "8", 4.0, 90), ("u1", "8", 3.0, 100)]
NAMES = ("user_id", "item_id", "rating", "timestamp")


def as_text(separator: str) -> str:
    return "\n".join(separator.join(map(str, row)) for row in [NAMES, *ROWS]) + "\n"


def as_json_lines() -> str:
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)


WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.csv": lambda path: path.write_text(as_text(",")),
    "rows.tsv": lambda path: path.write_text(as_text("\t")),
    "rows.csv.gz": lambda path: path.write_bytes(gzip.compress(as_text(",").encode())),
    "rows.jsonl": lambda path: path.write_text(as_json_lines()),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_json_lines().encode())),
    "rows.parquet": lambda path: pl.DataFrame(ROWS, NAMES, orient="row").write_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_in_file_order(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    record = read(tmp_path / name)
    assert record.frame.select("user_id", "item_id", "rating", "timestamp").rows() == ROWS
    assert record.frame.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "rating": pl.Float64,
    }
    expected = {".csv": "csv", ".tsv": "tsv", ".jsonl": "json lines", ".parquet": "parquet"}
    assert record.source["interactions"]["format"] == expected[Path(name.removesuffix(".gz")).suffix]
    assert record.source["time"] == "epoch seconds"
    assert record.items.rows() == [("7", None), ("8", None)]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_csv_may_have_another_separator_than_commas(tmp_path: Path, separator: str, name: str) -> None:
    text = as_text(separator).replace("item_id", '"item_id"').encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    items = write_csv(tmp_path, as_items(separator), "items.csv")
    record = read(tmp_path / name, items)
    assert record.frame.select("user_id", "item_id", "rating", "timestamp").rows() == ROWS
    assert record.items.rows() == [("7", "Anchor, the", "Acme"), ("8", "Arrow", None)]
    assert record.source["interactions"]["note"] == f"its fields are separated by {separator!r}"


def as_items(separator: str) -> str:
    return 'item_id|title|"brand, or maker"\n7|Anchor, the|Acme\n8|Arrow|\n'.replace("|", separator)


def test_a_header_with_commas_is_parted_by_them(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, "user_id,item_id,timestamp,a;b;c;d;e\nu,7,1,x\n"))
    assert record.frame.rows() == [("u", "7", 1)]
    assert "note" not in record.source["interactions"]


def write_csv(tmp_path: Path, text: str, name: str = "rows.csv") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_columns_are_mapped_by_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "who,what,when,pos,part\nu1,7,100,2,test\n")
    settings = PrepareConfig(
        split="given",
        user_column="who",
        item_column="what",
        timestamp_column="when",
        order_column="pos",
        split_column="part",
    )
    record = read(path, None, settings)
    assert record.frame.rows(named=True) == [
        {"user_id": "u1", "item_id": "7", "timestamp": 100, "split": "test", "order": 2}
    ]
    assert record.source["columns"] == {
        "user_id": "who",
        "item_id": "what",
        "timestamp": "when",
        "split": "part",
        "order": "pos",
    }


def test_standard_names_of_public_data_sets_are_known(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, "reviewerID,asin,overall,unixReviewTime\nA1,B0,5.0,1400000000\n"))
    assert record.frame.row(0) == ("A1", "B0", 1_400_000_000, 5.0)


def test_items_keep_their_attributes_and_titles(tmp_path: Path) -> None:
    items = write_csv(tmp_path, 'asin,name,brand,item_id\nx7,"Anchor, the",Acme,7\nx8,,,8\n', "items.csv")
    record = read(write_csv(tmp_path, as_text(",")), items, PrepareConfig(title_column="name", item_column="item_id"))
    assert record.items.columns == ["item_id", "title", "asin", "brand"]
    assert record.items.rows() == [("7", "Anchor, the", "x7", "Acme"), ("8", None, "x8", None)]


@pytest.mark.parametrize(("of_rows", "of_items"), [("sku", "item_id"), ("asin", "sku"), ("sku", "sku")])
def test_one_table_may_have_the_named_item_column_and_the_other_a_standard_one(
    tmp_path: Path, of_rows: str, of_items: str
) -> None:
    rows = write_csv(tmp_path, as_text(",").replace("item_id", of_rows))
    items = write_csv(tmp_path, f"{of_items},title\n7,Anchor\n8,Arrow\n", "items.csv")
    record = read(rows, items, PrepareConfig(item_column="sku"))
    assert record.frame["item_id"].to_list() == ["7", "8", "8"]
    assert record.items.rows() == [("7", "Anchor"), ("8", "Arrow")]
    assert record.source["columns"]["item_id"] == of_rows


def test_an_item_column_that_no_table_has_is_said(tmp_path: Path) -> None:
    rows = write_csv(tmp_path, as_text(","))
    items = write_csv(tmp_path, "item_id,title\n7,Anchor\n8,Arrow\n", "items.csv")
    with pytest.raises(ColumnError, match=r"rows.csv' has no column 'sku' \(item_column\)"):
        read(rows, items, PrepareConfig(item_column="sku"))
    nameless = write_csv(tmp_path, "code,title\n7,Anchor\n", "nameless.csv")
    with pytest.raises(ColumnError, match=r"nameless.csv' has no column 'item_id' \(item_column\)"):
        read(rows, nameless, PrepareConfig(item_column="item_id"))


def test_items_under_other_ids_are_refused(tmp_path: Path) -> None:
    rows = write_csv(tmp_path, as_text(","))
    items = write_csv(tmp_path, "item_id,title\nA001,Anchor\n", "items.csv")
    said = r"none of the 2 items .* such as '7', the items table 'A001'; check the item column"
    for missing_title in ("error", "fallback", "drop"):
        with pytest.raises(DataError, match=said):
            read(rows, items, PrepareConfig.model_validate({"missing_title": missing_title}))


def test_few_listed_items_are_counted(tmp_path: Path) -> None:
    rows = write_csv(tmp_path, "user_id,item_id,timestamp\nu,1,1\nu,2,2\nu,3,3\nv,3,4\n")
    forgiving = PrepareConfig(missing_title="fallback")
    one = write_csv(tmp_path, "item_id,title\n3,Anchor\n4,Arrow\n", "one.csv")
    assert read(rows, one, forgiving).source["few_items_listed"] == {"found": 1, "of": 3}
    two = write_csv(tmp_path, "item_id,title\n3,Anchor\n1,Arrow\n", "two.csv")
    assert "few_items_listed" not in read(rows, two, forgiving).source
    assert read(rows, two, forgiving).source["unlisted_items"] == 1
    none = write_csv(tmp_path, "item_id,title\n", "none.csv")
    assert read(rows, none, forgiving).source["few_items_listed"] == {"found": 0, "of": 3}


def test_titles_beside_the_interactions_make_the_items(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, "user_id,item_id,timestamp,title\nu1,7,1,Anchor\nu2,8,2,Arrow\nu2,7,3,Anchor\n"))
    assert record.items.rows() == [("7", "Anchor"), ("8", "Arrow")]


def test_a_title_is_made_of_columns(tmp_path: Path) -> None:
    items = write_csv(tmp_path, "item_id,film,year\n7,Anchor,1999\n8,Arrow,\n9,,2001\n", "items.csv")
    settings = PrepareConfig(title_template="{film} ({year})")
    assert read(write_csv(tmp_path, as_text(",")), items, settings).items.rows() == [
        ("7", "Anchor (1999)", "Anchor", "1999"),
        ("8", "Arrow", "Arrow", None),
        ("9", None, None, "2001"),
    ]
    with pytest.raises(ColumnError, match=r"no column 'yaer' of the title_template .* did you mean 'year'"):
        read(tmp_path / "rows.csv", items, PrepareConfig(title_template="{film} ({yaer})"))


def test_years_that_are_floats_or_quoted_and_empty_make_no_odd_titles(tmp_path: Path) -> None:
    rows, settings = write_csv(tmp_path, as_text(",")), PrepareConfig(title_template="{film} ({year})")
    quoted = write_csv(
        tmp_path, '"item_id","film","year"\n"7","Anchor","1999"\n"8","Arrow",""\n"9","","2"\n', "items.csv"
    )
    assert read(rows, quoted, settings).items["title"].to_list() == ["Anchor (1999)", "Arrow", None]
    years = [1999.0, None, float("nan"), 1999.5]
    pl.DataFrame({"item_id": [7, 8, 9, 1], "film": ["Anchor"] * 4, "year": years}).write_parquet(tmp_path / "f.parquet")
    titles = ["Anchor (1999)", "Anchor", "Anchor", "Anchor (1999.5)"]
    assert read(rows, tmp_path / "f.parquet", settings).items["title"].to_list() == titles
    films = PrepareConfig(title_column="year")
    assert read(rows, tmp_path / "f.parquet", films).items["title"].to_list() == ["1999", None, None, "1999.5"]


def test_real_csv(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["csv"]
    record = read(folder / "csv" / "interactions.csv", folder / "csv" / "items.csv")
    assert len(record.frame) == expected["interactions"] == 278
    assert record.frame["user_id"].n_unique() == expected["users"] == 50
    assert len(record.items) == expected["items"] == 177
    assert record.items.row(0)[:2] == ("0", "Greatest Hits, Vol. 2")


@pytest.mark.parametrize(
    ("cell", "seconds", "form"),
    [
        ("1400000000", 1_400_000_000, "epoch seconds"),
        ("8.8e8", 880_000_000, "epoch seconds"),
        ("1400000000000", 1_400_000_000, "epoch milliseconds"),
        ("1400000000000000", 1_400_000_000, "epoch microseconds"),
        ("2014-05-13T16:53:20Z", 1_400_000_000, "ISO 8601"),
        ("2014-05-13 16:53:20", 1_400_000_000, "ISO 8601"),
        ("2014-05-13T18:53:20+02:00", 1_400_000_000, "ISO 8601"),
        ("2014-05-13T16:53", 1_399_999_980, "ISO 8601"),
        ("2014-05-13", 1_399_939_200, "ISO 8601"),
    ],
)
def test_times_are_recognised(tmp_path: Path, cell: str, seconds: int, form: str) -> None:
    record = read(write_csv(tmp_path, f"user_id,item_id,timestamp\nu,i,{cell}\n"))
    assert record.frame["timestamp"].to_list() == [seconds]
    assert record.source["time"] == form


def test_times_of_parquet_types(tmp_path: Path) -> None:
    when = datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC)
    frame = pl.DataFrame({"user_id": [1.0], "item_id": [2], "timestamp": [when]})
    frame.write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").frame.row(0) == ("1", "2", 1_400_000_000)
    frame.with_columns(pl.col("timestamp").dt.date()).write_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet").frame["timestamp"][0] == 1_399_939_200


def test_fractions_of_a_second_decide_the_order_that_seconds_leave_open(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, "user_id,item_id,timestamp\nu,b,1400000000900\nu,a,1400000000100\n"))
    assert record.frame.drop("finer").rows() == [("u", "a", 1_400_000_000), ("u", "b", 1_400_000_000)]
    assert record.frame["finer"].to_list() == [1_400_000_000_100, 1_400_000_000_900]
    assert "order of their fractions" in record.source["time"]


def test_mixed_units_are_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "user_id,item_id,timestamp\nu,a,1400000000\nu,b,1400000000000\n")
    with pytest.raises(ReadError, match=r"mixes epoch seconds \(such as 1400000000\) and milliseconds"):
        read(path)


BAD_FILES = {
    "missing": (None, "rows.csv", ReadError, r"rows.csv' does not exist"),
    "unknown format": ("x", "rows.xlsx", ReadError, r"format of 'rows.xlsx' by its name; expected one ending in .csv"),
    "empty": ("", "rows.csv", ReadError, r"rows.csv' is empty"),
    "no rows": ("user_id,item_id,timestamp\n", "rows.csv", DataError, r"rows.csv' has no rows"),
    "no user column": ("usr,item_id,timestamp\n1,2,3\n", "rows.csv", ColumnError, r"has no user_id column; it has usr"),
    "no time column": ("user_id,item_id\n1,2\n", "rows.csv", ColumnError, r"no timestamp column.*timestamp_column="),
    "too many fields": ("user_id,item_id,timestamp\n1,2,3\n1,a,b,3\n", "rows.csv", ReadError, r"line 3 has 4 fields"),
    "no time": (
        "user_id,item_id,timestamp\n1,2,3\n1,2,soon\n",
        "rows.csv",
        ReadError,
        r"data row 2 .* is 'soon', no time",
    ),
    "no item": (
        "user_id,item_id,timestamp\n1,,3\n1,2,3\n",
        "rows.csv",
        ReadError,
        r"'item_id' in data row 1 .* is empty",
    ),
    "broken json": (
        '{"user_id": 1}\n{"user_id": 1\n',
        "rows.jsonl",
        ReadError,
        r"cannot read .*rows.jsonl' as json lines: line 2 is '\{\"user_id\": 1', no JSON object",
    ),
    "no parquet": ("PAR", "rows.parquet", ReadError, r"cannot read .*rows.parquet' as parquet"),
}


@pytest.mark.parametrize(("text", "name", "kind", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files(tmp_path: Path, text: str | None, name: str, kind: type[Exception], message: str) -> None:
    if text is not None:
        write_csv(tmp_path, text, name)
    with pytest.raises(kind, match=message):
        read(tmp_path / name)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"user_id,item_id,timestamp\n1,caf\xe9,3\n")
    with pytest.raises(ReadError, match="it is not UTF-8"):
        read(tmp_path / "rows.csv")


def test_ratings_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, "user_id,item_id,timestamp,rating\nu,i,1,five\nu,j,2,4\nu,k,3,\n"))
    assert record.frame["rating"].to_list() == [None, 4.0, None]
    assert record.source["unreadable_ratings"] == 1


def test_a_misspelt_column_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match=r"no column 'ratings' \(rating_column\); did you mean 'rating'"):
        read(write_csv(tmp_path, as_text(",")), None, PrepareConfig(rating_column="ratings"))


def test_unreadable_rows_are_dropped_and_counted_when_allowed(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "user_id,item_id,timestamp\n1,2,3\n1,2,soon\n,2,4\n1,3,5\n")
    said = r"2 unreadable rows in all: 1 where 'user_id' is empty, 1 where 'timestamp' is no time"
    with pytest.raises(ReadError, match=said):
        read(path)
    record = read(path, None, PrepareConfig(on_bad_row="drop"))
    assert record.frame.rows() == [("1", "2", 3), ("1", "3", 5)]
    assert record.dropped == {"unreadable_rows": 2}
    assert record.source["unreadable_rows"] == {
        "'user_id' is empty": 1,
        "'timestamp' is no time (epoch number or ISO 8601, as the others are)": 1,
    }
    hopeless = write_csv(tmp_path, "user_id,item_id,timestamp\n1,2,3x\n", "all.csv")
    with pytest.raises(DataError, match=r"none of the 1 rows .*1 where 'timestamp' is no time"):
        read(hopeless, None, PrepareConfig(on_bad_row="drop"))


def test_half_a_column_in_another_kind_of_time_is_never_dropped(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "user_id,item_id,timestamp\n1,2,1700000000\n1,3,2024-01-03\n")
    for on_bad_row in ("error", "drop"):
        with pytest.raises(ReadError, match=r"'timestamp' of .*rows.csv' mixes epoch numbers \(1 row\)"):
            read(path, None, PrepareConfig.model_validate({"on_bad_row": on_bad_row}))


@pytest.mark.parametrize(("stray", "time"), [("17", "2024-01-03"), ("2024-01-03", "1700000000")])
def test_one_time_in_a_hundred_of_another_kind_is_an_unreadable_row(tmp_path: Path, stray: str, time: str) -> None:
    rows = [f"{number},2,{stray if number == 50 else time}\n" for number in range(101)]
    path = write_csv(tmp_path, "user_id,item_id,timestamp\n" + "".join(rows))
    with pytest.raises(ReadError, match=rf"data row 51 of .* is '{stray}', no time \(epoch number or ISO 8601, as the"):
        read(path)
    record = read(path, None, PrepareConfig(on_bad_row="drop"))
    assert (len(record.frame), record.dropped) == (100, {"unreadable_rows": 1})


def test_items_without_titles_or_with_two(tmp_path: Path) -> None:
    rows = write_csv(tmp_path, as_text(","))
    with pytest.raises(ColumnError, match=r"items.csv' has no title column"):
        read(rows, write_csv(tmp_path, "item_id,brand\n7,x\n", "items.csv"))
    assert read(rows, tmp_path / "items.csv", PrepareConfig(missing_title="fallback")).items["title"].to_list() == [
        None
    ]
    twice = write_csv(tmp_path, "item_id,title\n7,Anchor\n7,Arrow\n8,Bridge\n8,Bridge\n", "twice.csv")
    with pytest.raises(DataError, match=r"1 items .* several titles, such as '7': 'Anchor' and 'Arrow'"):
        read(rows, twice)
    record = read(rows, twice, PrepareConfig(on_bad_row="drop"))
    assert record.items.rows() == [("7", "Anchor"), ("8", "Bridge")]
    assert record.dropped == {"repeated_item_rows": 2}


@pytest.mark.parametrize("rule", ["any", "readable"])
def test_an_item_that_is_listed_again_keeps_what_only_another_row_says(tmp_path: Path, rule: str) -> None:
    rows = write_csv(tmp_path, as_text(","))
    items = write_csv(tmp_path, 'item_id,title,brand\n7,,Acme\n8," ",\n7,Heat,Other\n8,Arrow,Bolt\n', "items.csv")
    record = read(rows, items, PrepareConfig.model_validate({"title_rule": rule}))
    assert record.items.rows() == [("7", "Heat", "Acme"), ("8", "Arrow", "Bolt")]
    assert record.dropped == {"repeated_item_rows": 2}


def test_titles_of_rows_are_those_that_are_written(tmp_path: Path) -> None:
    record = read(write_csv(tmp_path, 'user_id,item_id,timestamp,title\nu,7,1,""\nv,7,2,Heat\nw,7,3,\n'))
    assert record.items.rows() == [("7", "Heat")]


@pytest.mark.parametrize("rule", ["any", "readable", "d3"])
def test_items_whose_rows_have_several_titles_are_said_under_every_rule(tmp_path: Path, rule: str) -> None:
    rows = "user_id,item_id,timestamp,title\nu,7,1,Great value\nv,7,2,Broke at once\nw,8,3,Arrow\nw,8,4,Arrow\n"
    with pytest.raises(DataError, match=r"1 items .* several titles, such as '7': 'Great value' and 'Broke at once'"):
        read(write_csv(tmp_path, rows), None, PrepareConfig.model_validate({"title_rule": rule}))
    settings = PrepareConfig.model_validate({"title_rule": rule, "on_bad_row": "drop"})
    assert read(tmp_path / "rows.csv", None, settings).source["items_with_several_titles"] == 1
    assert read(tmp_path / "rows.csv", None, settings).items["title"][1] == "Arrow"


@pytest.mark.parametrize(
    "bad", ["hello", "null", "[1]", '{"user_id": "u", "item', '{"rating": NaN}', '{"user_id": "\\ud83d"}']
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_that_are_no_objects_stop_or_are_counted(tmp_path: Path, name: str, bad: str, mark: str) -> None:
    text = f"{mark}{as_json_lines()}\n{bad}\n{as_json_lines()}{bad}".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(ReadError, match=r"line 5 of|line 5 is '.*', no JSON object"):
        read(tmp_path / name)
    record = read(tmp_path / name, None, PrepareConfig(on_bad_row="drop"))
    assert record.frame.select("user_id", "item_id", "rating", "timestamp").rows() == ROWS * 2
    assert record.dropped == {"unreadable_lines": 2}


def test_json_lines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(as_json_lines(), encoding="utf-8-sig")
    assert len(read(tmp_path / "rows.jsonl").frame) == 3


def test_parts_of_parquet_in_a_folder_are_one_table(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, NAMES, orient="row")
    for name, part in (("rows", [frame[:2], frame[2:]]), ("items", [pl.DataFrame({"item_id": ["7"], "title": ["A"]})])):
        (tmp_path / name).mkdir()
        for place, piece in enumerate(part):
            piece.write_parquet(tmp_path / name / f"part-0000{place}-abc.snappy.parquet")
        for other in ("_SUCCESS", "._SUCCESS.crc", ".part-00000-abc.snappy.parquet.crc"):
            (tmp_path / name / other).write_text("")
    record = read(tmp_path / "rows", tmp_path / "items")
    assert record.frame.select("user_id", "item_id", "rating", "timestamp").rows() == ROWS
    assert record.items.rows() == [("7", "A")]
    files = record.source["interactions"]["files"]
    assert list(files) == ["part-00000-abc.snappy.parquet", "part-00001-abc.snappy.parquet"]
    frame.drop("rating").write_parquet(tmp_path / "rows" / "part-00002-abc.snappy.parquet")
    with pytest.raises(ReadError, match=r"the parts of .*rows' have different columns"):
        read(tmp_path / "rows")
    (tmp_path / "rows" / "notes.txt").write_text("")
    with pytest.raises(ReadError, match=r"is a folder with none as RecBole .inter files"):
        read(tmp_path / "rows")


@pytest.mark.parametrize("other", ["7.0", "1.5", "1e3"])
def test_ids_in_json_keep_their_digits_whatever_numbers_are_among_them(tmp_path: Path, other: str) -> None:
    users = ["9007199254740993", "9007199254740992", "7", other]
    rows = [f'{{"user_id": {user}, "item_id": 1, "timestamp": {time}}}' for time, user in enumerate(users)]
    record = read(write_csv(tmp_path, "\n".join(rows), "rows.jsonl"))
    assert record.frame["user_id"].to_list()[:3] == users[:3]
    few = read(write_csv(tmp_path, "\n".join(rows[2:]), "few.jsonl"))
    assert few.frame["user_id"].to_list() == ["7", {"7.0": "7", "1.5": "1.5", "1e3": "1000"}[other]]
