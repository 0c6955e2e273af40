"""What followed what: sparse counts of item pairs among training rows, and the same without a given person.

A model that reads what it votes for must not find its own target among the counts. So training asks for the evidence
of all *other* people: the counts of a history item and a target, less what this person's rows added to them.

Source: METHOD 5 (ours); the idea of a memory beside a language model is that of kNN-LM (Khandelwal et al., 2020).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from scipy import sparse

from flr.errors import DataError
from flr.records import TRAIN, BoolArray, FloatArray, IntArray, UserSequences, ragged_indices
from flr.transitions import RELATIONS, Transitions

#: How a pair of rows counts towards each of `RELATIONS`, by the rows between them: the very next one; one of the next
#: ten, the later the less; either direction, within twenty.
_NEAR, _FADE, _FAR = 10, 0.8, 20
#: Counts that popularity has beside those of what followed: what is seldom seen says little.
SMOOTHING: Final = 10.0
#: Followers kept of one item, those with the highest counts: memory is bounded by this many per item.
MAX_FOLLOWERS: Final = 1024


def count_transitions(sequences: UserSequences, n_items: int, *, max_followers: int = MAX_FOLLOWERS) -> Transitions:
    """Return how often each item followed each other in the rows that training sees.

    Args:
        sequences: All users.
        n_items: Size of the catalogue N.
        max_followers: Most followers kept per item; what the others counted goes to popularity.

    Raises:
        DataError: No row is for training.
    """
    if not (sequences.split == TRAIN).any():
        raise DataError("the prepared data has no training row, so nothing follows anything; hold less out")
    visible, item = sequences.is_seen, sequences.item_index.astype(np.int64)
    keys, counts = _pair_counts(sequences.users, visible, item, n_items)
    sources = keys // n_items
    totals = np.zeros((n_items, len(RELATIONS)), dtype=np.float32)
    np.add.at(totals, sources, counts)
    kept = _most_frequent(sources, counts, max_followers)
    taken = np.bincount(item[visible], minlength=n_items).astype(np.float32)
    return Transitions(n_items, keys[kept], counts[kept], totals, taken / taken.sum(), SMOOTHING)


def _pair_counts(users: IntArray, visible: BoolArray, item: IntArray, n_items: int) -> tuple[IntArray, FloatArray]:
    """Return ``source * N + follower`` of all pairs, ascending, [E], and how much each relation counts them, [E, Q].

    Each lag is a sparse matrix of how often a row was so many rows before another. Fading weights are added from the
    nearest lag on, which settles the last bits of the sums.
    """
    shape = (n_items, n_items)
    following, soon, ahead = (sparse.csr_array(shape, dtype=kind) for kind in (np.int32, np.float32, np.int32))
    for lag in range(1, min(_FAR + 1, len(item))):
        first = np.flatnonzero(visible[:-lag] & visible[lag:] & (users[:-lag] == users[lag:]))
        at_lag = sparse.csr_array((np.ones(len(first), dtype=np.int32), (item[first], item[first + lag])), shape=shape)
        is_next, fading, _ = _weights(np.array([lag]))[0]
        following = at_lag if is_next else following
        soon = soon + (at_lag * fading).astype(np.float32) if fading else soon
        ahead = ahead + at_lag
    keys, together = _entries(ahead + ahead.T.tocsr())
    counts = np.zeros((len(keys), len(RELATIONS)), dtype=np.float32)
    counts[:, 2] = together
    for relation, matrix in enumerate((following, soon)):
        own, values = _entries(matrix)
        counts[np.searchsorted(keys, own), relation] = values
    return keys, counts


def _entries(matrix: Any) -> tuple[IntArray, FloatArray]:
    """Return ``row * N + column`` of the entries of a sparse matrix [N, N], ascending, and their values."""
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices, matrix.data


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


class OthersEvidence:
    """p(target | item of the history) among all people but the one who is asked about.

    Whoever takes items again has several rows that add to the same counts: all of them are left out. Popularity, which
    smooths, still has everybody.

    Args:
        transitions: Counts of everybody.
        sequences: The users they were counted from.
    """

    def __init__(self, transitions: Transitions, sequences: UserSequences) -> None:
        self.transitions = transitions
        users, visible, self.item = sequences.users, sequences.is_seen, sequences.item_index.astype(np.int64)
        _, self._group = np.unique(users * transitions.n_items + self.item, return_inverse=True)
        counted = np.flatnonzero(visible)
        self._rows = counted[np.argsort(self._group[counted], kind="stable")]
        self._size = np.bincount(self._group[counted], minlength=int(self._group.max(initial=-1)) + 1)
        self._start = np.cumsum(self._size) - self._size
        self._keys = self._group[self._rows] * len(users) + self._rows
        added = _added_by(users, visible)[self._rows]
        of_group = self._group[self._rows]
        sums = [np.bincount(of_group, weights, len(self._size)) for weights in added.T]
        self._own_totals = np.stack(sums, axis=-1).astype(np.float32)

    def __call__(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Return the probabilities under each relation, [n, Q] float32.

        Args:
            sources: Rows of the sequences that were read, [n].
            targets: Later rows of the same users, [n].
        """
        table, source, target = self.transitions, self.item[sources], self.item[targets]
        counts = np.maximum(table.counts_of(source, target) - self._own_counts(sources, targets), 0)
        totals = np.maximum(table.totals[source] - self._own_totals[self._group[sources]], 0)
        return table.smoothed(counts, totals, target)

    def _own_counts(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Return what all rows of the user with these items added to the pairs' counts, [n, Q]."""
        own = _weights(targets - sources)
        source, target = self._group[sources], self._group[targets]
        again = np.flatnonzero((self._size[source] != 1) | (self._size[target] != 1))
        if not len(again):
            return own
        pairs, place = np.unique(source[again] * len(self._size) + target[again], return_inverse=True)
        source, target = np.divmod(pairs, len(self._size))
        rows = self._rows[ragged_indices(self._start[source], self._size[source])[0]]
        of_pair = np.repeat(np.arange(len(pairs)), self._size[source])
        n_rows = len(self._group)
        key = target[of_pair] * n_rows
        first = np.searchsorted(self._keys, key + np.maximum(rows - _FAR, 0))
        n_near = np.searchsorted(self._keys, key + np.minimum(rows + _FAR, n_rows - 1), side="right") - first
        near = self._rows[ragged_indices(first, n_near)[0]]
        added = _weights(near - np.repeat(rows, n_near))
        of_pair = np.repeat(of_pair, n_near)
        sums = [np.bincount(of_pair, weights, len(pairs)) for weights in added.T]
        own[again] = np.stack(sums, axis=-1)[place]
        return own


def _added_by(users: IntArray, visible: BoolArray) -> FloatArray:
    """Return what each row adds to the totals of its item, [R, Q]."""
    n_visible = np.bincount(users[visible], minlength=int(users.max(initial=-1)) + 1)
    before = np.cumsum(visible) - 1 - (np.cumsum(n_visible) - n_visible)[users]
    after = n_visible[users] - 1 - before
    fading = np.concatenate([[0], np.cumsum(_FADE ** np.arange(_NEAR))])
    together = np.clip(after, 0, _FAR) + np.clip(before, 0, _FAR)
    return np.stack([after >= 1, fading[np.clip(after, 0, _NEAR)], together], axis=-1)
