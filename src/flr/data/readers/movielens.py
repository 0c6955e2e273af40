"""MovieLens as GroupLens publishes it -> interactions and films.

=============  =====================================================  ==========================================
edition        ratings                                                films
=============  =====================================================  ==========================================
100K           ``u.data``: user, item, rating, time; tabs, no header  ``u.item``: ``|``, 19 columns of genres
1M, 10M        ``ratings.dat``: the same four, ``::``, no header      ``movies.dat``: item, title, genres; ``::``
20M and later  ``ratings.csv`` with a header                          ``movies.csv`` with a header
=============  =====================================================  ==========================================

Titles keep their year, as in "Toy Story (1995)"; genres become the attribute `category`, joined by ``; ``. Films
of 100K and 1M are in Latin-1, those of 10M in UTF-8: what is no UTF-8 is read as Latin-1, and the manifest says so.

Source: https://grouplens.org/datasets/movielens/
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from flr.data.readers.formats import RawTable, about_file
from flr.data.readers.lines import Lines, Rows, numbered, shown
from flr.data.readers.text_tables import read_text_table
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_ID, RATING, TIMESTAMP, TITLE, USER_ID

#: File of ratings -> file of films.
FILES: Final = {"u.data": "u.item", "ratings.dat": "movies.dat", "ratings.csv": "movies.csv"}
_SEPARATORS: Final = {"u.data": "\t", "ratings.dat": "::", "u.item": "|", "movies.dat": "::"}
_RATING: Final = (USER_ID, ITEM_ID, RATING, TIMESTAMP)
_CSV_HEADERS: Final = {"ratings.csv": b"userId,movieId,rating,timestamp", "movies.csv": b"movieId,title,genres"}
_CSV_NAMES: Final = {"userId": USER_ID, "movieId": ITEM_ID}
#: The columns of genres in ``u.item``, in their order.
GENRES: Final = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_CATEGORY: Final = "category"


def recognises(path: Path) -> bool:
    """Return whether a file is called as GroupLens' are (a CSV also has their header), or a folder holds one."""
    file = _ratings(path)
    return file is not None and _is_original(file)


def recognises_items(path: Path) -> bool:
    """Return whether a file of films is called as GroupLens' are; a CSV also has their header."""
    return _name(path) in FILES.values() and _is_original(path)


def items_beside(path: Path) -> Path | None:
    """Return the file of films in the folder of the ratings."""
    file = _ratings(path) or path
    return _first_of(file.parent, [FILES[_name(file)]])


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per rating, in file order.

    Raises:
        ReadError: The file is damaged, or a line has not four fields and may not be dropped.
    """
    file = _ratings(path) or path
    if _name(file) in _CSV_HEADERS:
        frame, dropped = _csv(file, settings)
        return RawTable(frame, about_file(file, "movielens"), dropped)
    separator = _SEPARATORS[_name(file)]
    lines, rows = Lines(file, on_bad_row=settings.on_bad_row), Rows(_RATING)
    for number, text in lines:
        fields = text.split(separator)
        if len(fields) == len(_RATING):
            rows.add(tuple(field or None for field in fields))
        else:
            expected = f"user, item, rating and time with {separator!r} between them"
            lines.refuse(number, f"has {len(fields)} fields: {shown(text)}", expected)
    return RawTable(rows.frame(), about_file(file, "movielens"), lines.dropped)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per film: id, title, category.

    Raises:
        ReadError: The file is damaged, or a line has too few fields and may not be dropped.
    """
    if _name(path) in _CSV_HEADERS:
        genres = pl.col("genres").str.replace_all("|", "; ", literal=True).alias(_CATEGORY)
        frame, dropped = _csv(path, settings)
        return RawTable(frame.with_columns(genres).drop("genres"), about_file(path, "movielens films"), dropped)
    encoding = _encoding(path)
    lines, rows = Lines(path, on_bad_row=settings.on_bad_row, encoding=encoding), Rows((ITEM_ID, TITLE, _CATEGORY))
    parse = _film_of_100k if _name(path) == "u.item" else _film
    for number, text in lines:
        film = parse(text)
        if film is None:
            expected = "item, title and genres with " + repr(_SEPARATORS[_name(path)]) + " between them"
            lines.refuse(number, f"is {shown(text)}", expected)
        else:
            rows.add(film)
    return RawTable(rows.frame(), about_file(path, "movielens films") | {"encoding": encoding}, lines.dropped)


def _film(text: str) -> tuple[str | None, ...] | None:
    # A title may hold colons of its own, so what stands outside is taken off first.
    item, first, rest = text.partition("::")
    title, last, genres = rest.rpartition("::")
    return (item or None, title or None, genres.replace("|", "; ") or None) if first and last else None


def _film_of_100k(text: str) -> tuple[str | None, ...] | None:
    fields = text.split("|")
    flags = fields[-len(GENRES) :]
    if len(fields) != 5 + len(GENRES) or not set(flags) <= {"0", "1"}:
        return None
    genres = "; ".join(genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1")
    return fields[0] or None, fields[1] or None, genres or None


def _encoding(path: Path) -> str:
    for _, raw in numbered(path):
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _csv(path: Path, settings: PrepareConfig) -> tuple[pl.DataFrame, dict[str, int]]:
    try:
        frame, dropped = read_text_table(path, ",", '"', on_bad_row=settings.on_bad_row)
        return frame.rename(_CSV_NAMES, strict=False), dropped
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ReadError(f"cannot read {str(path)!r} as movielens: {reason}; mend the file or fetch it again") from error


def _ratings(path: Path) -> Path | None:
    if path.is_dir():
        return _first_of(path, list(FILES))
    return path if _name(path) in FILES else None


def _first_of(folder: Path, names: list[str]) -> Path | None:
    """Return the first of some files that is in a folder, plain or gzipped."""
    candidates = (folder / f"{name}{end}" for name in names for end in ("", ".gz"))
    return next((one for one in candidates if one.is_file()), None)


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _is_original(path: Path) -> bool:
    if not path.is_file():
        return False
    first = next((line.removeprefix(b"\xef\xbb\xbf") for _, line in numbered(path)), b"")
    # A data set of RecBole's that is called "u" has a header with types.
    return first == _CSV_HEADERS[_name(path)] if _name(path) in _CSV_HEADERS else b":token" not in first
