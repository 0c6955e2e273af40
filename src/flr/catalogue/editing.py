"""Items that come and go: a catalogue and what changes in, another catalogue out; neither is ever changed itself.

1. An item keeps its index for good: new items are appended, removed ones stay as retired items. So histories, saved
   scores and evaluations that name items by index hold across edits.
2. A retired item is not recommended, and its title no longer takes part in the probabilities of the others; but a
   history that holds it can still be read.
3. An item that comes back under its old id gets its old index, with the title and attributes it comes with.
4. An edit is made whole or not at all, and what is wrong with it is said item by item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl

from flr.catalogue.attributes import innermost
from flr.catalogue.titles import catalogue_of, clean_titles
from flr.errors import ColumnError, DataError, nearest
from flr.records import ITEM_ID, ITEM_INDEX, TITLE, Catalogue, IntArray

#: Items whose problems are told in full.
_TOLD = 3

#: New items: a frame, or one mapping per item, with ``item_id``, ``title`` and attributes.
NewItems = pl.DataFrame | Iterable[Mapping[str, Any]]


def read_items(items: NewItems) -> pl.DataFrame:
    """Return new items as a frame with ``item_id`` (String), ``title`` (String, cleaned) and their attributes.

    Attributes of records whose values are not of one plain type are columns of objects: they become what the
    catalogue has value by value, so that an item never depends on those that it came with.

    Raises:
        ColumnError: There is no ``item_id`` or no ``title``.
        DataError: The items are no frame and no mappings, or an id or a title is missing or of the wrong type.
    """
    if isinstance(items, pl.DataFrame):
        frame = items
    else:
        records = list(items) if not isinstance(items, Mapping | str) else [items]
        for number, record in enumerate(records):
            if not isinstance(record, Mapping):
                raise DataError(f"item number {number} is {record!r}, expected a mapping with item_id and title")
        try:
            frame = _table(records)
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise DataError(f"the items cannot be read as a table: {error}; give every field one type") from error
    for name in (ITEM_ID, TITLE):
        if name not in frame.columns:
            raise ColumnError(f"the items have no {name!r}: {nearest(name, frame.columns)} (needed: item_id, title)")
    ids, raw = (_text(frame[name]) for name in (ITEM_ID, TITLE))
    titles = clean_titles(raw)
    problems = [f"item number {number} has no id" for number, item in enumerate(ids) if not item]
    problems += [
        f"item {item!r} has no readable title (got {given!r})"
        for item, given, title in zip(ids, raw, titles, strict=True)
        if item and not title
    ]
    _refuse(problems, "give every item an id and a title")
    attributes = frame.drop(ITEM_ID, TITLE, ITEM_INDEX, strict=False)
    return pl.DataFrame([ids.alias(ITEM_ID), pl.Series(TITLE, titles, dtype=pl.String), *attributes])


def with_items(catalogue: Catalogue, items: pl.DataFrame, index_of_id: Mapping[str, int]) -> tuple[Catalogue, IntArray]:
    """Return a catalogue that recommends new items too, and their indices in the order given.

    Args:
        catalogue: What is there.
        items: From `read_items`. Attributes they lack are null; of one that comes back, all are replaced.
        index_of_id: Index of each id of the catalogue, retired ones included.

    Raises:
        DataError: An id is given twice or is recommended already, or an attribute is of another type.
        ColumnError: An attribute is not one of the catalogue's.
    """
    ids = items[ITEM_ID].to_list()
    _check_new(catalogue, items, index_of_id)
    added = _attributes(catalogue, items)
    fresh = [item for item in ids if item not in index_of_id]
    index_of_fresh = {item: catalogue.n_items + place for place, item in enumerate(fresh)}
    index = np.array([index_of_fresh.get(item, index_of_id.get(item, -1)) for item in ids], dtype=np.int64)
    titles = [*catalogue.titles, *[""] * len(fresh)]
    retired = np.zeros(len(titles), dtype=bool)
    if catalogue.retired is not None:
        retired[: catalogue.n_items] = catalogue.retired
    retired[index] = False
    for place, title in zip(index, items[TITLE], strict=True):
        titles[place] = title
    attributes = None
    if catalogue.attributes is not None and added is not None:
        # Each item's row: its own, or the one it comes with.
        row = np.arange(len(titles))
        row[index] = catalogue.n_items + np.arange(len(ids))
        attributes = catalogue.attributes.vstack(added)[row].rechunk()
    return catalogue_of([*catalogue.item_ids, *fresh], titles, attributes, retired), index


def without_items(catalogue: Catalogue, index: IntArray) -> Catalogue:
    """Return a catalogue that does not recommend some items any more.

    Raises:
        DataError: Nothing would be left to recommend.
    """
    retired = np.zeros(catalogue.n_items, dtype=bool) if catalogue.retired is None else catalogue.retired.copy()
    retired[index] = True
    return catalogue_of(list(catalogue.item_ids), list(catalogue.titles), catalogue.attributes, retired)


def _check_new(catalogue: Catalogue, items: pl.DataFrame, index_of_id: Mapping[str, int]) -> None:
    problems, seen = [], set()
    for item in items[ITEM_ID]:
        index = index_of_id.get(item)
        if item in seen:
            problems.append(f"item {item!r} is given more than once")
        elif index is not None and (catalogue.retired is None or not catalogue.retired[index]):
            problems.append(f"item {item!r} is in the catalogue already, as {catalogue.titles[index]!r}")
        seen.add(item)
    _refuse(problems, "give each new item once; to change an item, remove it first")


def _attributes(catalogue: Catalogue, items: pl.DataFrame) -> pl.DataFrame | None:
    """Return the attributes of new items as the catalogue has them, one row each; None where it has none."""
    schema = {} if catalogue.attributes is None else catalogue.attributes.schema
    for name in items.drop(ITEM_ID, TITLE).columns:
        if name not in schema:
            holders = items.filter(pl.col(name).is_not_null())[ITEM_ID]
            hint = nearest(name, schema) if schema else "its items have none; leave it out"
            who = "no item" if holders.is_empty() else f"item {holders[0]!r}"
            raise ColumnError(f"{who} has {name!r}, which the catalogue's items have not: {hint}")
    columns = [_as_known(items, name, dtype) for name, dtype in schema.items()]
    return pl.DataFrame(columns) if columns else None


def _as_known(items: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    """Return an attribute of new items in the type the catalogue has it in."""
    if name not in items.columns:
        return pl.Series(name, [None] * len(items), dtype=dtype)
    given = items[name]
    if given.dtype == dtype:
        return given
    values = given.to_list()
    column, holds_whole = _cast(given, dtype), innermost(dtype).is_integer()
    lost = [
        place
        for place, (value, is_lost) in enumerate(zip(values, column.is_null(), strict=True))
        if value is not None and (is_lost or (holds_whole and _would_be_cut(value)))
    ]
    _refuse(
        [f"item {items[ITEM_ID][place]!r} has {name} = {values[place]!r}" for place in lost],
        f"the catalogue holds {name} as {dtype}",
    )
    return column


def _cast(given: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return values in another type, null where it has no such value."""
    if given.dtype == pl.Object:
        return pl.concat([_cast(_alone(given.name, value), dtype) for value in given], rechunk=True)
    with suppress(pl.exceptions.PolarsError):  # types that have nothing to do with each other
        column = given.cast(dtype, strict=False)
        if column.dtype == dtype:
            return column
    return pl.Series(given.name, [None] * len(given), dtype=dtype)


def _alone(name: str, value: Any) -> pl.Series:
    """Return a value in a column of its own, null where it is of several types itself."""
    with suppress(pl.exceptions.PolarsError, TypeError):
        return _column(name, [value])
    return pl.Series(name, [None])


def _would_be_cut(value: object) -> bool:
    """Return whether a whole number would be another value, which a cast does not say."""
    if isinstance(value, list):
        return any(map(_would_be_cut, value))
    return isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())


def _text(column: pl.Series) -> pl.Series:
    """Return ids or titles as text; whole numbers are ids too."""
    if column.dtype == pl.String or column.dtype.is_integer() or column.dtype == pl.Null:
        return column.cast(pl.String)
    example = f"{column.head(1).to_list()[0]!r} ({column.dtype})" if len(column) else str(column.dtype)
    raise DataError(f"{column.name} is {example}, expected text")


def _table(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return records as a frame; see `read_items`."""
    if not records:
        return pl.DataFrame(schema={ITEM_ID: pl.String, TITLE: pl.String})
    columns = []
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        kinds = {type(value) for value in values if value is not None}
        if name in (ITEM_ID, TITLE) or (len(kinds) <= 1 and kinds <= {str, int, float, bool}):
            columns.append(_column(name, values))
        else:
            columns.append(pl.Series(name, values, dtype=pl.Object))
    return pl.DataFrame(columns)


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    return pl.from_dicts([{name: value} for value in values], infer_schema_length=None)[name]


def _refuse(problems: Sequence[str], remedy: str) -> None:
    """Raise what is wrong with the first items, and how many more there are."""
    if problems:
        more = f" and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise DataError("; ".join(problems[:_TOLD]) + f"{more}: {remedy}")
