"""MovieLens in the three layouts of GroupLens."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from flr.data.readers import read
from flr.data.readers.movielens import GENRES
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig

DROP = PrepareConfig(on_bad_row="drop")


def film(*genres: str) -> str:
    flags = "|".join("1" if genre in genres else "0" for genre in GENRES)
    return f"7|Misérables, Les (1995)|01-Jan-1995||http://example.org/a|{flags}\n"


def test_real_files_of_1m(shared_data: Path) -> None:
    folder = shared_data / "raw-fixtures"
    expected = json.loads((folder / "expected.json").read_text())["ml-1m"]
    for path in (folder / "ml-1m", folder / "ml-1m" / "ratings.dat"):
        record = read(path)
        assert len(record.frame) == expected["interactions"] == 1013
        assert record.frame["user_id"].n_unique() == expected["users"] == 50
        assert record.frame["item_id"].n_unique() == len(record.items) == expected["items"] == 581
        assert record.frame.row(0) == ("4", "3468", 978_294_008, 5.0)
        assert record.items.row(0) == ("1", "Toy Story (1995)", "Animation; Children's; Comedy")
        titles = record.items["title"].to_list()
        assert sum(not title.isascii() for title in titles) == expected["movies_with_non_ascii_title"] == 5
        assert not any("\N{REPLACEMENT CHARACTER}" in title for title in titles)
        assert record.source["interactions"]["format"] == "movielens"
        assert record.source["items"]["encoding"] == "latin-1"


def test_100k(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t7\t3\t881250949\r\n186\t7\t4\t891717742\n")
    (tmp_path / "u.item").write_bytes(film("Drama", "Musical").encode("latin-1"))
    record = read(tmp_path)
    assert record.frame.rows() == [("196", "7", 881_250_949, 3.0), ("186", "7", 891_717_742, 4.0)]
    assert record.items.rows() == [("7", "Misérables, Les (1995)", "Drama; Musical")]


def test_10m_is_utf8_and_titles_may_hold_colons(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::7::3.5::881250949\n")
    (tmp_path / "movies.dat").write_text("7::Amélie :: a tale (2001)::(no genres listed)\n", encoding="utf-8")
    record = read(tmp_path)
    assert record.items.rows() == [("7", "Amélie :: a tale (2001)", "(no genres listed)")]
    assert record.source["items"]["encoding"] == "utf-8"


@pytest.mark.parametrize("films", ["movies.csv", "movies.csv.gz"])
def test_gzipped_ratings_find_their_films(tmp_path: Path, films: str) -> None:
    text = "userId,movieId,rating,timestamp\n1,7,3.5,1112486027\n"
    (tmp_path / "ratings.csv.gz").write_bytes(gzip.compress(text.encode()))
    titles = b"movieId,title,genres\n7,Heat (1995),Crime|Drama\n"
    (tmp_path / films).write_bytes(gzip.compress(titles) if films.endswith(".gz") else titles)
    for path in (tmp_path, tmp_path / "ratings.csv.gz"):
        assert read(path).items.rows() == [("7", "Heat (1995)", "Crime; Drama")]


def test_20m_and_later(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\r\n1,7,3.5,1112486027\r\n")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n7,"American President, The (1995)",Comedy|Drama\n')
    for path in (tmp_path, tmp_path / "ratings.csv"):
        record = read(path)
        assert record.frame.rows() == [("1", "7", 1_112_486_027, 3.5)]
        assert record.items.rows() == [("7", "American President, The (1995)", "Comedy; Drama")]
        assert record.source["interactions"]["format"] == "movielens"


def test_a_csv_that_is_only_called_so_stays_a_csv(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user_id,item_id,timestamp\nu,i,3\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n7,x,y\n")
    record = read(tmp_path / "ratings.csv")
    assert record.source["interactions"]["format"] == "csv"
    assert record.source["items"] is None


BAD = {
    "u.data": ("1\t7\t3\n", r"line 2 of .*u.data' has 3 fields: '1\\t7\\t3'; expected user, item, rating and time"),
    "ratings.dat": ("1:7:3:4\n", r"line 2 of .*ratings.dat' has 1 fields: '1:7:3:4'; .*'::' between them"),
}


@pytest.mark.parametrize("name", BAD)
def test_lines_with_other_fields_stop_or_are_counted(tmp_path: Path, name: str) -> None:
    line, message = BAD[name]
    good = {"u.data": "1\t7\t3\t5\n", "ratings.dat": "1::7::3::5\n"}[name]
    (tmp_path / name).write_text(good + line + good)
    with pytest.raises(ReadError, match=message):
        read(tmp_path)
    record = read(tmp_path, None, DROP)
    assert (len(record.frame), record.dropped) == (2, {"unreadable_lines": 1})


@pytest.mark.parametrize(
    ("name", "line"), [("u.item", film()[:-2] + "x\n"), ("u.item", "7|x\n"), ("movies.dat", "7::x (1995)\n")]
)
def test_films_with_other_fields_stop_or_are_counted(tmp_path: Path, name: str, line: str) -> None:
    rows = {"u.item": ("u.data", "1\t8\t3\t5\n"), "movies.dat": ("ratings.dat", "1::8::3::5\n")}[name]
    (tmp_path / rows[0]).write_text(rows[1])
    (tmp_path / name).write_text(line)
    with pytest.raises(ReadError, match=rf"line 1 of .*{name}' is '7.*expected item, title and genres"):
        read(tmp_path)
    assert read(tmp_path, None, DROP).dropped == {"unreadable_lines": 1}
