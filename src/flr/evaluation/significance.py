"""How sure a figure is: intervals that respect that a user's targets depend on each other.

A figure of one model comes with its spread over seeds (`over_seeds`) and an interval over users (`clustered_bootstrap`,
or `bootstrap_statistic` where it is not a mean). For two models see `flr.evaluation.comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

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


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: Over the seeds.
        sd: Standard deviation with n - 1 in the denominator; NaN for one seed.
        n: Seeds.
    """

    mean: float
    sd: float
    n: int


def over_seeds(values: Sequence[float] | FloatArray) -> Spread:
    """Return mean and standard deviation of a figure over seeds.

    Args:
        values: One per seed, at least one, [n].

    Raises:
        DataError: There is no value.

    >>> over_seeds([1.0, 3.0]).mean, round(over_seeds([1.0, 3.0]).sd, 3)
    (2.0, 1.414)
    """
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        raise DataError("got no seed, expected at least one value")
    return Spread(float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else float("nan"), len(found))


def clustered_bootstrap(
    values: FloatArray,
    clusters: IntArray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    further: Sequence[tuple[float, int]] = (),
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
        further: Variances of errors that all clusters share, with their degrees of freedom: drawn from Student's t.

    Raises:
        DataError: There are fewer than two clusters, or a value is not finite.

    >>> interval = clustered_bootstrap(np.array([1.0, 1.0, 1.0]), np.array([0, 0, 1]), np.random.default_rng(0))
    >>> interval.mean, interval.low, interval.high
    (1.0, 1.0, 1.0)
    """
    cluster, n_clusters = _numbered(clusters, values)
    sums, sizes = np.bincount(cluster, weights=values), np.bincount(cluster)
    means = [(weights @ sums) / (weights @ sizes) for weights in _resamples(n_clusters, n_resamples, rng)]
    drawn = np.concatenate(means)
    for variance, degrees in further:
        drawn = drawn + variance**0.5 * rng.standard_t(degrees, len(drawn))
    return percentile_interval(float(values.mean()), drawn, confidence)


def resampled_means(
    values: FloatArray, clusters: IntArray, rng: np.random.Generator, *, n_resamples: int = 2000
) -> FloatArray:
    """Return the means of many figures under one bootstrap over clusters, [n_resamples, m].

    All columns see the same resamples, so that a ratio or a difference of means has its own percentile interval.

    Args:
        values: m figures of each target, NaN where a figure is not of that target, [n, m].
        clusters: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples; one without a target of a column gives NaN there.

    Raises:
        DataError: There are fewer than two clusters.
    """
    cluster, n_clusters = _numbered(clusters)
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(n_clusters))
    sums = np.add.reduceat(np.nan_to_num(values)[order].astype(np.float64), starts)
    sizes = np.add.reduceat((~np.isnan(values))[order].astype(np.float64), starts)
    means = []
    for weights in _resamples(n_clusters, n_resamples, rng):
        drawn = weights.astype(np.float64)
        n = drawn @ sizes
        means.append(np.divide(drawn @ sums, n, out=np.full_like(n, np.nan), where=n > 0))
    return np.concatenate(means)


def bootstrap_statistic(
    statistic: Callable[[IntArray], float],
    clusters: IntArray,
    rng: np.random.Generator,
    *,
    n_resamples: int = 200,
    confidence: float = 0.95,
) -> Interval:
    """Return a statistic of many targets at once (a rank, a correlation) with a bootstrap interval over clusters.

    The percentile interval is of the statistic as it is: one that grows when targets repeat (or, as a rank, shrinks)
    has an interval that need not hold its value, and is better read for its width.

    Args:
        statistic: Takes places of targets, some more than once, [m]; NaN where it is undefined on a resample.
        clusters: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples, each one call of the statistic.
        confidence: Share of resampled values inside the interval.

    Returns:
        `Interval.mean` is the statistic of all targets.

    Raises:
        DataError: There are fewer than two clusters.
    """
    cluster, n_clusters = _numbered(clusters)
    order = np.argsort(cluster, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cluster))[:-1])
    found = [
        statistic(np.concatenate([members[u] for u in rng.integers(0, n_clusters, n_clusters)]))
        for _ in range(n_resamples)
    ]
    return percentile_interval(statistic(np.arange(len(clusters))), np.array(found), confidence)


def hidden_loss(n_losing: int, n: int, largest: float, *, confidence: float = 0.95) -> float:
    """Return how large a mean loss can be where only a few of n users were seen to lose anything.

    The upper limit of the share of those who lose (Clopper and Pearson 1934) times what they have to lose. A bootstrap
    cannot tell: whom it has not seen it does not draw.

    >>> round(hidden_loss(0, 100, 0.5), 4)
    0.0181

    Args:
        n_losing: Users who lose.
        n: Users.
        largest: What one who loses has to lose.
        confidence: Of the two-sided interval that this is one end of.
    """
    share = stats.beta.ppf((1 + confidence) / 2, n_losing + 1, n - n_losing) if n_losing < n else 1.0
    return float(share) * largest


def half_sampled(
    statistic: Callable[[IntArray], float], n: int, rng: np.random.Generator, *, n_halves: int = 20
) -> FloatArray:
    """Return a statistic of n independent targets, and of random halves of them, [1 + n_halves].

    A bootstrap repeats targets, which some statistics mistake for likeness; halves drawn without replacement do not,
    and spread about as much as the statistic of all does (Politis, Romano and Wolf 1999).

    Args:
        statistic: Takes places of targets, [m].
        n: Targets.
        rng: Draws the halves.
        n_halves: Halves.
    """
    halves = [np.sort(rng.permutation(n)[: n // 2]) for _ in range(n_halves)]
    return np.array([statistic(rows) for rows in (np.arange(n), *halves)])


def half_interval(value: float, halves: FloatArray) -> Interval:
    """Return a figure with its 95 % interval by random halves of the targets, [m]; see `half_sampled`."""
    reach = float(stats.t.ppf(0.975, len(halves) - 1) * halves.std(ddof=1))
    return Interval(value, value - reach, value + reach)


def over_other_seeds(of_users: Interval, by_seed: FloatArray, *, own_users: bool) -> Interval:
    """Return an interval over users widened by what another few seeds would give.

    What both reach is added in squares (Zou and Donner 2008), ``t_{S - 1} sd / sqrt(S)`` for S seeds. One seed says
    nothing of others: its interval stays as it is.

    >>> found = over_other_seeds(Interval(0.5, 0.2, 0.8), np.array([0.4, 0.5, 0.6]), own_users=False)
    >>> round(found.low, 2), round(found.high, 2)
    (0.11, 0.89)

    Args:
        of_users: The figure, mean over seeds, with its 95 % interval over users.
        by_seed: The figure of each seed, [S].
        own_users: Whether each seed was asked about users of its own: what seeds differ by is users in part then, which
            are not counted twice.
    """
    n = len(by_seed)
    if n < 2 or np.isnan([of_users.low, of_users.high]).any():
        return of_users
    variance, reach = float(by_seed.var(ddof=1)) / n, (of_users.high - of_users.low) / 2
    if own_users:
        variance = max(0.0, variance - (reach / stats.norm.ppf(0.975)) ** 2)
    of_seeds = float(stats.t.ppf(0.975, n - 1)) * variance**0.5
    low, high = (float(np.hypot(end - of_users.mean, of_seeds)) for end in (of_users.low, of_users.high))
    return Interval(of_users.mean, of_users.mean - low, of_users.mean + high)


def _numbered(clusters: IntArray, values: FloatArray | None = None) -> tuple[npt.NDArray[np.intp], int]:
    """Return clusters as 0..n-1 and their number; checks both arrays."""
    _, cluster = np.unique(clusters, return_inverse=True)
    n_clusters = int(cluster.max(initial=-1)) + 1
    broken = 0 if values is None else int(np.count_nonzero(~np.isfinite(values)))
    if n_clusters < 2 or broken:
        raise DataError(
            f"got {n_clusters} clusters and {broken} values that are not finite, expected 2 or more and none"
        )
    return cluster, n_clusters


def _resamples(n_clusters: int, n_resamples: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield how often each cluster is drawn in each resample, [some, n_clusters], until there are enough."""
    at_once = max(1, _MAX_WEIGHTS // n_clusters)
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n)


def percentile_interval(value: float, resampled: FloatArray, confidence: float = 0.95) -> Interval:
    """Return a figure with the interval that holds the middle of its resampled values; NaN among them is left out."""
    tail = (1 - confidence) / 2
    if np.isnan(resampled).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
