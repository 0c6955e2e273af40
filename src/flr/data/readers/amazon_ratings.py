"""Amazon's ``ratings only`` files: CSV without a header -> interactions.

=======  =========================================  =====================
edition  named                                      columns
=======  =========================================  =====================
2014     ``ratings_Toys_and_Games.csv``             user, item, rating, time
2018     ``Toys_and_Games.csv``                     item, user, rating, time
=======  =========================================  =====================

The two differ in their first two columns, and which is which is read off the ids of the first line: those of
reviewers begin with ``A`` and those of items, ten characters long, do not. What tells nothing is refused. Such files
of 2023 have a header and are read like any table.

Source: https://nijianmo.github.io/amazon/ and https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

import polars as pl

from flr.data.readers import amazon
from flr.data.readers.formats import RawTable, about_file
from flr.data.readers.lines import shown
from flr.data.readers.text_tables import first_text_line, read_text_table
from flr.errors import ReadError
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_ID, RATING, TIMESTAMP, USER_ID

_USER: Final = re.compile(r"A[0-9A-Z]{9,24}")
_ITEM: Final = re.compile(r"[0-9B][0-9A-Z]{9}")
_RATING: Final = re.compile(r"[0-5](\.\d+)?")
_TIME: Final = re.compile(r"\d{9,10}")
_N_FIELDS: Final = 4


def recognises(path: Path) -> bool:
    """Return whether the first line of a ``.csv``, also gzipped, is four values: ids, a rating and a time."""
    return path.name.lower().removesuffix(".gz").endswith(".csv") and path.is_file() and _fields(path) is not None


def recognises_items(path: Path) -> bool:
    """Return False: these files tell nothing of items."""
    return False


def items_beside(path: Path) -> Path | None:
    """Return the metadata in the folder of the ratings: ``meta_Toys.json.gz`` for ``ratings_Toys.csv``."""
    category = path.name.removesuffix(".gz").removesuffix(".csv").removeprefix("ratings_")
    return amazon.metadata_of(path.parent, category)


def read_interactions(path: Path, settings: PrepareConfig) -> RawTable:
    """Return one row per rating, in file order.

    Raises:
        ReadError: The ids do not tell which column is the user's, or a line has not four fields and may not be
            dropped.
    """
    first, second = (_fields(path) or ["", ""])[:2]
    is_2014 = bool(_USER.fullmatch(first)) and bool(_ITEM.fullmatch(second))
    is_2018 = bool(_ITEM.fullmatch(first)) and bool(_USER.fullmatch(second))
    if is_2014 == is_2018:
        raise ReadError(
            f"{path.name!r} has no header, and its first line has the ids {shown(first)} and {shown(second)}; expected "
            "those of an Amazon reviewer (A...) and an item, in either order; write a header line with user_id, "
            "item_id, rating and timestamp in the order of the columns"
        )
    ids = (USER_ID, ITEM_ID) if is_2014 else (ITEM_ID, USER_ID)
    frame, dropped = read_text_table(path, ",", '"', on_bad_row=settings.on_bad_row, names=(*ids, RATING, TIMESTAMP))
    edition = "amazon 2014 ratings" if is_2014 else "amazon 2018 ratings"
    return RawTable(frame.select(pl.col(USER_ID, ITEM_ID, RATING, TIMESTAMP)), about_file(path, edition), dropped)


def read_items(path: Path, settings: PrepareConfig) -> RawTable:
    """Raise; see `recognises_items`."""
    raise ReadError(f"{str(path)!r} tells nothing of items; expected a table with item ids and titles")


def _fields(path: Path) -> list[str] | None:
    """Return the fields of the first line where they can be those of a rating."""
    try:
        fields = next(csv.reader([first_text_line(path)]), [])
    except csv.Error:
        return None
    if len(fields) != _N_FIELDS or not (_RATING.fullmatch(fields[2]) and _TIME.fullmatch(fields[3])):
        return None
    return fields
