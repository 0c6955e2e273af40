"""What filters can choose from: the attributes that items share, and their values."""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.explanation.attributes import ATTRIBUTE, VALUE, attribute_values
from flr.live import LiveCatalogue
from flr.records import ITEM_INDEX, Catalogue
from flr.serving.contract import Attribute, AttributeValue


class AttributeChoices:
    """Counts the values of a catalogue's attributes, once per edit of it."""

    def __init__(self) -> None:
        self._counted: tuple[LiveCatalogue, pl.DataFrame] | None = None

    def of(self, live: LiveCatalogue, limit: int) -> list[Attribute]:
        """Return the attributes that several items share, in the order of the catalogue's columns.

        Args:
            live: The catalogue; removed items do not count.
            limit: Values per attribute at most: those of most items first, equally frequent ones in the order of text.
        """
        if self._counted is None or self._counted[0] is not live:
            self._counted = (live, _counts(live.catalogue))
        counts = self._counted[1]
        found = []
        for name in counts[ATTRIBUTE].unique(maintain_order=True):
            values = counts.filter(pl.col(ATTRIBUTE) == name)
            best = values.head(limit).select(VALUE, "n_items").iter_rows()
            choices = [AttributeValue(value=value, n_items=n_items) for value, n_items in best]
            found.append(Attribute(name=name, n_values=len(values), values=choices))
        return found


def _counts(catalogue: Catalogue) -> pl.DataFrame:
    """Return one row per attribute and value, with the number of items that are recommended and have it."""
    rows = attribute_values(catalogue)
    if catalogue.retired is not None:
        listed = np.logical_not(catalogue.retired)[rows[ITEM_INDEX].to_numpy()]
        rows = rows.filter(pl.Series(listed, dtype=pl.Boolean))
    columns = [] if catalogue.attributes is None else catalogue.attributes.columns
    place = {name: number for number, name in enumerate(columns)}
    counts = rows.group_by(ATTRIBUTE, VALUE).agg(n_items=pl.len())
    order = pl.col(ATTRIBUTE).replace_strict(place, return_dtype=pl.Int64, default=0)
    return counts.sort(order, "n_items", VALUE, descending=[False, True, False])
