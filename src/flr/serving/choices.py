"""What filters can choose from: the attributes that items share, their values, and the ranges of numbers."""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.catalogue.attributes import ATTRIBUTE, VALUE, attribute_values, innermost
from flr.live import LiveCatalogue
from flr.records import BoolArray, Catalogue
from flr.serving.contract import Attribute, AttributeValue, Range
from flr.serving.listing import PerCatalogue


class AttributeChoices:
    """Counts the values of a catalogue's attributes, once per edit of it."""

    def __init__(self) -> None:
        self._counts, self._ranges = PerCatalogue(_counts), PerCatalogue(_ranges)

    def of(self, live: LiveCatalogue, limit: int) -> list[Attribute]:
        """Return the attributes that several items share or that are measures, in the order of the catalogue's columns.

        Args:
            live: The catalogue; removed items do not count.
            limit: Values per attribute at most: those of most items first, equally frequent ones in the order of text.
        """
        if live.catalogue.attributes is None:
            return []
        counts, ranges, found = self._counts.of(live), self._ranges.of(live), list[Attribute]()
        for name in live.catalogue.attributes.columns:
            values = counts.filter(pl.col(ATTRIBUTE) == name)
            best = values.head(limit).select(VALUE, "n_items").iter_rows()
            choices = [AttributeValue(value=value, n_items=n_items) for value, n_items in best]
            if choices or name in ranges:
                found.append(Attribute(name=name, n_values=len(values), values=choices, numbers=ranges.get(name)))
        return found


def _counts(live: LiveCatalogue) -> pl.DataFrame:
    """Return one row per attribute and value, with the number of items that are recommended and a filter finds by it.

    A filter takes texts apart where `attribute_values` may not, so what a filter finds is what counts.
    """
    catalogue, listed = live.catalogue, _listed(live.catalogue)
    distinct = attribute_values(catalogue).select(ATTRIBUTE, VALUE).unique(maintain_order=True)
    n_items = [int(listed[live.attributes.items(name, value)].sum()) for name, value in distinct.iter_rows()]
    counts = distinct.with_columns(n_items=pl.Series(n_items, dtype=pl.Int64)).filter(pl.col("n_items") > 0)
    return counts.sort("n_items", VALUE, descending=[True, False])


def _ranges(live: LiveCatalogue) -> dict[str, Range]:
    """Return the lowest and the highest of the attributes that are numbers for most items which have one.

    Whole numbers of which no two are the same are identifiers, and a number that all share leaves nothing to choose.
    """
    found, listed, attributes = dict[str, Range](), _listed(live.catalogue), live.catalogue.attributes
    for column in () if attributes is None else attributes.iter_columns():
        if not _may_hold_numbers(column.dtype):
            continue
        numbers, items = live.attributes.numbers(column.name)
        numbers = numbers[listed[items]]
        n_distinct, n_given = len(np.unique(numbers)), listed.sum() - column.filter(listed).null_count()
        is_identifier = n_distinct == len(numbers) and bool((numbers % 1 == 0).all())
        if 2 * len(numbers) > n_given and n_distinct > 1 and not is_identifier:
            found[column.name] = Range(min=float(numbers[0]), max=float(numbers[-1]))
    return found


def _may_hold_numbers(dtype: pl.DataType) -> bool:
    dtype = innermost(dtype)
    return dtype.is_numeric() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _listed(catalogue: Catalogue) -> BoolArray:
    """Return True at the items that are recommended, [N]."""
    return np.ones(catalogue.n_items, dtype=bool) if catalogue.retired is None else ~catalogue.retired
