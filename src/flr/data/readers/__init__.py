"""Public file formats -> interactions; the format is recognised by the file's name and said in the record's source."""

from __future__ import annotations

from pathlib import Path

from flr.config import PrepareConfig
from flr.data.readers import delimited, recbole
from flr.data.readers.delimited import existing_file
from flr.errors import ReadError
from flr.records import Interactions


def read(interactions: Path, items: Path | None = None, settings: PrepareConfig | None = None) -> Interactions:
    """Return the interactions and items of raw files.

    Args:
        interactions: CSV, TSV or JSON lines (also ``.gz``), Parquet, a RecBole ``.inter`` file, or a folder that
            holds exactly one of these ``.inter`` files.
        items: Table of items in any of these formats. None takes the ``.item`` file beside a RecBole file, else
            the titles among the interactions, if there are any.
        settings: Column names, and what to do with unreadable rows; None means the defaults.

    Raises:
        ReadError: A file is missing, of no known format, damaged, or has unreadable rows.
        ColumnError: A column is missing, or no standard name is among the columns.
        DataError: There are no rows, or one item has several titles.
    """
    settings = settings or PrepareConfig()
    interactions = Path(interactions)
    if interactions.is_dir():
        interactions = _only_atomic_file(interactions)
    existing_file(interactions)
    items = None if items is None else Path(items)
    if recbole.recognises(interactions):
        return recbole.read(interactions, items, settings)
    return delimited.read(interactions, items, settings)


def _only_atomic_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ReadError(f"{str(folder)!r} is a folder with {names} as RecBole .inter files; name one file instead")
    return found[0]


__all__ = ["read"]
