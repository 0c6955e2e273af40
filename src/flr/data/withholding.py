"""Items that are kept from training, to be added later: what a cold start is measured on.

1. The split is made first, so it is the usual one. Then a share of the items, drawn evenly from all, is called cold.
2. Rows of cold items are dropped, except test rows: nobody in training or validation, as target or in a history, has
   heard of them.
3. Cold items come last in the items table, which is where `Recommender.add_items` puts them, so indices agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flr.errors import DataError
from flr.records import TEST, TRAIN, VALID, BoolArray, IntArray, UserSequences
from flr.seeding import generator


@dataclass(frozen=True)
class Withheld:
    """Data from which items were withheld.

    Attributes:
        sequences: Rows of warm items, and test rows of all items.
        items: Warm items, then cold ones.
        n_cold: Number of cold items.
        n_dropped: Rows that were left out.
    """

    sequences: UserSequences
    items: pl.DataFrame
    n_cold: int
    n_dropped: int


def withhold(sequences: UserSequences, items: pl.DataFrame, *, share: float, seed: int) -> Withheld:
    """Return the data with a share of the items withheld until they are tested.

    Args:
        sequences: Split rows.
        items: In the order of their index.
        share: Of the items that become cold, in (0, 1); at least one does.
        seed: Draws them.

    Raises:
        DataError: No item would stay warm, or nothing would be left to train on, to validate with or to test.
    """
    n_items = len(items)
    n_cold = max(1, round(share * n_items))
    if n_cold >= n_items:
        raise DataError(f"cold_items {share:g} withholds all {n_items} items; withhold fewer")
    cold = np.zeros(n_items, dtype=bool)
    cold[generator(seed, "cold items").choice(n_items, n_cold, replace=False)] = True
    order = np.argsort(cold, kind="stable")
    index_of = np.empty(n_items, dtype=np.int32)
    index_of[order] = np.arange(n_items, dtype=np.int32)
    is_cold = cold[sequences.item_index]
    kept = keep_rows(sequences, ~is_cold | (sequences.split == TEST), index_of[sequences.item_index], ~is_cold)
    _check_targets(kept, n_items - n_cold, share)
    return Withheld(kept, items[order], n_cold, sequences.n_interactions - kept.n_interactions)


def without_cold(sequences: UserSequences, n_warm: int) -> UserSequences:
    """Return the rows of the first n items, as if there were no others."""
    warm = sequences.item_index < n_warm
    return keep_rows(sequences, warm, sequences.item_index, warm)


def keep_rows(sequences: UserSequences, kept: BoolArray, item_index: IntArray, anchors: BoolArray) -> UserSequences:
    """Return some rows, of users with at least one anchor row.

    Args:
        sequences: All rows.
        kept: True at rows to keep, [n].
        item_index: Item of each row from now on, [n].
        anchors: True at rows that keep their user, [n].
    """
    of_row = sequences.users
    users = np.bincount(of_row[anchors], minlength=sequences.n_users) > 0
    kept = kept & users[of_row]
    counts = np.bincount(of_row[kept], minlength=sequences.n_users)[users]
    return UserSequences(
        user_ids=sequences.user_ids[users],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_index=item_index[kept],
        timestamps=sequences.timestamps[kept],
        split=sequences.split[kept],
    )


def _check_targets(sequences: UserSequences, n_warm: int, share: float) -> None:
    for split, name in ((TRAIN, "training"), (VALID, "validation")):
        if not len(sequences.targets(split)[1]):
            raise DataError(f"cold_items {share:g} leaves no {name} target; withhold fewer items")
    tested = sequences.item_index[sequences.targets(TEST)[1]]
    if not (tested >= n_warm).any():
        raise DataError(
            f"cold_items {share:g}: none of the {len(tested)} test targets is a cold item; withhold more items, or "
            "draw others with another cold_seed"
        )
