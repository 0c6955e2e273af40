"""How sure a difference is: intervals that respect that a user's targets depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flr.errors import DataError
from flr.records import FloatArray, IntArray

#: Weights of resampled clusters held at a time.
_MAX_WEIGHTS = 2**24


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile bootstrap interval.

    Attributes:
        mean: Of the values as they are.
        low, high: Ends of the interval.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def clustered_bootstrap(
    values: FloatArray,
    clusters: IntArray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of values with a bootstrap interval over clusters.

    Clusters (users) are drawn with replacement, each with all its values. For a paired comparison of two models the
    values are their differences per target, averaged over seeds where there are several.

    Args:
        values: One per target, finite, [n].
        clusters: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples.
        confidence: Share of resampled means inside the interval.

    Raises:
        DataError: There are fewer than two clusters, or a value is not finite.

    >>> interval = clustered_bootstrap(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1]), np.random.default_rng(0))
    >>> interval.mean, interval.low, interval.high
    (1.0, 1.0, 1.0)
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    n_clusters = int(cluster.max(initial=-1)) + 1
    if n_clusters < 2 or not np.isfinite(values).all():
        broken = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(
            f"got {n_clusters} clusters and {broken} values that are not finite, expected 2 or more and none"
        )
    sums, sizes = np.bincount(cluster, weights=values), np.bincount(cluster)
    at_once = max(1, _MAX_WEIGHTS // n_clusters)
    means = []
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        weights = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n)
        means.append((weights @ sums) / (weights @ sizes))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))
