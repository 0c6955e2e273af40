"""What others took next: recommenders that count neighbours in histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from flr.baselines.popularity import Popularity
from flr.records import TRAIN, FloatArray, Histories, IntArray, UserSequences

#: Share of popularity in the mixture: below 1e6 interactions an item it orders items of equal count, and no others.
BACK_OFF: Final = 1e-6


@dataclass(frozen=True)
class LastItemMarkov:
    """Scores an item by how often it directly followed the last item x of the history.

    ``p(y | x) = (1 - eps) * count(x, y) / sum_y' count(x, y') + eps * popularity(y)``

    With eps = `BACK_OFF` popularity only breaks ties. A history that is empty, or whose last item was never followed
    by another, falls back to popularity alone. Counts are kept as compressed sparse rows.

    Attributes:
        popularity: The back-off.
        offsets: Followers of item x are ``followers[offsets[x]:offsets[x + 1]]``, [N + 1] int64.
        followers: Item indices, ascending within each x, [n_pairs] int64.
        shares: ``count(x, y) / sum_y' count(x, y')`` of each pair, [n_pairs] float64.
    """

    name: ClassVar[str] = "last-item-markov"

    popularity: Popularity
    offsets: IntArray
    followers: IntArray
    shares: FloatArray

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int) -> LastItemMarkov:
        """Count consecutive pairs whose second row is a training row and whose first is training or context."""
        pairs, counts = np.unique(_consecutive_pairs(sequences, n_items), return_counts=True)
        first, followers = np.divmod(pairs, n_items)
        totals = np.bincount(first, weights=counts, minlength=n_items)
        offsets = np.searchsorted(first, np.arange(n_items + 1)).astype(np.int64)
        return cls(Popularity.fit(sequences, n_items), offsets, followers, counts / totals[first])

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y | last item)``, [B, N] float64; exponentials of a row sum to 1."""
        last = _last_items(histories, len(self.offsets) - 1)
        starts = np.where(last >= 0, self.offsets[last], 0)
        lengths = np.where(last >= 0, self.offsets[last + 1] - starts, 0)
        back_off = np.where(lengths > 0, BACK_OFF, 1.0)
        probabilities = back_off[:, None] * self.popularity.probabilities
        rows = np.repeat(np.arange(len(last)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.repeat(starts, lengths) + within
        probabilities[rows, self.followers[places]] += (1 - BACK_OFF) * self.shares[places]
        return np.log(probabilities, out=probabilities)


def _consecutive_pairs(sequences: UserSequences, n_items: int) -> IntArray:
    """Return ``first * N + second`` of every counted pair, int64."""
    split, items = sequences.split, sequences.item_index.astype(np.int64)
    same_user = sequences.users[1:] == sequences.users[:-1]
    counted = same_user & (split[1:] == TRAIN) & sequences.is_seen[:-1]
    pairs: IntArray = items[:-1][counted] * n_items + items[1:][counted]
    return pairs


def _last_items(histories: Histories, n_items: int) -> IntArray:
    """Return the last item of each history, -1 where it is empty or the item is not in the catalogue."""
    last = np.full(len(histories), -1, dtype=np.int64)
    known = histories.lengths > 0
    last[known] = histories.item_index[histories.offsets[1:][known] - 1]
    return np.where((last >= 0) & (last < n_items), last, -1)


def known_items(histories: Histories, n_items: int) -> Histories:
    """Return the histories without what is not in the catalogue of items 0..N-1."""
    known = (histories.item_index >= 0) & (histories.item_index < n_items)
    kept_before = np.concatenate([[0], np.cumsum(known)])
    return Histories(histories.item_index[known], kept_before[histories.offsets])
