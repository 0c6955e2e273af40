"""D3 and LatentR3: the rows that are given come out of the prepared data again, one for one."""

from __future__ import annotations

import ast
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig
from flr.records import SPLITS

GIVEN = PrepareConfig(split="given", order_column="pos", missing_title="fallback")
HEADER = "user_id,history_item_id,item_id,history_timestamp,timestamp,history_rating,rating"


def write(folder: Path, **parts: list[str]) -> Path:
    for part, rows in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        name = "X.txt" if part == "info" else "X.csv"
        (folder / part / name).write_text("\n".join(rows if part == "info" else [HEADER, *rows]) + "\n")
    return folder


def row(user: str, history: list[int], target: int) -> str:
    """Return a line in which item i was taken at time 100 + i."""
    times, ratings = [100 + item for item in history], [5.0] * len(history)
    return f'{user},"{history}",{target},"{times}",{100 + target},"{ratings}",4.0'


def test_every_real_row_comes_out_again(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["d3"]
    record = read(folder / "d3", None, GIVEN)
    assert len(record.frame) == expected["interactions"] == 304
    assert record.frame["user_id"].n_unique() == expected["users"] == 50
    assert len(record.items) == expected["items"] == 116
    assert record.items.row(0) == ("0", "inFAMOUS: Second Son Standard Edition (PlayStation 4)")
    about = record.source["interactions"]
    assert (about["format"], about["histories_with_unseen_items"]) == ("latentr3", 0)
    assert sorted(about["files"]) == [
        f"{part}/Video_Games_5_2015-10-2018-11.csv" for part in ("test", "train", "valid")
    ]

    prepared = prepare(record, GIVEN)
    sequences, ids = prepared.sequences, prepared.items["item_id"].to_list()
    got, window = [], about["longest_history"]
    for code, part in enumerate(SPLITS[1:], 1):
        for user, target in zip(*sequences.targets(code), strict=True):
            start = max(sequences.offsets[user], target - window)
            history = [int(ids[item]) for item in sequences.item_index[start:target]]
            times = sequences.timestamps[start:target].tolist()
            item, time = ids[sequences.item_index[target]], int(sequences.timestamps[target])
            got.append((part, sequences.user_ids[user], history, times, int(item), time))
    given = []
    for part in SPLITS[1:]:
        with (folder / "d3" / part / "Video_Games_5_2015-10-2018-11.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == expected["rows"][part]
        for line in lines:
            history, times = (ast.literal_eval(line[name]) for name in ("history_item_id", "history_timestamp"))
            given.append((part, line["user_id"], history, times, int(line["item_id"]), int(line["timestamp"])))
    assert sorted(got) == sorted(given)


def test_official_rows_of_a_whole_data_set_are_linked(shared_data: Path, tmp_path: Path) -> None:
    """The raw rows of 300 real users with up to 306 items, cut into windows of ten and linked again."""
    raw = pl.read_parquet(shared_data / "cds2015" / "interactions_raw.parquet").sort("user_id", "pos")
    users = raw.group_by("user_id").len().sort("len", "user_id", descending=True)["user_id"]
    raw = raw.filter(pl.col("user_id").is_in(users[:300].to_list()))
    lines: list[tuple[int, str, str]] = []
    for (user,), mine in raw.group_by(["user_id"], maintain_order=True):
        items, times = mine["item_id"].cast(pl.Int64).to_list(), mine["timestamp"].to_list()
        for place, (part, number) in enumerate(zip(mine["split"], mine["row"], strict=True)):
            past = slice(max(0, place - 10), place)
            text = f'{user},"{items[past]}",{items[place]},"{times[past]}",{times[place]},,5.0'
            lines += [(number, part, text)] if part != "context" else []
    lines.sort()
    write(tmp_path, **{part: [text for _, one, text in lines if one == part] for part in ("train", "valid", "test")})
    record = read(tmp_path, None, GIVEN)
    assert record.source["interactions"]["longest_history"] == 10
    assert record.source["interactions"]["histories_with_unseen_items"] == 0
    columns = ["user_id", "item_id", "timestamp", "split"]
    assert record.frame.sort("user_id", "order").select(columns).equals(raw.select(columns))


def test_a_file_stands_for_its_folder_and_the_note_says_what_is_left_aside(tmp_path: Path) -> None:
    write(tmp_path, train=[row("u", [1], 2)], test=[row("u", [1, 2], 3)], info=["Anchor, the\t1", "A\tB\t2"])
    record = read(tmp_path / "test" / "X.csv", None, GIVEN)
    assert record.frame.select("item_id", "timestamp", "rating", "split", "order").rows() == [
        ("1", 101, 5.0, "context", 0),
        ("2", 102, 4.0, "train", 1),
        ("3", 103, 4.0, "test", 2),
    ]
    assert record.items.rows() == [("1", "Anchor, the"), ("2", "A\tB")]
    assert "note" not in record.source["interactions"]
    assert "keep it with --split given" in read(tmp_path).source["interactions"]["note"]


def test_rows_of_one_time_may_stand_in_any_order(tmp_path: Path) -> None:
    write(tmp_path, train=[row("u", [1, 2], 3), row("u", [1, 2, 3], 4), row("u", [1], 2)])
    assert read(tmp_path, None, GIVEN).frame["item_id"].to_list() == ["1", "2", "3", "4"]


def test_a_sample_of_rows_keeps_its_histories(tmp_path: Path) -> None:
    write(tmp_path, train=[row("u", [1], 2)], test=[row("u", [1, 2, 3, 4], 5)])
    record = read(tmp_path, None, GIVEN)
    assert record.frame.select("item_id", "split").rows() == [
        ("1", "context"),
        ("2", "train"),
        ("3", "context"),
        ("4", "context"),
        ("5", "test"),
    ]
    assert record.source["interactions"]["histories_with_unseen_items"] == 1
    assert record.source["interactions"]["note"].startswith("1 histories hold items that no earlier row brought")
    assert np.array_equal(prepare(record, GIVEN).sequences.split, [0, 1, 0, 0, 3])


BAD = {
    "contradiction": (
        [row("u", [1], 2), row("u", [1, 7, 2], 3)],
        r"data row 2 of .*X.csv' gives user 'u' the history \['1', '7', '2'\], but .* make \['1', '2'\]; expected",
    ),
    "no list": (
        [row("u", [1], 2).replace("[1]", "1", 1)],
        r"'history_item_id' in data row 1 .* is '1'; expected a list",
    ),
    "code": (
        [row("u", [1], 2).replace("[1]", "[open(1)]", 1)],
        r"'history_item_id' in data row 1 .* is '\[open\(1\)\]'",
    ),
    "lengths": (
        [row("u", [1, 3], 2).replace("[101, 103]", "[101]")],
        r"data row 1 .* 2 items, 1 times and 2 ratings; expected equal",
    ),
    "no item": ([row("u", [1], 2).replace(",2,", ",,")], r"data row 1 of .* lacks a user, an item or a time"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD.keys())
def test_damage_is_said(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(ReadError, match=message):
        read(write(tmp_path, train=rows), None, GIVEN)


def test_other_columns_other_names_and_bad_titles_are_said(tmp_path: Path) -> None:
    write(tmp_path, train=[row("u", [1], 2)], info=["Anchor 1"])
    with pytest.raises(ReadError, match=r"line 1 of .*X.txt' is 'Anchor 1'; expected title, tab and item id"):
        read(tmp_path, None, GIVEN)
    shutil.copy(tmp_path / "train" / "X.csv", tmp_path / "train" / "Y.csv")
    with pytest.raises(ReadError, match=r"has files called X, Y; name one of them, such as train/X.csv"):
        read(tmp_path, None, GIVEN)
    (tmp_path / "train" / "Y.csv").write_text("user_id,history_item_id,item_id\n1,[2],3\n")
    with pytest.raises(
        ColumnError, match=r"Y.csv' has no column 'timestamp'; it has user_id, history_item_id, item_id"
    ):
        read(tmp_path / "train" / "Y.csv", None, GIVEN)
