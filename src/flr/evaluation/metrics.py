"""Rank statistics of a scored catalogue, and the metrics computed from them.

A target's place in a ranking is kept as two counts, not one rank: how many candidates score higher
(`n_better`) and how many score exactly the same, itself included (`n_equal`). Items that share a title
share a score, so ties are common; every metric here is the expected value when ties are broken at random,
that is with a rank uniform over ``n_better + 1 .. n_better + n_equal``. No seed, no luck of the sort.

A score of ``-inf`` means "cannot be recommended": excluded, out of stock or not reached by a beam.

======================  =======================  ====================================
place in the ranking    ``n_better, n_equal``    credit
======================  =======================  ====================================
a candidate             ``0..N-1, 1..N``         expected gain over its possible ranks
cannot be recommended   ``N, 0``                 0: a miss
no target (index -1)    ``-1, 0``                NaN: nothing was asked
======================  =======================  ====================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flr.records import BoolArray, FloatArray, IntArray, UserSequences

Excluded = tuple[IntArray, IntArray] | BoolArray


def cutoff_of(metric: str) -> int:
    """Return the k of a metric's name, such as ``ndcg@10``."""
    return int(metric.rpartition("@")[2])


def exclude(scores: FloatArray, excluded: Excluded) -> FloatArray:
    """Return a copy of the scores in which the excluded candidates are ``-inf``.

    Args:
        scores: Higher is better, [B, N].
        excluded: Flat (row, item) index pairs, or a mask [B, N] that is True where excluded.

    >>> exclude(np.array([[3.0, 2.0, 1.0]]), (np.array([0]), np.array([1])))
    array([[  3., -inf,   1.]])
    """
    remaining: FloatArray = np.array(scores)
    remaining[excluded] = -np.inf
    return remaining


def rank_statistics(
    scores: FloatArray, targets: IntArray, excluded: Excluded | None = None
) -> tuple[IntArray, IntArray]:
    """Return how many candidates score higher than each target, and how many score exactly the same.

    The target itself is among the equals. Two items of one title tie for the two best ranks:

    >>> n_better, n_equal = rank_statistics(np.array([[0.4, 0.1, 0.4, 0.1]]), np.array([2]))
    >>> n_better.item(), n_equal.item()
    (0, 2)

    Args:
        scores: Higher is better, no NaN, [B, N].
        targets: Item index of each row's target, -1 for none, [B].
        excluded: Flat (row, item) index pairs, or a mask [B, N]; None excludes nothing.

    Returns:
        n_better and n_equal, [B] int64 each; see the table on top for targets that cannot be recommended.
    """
    candidates = scores if excluded is None else exclude(scores, excluded)
    n_items = candidates.shape[1]
    asked = targets >= 0
    of_target = candidates[np.arange(len(targets)), np.where(asked, targets, 0)][:, None]
    n_better = np.count_nonzero(candidates > of_target, axis=1).astype(np.int64)
    n_equal = np.count_nonzero(candidates == of_target, axis=1).astype(np.int64)
    missed = np.isneginf(of_target[:, 0])
    n_better = np.where(asked, np.where(missed, n_items, n_better), -1)
    return n_better, np.where(asked & ~missed, n_equal, 0)


def hit_rate(n_better: IntArray, n_equal: IntArray, k: int) -> FloatArray:
    """Return HR@k: the probability that the target is among the first k.

    ``HR@k = E[ 1[rank <= k] ]``, in 0..1. With one target per row this is also recall@k.

    Three items tie behind one better one, so the target's rank is 2, 3 or 4; two of these are within three:

    >>> hit_rate(np.array([1]), np.array([3]), 3)
    array([0.66666667])

    Args:
        n_better: Candidates that score higher, [B].
        n_equal: Candidates that score the same, [B].
        k: Cutoff, at least 1.
    """
    return _expected_gain(np.ones(k), n_better, n_equal)


def ndcg(n_better: IntArray, n_equal: IntArray, k: int) -> FloatArray:
    """Return NDCG@k: the discounted gain of the one target; the ideal gain is 1.

    ``NDCG@k = E[ 1[rank <= k] / log2(1 + rank) ]``, in 0..1.

    The target's rank is 2, 3 or 4 with equal chance; within three that is worth 1/log2(3), 1/log2(4) and nothing:

    >>> bool(np.isclose(ndcg(np.array([1]), np.array([3]), 3)[0], (1 / np.log2(3) + 1 / 2 + 0) / 3))
    True

    Args:
        n_better: Candidates that score higher, [B].
        n_equal: Candidates that score the same, [B].
        k: Cutoff, at least 1.
    """
    return _expected_gain(1 / np.log2(np.arange(2, k + 2)), n_better, n_equal)


def reciprocal_rank(n_better: IntArray, n_equal: IntArray, k: int) -> FloatArray:
    """Return MRR@k of each row: one over the target's rank, 0 beyond k.

    ``MRR@k = E[ 1[rank <= k] / rank ]``, in 0..1.

    The target's rank is 2, 3 or 4 with equal chance; within three that is worth 1/2, 1/3 and nothing, 5/18 on average:

    >>> bool(np.isclose(reciprocal_rank(np.array([1]), np.array([3]), 3)[0], 5 / 18))
    True

    Args:
        n_better: Candidates that score higher, [B].
        n_equal: Candidates that score the same, [B].
        k: Cutoff, at least 1.
    """
    return _expected_gain(1 / np.arange(1, k + 1), n_better, n_equal)


def _expected_gain(gains: FloatArray, n_better: IntArray, n_equal: IntArray) -> FloatArray:
    """Return the mean gain over ranks ``n_better + 1 .. n_better + n_equal``; `gains` are those of ranks 1..k.

    With the cumulative gain C, C[0] = 0, this is ``(C[min(b + e, k)] - C[min(b, k)]) / e``.
    """
    k = len(gains)
    cumulative = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.clip(n_better, 0, k)
    last = np.clip(n_better + n_equal, 0, k)
    gain = (cumulative[last] - cumulative[first]) / np.maximum(n_equal, 1)
    return np.where(n_better < 0, np.nan, gain)


def top_items(scores: FloatArray, k: int) -> npt.NDArray[np.int64]:
    """Return the k best items of each row, best first; equal scores in the order of their index.

    >>> top_items(np.array([[0.1, 0.9, 0.9, -np.inf]]), 4)
    array([[ 1,  2,  0, -1]])

    Args:
        scores: Higher is better, ``-inf`` cannot be recommended, no NaN, [B, N].
        k: Length of the list, at least 1; may exceed N.

    Returns:
        Item indices, [B, k]; -1 where fewer than k items can be recommended.
    """
    n_rows, n_items = scores.shape
    kept = min(k, n_items)
    threshold = np.partition(scores, n_items - kept, axis=1)[:, n_items - kept, None]
    better = scores > threshold
    equal = scores == threshold
    missing = kept - np.count_nonzero(better, axis=1)[:, None]
    chosen = better | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= missing))
    items = np.nonzero(chosen)[1].reshape(n_rows, kept)
    of_items = np.take_along_axis(scores, items, axis=1)
    order = np.argsort(-of_items, axis=1, kind="stable")
    items = np.where(np.isneginf(of_items), -1, items)
    best = np.full((n_rows, k), -1, dtype=np.int64)
    best[:, :kept] = np.take_along_axis(items, order, axis=1)
    return best


def coverage(top: IntArray, n_items: int) -> float:
    """Return the share of the catalogue that is recommended to anyone: ``|union of lists| / N``, in 0..1.

    >>> coverage(np.array([[0, 1], [1, -1]]), 4)
    0.5

    Args:
        top: Recommended items, -1 for none, [B, k].
        n_items: Size of the catalogue N.
    """
    return len(np.unique(top[top >= 0])) / n_items


def mean_popularity(top: IntArray, counts: IntArray) -> float:
    """Return how many training interactions a recommended item has, averaged over all places of all lists.

    High values mean that the lists repeat what everyone takes. NaN when nothing is recommended.

    >>> mean_popularity(np.array([[0, 1], [1, -1]]), np.array([7, 1, 0]))
    3.0

    Args:
        top: Recommended items, -1 for none, [B, k].
        counts: Interactions of each item, [N]; see `training_counts`.
    """
    listed = counts[top[top >= 0]]
    return float(listed.mean()) if len(listed) else float("nan")


def training_counts(sequences: UserSequences, n_items: int) -> npt.NDArray[np.int64]:
    """Return how often each item was taken in the rows that training sees, [N]."""
    return np.bincount(sequences.item_index[sequences.is_seen], minlength=n_items)


def clustered_standard_error(values: FloatArray, clusters: IntArray) -> float:
    """Return the standard error of the mean when values of one cluster (user) may depend on each other.

    ``SE = sqrt( U / (U - 1) * sum_u ( sum_{i in u} (x_i - mean) )^2 ) / n``, U clusters, n values. With one value per
    cluster it is the usual s / sqrt(n). NaN values (empty truths) are left out; with fewer than two clusters
    left the result is NaN.

    >>> clustered_standard_error(np.array([0.0, 1.0]), np.array([0, 1]))
    0.5

    Args:
        values: One per target, [B].
        clusters: User index of each target, [B].
    """
    asked = ~np.isnan(values)
    values, (_, cluster) = values[asked], np.unique(clusters[asked], return_inverse=True)
    sums = np.bincount(cluster, weights=values - values.mean()) if len(values) else np.zeros(0)
    n_clusters = len(sums)
    if n_clusters < 2:
        return float("nan")
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.square(sums).sum()) / len(values))
