"""The catalogue as it is listed: what is recommended, page by page, searchable by title."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import polars as pl

from flr.live import LiveCatalogue
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
        page = found.slice(offset, limit)
        attributes = live.catalogue.attributes
        rows = [{}] * len(page) if attributes is None else attributes[page["index"].to_list()].to_dicts()
        return len(found), [
            Item(
                item_id=item_id,
                title=title,
                attributes={key: value for key, value in row.items() if not isinstance(value, bytes | None)},
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
    """Return a text as it is compared: its words with single blanks, in no case, without accents and punctuation.

    >>> _folded(" AME\u0301LIE:  Straße (2001)"), _folded("ΟΔΥΣΣΕΎΣ"), _folded("!!!")
    ('amelie strasse 2001', 'οδυσσευσ', '!!!')
    """
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(sign))
    words = " ".join(_BETWEEN_WORDS.sub(" ", plain).split())
    return words or " ".join(plain.split())
