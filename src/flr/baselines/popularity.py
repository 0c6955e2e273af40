"""The most popular items, for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from flr.evaluation.metrics import training_counts
from flr.records import FloatArray, Histories, IntArray, UserSequences


@dataclass(frozen=True)
class Popularity:
    """Scores an item by how often it was taken: ``p(y) = (count(y) + 1) / (sum of counts + N)``.

    The added one keeps every log-probability finite; it changes no order.

    Attributes:
        counts: Context and training interactions of each item, [N].
    """

    name: ClassVar[str] = "popularity"

    counts: IntArray

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int) -> Self:
        """Count the items of context and training rows; held-out rows are never counted."""
        return cls(training_counts(sequences, n_items))

    @property
    def probabilities(self) -> FloatArray:
        """p(y), [N] float64; sums to 1."""
        smoothed: FloatArray = (self.counts + 1) / (self.counts.sum() + len(self.counts))
        return smoothed

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y)`` for every history, [B, N] float64; the rows are one read-only view.

        >>> log_probs = Popularity(np.array([2, 0])).score(Histories(np.array([0]), np.array([0, 1])))
        >>> np.exp(log_probs).round(2)
        array([[0.75, 0.25]])
        """
        return np.broadcast_to(np.log(self.probabilities), (len(histories), len(self.counts)))


@dataclass(frozen=True)
class PopularityOfUsers(Popularity):
    """Scores an item by how many people took it: whoever took it again counts once.

    Attributes:
        counts: Users with a context or training row of each item, [N].
    """

    name: ClassVar[str] = "popularity-of-users"

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int) -> Self:
        """Count the users of the rows that training sees."""
        return cls(np.bincount(takers(sequences)[0], minlength=n_items))


def takers(sequences: UserSequences) -> tuple[IntArray, IntArray]:
    """Return who took what in the rows that training sees, once each: items, ascending, and users, [n] each."""
    seen = sequences.is_seen
    taken = sequences.item_index[seen].astype(np.int64) * max(sequences.n_users, 1)
    pairs = np.unique(taken + sequences.users[seen])
    items, users = np.divmod(pairs, max(sequences.n_users, 1))
    return items, users
