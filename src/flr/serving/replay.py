"""The edits of a journal, made again when a server starts; many of them as the few that come to the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from flr.errors import ArtifactError, FlrError, RequestError, StorageError
from flr.recommender import Recommender
from flr.records import Catalogue
from flr.serving.journal import Journal, Record, fingerprint

_LOG = logging.getLogger(__name__)
#: Edits from which on a journal is compacted when a server starts.
_MANY_EDITS = 100
#: Items of one record when a journal is compacted.
_PER_RECORD = 10_000
T = TypeVar("T")


def replayed(recommender: Recommender, path: Path) -> Journal:
    """Return an open journal whose edits have been made to a recommender, as saved, again.

    Raises:
        ArtifactError: An edit cannot be made again, or as `Journal`.
        StorageError: As `Journal`.
    """
    catalogue = recommender.catalogue
    journal = Journal(path, fingerprint(catalogue.item_ids, catalogue.titles))
    if len(journal.records) <= _MANY_EDITS or not _replayed_compacted(recommender, journal):
        _replay(recommender, journal.records, path)
    return journal


def _replayed_compacted(recommender: Recommender, journal: Journal) -> bool:
    """Make the edits again as few that come to the same, and return whether that can be done; if not, none is made."""
    before, records = recommender.snapshot, journal.records
    ids, retired = recommender.catalogue.item_ids, recommender.catalogue.retired
    net = net_records(records, frozenset(map(str, ids if retired is None else ids[~retired])))
    try:
        _replay(recommender, net, journal.path)
    except ArtifactError as error:
        recommender.restore(before)
        _LOG.warning("journal: not compacted, all %d edits are made again: %s", len(records), error)
        return False
    try:
        journal.compact(net)
    except StorageError as error:
        _LOG.warning("%s", error)
    else:
        _LOG.info("journal: compacted %d edits to %d", len(records), len(net))
    return True


def _replay(recommender: Recommender, records: Iterable[Record], path: Path) -> None:
    for number, record in enumerate(records, start=1):
        try:
            _make(recommender, record)
        except (FlrError, KeyError) as error:
            raise ArtifactError(f"edit {number} of the journal {str(path)!r} cannot be made again: {error}") from error


def _make(recommender: Recommender, record: Record) -> None:
    if record["op"] == "add":
        recommender.add_items(_as_taken(record["items"], recommender.catalogue))
    elif record["op"] == "remove":
        recommender.remove_items(record["item_ids"])
    else:
        raise RequestError(f"it is of the unknown kind {record['op']!r}")


def _as_taken(items: Iterable[Record], catalogue: Catalogue) -> list[Record]:
    """Return new items as they were taken: older journals hold fractions where the catalogue has whole numbers."""
    schema = {} if catalogue.attributes is None else catalogue.attributes.schema
    whole = {name for name, dtype in schema.items() if dtype.is_integer()}
    return [
        {
            name: int(value) if name in whole and isinstance(value, bool | float) else value
            for name, value in row.items()
        }
        for row in items
    ]


def net_records(records: Sequence[Record], listed: frozenset[str]) -> list[Record]:
    """Return few records that lead to the same catalogue.

    Args:
        records: Edits in their order.
        listed: Ids of the items that are recommended before them.

    >>> records = [
    ...     {"op": "add", "items": [{"item_id": "a"}, {"item_id": "b"}]},
    ...     {"op": "remove", "item_ids": ["a", "c"]},
    ... ]
    >>> net_records(records, frozenset({"c", "d"}))
    [{'op': 'add', 'items': [{'item_id': 'b'}]}, {'op': 'remove', 'item_ids': ['c']}]
    """
    last: dict[str, Record | None] = {}
    for record in records:
        for item in record.get("items", ()):
            last[item["item_id"]] = item
        for item_id in record.get("item_ids", ()):
            last[item_id] = None
    # New ones first, and those that came back; then what changed, of which some stay while others go; removals last.
    # So something is left at any time.
    new = [item for item_id, item in last.items() if item is not None and item_id not in listed]
    changed = [item for item_id, item in last.items() if item is not None and item_id in listed]
    gone = [item_id for item_id, item in last.items() if item is None and item_id in listed]
    net = [_added(part) for part in _parts(new)]
    for part in _parts(changed, most=len(listed) + len(new) - 1):
        net += [_removed([item["item_id"] for item in part]), _added(part)]
    return net + [_removed(part) for part in _parts(gone)]


def _added(items: list[Record]) -> Record:
    return {"op": "add", "items": items}


def _removed(item_ids: list[str]) -> Record:
    return {"op": "remove", "item_ids": item_ids}


def _parts(items: list[T], most: int = _PER_RECORD) -> Iterable[list[T]]:
    size = max(1, min(most, _PER_RECORD))
    return (items[start : start + size] for start in range(0, len(items), size))
