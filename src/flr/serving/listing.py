"""The catalogue as it is listed: what is recommended, page by page, searchable by title."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Generic, TypeVar

import polars as pl

from flr.live import LiveCatalogue
from flr.serving.contract import Item

T = TypeVar("T")


class PerCatalogue(Generic[T]):
    """Something known of what is recommended, made once per edit of the catalogue.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[LiveCatalogue], T]) -> None:
        self._make = make
        self._made: tuple[LiveCatalogue, T] | None = None

    def of(self, live: LiveCatalogue) -> T:
        made = self._made  # once: another thread may ask for that of a newer catalogue meanwhile
        if made is None or made[0] is not live:
            made = self._made = (live, self._make(live))
        return made[1]


class Listing:
    """Lists a catalogue; its titles are prepared once per edit of it."""

    def __init__(self) -> None:
        self._prepared = PerCatalogue(_prepared)

    def page(self, live: LiveCatalogue, search: str, offset: int, limit: int) -> tuple[int, list[Item]]:
        """Return how many titles hold a text, and some of them; those that begin with it come first."""
        found, sought = self._prepared.of(live), _folded(search)
        if sought:
            found = found.filter(pl.col("folded").str.contains(sought, literal=True))
            found = found.sort(~pl.col("folded").str.starts_with(sought), maintain_order=True)
        page = found.slice(offset, limit)
        attributes = live.catalogue.attributes
        rows = [{}] * len(page) if attributes is None else attributes[page["index"].to_list()].to_dicts()
        return len(found), [
            Item(
                item_id=item_id, title=title, attributes={key: value for key, value in row.items() if value is not None}
            )
            for item_id, title, row in zip(page["item_id"], page["title"], rows, strict=True)
        ]


def _prepared(live: LiveCatalogue) -> pl.DataFrame:
    """Return ``index``, ``item_id``, ``title`` and ``folded`` (see `_folded`) of what is recommended."""
    catalogue = live.catalogue
    frame = pl.DataFrame({"item_id": list(map(str, catalogue.item_ids)), "title": list(map(str, catalogue.titles))})
    folded = pl.Series("folded", [_folded(title) for title in frame["title"]], dtype=pl.String)
    frame = frame.with_row_index("index").with_columns(folded)
    return frame if catalogue.retired is None else frame.filter(~pl.Series(catalogue.retired))


def _folded(text: str) -> str:
    """Return a text as it is compared: composed, with single blanks, in no case.

    >>> _folded(" AME\u0301LIE  Straße "), _folded("ΟΔΥΣΣΕΥΣ")
    ('amélie strasse', 'οδυσσευσ')
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
