"""RecBole atomic files -> interactions: tab separated, with a header of ``name:type`` fields.

Source: https://recbole.io/atomic_files.html - types are ``token``, ``token_seq``, ``float`` and ``float_seq``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from flr.config import PrepareConfig
from flr.data.readers.assembling import assemble
from flr.data.readers.delimited import describe, read_table
from flr.errors import ReadError
from flr.records import Interactions

TYPES: Final = ("token", "token_seq", "float", "float_seq")


def recognises(path: Path) -> bool:
    """Return whether a file's name is that of an atomic file of interactions."""
    return path.suffix == ".inter"


def read(interactions: Path, items: Path | None, settings: PrepareConfig) -> Interactions:
    """Return the interactions of an ``.inter`` file, and the items of the given file or the ``.item`` beside it.

    See `flr.data.readers.read` for the arguments and errors.
    """
    beside = interactions.with_suffix(".item")
    if items is None and beside.is_file():
        items = beside
    table = None
    if items is not None:
        table = read_atomic(items) if items.suffix == ".item" else read_table(items)
    source = {"interactions": describe(interactions), "items": describe(items) if items else None}
    return assemble(read_atomic(interactions), table, settings, source)


def read_atomic(path: Path) -> pl.DataFrame:
    """Return the table of one atomic file, with the types taken off the names; all columns are strings.

    Raises:
        ReadError: The file is missing or damaged, or a header field is not ``name:type``.
    """
    table = read_table(path)
    names = {}
    for column in table.columns:
        name, _, kind = column.rpartition(":")
        if not name or kind not in TYPES:
            raise ReadError(
                f"the header of {str(path)!r} has the field {column!r}; expected name:type, of {', '.join(TYPES)}"
            )
        names[column] = name
    return table.rename(names)
