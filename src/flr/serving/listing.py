"""The catalogue as it is listed: what is recommended, page by page, searchable by title."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import polars as pl

from flr.live import LiveCatalogue
from flr.records import Catalogue
from flr.serving.contract import Item

T = TypeVar("T")
#: What parts words of a title beside blanks; an apostrophe does not.
_BETWEEN_WORDS: Final = re.compile(r"[^\w\s'’]+")


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
        """Return how many titles hold all words of a text, and some of them.

        Those that begin with the text come first, as whole words before as parts of them, then those that hold it.
        """
        found, sought = self._prepared.of(live), _folded(search)
        if sought:
            found = found.filter(pl.col("folded").str.contains(word, literal=True) for word in sought.split())
            folded = pl.col("folded") + " "
            places = (
                folded.str.starts_with(f"{sought} "),
                folded.str.starts_with(sought),
                folded.str.contains(sought, literal=True),
            )
            found = found.sort([~place for place in places], maintain_order=True)
        return len(found), _items(live.catalogue, found.slice(offset, limit)["index"].to_list())


def items_of(live: LiveCatalogue, item_ids: Sequence[str]) -> list[Item]:
    """Return the items that ids name, in their order, those that are recommended no longer among them."""
    return _items(live.catalogue, live.lookup.indices(item_ids, "item_id", skips_unknown=True).tolist())


def _items(catalogue: Catalogue, index: list[int]) -> list[Item]:
    """Return items as they are listed."""
    rows = [{}] * len(index) if catalogue.attributes is None else catalogue.attributes[index].to_dicts()
    return [
        Item(
            item_id=str(catalogue.item_ids[one]),
            title=str(catalogue.titles[one]),
            attributes={key: value for key, value in row.items() if not isinstance(value, bytes | None)},
            is_removed=catalogue.retired is not None and bool(catalogue.retired[one]),
        )
        for one, row in zip(index, rows, strict=True)
    ]


def _prepared(live: LiveCatalogue) -> pl.DataFrame:
    """Return ``index`` and ``folded``, the title (see `_folded`), of what is recommended."""
    catalogue = live.catalogue
    folded = pl.Series("folded", [_folded(str(title)) for title in catalogue.titles], dtype=pl.String)
    frame = folded.to_frame().with_row_index("index")
    return frame if catalogue.retired is None else frame.filter(~pl.Series(catalogue.retired))


def _folded(text: str) -> str:
    """Return a text as it is compared: its words with single blanks, in no case, without accents and punctuation.

    >>> _folded(" AME\u0301LIE:  Straße (2001)"), _folded("ΟΔΥΣΣΕΎΣ"), _folded("!!!")
    ('amelie strasse 2001', 'οδυσσευσ', '!!!')
    """
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(sign))
    words = " ".join(_BETWEEN_WORDS.sub(" ", plain).split())
    return words or " ".join(plain.split())
