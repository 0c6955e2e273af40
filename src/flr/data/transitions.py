"""What followed what: sparse counts of item pairs among training rows, and the same without a given person.

A model that reads what it votes for must not find its own target among the counts. So training asks for the evidence
of all *other* people: the counts of a history item and a target, less what this person's two rows added to them.

Source: METHOD 5 (ours); the idea of a memory beside a language model is that of kNN-LM (Khandelwal et al., 2020).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flr.errors import DataError
from flr.records import TRAIN, BoolArray, FloatArray, IntArray, UserSequences
from flr.transitions import RELATIONS, Transitions

#: How a pair of rows counts towards each of `RELATIONS`, by the rows between them: the very next one; one of the next
#: ten, the later the less; either direction, within twenty.
_NEAR, _FADE, _FAR = 10, 0.8, 20
#: Counts that popularity has beside those of what followed: what is seldom seen says little.
SMOOTHING: Final = 10.0
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
    sources = keys // n_items
    totals = np.zeros((n_items, len(RELATIONS)), dtype=np.float32)
    np.add.at(totals, sources, counts)
    kept = _most_frequent(sources, counts, max_followers)
    taken = np.bincount(item[visible], minlength=n_items).astype(np.float32)
    return Transitions(n_items, keys[kept], counts[kept], totals, taken / taken.sum(), SMOOTHING)


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
        return table.smoothed(counts, totals, target)
