"""Ids and titles as people write them -> item indices."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from flr.arguments import check_choice, check_histories, check_item, check_list
from flr.catalogue.titles import clean_title
from flr.errors import RequestError, UnknownItemError, nearest
from flr.records import Catalogue, Histories, IntArray

#: In larger catalogues the nearest name is not looked for: it would take seconds.
_MOST_COMPARED = 200_000


class ItemLookup:
    """Finds items by id or title, retired ones too; a title that several items share finds one that is not retired.

    Args:
        catalogue: Its items.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.index_of_id = {item_id: index for index, item_id in enumerate(catalogue.item_ids)}
        order: IntArray = np.arange(catalogue.n_items)
        if catalogue.retired is not None:
            order = np.argsort(catalogue.retired, kind="stable")
        # The first item of each title is the one that is found, so it is written last.
        self._index_of_title = {catalogue.titles[index]: int(index) for index in order[::-1]}

    def histories(
        self,
        histories: Sequence[Sequence[str]],
        *,
        by: str,
        unknown: str,
        keeps_skipped: bool = False,
        keeps_empty: bool = False,
    ) -> Histories:
        """Return histories as item indices; see `flr.Recommender.recommend` for arguments and what is raised.

        Args:
            histories, by, unknown: As there.
            keeps_skipped: Return a history of unknown items only without any, instead of raising.
            keeps_empty: Return one that is empty as it is.
        """
        check_choice(by, "by", ("id", "title"))
        check_choice(unknown, "unknown", ("error", "skip"))
        check_histories(histories)
        rows: list[list[int]] = []
        for number, history in enumerate(histories):
            for item in history:
                check_item(item, by, f"history number {number}: ")
            found = [self.find(item, by) for item in history]
            if unknown == "error" and None in found:
                raise self._unknown(str(history[found.index(None)]), by, f"history number {number}: ")
            known = [item for item in found if item is not None]
            if not known and not (keeps_skipped if len(history) else keeps_empty):
                what = "is empty" if not len(history) else "holds unknown items only"
                raise RequestError(f"history number {number} {what}; give at least one known item")
            rows.append(known)
        return Histories.of(rows)

    def unknown(self, history: Sequence[str], by: str) -> list[str]:
        """Return the items of a history that are not in the catalogue, in its order."""
        return [item for item in history if self.find(item, by) is None]

    def find(self, item: str, by: str) -> int | None:
        """Return the index of an item, or None."""
        if by == "id":
            return self.index_of_id.get(item)
        found = self._index_of_title.get(item)
        return self._index_of_title.get(clean_title(item)) if found is None else found

    def index(self, item: str, *, by: str) -> int:
        """Return the index of an item.

        Raises:
            UnknownItemError: No item has the id or title.
            RequestError: It is no text, or `by` is neither of the two.
        """
        check_choice(by, "by", ("id", "title"))
        check_item(item, by)
        found = self.find(item, by)
        if found is None:
            raise self._unknown(item, by)
        return found

    def indices(self, item_ids: Collection[str], what: str, *, skips_unknown: bool = False) -> IntArray:
        """Return the indices of ids.

        Args:
            item_ids: The ids.
            what: What they are, for messages.
            skips_unknown: Leave out ids that no item has.

        Raises:
            UnknownItemError: No item has an id.
            RequestError: The ids are no list, such as one text.
        """
        check_list(item_ids, what)
        index = []
        for item_id in item_ids:
            found = self.index_of_id.get(str(item_id))
            if found is None and not skips_unknown:
                raise UnknownItemError(f"{what}: no item has the id {str(item_id)!r}; {self._hint(str(item_id), 'id')}")
            if found is not None:
                index.append(found)
        return np.array(index, dtype=np.int64)

    def _unknown(self, item: str, by: str, where: str = "") -> UnknownItemError:
        other = "title" if by == "id" else "id"
        hint = self._hint(item, by) if self.find(item, other) is None else f"it is the {other} of one"
        return UnknownItemError(f"{where}no item has the {by} {item!r}; {hint}", other)

    def _hint(self, item: str, by: str) -> str:
        known = self.index_of_id if by == "id" else self._index_of_title
        return nearest(item, list(known)) if len(known) < _MOST_COMPARED else "check the spelling"
