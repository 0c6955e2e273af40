"""Rows and titles of any kind, written in each format by its own writer, come out again or are refused by count."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.prepare_config import PrepareConfig

Row = tuple[str, str, int]
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=8)
HARD = st.sampled_from(
    ['"', '""', 'a"b', "a\tb", "a,b", "a\nb", "\N{GRINNING FACE}", " ", "'", "null", "NaN", "007", "x" * 10_000]
)
TEXT = st.one_of(HARD, ANY)
#: Numbers as small as these are seconds, as large as those milliseconds; both also before 1970.
SECONDS = st.integers(-2_000_000_000, 4_000_000_000)
MILLISECONDS = st.integers(10**11, 3 * 10**12) | st.integers(-2 * 10**12, -(10**11))
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def rows_at(times: st.SearchStrategy[int]) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(TEXT, TEXT, times), min_size=1, max_size=12)


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")


def objects(rows: list[Row], *names: str) -> str:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


WRITERS: dict[str, Callable[[list[Row], Path], object]] = {
    "rows.csv": lambda rows, path: frame(rows).write_csv(path, quote_style="non_numeric"),
    "rows.csv.gz": lambda rows, path: path.write_bytes(gzip.compress(frame(rows).write_csv().encode())),
    "rows.tsv": lambda rows, path: frame(rows).write_csv(path, separator="\t"),
    "rows.parquet": lambda rows, path: frame(rows).write_parquet(path),
    "rows.jsonl": lambda rows, path: path.write_text(objects(rows, "user_id", "item_id", "timestamp")),
    "A_5.json.gz": lambda rows, path: path.write_bytes(
        gzip.compress(objects(rows, "reviewerID", "asin", "unixReviewTime").encode())
    ),
    "A.jsonl": lambda rows, path: path.write_text(objects(rows, "user_id", "parent_asin", "timestamp")),
}


@pytest.mark.parametrize("name", WRITERS)
@one_folder
@given(rows=rows_at(SECONDS))
@example(rows=[("one", "item", -1), ("two", "item", 5), ("two", "item", 5)])
def test_rows_come_out_as_they_went_in(tmp_path: Path, name: str, rows: list[Row]) -> None:
    WRITERS[name](rows, tmp_path / name)
    record = read(tmp_path / name)
    assert record.frame.select("user_id", "item_id", "timestamp").rows() == rows
    assert record.dropped == {}


@pytest.mark.parametrize("name", WRITERS)
@one_folder
@given(rows=rows_at(MILLISECONDS))
def test_milliseconds_become_seconds_in_the_order_of_their_fractions(
    tmp_path: Path, name: str, rows: list[Row]
) -> None:
    WRITERS[name](rows, tmp_path / name)
    record = read(tmp_path / name)
    exact = all(time % 1000 == 0 for _, _, time in rows)
    expected = rows if exact else sorted(rows, key=lambda row: row[2])
    got = record.frame.select("user_id", "item_id", "timestamp").rows()
    assert got == [(user, item, time // 1000) for user, item, time in expected]


@pytest.mark.parametrize("name", ["items.csv", "items.tsv", "items.parquet", "items.jsonl", "meta_A.json.gz"])
@one_folder
@given(titles=st.dictionaries(TEXT, TEXT, min_size=1, max_size=8))
def test_titles_come_out_as_they_went_in(tmp_path: Path, name: str, titles: dict[str, str]) -> None:
    table = pl.DataFrame({"item_id": list(titles), "title": list(titles.values())})
    lines = objects([(item, title, 0) for item, title in titles.items()], "asin", "title", "n").encode()
    path = tmp_path / name
    if name == "items.parquet":
        table.write_parquet(path)
    elif name.endswith((".csv", ".tsv")):
        table.write_csv(path, separator="\t" if name.endswith(".tsv") else ",")
    else:
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    frame([("u", item, n) for n, item in enumerate(titles)]).write_parquet(tmp_path / "rows.parquet")
    record = read(tmp_path / "rows.parquet", path)
    assert dict(record.items.select("item_id", "title").iter_rows()) == titles


@one_folder
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), min_size=12, max_size=50),
    split=st.sampled_from(["leave_one_out", "temporal", "given"]),
    shuffle=st.randoms(use_true_random=False),
)
def test_where_times_differ_the_order_of_the_file_decides_nothing(
    tmp_path: Path, rows: list[tuple[str, str]], split: str, shuffle: object
) -> None:
    parts = ["train"] * (len(rows) - 6) + ["valid"] * 3 + ["test"] * 3
    timed = [(user, item, time, part) for time, ((user, item), part) in enumerate(zip(rows, parts, strict=True))]
    config = PrepareConfig.model_validate({"split": split, "missing_title": "fallback"})
    found = []
    for _ in range(2):
        path = tmp_path / "rows.csv"
        pl.DataFrame(timed, ["user_id", "item_id", "timestamp", "split"], orient="row").write_csv(path)
        if split == "leave_one_out" and max(sum(user == one for user, _ in rows) for one in "abcde") < 3:
            return
        data = prepare(read(path, None, config), config)
        sequences, ids = data.sequences, data.items["item_id"].to_list()
        found.append(
            {
                str(user): [
                    (ids[sequences.item_index[row]], int(sequences.timestamps[row]), int(sequences.split[row]))
                    for row in range(sequences.offsets[n], sequences.offsets[n + 1])
                ]
                for n, user in enumerate(sequences.user_ids)
            }
        )
        shuffle.shuffle(timed)  # type: ignore[attr-defined]
    assert found[0] == found[1]
    assert sum(map(len, found[0].values())) == len(rows)
