"""The edits of a journal, made again when a server starts; many of them as the few that come to the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flr.errors import ArtifactError, FlrError, RequestError
from flr.recommender import Recommender
from flr.serving.journal import Journal, Record, fingerprint

_LOG = logging.getLogger(__name__)
#: Edits from which on a journal is compacted when a server starts.
_MANY_EDITS = 100
#: Items of one record when a journal is compacted.
_PER_RECORD = 10_000


def replayed(recommender: Recommender, path: Path) -> Journal:
    """Return an open journal whose edits have been made to a recommender, as saved, again.

    Raises:
        ArtifactError: An edit cannot be made again, or as `Journal`.
        StorageError: As `Journal`, or it cannot be compacted.
    """
    catalogue = recommender.catalogue
    base = frozenset(map(str, catalogue.item_ids))
    journal = Journal(path, fingerprint(catalogue.item_ids, catalogue.titles))
    records = journal.records
    compacted = net_records(records, base) if len(records) > _MANY_EDITS else records
    for number, record in enumerate(compacted, start=1):
        _replay(recommender, record, f"edit {number} of the journal {str(path)!r}")
    if compacted is not records:
        journal.compact(compacted)
        _LOG.info("journal: compacted %d edits to %d", len(records), len(compacted))
    return journal


def _replay(recommender: Recommender, record: Mapping[str, Any], what: str) -> None:
    try:
        if record["op"] == "add":
            recommender.add_items(record["items"])
        elif record["op"] == "remove":
            recommender.remove_items(record["item_ids"])
        else:
            raise RequestError(f"it is of the unknown kind {record['op']!r}")
    except (FlrError, KeyError) as error:
        raise ArtifactError(f"{what} cannot be made again: {error}") from error


def net_records(records: Sequence[Record], base: frozenset[str]) -> list[Record]:
    """Return few records that lead to the same catalogue.

    Args:
        records: Edits in their order.
        base: Ids of the catalogue they are made to.

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
    fresh = [item for item_id, item in last.items() if item is not None and item_id not in base]
    gone = [item_id for item_id in last if item_id in base]
    again = [item for item_id, item in last.items() if item is not None and item_id in base]
    # New ones first, so that something is left while the others go.
    adds = [{"op": "add", "items": part} for part in _parts(fresh)]
    removes = [{"op": "remove", "item_ids": part} for part in _parts(gone)]
    return [*adds, *removes, *({"op": "add", "items": part} for part in _parts(again))]


def _parts(items: list[Any]) -> Iterable[list[Any]]:
    return (items[start : start + _PER_RECORD] for start in range(0, len(items), _PER_RECORD))
