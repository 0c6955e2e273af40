"""Rows that are left out on purpose: exact repeats, and users and items with too few rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.errors import DataError
from flr.records import FINER, ITEM_INDEX, TIMESTAMP, USER_INDEX, BoolArray, IntArray


def deduplicate(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the first of all rows with equal user, item and time, as fine as it is known, in file order."""
    time = FINER if FINER in frame.columns else TIMESTAMP
    return frame.unique([USER_INDEX, ITEM_INDEX, time], keep="first", maintain_order=True)


def k_core(users: IntArray, items: IntArray, *, min_user: int, min_item: int) -> BoolArray:
    """Return which rows are left when users and items with too few rows are dropped until there are none.

    Dropping an item shortens users and the other way round, so both are repeated until nothing changes; the
    result is the largest set of rows in which every user and every item has enough.

    Args:
        users: User of each row, [n] non-negative integers.
        items: Item of each row, [n] non-negative integers.
        min_user: Rows that a user must have.
        min_item: Rows that an item must have.

    Returns:
        True at the rows that stay, [n].

    Raises:
        DataError: Nothing is left.

    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), min_user=2, min_item=2).tolist()
    [True, True, True, True, False]
    """
    kept = np.ones(len(users), dtype=np.bool_)
    n_kept = -1
    while n_kept != (n_kept := int(kept.sum())):
        enough_users = np.bincount(users[kept], minlength=users.max(initial=0) + 1) >= min_user
        enough_items = np.bincount(items[kept], minlength=items.max(initial=0) + 1) >= min_item
        kept &= enough_users[users] & enough_items[items]
    if n_kept == 0:
        raise DataError(
            f"nothing is left of {len(users)} rows by {len(np.unique(users))} users on {len(np.unique(items))} items "
            f"with min_user_interactions={min_user} and min_item_interactions={min_item}; lower them"
        )
    return kept
