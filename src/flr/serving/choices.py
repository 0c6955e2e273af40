"""What filters can choose from: the attributes that items share, and their values."""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.catalogue.attributes import ATTRIBUTE, VALUE, attribute_values
from flr.live import LiveCatalogue
from flr.serving.contract import Attribute, AttributeValue
from flr.serving.listing import PerCatalogue


class AttributeChoices:
    """Counts the values of a catalogue's attributes, once per edit of it."""

    def __init__(self) -> None:
        self._counts = PerCatalogue(_counts)

    def of(self, live: LiveCatalogue, limit: int) -> list[Attribute]:
        """Return the attributes that several items share, in the order of the catalogue's columns.

        Args:
            live: The catalogue; removed items do not count.
            limit: Values per attribute at most: those of most items first, equally frequent ones in the order of text.
        """
        counts = self._counts.of(live)
        found = []
        for name in counts[ATTRIBUTE].unique(maintain_order=True):
            values = counts.filter(pl.col(ATTRIBUTE) == name)
            best = values.head(limit).select(VALUE, "n_items").iter_rows()
            choices = [AttributeValue(value=value, n_items=n_items) for value, n_items in best]
            found.append(Attribute(name=name, n_values=len(values), values=choices))
        return found


def _counts(live: LiveCatalogue) -> pl.DataFrame:
    """Return one row per attribute and value, with the number of items that are recommended and a filter finds by it.

    A filter takes texts apart where `attribute_values` may not, so what a filter finds is what counts.
    """
    catalogue = live.catalogue
    listed = np.ones(catalogue.n_items, dtype=bool) if catalogue.retired is None else ~catalogue.retired
    distinct = attribute_values(catalogue).select(ATTRIBUTE, VALUE).unique(maintain_order=True)
    n_items = [int(listed[live.attributes.items(name, value)].sum()) for name, value in distinct.iter_rows()]
    counts = distinct.with_columns(n_items=pl.Series(n_items, dtype=pl.Int64)).filter(pl.col("n_items") > 0)
    columns = [] if catalogue.attributes is None else catalogue.attributes.columns
    order = pl.col(ATTRIBUTE).replace_strict({name: place for place, name in enumerate(columns)}, default=0)
    return counts.sort(order, "n_items", VALUE, descending=[False, True, False])
