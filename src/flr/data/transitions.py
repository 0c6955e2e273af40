"""What followed what: sparse counts of item pairs among training rows, and the same without a given person.

A model that reads what it votes for must not find its own target among the counts, and what it finds must be what it
will find when it is used. Where people are held out row by row, training asks for the evidence of all *other* people:
the counts of a history item and a target, less what this person added to them. Where a moment in time divides
training from validation, it asks for what was counted *earlier* than the target, for the future of other people is no
evidence there.

Source: METHOD 5 (ours); the idea of a memory beside a language model is that of kNN-LM (Khandelwal et al., 2020).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flr.errors import DataError
from flr.records import PSEUDO_COUNT, TRAIN, VALID, BoolArray, FloatArray, IntArray, Transitions, UserSequences

#: How a pair of rows counts towards each relation, by the rows between them: the very next one; one of the next ten,
#: the later the less; either direction, within twenty.
RELATIONS: Final = ("next", "soon", "together")
_NEAR, _FADE, _FAR = 10, 0.8, 20
#: Share of training rows that may be later than the first validation row of a split by time.
_LATE: Final = 0.01
#: Followers kept of one item, those with the highest counts: memory is bounded by this many per item.
MAX_FOLLOWERS: Final = 1024


def count_transitions(sequences: UserSequences, n_items: int, *, max_followers: int = MAX_FOLLOWERS) -> Transitions:
    """Return how often each item followed each other in context and training rows.

    Args:
        sequences: All users; held-out rows are never read.
        n_items: Size of the catalogue N.
        max_followers: Most followers kept per item; what the others counted goes to popularity.

    Raises:
        DataError: No row is for training.
    """
    if not (sequences.split == TRAIN).any():
        raise DataError("the prepared data has no training row, so nothing follows anything; hold less out")
    users, visible, item = _rows(sequences)
    keys, counts = np.empty(0, dtype=np.int64), np.empty((0, len(RELATIONS)), dtype=np.float32)
    for lag in range(1, min(_FAR + 1, len(item))):
        first = np.flatnonzero(visible[:-lag] & visible[lag:] & (users[:-lag] == users[lag:]))
        source, target = item[first], item[first + lag]
        forward = np.unique(source * n_items + target, return_counts=True)
        backward = np.unique(target * n_items + source, return_counts=True)
        weights = np.stack([_weights(np.array([lag]))[0], _weights(np.array([-lag]))[0]])
        added = np.concatenate([n[:, None] * weights[way] for way, (_, n) in enumerate((forward, backward))])
        keys, place = np.unique(np.concatenate([keys, forward[0], backward[0]]), return_inverse=True)
        merged = np.zeros((len(keys), len(RELATIONS)), dtype=np.float32)
        np.add.at(merged, place, np.concatenate([counts, added.astype(np.float32)]))
        counts = merged
    totals = np.zeros((n_items, len(RELATIONS)), dtype=np.float32)
    np.add.at(totals, keys // n_items, counts)
    kept = _most_frequent(keys // n_items, counts, max_followers)
    taken = np.bincount(item[visible], minlength=n_items).astype(np.float32)
    return Transitions(n_items, keys[kept], counts[kept], totals, taken / taken.sum())


def _rows(sequences: UserSequences) -> tuple[IntArray, BoolArray, IntArray]:
    """Return user, whether training sees it, and item of every row."""
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    return users, sequences.split <= TRAIN, sequences.item_index.astype(np.int64)


def _weights(lags: IntArray) -> FloatArray:
    """Return what a row so many rows later adds to each relation; negative: earlier, [n] -> [n, Q]."""
    ahead, distance = lags > 0, np.abs(lags)
    soon = np.where(ahead & (distance <= _NEAR), _FADE ** (distance - 1.0), 0.0)
    return np.stack([lags == 1, soon, (distance >= 1) & (distance <= _FAR)], axis=-1).astype(np.float32)


def _most_frequent(sources: IntArray, counts: FloatArray, most: int) -> IntArray:
    """Return the places of each source's most frequent followers, ascending; sources ascend."""
    order = np.lexsort((np.arange(len(sources)), -counts.sum(1), sources))
    rank = np.arange(len(order)) - np.searchsorted(sources, sources[order])
    return np.sort(order[rank < most])


def is_chronological(sequences: UserSequences) -> bool:
    """Return whether validation is later than training: at most one training row in a hundred is not before it."""
    held_out = sequences.timestamps[sequences.split == VALID]
    if not len(held_out):
        return False
    return bool((sequences.timestamps[sequences.split == TRAIN] > held_out.min()).mean() <= _LATE)


class EarlierEvidence:
    """p(target | item of the history) by what was counted before the target's time, of anybody.

    Args:
        sequences: All users; held-out rows are never read.
        n_items: Size of the catalogue N.
        popularity: Share of each item in the training rows, [N].
    """

    def __init__(self, sequences: UserSequences, n_items: int, popularity: FloatArray) -> None:
        users, visible, self.item = _rows(sequences)
        self.n_items, self.popularity = n_items, popularity
        moments, self._moment = np.unique(sequences.timestamps, return_inverse=True)
        self._n_moments = len(moments) + 1
        sources, targets, lags = _pairs(users, visible)
        known = self._moment[np.maximum(sources, targets)]  # a pair is known once its later row is
        weights = _weights(lags).astype(np.float64)
        pairs = self.item[sources] * n_items + self.item[targets]
        self._pairs = _Sums(pairs * self._n_moments + known, weights)
        self._sources = _Sums(self.item[sources] * self._n_moments + known, weights)

    def __call__(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Return the probabilities under each relation, [n, Q] float32; arguments as for `OthersEvidence`."""
        source, target, moment = self.item[sources], self.item[targets], self._moment[targets]
        pair = (source * self.n_items + target) * self._n_moments
        counts = self._pairs.between(pair, pair + moment)
        totals = self._sources.between(source * self._n_moments, source * self._n_moments + moment)
        shares = (counts + PSEUDO_COUNT * self.popularity[target][:, None]) / (totals + PSEUDO_COUNT)
        probabilities: FloatArray = shares.astype(np.float32)
        return probabilities


class _Sums:
    """Sums of weights [n, Q] over ranges of keys [n]."""

    def __init__(self, keys: IntArray, weights: FloatArray) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._up_to = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(weights[order], axis=0)])

    def between(self, low: IntArray, high: IntArray) -> FloatArray:
        """Return the sums over keys from low on and below high, [n, Q]."""
        start, end = np.searchsorted(self._keys, low), np.searchsorted(self._keys, high)
        sums: FloatArray = np.maximum(self._up_to[end] - self._up_to[start], 0)
        return sums


def _pairs(users: IntArray, visible: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return all pairs of rows of one person that count, both ways: source row, follower row, rows in between."""
    found = []
    for lag in range(1, min(_FAR + 1, len(users))):
        first = np.flatnonzero(visible[:-lag] & visible[lag:] & (users[:-lag] == users[lag:]))
        lags = np.full(len(first), lag)
        found += [(first, first + lag, lags), (first + lag, first, -lags)]
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, nothing
    sources, targets, lags = (np.concatenate(part) for part in zip(*found, strict=True))
    return sources, targets, lags


class OthersEvidence:
    """p(target | item of the history) among all people but the one who is asked about.

    Args:
        transitions: Counts of everybody.
        sequences: The users they were counted from.
    """

    def __init__(self, transitions: Transitions, sequences: UserSequences) -> None:
        self.transitions = transitions
        self.item = sequences.item_index.astype(np.int64)
        users, visible, _ = _rows(sequences)
        places = np.cumsum(visible) - 1
        n_visible = np.bincount(users[visible], minlength=sequences.n_users)
        first = np.cumsum(n_visible) - n_visible
        before = places - first[users]
        after = n_visible[users] - 1 - before
        fading = np.concatenate([[0], np.cumsum(_FADE ** np.arange(_NEAR))])
        own = [after >= 1, fading[np.clip(after, 0, _NEAR)], np.clip(after, 0, _FAR) + np.clip(before, 0, _FAR)]
        self._own_totals = np.stack(own, axis=-1).astype(np.float32)

    def __call__(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Return the probabilities under each relation, [n, Q] float32.

        Args:
            sources: Rows of the sequences that were read, [n].
            targets: Later rows of the same users, [n].
        """
        table, source, target = self.transitions, self.item[sources], self.item[targets]
        counts = np.maximum(table.counts_of(source, target) - _weights(targets - sources), 0)
        totals = np.maximum(table.totals[source] - self._own_totals[sources], 0)
        shares: FloatArray = (counts + PSEUDO_COUNT * table.popularity[target][:, None]) / (totals + PSEUDO_COUNT)
        return shares
