"""Amazon's files read by the two roads of the reader: batches of plain objects, and each line by itself in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flr.data.readers import amazon
from flr.data.readers.batches import Batch, PlainObjects
from flr.data.readers.lines import numbered
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig


def _one_by_one(path: Path) -> Iterator[Batch]:
    for number, raw in numbered(path):
        yield Batch(number, raw)


class _NeverPlain(PlainObjects):
    def of_line(self, text: str) -> None:
        return None

    def of_batch(self, batch: Batch) -> None:
        return None


def outcome(path: Path, *, is_slow: bool = False, **values: Any) -> tuple[Any, ...] | str:
    """Return what reading a file gives (its columns, rows and counts of drops), or the error that it ends with."""
    read_objects = amazon.read_items if path.name.startswith("meta_") else amazon.read_interactions
    with ExitStack() as patches:
        if is_slow:
            patches.enter_context(patch.object(amazon, "batches", _one_by_one))
            patches.enter_context(patch.object(amazon, "PlainObjects", _NeverPlain))
        try:
            table = read_objects(path, PrepareConfig(**values))
        except ReadError as error:
            return str(error)
    return table.frame.columns, table.frame.rows(), table.dropped
