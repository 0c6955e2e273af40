"""What the names in a request mean in one catalogue: ids and titles, of histories and of filters."""

from __future__ import annotations

from collections.abc import Sequence

from flr.catalogue.filters import Between, ItemFilter
from flr.errors import UnknownItemError
from flr.live import LiveCatalogue
from flr.serving.contract import Filters, Range, Wanted


def resolve(
    live: LiveCatalogue, histories: Sequence[Sequence[str]], by: str, unknown: str
) -> list[tuple[list[int], list[str]]]:
    """Return the indices of each history's items, and those that are skipped.

    Unlike `Recommender.resolve` it looks for no similar names, which takes long in a large catalogue, and looks every
    name up once: cleaning a title takes time too.
    """
    found = {item: live.lookup.find(item, by) for item in {item for history in histories for item in history}}
    resolved = []
    for number, history in enumerate(histories):
        skipped = [item for item in history if found[item] is None]
        if skipped and unknown == "error":
            raise UnknownItemError(
                f"history number {number}: no item has the {by} {skipped[0]!r}; see /v1/items, or say unknown='skip'"
            )
        resolved.append(([index for item in history if (index := found[item]) is not None], skipped))
    return resolved


def item_filter(live: LiveCatalogue, given: Filters | None, unknown: str) -> ItemFilter | None:
    """Return a filter of a request; ids that no item has are refused, like `resolve` without similar ones."""
    if given is None:
        return None
    for what, item_ids in (("allow", given.allow or ()), ("exclude", given.exclude)):
        for item_id in item_ids if unknown == "error" else ():
            if live.lookup.find(item_id, "id") is None:
                raise UnknownItemError(
                    f"filters.{what}: no item has the id {item_id!r}; see /v1/items, or say unknown='skip'"
                )
    where = {
        attribute: [Between(one.min, one.max) if isinstance(one, Range) else one for one in _listed(wanted)]
        for attribute, wanted in given.where.items()
    }
    return ItemFilter(given.allow, given.exclude, where)


def _listed(wanted: Wanted | list[Wanted]) -> list[Wanted]:
    return wanted if isinstance(wanted, list) else [wanted]


def is_retired(live: LiveCatalogue, item: int) -> bool:
    retired = live.catalogue.retired
    return retired is not None and bool(retired[item])
