"""Exact repeats, and users and items with too few rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.data.filtering import deduplicate, k_core
from flr.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


def peel(pairs: list[tuple[int, int]], min_user: int, min_item: int) -> list[int]:
    """Return the rows of the k-core the slow way: take away one bad row at a time."""
    rows = list(range(len(pairs)))
    while True:
        for row in rows:
            user, item = pairs[row]
            if sum(pairs[r][0] == user for r in rows) < min_user or sum(pairs[r][1] == item for r in rows) < min_item:
                rows.remove(row)
                break
        else:
            return rows


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_what_peeling_leaves(pairs: list[tuple[int, int]], min_user: int, min_item: int) -> None:
    users, items = np.array(pairs).T
    expected = peel(pairs, min_user, min_item)
    if expected:
        kept = k_core(users, items, min_user=min_user, min_item=min_item)
        assert np.flatnonzero(kept).tolist() == expected
    else:
        with pytest.raises(DataError):
            k_core(users, items, min_user=min_user, min_item=min_item)


def test_dropping_goes_on_until_nothing_changes() -> None:
    users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 2])
    with pytest.raises(
        DataError, match=r"nothing is left of 5 rows by 3 users on 3 items with min_user_interactions=2"
    ):
        k_core(users, items, min_user=2, min_item=2)


def test_the_first_of_equal_rows_stays_in_place() -> None:
    frame = pl.DataFrame(
        {"user_index": [0, 1, 0, 0], "item_index": [1, 1, 1, 1], "timestamp": [5, 5, 5, 6], "rating": [1, 2, 3, 4]}
    )
    assert deduplicate(frame)["rating"].to_list() == [1, 2, 4]
