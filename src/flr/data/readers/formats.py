"""What every reader gives: whether a path is of its format, and tables with their columns as in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import polars as pl

from flr.persistence import file_sha256
from flr.prepare_config import PrepareConfig

#: Column in which readers of formats without times, or with an order of their own, put the place within a user.
PLACE: Final = "pos"


@dataclass(frozen=True)
class RawTable:
    """A table as a format's reader found it.

    Attributes:
        frame: All columns that were read, under the names they have in the file or that the format gives them.
        about: What was read, for the manifest: path, format, checksums, and what else is worth knowing.
        dropped: Reason -> number of lines that made no row (only where the user allowed it).
        columns: Settings that the format answers, such as ``{"order_column": "pos"}``; the user's own go first.
        time: What the times are, where they are not what they look like; None: see `flr.data.readers.times`.
    """

    frame: pl.DataFrame
    about: dict[str, Any]
    dropped: dict[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None


class Format(Protocol):
    """A module that reads one public format."""

    def recognises(self, path: Path) -> bool:
        """Return whether a file or folder holds interactions in this format."""

    def read_interactions(self, path: Path, settings: PrepareConfig) -> RawTable:
        """Return one row per interaction."""

    def items_beside(self, path: Path) -> Path | None:
        """Return where the items of these interactions usually lie, if something is there."""

    def recognises_items(self, path: Path) -> bool:
        """Return whether a file or folder holds items in this format."""

    def read_items(self, path: Path, settings: PrepareConfig) -> RawTable:
        """Return one row per item."""


def about_file(path: Path, form: str) -> dict[str, Any]:
    """Return what a manifest says about one file."""
    return {"path": str(path), "format": form, "sha256": file_sha256(path)}


def about_files(path: Path, form: str, files: list[Path]) -> dict[str, Any]:
    """Return what a manifest says about a folder of which some files were read."""
    return {"path": str(path), "format": form, "files": {str(one.relative_to(path)): file_sha256(one) for one in files}}
