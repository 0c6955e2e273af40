"""A catalogue that is being served: compiled, looked up and filtered together, replaced as a whole by each edit.

Everything here is immutable, so a request that holds one sees one catalogue from its beginning to its end, whatever
is added or removed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from flr.catalogue.editing import NewItems, read_items, with_items, without_items
from flr.catalogue.filters import AllowedItems, AttributeIndex, ItemFilter, each_filter
from flr.catalogue.lookup import ItemLookup
from flr.compiled import CompiledCatalogue
from flr.errors import RequestError
from flr.records import BoolArray, Catalogue, IntArray
from flr.text.tokenizer import TitleTokenizer

#: More tokens than any title has.
_UNCUT = 1_000_000
#: Makes a catalogue ready for the model, with what its predecessor had ready.
Compile = Callable[[Catalogue, CompiledCatalogue | None], CompiledCatalogue]


@dataclass(frozen=True)
class CatalogueEdit:
    """What came of adding items.

    Attributes:
        item_index: Index of each item, in the order given.
        notes: One sentence per item of which something should be known: a title that was cut, or one with tokens
            that the model has never met.
    """

    item_index: IntArray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiveCatalogue:
    """One state of a served catalogue.

    Attributes:
        compiled: Titles as tokens, the trie, the tables that score it.
        lookup: Finds items by id and title.
        attributes: Finds items by their attributes.
        compile: Makes a catalogue ready for the model.
        version: Edits that led here since the recommender was made.
    """

    compiled: CompiledCatalogue
    lookup: ItemLookup
    attributes: AttributeIndex
    compile: Compile
    version: int = 0

    @classmethod
    def of(cls, catalogue: Catalogue, compile: Compile, before: LiveCatalogue | None = None) -> LiveCatalogue:
        """Return a catalogue ready to be served, made anew or by an edit of the one before."""
        compiled = compile(catalogue, None if before is None else before.compiled)
        version = 0 if before is None else before.version + 1
        attributes = AttributeIndex(catalogue, None if before is None else before.attributes)
        return cls(compiled, ItemLookup(catalogue), attributes, compile, version)

    @property
    def catalogue(self) -> Catalogue:
        return self.compiled.catalogue

    @property
    def n_recommended(self) -> int:
        """Items that are recommended."""
        return self.catalogue.n_items - self.catalogue.n_retired

    def with_items(self, items: NewItems, notes_of: TitleNotes) -> tuple[LiveCatalogue, CatalogueEdit]:
        """Return the catalogue with new items, and what came of it; see `flr.catalogue.editing` for what is raised."""
        frame = read_items(items)
        if frame.is_empty():
            return self, CatalogueEdit(np.empty(0, dtype=np.int64))
        edited, index = with_items(self.catalogue, frame, self.lookup.index_of_id)
        after = self._edited(edited)
        return after, CatalogueEdit(index, tuple(notes_of(index, self.compiled, after.compiled)))

    def without_items(self, item_ids: Collection[str]) -> LiveCatalogue:
        """Return the catalogue without some items.

        Raises:
            UnknownItemError: No item has an id.
            RequestError: An item has been removed before.
            DataError: Nothing would be left.
        """
        index = self.lookup.indices(item_ids, "remove_items")
        gone = self.catalogue.retired
        for place in index if gone is not None else ():
            if gone[place]:  # type: ignore[index]
                raise RequestError(
                    f"item {str(self.catalogue.item_ids[place])!r} has been removed already; leave it out"
                )
        return self._edited(without_items(self.catalogue, index)) if len(index) else self

    def _edited(self, catalogue: Catalogue) -> LiveCatalogue:
        return LiveCatalogue.of(catalogue, self.compile, self)

    def allowed(
        self, filters: ItemFilter | Sequence[ItemFilter | None] | None, n_histories: int, *, unknown: str
    ) -> AllowedItems | None:
        """Return what each history may be recommended, None where all may be everything.

        Args:
            filters: One for all histories, or one each.
            n_histories: Their number.
            unknown: ``"skip"`` lets ids and values that no item has match nothing; ``"error"`` refuses them.

        Raises:
            RequestError: A filter is no `ItemFilter`, there is not one per history, or an attribute or value is
                unknown.
            UnknownItemError: An id is unknown.
        """
        if filters is None:
            return None
        distinct, of_row = each_filter(filters, n_histories)
        masks = np.array([self._mask(one, unknown == "skip") for one in distinct]).reshape(len(distinct), -1)
        return AllowedItems(masks, of_row)

    def _mask(self, one: ItemFilter | None, skips_unknown: bool) -> BoolArray:
        if one is None:
            return np.ones(self.catalogue.n_items, dtype=bool)
        mask = self.attributes.mask(one.where, skips_unknown=skips_unknown)
        if one.allow is not None:
            allowed = np.zeros(len(mask), dtype=bool)
            allowed[self.lookup.indices(one.allow, "allow", skips_unknown=skips_unknown)] = True
            mask &= allowed
        mask[self.lookup.indices(one.exclude, "exclude", skips_unknown=skips_unknown)] = False
        return mask


@dataclass(frozen=True)
class TitleNotes:
    """Says of new titles what should be known about them.

    Attributes:
        tokenizer: Turns them into tokens.
        max_tokens: Longer titles are cut.
        learns_tokens: Whether the model has met the tokens of its catalogue only (a compact backbone).
    """

    tokenizer: TitleTokenizer
    max_tokens: int
    learns_tokens: bool

    def __call__(self, index: IntArray, before: CompiledCatalogue, after: CompiledCatalogue) -> list[str]:
        """Return sentences about new items.

        Args:
            index: The items.
            before, after: The catalogue without them and with them.
        """
        catalogue, tokens = after.catalogue, after.template.titles
        is_new = ~np.isin(tokens.ids, before.template.titles.ids)
        leaves = catalogue.leaf[index]
        n_new = np.add.reduceat(is_new, tokens.offsets[:-1], dtype=np.int64)[leaves] * self.learns_tokens
        n_written = tokens.lengths[leaves]
        n_tokens, is_long = n_written.copy(), n_written >= self.max_tokens
        titles = [str(title) for title in catalogue.titles[index]]
        n_tokens[is_long] = self.tokenizer.encode_titles(
            [title for title, long in zip(titles, is_long, strict=True) if long], _UNCUT
        ).lengths
        notes = []
        for place in np.flatnonzero((n_written < n_tokens) | (n_new > 0)).tolist():
            about = f"item {str(catalogue.item_ids[index[place]])!r}: of the {n_tokens[place]} tokens of its title"
            if n_written[place] < n_tokens[place]:
                notes.append(f"{about} only the first {n_written[place] - 1} are written and read")
            if n_new[place]:
                notes.append(f"{about} {n_new[place]} are in no title before it, so the model has not learnt them")
        return notes
