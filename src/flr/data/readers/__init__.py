"""Public file formats, and frames in memory -> interactions; the record's source says what was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

from flr.data.readers import amazon, amazon_ratings, delimited, hugging_face, latentr3, lcrec, movielens, recbole
from flr.data.readers.assembling import assemble
from flr.data.readers.delimited import existing_file
from flr.data.readers.formats import Format, RawTable
from flr.data.readers.lines import shown
from flr.errors import ColumnError, ReadError
from flr.prepare_config import PrepareConfig
from flr.records import Interactions

#: In the order they are asked; the last takes every file that no other one knows.
FORMATS: Final = tuple(
    cast(Format, one) for one in (recbole, lcrec, hugging_face, movielens, latentr3, amazon, amazon_ratings, delimited)
)
#: MovieLens' ``u.item`` ends like a file of RecBole's.
_ITEM_FORMATS: Final = (cast(Format, movielens), *FORMATS)


def read(interactions: Path, items: Path | None = None, settings: PrepareConfig | None = None) -> Interactions:
    """Return the interactions and items of raw files.

    Args:
        interactions: CSV, TSV or JSON lines (also ``.gz``), Parquet (also a folder of parts), or a file or folder of
            RecBole (``.inter``), Amazon reviews or ratings, MovieLens, LC-Rec (``.inter.json``), LatentR3, or Hugging
            Face's ``save_to_disk``. A folder must hold one data set.
        items: Items in any of these formats. None takes what the format usually has beside the interactions, else
            the titles among the interactions, if there are any.
        settings: Column names, and what to do with unreadable rows; None means the defaults.

    Raises:
        ReadError: A file is missing, of no known format, damaged, or has unreadable rows.
        ColumnError: A column is missing, or no standard name is among the columns.
        DataError: There are no rows, one item has several titles, or no item of the interactions is listed.
    """
    settings = settings or PrepareConfig()
    interactions = Path(interactions)
    form = _format(interactions)
    beside = form.items_beside(interactions)
    items = beside if items is None else Path(items)
    raw = _whole_characters(form.read_interactions, interactions, settings)
    listed = None if items is None else _whole_characters(_items_format(items).read_items, items, settings)
    answered = {name: column for name, column in raw.columns.items() if getattr(settings, name) is None}
    source = {"interactions": raw.about, "items": listed.about if listed else None}
    record = assemble(raw.frame, listed.frame if listed else None, settings.model_copy(update=answered), source)
    source = record.source | ({"time": raw.time} if raw.time else {})
    return replace(record, source=source, dropped=_sum(raw.dropped, listed.dropped if listed else {}, record.dropped))


def read_frames(rows: Any, items: Any = None, settings: PrepareConfig | None = None) -> Interactions:
    """Return the interactions and items that frames in memory hold, as `read` does for files.

    Columns are found by the settings or by standard names; ids of any type become texts, and times may be numbers,
    dates or texts.

    Args:
        rows: One row per interaction, a frame of polars or pandas, or what `polars.DataFrame` takes.
        items: One row per item, likewise; None takes the titles among the rows, if there are any.
        settings: Column names, and what to do with unreadable rows; None means the defaults.

    Raises:
        ReadError: Rows lack a user, an item or a readable time, and the settings do not say to drop them.
        ColumnError: What is given is no frame, a column is missing, or no standard name is among the columns.
        DataError: There are no rows, one item has several titles, or no item of the interactions is listed.
    """
    listed = None if items is None else _polars(items, "items")
    source = {"interactions": {"path": "rows"}, "items": None if listed is None else {"path": "items"}}
    return assemble(_polars(rows, "rows"), listed, settings or PrepareConfig(), source)


def _polars(given: Any, what: str) -> pl.DataFrame:
    """Return anybody's frame as one of polars, NaN of pandas as null."""
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    try:
        if type(given).__module__.partition(".")[0] != "pandas":
            return given if isinstance(given, pl.DataFrame) else pl.DataFrame(given)
        try:
            return pl.from_pandas(given)
        except ImportError:  # polars wants pyarrow for texts
            columns = {str(name): given[name].astype(object) for name in given.columns}
            return pl.DataFrame({name: cells.where(cells.notna(), None).to_list() for name, cells in columns.items()})
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
        raise ColumnError(f"{what}: got a {kind}, which makes no table ({error}); expected a frame") from error


def _whole_characters(
    reader: Callable[[Path, PrepareConfig], RawTable], path: Path, settings: PrepareConfig
) -> RawTable:
    """Return what a reader reads; JSON can write one half of a surrogate pair, which no table can hold."""
    try:
        return reader(path, settings)
    except UnicodeEncodeError as error:
        raise ReadError(
            f"{str(path)!r} has half of a character in {shown(error.object)}; expected whole ones; mend the file"
        ) from error


def _format(path: Path) -> Format:
    if not path.is_dir():
        existing_file(path)
    found = next((form for form in FORMATS if form.recognises(path)), None)
    if found is delimited and path.name.removesuffix(".gz").endswith(".json"):
        raise amazon.not_recognised(path)
    if found is None:
        raise ReadError(
            f"{str(path)!r} is a folder with {recbole.named_files(path)} as RecBole .inter files, and of no "
            "other known format; name one file instead"
        )
    return found


def _items_format(path: Path) -> Format:
    found = next((form for form in _ITEM_FORMATS if form.recognises_items(path)), None)
    if found is None:
        existing_file(path)
    return found or FORMATS[-1]


def _sum(*counts: dict[str, int]) -> dict[str, int]:
    return {name: sum(one.get(name, 0) for one in counts) for one in counts for name in one}


__all__ = ["read", "read_frames"]
