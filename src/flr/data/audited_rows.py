"""What several findings look at, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from flr.data.findings import N_EXAMPLES
from flr.data.title_auditing import title_masks
from flr.records import ITEM_ID, TEST, TRAIN, BoolArray, IntArray, UserSequences

#: Examples are taken from this many rows at most.
_LOOKED_AT = 100_000


@dataclass(frozen=True)
class AuditedRows:
    """All rows, split, and the items they name.

    Attributes:
        sequences: All rows, split.
        items: ``item_id`` and ``title`` of all items, in the order of their index.
    """

    sequences: UserSequences
    items: pl.DataFrame

    @cached_property
    def follows(self) -> BoolArray:
        """True where the row before is of the same user."""
        follows = np.ones(self.sequences.n_interactions, dtype=np.bool_)
        follows[self.sequences.offsets[:-1]] = False
        return follows

    @cached_property
    def tied_with_previous(self) -> BoolArray:
        """True where the row before is of the same user and second; prepared folders know no finer times."""
        times = self.sequences.timestamps
        tied = self.follows.copy()
        tied[1:] &= times[1:] == times[:-1]
        return tied

    @cached_property
    def before_previous(self) -> BoolArray:
        """True where the time is earlier than that of the row before, of the same user."""
        times = self.sequences.timestamps
        backwards = self.follows.copy()
        backwards[1:] &= times[1:] < times[:-1]
        return backwards

    @cached_property
    def repeated(self) -> BoolArray:
        """True where the user took the same item before."""
        keys = self.sequences.users * max(len(self.items), 1) + self.sequences.item_index
        return ~pl.Series(keys).is_first_distinct().to_numpy()

    @cached_property
    def rows_per_user(self) -> IntArray:
        return np.diff(self.sequences.offsets)

    @cached_property
    def rows_per_item(self) -> IntArray:
        return np.bincount(self.sequences.item_index, minlength=len(self.items))

    @cached_property
    def last_train(self) -> IntArray:
        """Last train target of each user, -1 for none; training reads every row up to it, as target or history."""
        at = np.arange(self.sequences.n_interactions)
        return np.maximum.reduceat(np.where(self.sequences.split == TRAIN, at, -1), self.sequences.offsets[:-1])

    @cached_property
    def known_items(self) -> BoolArray:
        """True where training reads the item, [N]."""
        at = np.arange(self.sequences.n_interactions)
        read = self.sequences.item_index[at <= self.last_train[self.sequences.users]]
        return np.bincount(read, minlength=len(self.items)) > 0

    @cached_property
    def title_masks(self) -> dict[str, BoolArray]:
        return title_masks(self.items)

    @cached_property
    def test(self) -> IntArray:
        return self.targets(TEST)

    @cached_property
    def test_per_user(self) -> IntArray:
        return np.bincount(self.sequences.users[self.test], minlength=self.sequences.n_users)

    def targets(self, split: int) -> IntArray:
        """Return the rows of a split that have an earlier row of their user."""
        return np.flatnonzero((self.sequences.split == split) & self.follows)

    def some_users(self, rows: IntArray) -> list[str]:
        return [
            self.sequences.user_ids[user] for user in np.unique(self.sequences.users[rows[:_LOOKED_AT]])[:N_EXAMPLES]
        ]

    def some_items(self, index: IntArray) -> list[str]:
        return [self.items[ITEM_ID][int(item)] for item in np.unique(index[:_LOOKED_AT])[:N_EXAMPLES]]
