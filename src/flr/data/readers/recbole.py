"""RecBole atomic files -> interactions: tab separated, with a header of ``name:type`` fields, plain or gzipped.

Source: https://recbole.io/atomic_files.html - types are ``token``, ``token_seq``, ``float`` and ``float_seq``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import polars as pl

from flr.data.readers.delimited import read_table
from flr.data.readers.formats import RawTable, about_file
from flr.data.readers.text_tables import check_names
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig

TYPES: Final = ("token", "token_seq", "float", "float_seq")


def recognises(path: Path) -> bool:
    """Return whether a file's name is that of atomic interactions, or a folder holds exactly one such file."""
    return _is_called(_file(path), ".inter")


def recognises_items(path: Path) -> bool:
    """Return whether a file's name is that of atomic items."""
    return _is_called(path, ".item")


def items_beside(path: Path) -> Path | None:
    """Return the ``.item`` file of the same name."""
    file = _file(path)
    stem = file.name.removesuffix(".gz").removesuffix(".inter")
    candidates = [file.with_name(f"{stem}.item{end}") for end in ("", ".gz")]
    return next((one for one in candidates if one.is_file()), None)


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of an ``.inter`` file; see `read_atomic`."""
    file = _file(path)
    frame, dropped = read_atomic(file, settings.on_bad_row)
    return RawTable(frame, about_file(file, "recbole"), dropped)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Return the table of an ``.item`` file; see `read_atomic`."""
    frame, dropped = read_atomic(path, settings.on_bad_row)
    return RawTable(frame, about_file(path, "recbole"), dropped)


def named_files(folder: Path) -> str:
    """Return the names of the files of interactions in a folder, for messages."""
    return ", ".join(path.name for path in _files(folder)) or "none"


def read_atomic(path: Path, on_bad_row: Literal["error", "drop"] = "error") -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the table of one atomic file, with the types taken off the names, and the numbers left out.

    Raises:
        ReadError: The file is missing or damaged, or a header field is not ``name:type``.
        ColumnError: Two columns have one name.
    """
    table, dropped = read_table(path, on_bad_row)
    names = {}
    for column in table.columns:
        name, _, kind = column.rpartition(":")
        if not name or kind not in TYPES:
            raise ReadError(
                f"the header of {str(path)!r} has the field {column!r}; expected name:type, of {', '.join(TYPES)}"
            )
        names[column] = name
    check_names(path, list(names.values()))
    return table.rename(names), dropped


def _file(path: Path) -> Path:
    found = _files(path) if path.is_dir() else []
    return found[0] if len(found) == 1 else path


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if _is_called(one, ".inter"))


def _is_called(path: Path, suffix: str) -> bool:
    return path.name.removesuffix(".gz").endswith(suffix)
