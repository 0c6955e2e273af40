"""Which values of which attributes each item has, read off whatever columns its table brought along.

A column is an attribute if its values are shared: at most half as many as the items that have one. So genres, brands,
years and categories are, while identifiers, addresses, prices and descriptions are not. Text that lists several
values, as readers write it (``Drama|War``, ``Toys; Puzzles``, ``Action Sci-Fi``), is taken apart where that leaves at
most half as many values as there were texts.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from flr.records import ITEM_INDEX, Catalogue

ATTRIBUTE: Final = "attribute"
VALUE: Final = "value"
#: Separator -> most values per item, on average, that a text parted there may have; longer ones are prose.
_SEPARATORS: Final = {"|": 20, ";": 20, ",": 20, " ": 6}


def innermost(dtype: pl.DataType) -> pl.DataType:
    """Return what lists of a type hold, however deep; any other type is what it is."""
    while isinstance(dtype, pl.List | pl.Array):
        dtype = dtype.inner  # type: ignore[assignment]
    return dtype


def attribute_values(catalogue: Catalogue, n_ruling: int | None = None) -> pl.DataFrame:
    """Return one row per item and value it has: ``item_index`` (Int64), ``attribute``, ``value`` (String).

    Args:
        catalogue: Its items.
        n_ruling: The first items, which decide alone what is an attribute and where texts are parted; None: all.
    """
    schema = pl.Schema({ITEM_INDEX: pl.Int64, ATTRIBUTE: pl.String, VALUE: pl.String})
    if catalogue.attributes is None:
        return pl.DataFrame(schema=schema)
    parts = [_values(column, n_ruling or len(column)) for column in catalogue.attributes.iter_columns()]
    return pl.concat([pl.DataFrame(schema=schema), *(part.cast(schema) for part in parts if part is not None)])


def _values(column: pl.Series, n_ruling: int) -> pl.DataFrame | None:
    """Return the rows of one column, None if it is no attribute."""
    listed = _listed(column, n_ruling)
    if listed is None:
        return None
    rows = pl.DataFrame({ITEM_INDEX: pl.int_range(len(column), eager=True), VALUE: listed}).explode(VALUE)
    rows = rows.with_columns(pl.col(VALUE).str.strip_chars()).filter(pl.col(VALUE).str.len_chars() > 0).unique()
    ruling = rows.filter(pl.col(ITEM_INDEX) < n_ruling)
    if 2 * ruling[VALUE].n_unique() > ruling[ITEM_INDEX].n_unique():
        return None
    return rows.sort(ITEM_INDEX, VALUE).select(ITEM_INDEX, pl.lit(column.name).alias(ATTRIBUTE), VALUE)


def _listed(column: pl.Series, n_ruling: int) -> pl.Series | None:
    """Return the values of each item as a list of texts, None where the type holds no values to share."""
    kind = column.dtype
    if isinstance(kind, pl.List) and isinstance(kind.inner, pl.String | pl.Categorical | pl.Enum):
        return column.cast(pl.List(pl.String))
    if kind.is_integer() or isinstance(kind, pl.Boolean | pl.Categorical | pl.Enum):
        return column.cast(pl.String).reshape((-1, 1)).cast(pl.List(pl.String))
    if isinstance(kind, pl.String) and not _is_fractional(column[:n_ruling]):
        return _taken_apart(column, n_ruling)
    return None


def _is_fractional(column: pl.Series) -> bool:
    numbers = column.cast(pl.Float64, strict=False).drop_nulls()
    return 2 * len(numbers) > len(column.drop_nulls()) and bool((numbers % 1 != 0).any())


def _taken_apart(column: pl.Series, n_ruling: int) -> pl.Series:
    texts = column[:n_ruling].drop_nulls()
    for separator, most in _SEPARATORS.items():
        n_parts = texts.str.count_matches(separator, literal=True).mean()
        if not isinstance(n_parts, float) or not 0 < n_parts < most:
            continue
        distinct = texts.str.split(separator).explode().str.strip_chars().n_unique()
        if 2 * distinct <= texts.n_unique():
            return column.str.split(separator)
    return column.str.split("\0")
