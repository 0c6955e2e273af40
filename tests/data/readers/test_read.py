"""The one door of all formats: what is written comes out again, damage is one clear error, and nothing gets lost."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import DataError, FlrError, ReadError
from flr.prepare_config import PrepareConfig
from flr.records import Interactions

Row = tuple[str, str, int]
#: Ids that text formats trip over, without what ends a field or a line in the oldest of them.
IDS = st.text(st.sampled_from("ab01\"'\\,;{}[]# é\N{GRINNING FACE}"), min_size=1, max_size=6).filter(
    lambda text: text == text.strip() and text not in {"'", '"'}
)
ROWS = st.lists(st.tuples(IDS, IDS, st.integers(0, 2_000_000_000)), min_size=1, max_size=20)
FORGIVING = PrepareConfig(on_bad_row="drop", missing_title="fallback")
#: One folder per test is enough: each example overwrites the files of the one before.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def json_lines(rows: list[Row], user: str, item: str, time: str, per_second: int = 1) -> str:
    return "".join(json.dumps({user: u, item: i, time: t * per_second}) + "\n" for u, i, t in rows)


def table(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")


def save_to_disk(rows: list[Row], path: Path) -> None:
    path.mkdir(exist_ok=True)
    table(rows).write_ipc_stream(path / "data.arrow")
    (path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')


def dat(rows: list[Row], separator: str) -> str:
    return "".join(separator.join((u, i, "3", str(t))) + "\n" for u, i, t in rows)


WRITERS: dict[str, tuple[str, Callable[[list[Row], Path], object]]] = {
    "csv": ("rows.csv", lambda rows, path: table(rows).write_csv(path)),
    "parquet": ("rows.parquet", lambda rows, path: table(rows).write_parquet(path)),
    "json lines": ("rows.jsonl", lambda rows, path: path.write_text(json_lines(rows, "user_id", "item_id", "time"))),
    "amazon 2018": (
        "A_5.json.gz",
        lambda rows, path: path.write_bytes(
            gzip.compress(json_lines(rows, "reviewerID", "asin", "unixReviewTime").encode())
        ),
    ),
    "amazon 2023": (
        "A.jsonl",
        lambda rows, path: path.write_text(json_lines(rows, "user_id", "parent_asin", "timestamp", 1000)),
    ),
    "movielens": ("ratings.dat", lambda rows, path: path.write_text(dat(rows, "::"), encoding="utf-8")),
    "movielens, 100K": ("u.data", lambda rows, path: path.write_text(dat(rows, "\t"), encoding="utf-8")),
    "hugging face": ("saved", save_to_disk),
}


@pytest.mark.parametrize("form", WRITERS)
@one_folder
@given(rows=ROWS)
def test_what_is_written_comes_out_in_its_order(tmp_path: Path, form: str, rows: list[Row]) -> None:
    name, write = WRITERS[form]
    # Milliseconds below 1973 look like seconds, which is said in `times`.
    rows = [(user, item, time + 200_000_000) for user, item, time in rows]
    write(rows, tmp_path / name)
    record = read(tmp_path / name)
    assert record.frame.select("user_id", "item_id", "timestamp").rows() == rows
    assert record.source["interactions"]["format"] == form.split(",", maxsplit=1)[0]
    assert record.dropped == {}


@one_folder
@given(rows=ROWS)
def test_lists_without_times_come_out_in_their_order(tmp_path: Path, rows: list[Row]) -> None:
    lists: dict[str, list[str]] = {}
    for user, item, _ in rows:
        lists.setdefault(user, []).append(item)
    (tmp_path / "X.inter.json").write_text(json.dumps(lists))
    frame = read(tmp_path).frame
    assert {u: f["item_id"].to_list() for (u,), f in frame.group_by(["user_id"], maintain_order=True)} == lists


@pytest.mark.parametrize(
    "form", [form for form in WRITERS if form not in ("csv", "parquet", "json lines", "hugging face")]
)
@one_folder
@given(rows=ROWS, places=st.lists(st.integers(0, 19), min_size=1, max_size=5))
def test_lines_that_are_none_are_all_counted(tmp_path: Path, form: str, rows: list[Row], places: list[int]) -> None:
    name, write = WRITERS[form]
    rows = [(user, item, time + 200_000_000) for user, item, time in rows]
    path = tmp_path / name
    write(rows, path)
    data = path.read_bytes()
    lines = (gzip.decompress(data) if name.endswith(".gz") else data).splitlines(keepends=True)
    for place in places:
        # Not before the first line, which tells the format.
        lines.insert(1 + place % len(lines), b"\xff\n" if place % 2 else b"no row\n")
    path.write_bytes(gzip.compress(b"".join(lines)) if name.endswith(".gz") else b"".join(lines))
    with pytest.raises(ReadError, match=r"line \d+ of "):
        read(path)
    record = read(path, None, FORGIVING)
    assert record.frame.select("user_id", "item_id", "timestamp").rows() == rows
    assert record.dropped == {"unreadable_lines": len(places)}


def damaged(data: bytes, seed: int) -> bytes:
    """Return bytes cut off, overwritten or repeated at places drawn from a seed."""
    draw = random.Random(seed)
    if not data or draw.random() < 0.3:
        return data[: draw.randrange(len(data) + 1)]
    spoilt = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(spoilt))
        piece = draw.choice([b"\xff", b"\x00", b"\n", b"\r", b'"', b"{", b"]", b",", b"\t", b"-", b"e9", b"\\ud83d"])
        spoilt[start : start + draw.randint(0, 3)] = piece
    return bytes(spoilt)


def specimens(shared_data: Path) -> Iterator[tuple[Path, Path]]:
    """Yield files of all real formats, and the folder that has to be read with each."""
    folder = shared_data / "raw-fixtures"
    for root in (folder / name for name in ("amazon2018", "lcrec/Industrial", "d3", "ml-1m", "recbole/ml-100k")):
        for file in sorted(root.rglob("*")):
            if file.is_file() and "2id" not in file.name:
                yield file, root


def test_damage_to_real_files_never_gets_through_as_anything_but_an_error_of_ours(
    shared_data: Path, tmp_path: Path
) -> None:
    n_refused = 0
    for file, root in specimens(shared_data):
        copies = {one: (tmp_path / one.relative_to(root)) for one in root.rglob("*") if one.is_file()}
        for one, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(one.read_bytes())
        for seed in range(12):
            copies[file].write_bytes(damaged(file.read_bytes(), seed))
            for config in (PrepareConfig(title_column="movie_title" if "recbole" in str(root) else None), FORGIVING):
                try:
                    record = read(tmp_path, None, config)
                except DataError as error:
                    assert len(str(error)) > 20
                    n_refused += 1
                else:
                    assert record.frame.select("user_id", "item_id", "timestamp").null_count().row(0) == (0, 0, 0)
        for copy in copies.values():
            copy.unlink()
    assert n_refused > 50


@pytest.mark.parametrize("form", WRITERS)
def test_damage_to_written_files_never_gets_through_as_anything_but_an_error_of_ours(tmp_path: Path, form: str) -> None:
    name, write = WRITERS[form]
    write([(f"u{i % 5}", f"i{i % 7}", 1_000_000_000 + i) for i in range(40)], tmp_path / name)
    path = tmp_path / name / "data.arrow" if form == "hugging face" else tmp_path / name
    data = path.read_bytes()
    for seed in range(60):
        path.write_bytes(damaged(data, seed))
        for config in (PrepareConfig(), FORGIVING):
            try:
                read(tmp_path / name, None, config)
            except DataError as error:
                assert len(str(error)) > 20


@one_folder
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.integers(-3, 12)), min_size=1, max_size=60
    ),
    split=st.sampled_from(["leave_one_out", "temporal"]),
    deduplicate=st.booleans(),
    least=st.integers(1, 3),
)
def test_rows_of_any_split_add_up_follow_time_and_keep_their_order(
    tmp_path: Path, rows: list[Row], split: str, deduplicate: bool, least: int
) -> None:
    config = PrepareConfig(
        split=split,
        deduplicate=deduplicate,
        min_user_interactions=least,
        min_item_interactions=least,
        missing_title="fallback",
    )
    table(rows).write_csv(tmp_path / "rows.csv")
    record = read(tmp_path / "rows.csv", None, config)
    try:
        prepared = prepare(record, config)
    except FlrError as error:
        assert any(words in str(error) for words in ("nothing is left", "three rows", "leaves none"))
        return
    sequences, counts = prepared.sequences, prepared.manifest["counts"]
    assert len(rows) == sequences.n_interactions + prepared.manifest["dropped"].get(
        "duplicate_rows", 0
    ) + prepared.manifest["dropped"].get("k_core_rows", 0)
    assert sequences.n_interactions == sum(counts[f"{part}_rows"] for part in ("context", "train", "valid", "test"))
    ids = prepared.items["item_id"].to_list()
    for user, (start, end) in enumerate(zip(sequences.offsets, sequences.offsets[1:], strict=False)):
        codes = [code for code in sequences.split[start:end].tolist() if code]
        assert codes == sorted(codes)
        mine = [
            (ids[item], time)
            for item, time in zip(sequences.item_index[start:end], sequences.timestamps[start:end], strict=True)
        ]
        assert mine == expected_order(record, str(sequences.user_ids[user]), mine)


def expected_order(record: Interactions, user: str, kept: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return a user's rows as a stable sort by time puts them, without those that a filter left out."""
    mine = [
        (item, time) for one, item, time in record.frame.select("user_id", "item_id", "timestamp").rows() if one == user
    ]
    left, found = list(kept), []
    for row in sorted(mine, key=lambda row: row[1]):
        if row in left:
            left.remove(row)
            found.append(row)
    return found
