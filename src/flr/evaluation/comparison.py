"""Two models on the same targets: how large the difference is, how sure it is, and how small a one could be seen.

Targets are paired; runs of several seeds are averaged per target first, so that what is left is the difference of the
models. Everything is clustered by user: a user's targets are not independent evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from flr.errors import DataError
from flr.evaluation.metrics import clustered_standard_error
from flr.evaluation.significance import Interval, clustered_bootstrap
from flr.records import USER_INDEX, FloatArray, IntArray


@dataclass(frozen=True)
class Comparison:
    """The second model's metric less the first's.

    Attributes:
        difference: Mean over targets, with a bootstrap interval over users.
        t_p_value: Two-sided t test of that mean, its standard error clustered by user (U - 1 degrees of freedom): the
            paired t test where each user has one target.
        wilcoxon_p_value: Two-sided Wilcoxon signed-rank test on user means; users without a difference count half on
            either side (Pratt).
        minimum_detectable: The smallest true difference that these targets show with power .8 at level .05.
        n_users, n_targets: How many were compared.
    """

    difference: Interval
    t_p_value: float
    wilcoxon_p_value: float
    minimum_detectable: float
    n_users: int
    n_targets: int


def compare(
    first: Sequence[pl.DataFrame],
    second: Sequence[pl.DataFrame],
    metric: str,
    rng: np.random.Generator,
    *,
    n_resamples: int = 10_000,
) -> Comparison:
    """Return how much better the second model is than the first.

    Args:
        first, second: `Report.per_target` of each seed of either model.
        metric: Column of a metric, for example ``"ndcg@10"``.
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples.

    Raises:
        DataError: A model has no run, or the runs were not evaluated on the same targets.
    """
    before, users = mean_over_seeds(first, metric)
    after, users_after = mean_over_seeds(second, metric)
    if not first[0]["row"].sort().equals(second[0]["row"].sort()):
        raise DataError(
            f"got {len(users)} targets of one model and {len(users_after)} others of the other, expected the same; "
            "evaluate both on one prepared folder and split"
        )
    return compare_values(before, after, users, rng, n_resamples=n_resamples)


def mean_over_seeds(runs: Sequence[pl.DataFrame], metric: str) -> tuple[FloatArray, IntArray]:
    """Return a metric of each target averaged over runs, [n], and the targets' users, [n]; in the order of rows.

    Raises:
        DataError: There is no run, or the runs were not evaluated on the same targets.
    """
    if not runs:
        raise DataError("got no run to compare, expected at least one")
    ordered = [run.sort("row") for run in runs]
    for run in ordered[1:]:
        if not run["row"].equals(ordered[0]["row"]):
            raise DataError(
                f"got runs on {len(ordered[0])} and {len(run)} targets that are not the same ones; "
                "evaluate all seeds on one prepared folder and split"
            )
    values = np.mean([run[metric].to_numpy() for run in ordered], axis=0)
    return values, ordered[0][USER_INDEX].to_numpy()


def compare_values(
    first: FloatArray, second: FloatArray, users: IntArray, rng: np.random.Generator, *, n_resamples: int = 10_000
) -> Comparison:
    """Return the same as `compare` from one value per target and model.

    Args:
        first, second: The metric of each target, finite, [n].
        users: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples.

    Raises:
        DataError: There are fewer than two users, or a value is not finite.
    """
    differences = second - first
    interval = clustered_bootstrap(differences, users, rng, n_resamples=n_resamples)
    of_users = user_means(differences, users)
    t_p_value, wilcoxon_p_value = 1.0, 1.0
    if np.ptp(of_users) > 0:
        t = differences.mean() / clustered_standard_error(differences, users)
        t_p_value = float(2 * stats.t.sf(abs(t), len(of_users) - 1))
        wilcoxon_p_value = float(stats.wilcoxon(of_users, zero_method="pratt", method="asymptotic").pvalue)
    elif of_users[0]:
        t_p_value, wilcoxon_p_value = 0.0, float(2.0 ** (1 - len(of_users)))
    return Comparison(
        difference=interval,
        t_p_value=t_p_value,
        wilcoxon_p_value=wilcoxon_p_value,
        minimum_detectable=minimum_detectable_difference(differences, users),
        n_users=len(of_users),
        n_targets=len(differences),
    )


def user_means(values: FloatArray, users: IntArray) -> FloatArray:
    """Return the mean of each user's values, in order of user index.

    >>> user_means(np.array([1.0, 0.0, 3.0]), np.array([7, 2, 7])).tolist()
    [0.0, 2.0]
    """
    _, user = np.unique(users, return_inverse=True)
    means: FloatArray = np.bincount(user, weights=values) / np.bincount(user)
    return means


def minimum_detectable_difference(
    differences: FloatArray, users: IntArray, *, power: float = 0.8, level: float = 0.05
) -> float:
    """Return the smallest true difference that a two-sided test would find with the given power.

    ``(t_{1 - level / 2} + t_power) * SE``, quantiles of Student's t with U - 1 degrees of freedom, SE clustered by
    user. A gain below it may be real, but these targets could hardly tell.

    Args:
        differences: One per target, [n].
        users: User index of each target, [n].
        power: Chance that the difference is found.
        level: Chance that one is found where there is none.
    """
    degrees = len(np.unique(users)) - 1
    quantiles = stats.t.ppf(1 - level / 2, degrees) + stats.t.ppf(power, degrees)
    return float(quantiles) * clustered_standard_error(differences, users)


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Return p-values corrected for their number by Holm's step-down procedure, in the given order.

    The i-th smallest of m is multiplied by m - i + 1; none falls below a smaller one's, and none exceeds 1. Rejecting
    what stays below a level keeps the chance of any false rejection there. NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(given), np.nan)
    asked = np.flatnonzero(~np.isnan(given))
    order = asked[np.argsort(given[asked], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return corrected
