"""Two models on the same targets: how large the difference is, how sure it is, and how small a one could be seen.

Targets are paired, and every run of one model with every run of the other. Everything is clustered by user: neither a
user's targets nor several seeds' answers to one are independent evidence. Runs are taken as they are: that a seed may
be lucky for all users at once shows in the deviation over seeds (`over_seeds`), not here.
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
        signed_rank: z of a signed-rank test clustered by user, above 0 where the second model is better; see
            `signed_rank_z`.
        minimum_detectable: The smallest true difference that these targets show with power .8 at level .05.
        n_users, n_targets: How many were compared.
    """

    difference: Interval
    t_p_value: float
    signed_rank: float
    minimum_detectable: float
    n_users: int
    n_targets: int

    @property
    def p_value(self) -> float:
        """The larger of the two tests', and 1 where they point in opposite directions."""
        if self.signed_rank * self.difference.mean < 0:
            return 1.0
        return max(self.t_p_value, self.signed_rank_p_value)

    @property
    def signed_rank_p_value(self) -> float:
        """Two-sided."""
        return float(2 * stats.norm.sf(abs(self.signed_rank)))


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
    before, users = by_run(first, metric)
    after, users_after = by_run(second, metric)
    if not first[0]["row"].sort().equals(second[0]["row"].sort()):
        raise DataError(
            f"got {len(users)} targets of one model and {len(users_after)} others of the other, expected the same; "
            "evaluate both on one prepared folder and split"
        )
    return compare_values(before, after, users, rng, n_resamples=n_resamples)


def by_run(runs: Sequence[pl.DataFrame], metric: str) -> tuple[FloatArray, IntArray]:
    """Return a metric of each target in each run, [S, n], and the targets' users, [n]; in the order of rows.

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
    return np.stack([run[metric].to_numpy() for run in ordered]), ordered[0][USER_INDEX].to_numpy()


def compare_values(
    first: FloatArray, second: FloatArray, users: IntArray, rng: np.random.Generator, *, n_resamples: int = 10_000
) -> Comparison:
    """Return the same as `compare` from values.

    Args:
        first, second: The metric of each target in each run, finite, [runs of the model, n].
        users: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples.

    Raises:
        DataError: There are fewer than two users, or a value is not finite.
    """
    by_pair = (second[:, None] - first[None]).reshape(-1, first.shape[1])
    differences = by_pair.mean(0)
    return Comparison(
        difference=clustered_bootstrap(differences, users, rng, n_resamples=n_resamples),
        t_p_value=_t_p_value(differences, users),
        signed_rank=signed_rank_z(by_pair, users),
        minimum_detectable=minimum_detectable_difference(differences, users),
        n_users=len(np.unique(users)),
        n_targets=len(differences),
    )


def _t_p_value(differences: FloatArray, users: IntArray) -> float:
    mean, error = differences.mean(), clustered_standard_error(differences, users)
    if not error:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean / error), len(np.unique(users)) - 1))


def signed_rank_z(differences: FloatArray, users: IntArray) -> float:
    """Return the z of a signed-rank test of clustered differences; 0 where there are none.

    Differences are ranked by size, and a user's sum of signed ranks is one piece of evidence: ``z = sum_u S_u / sqrt(
    sum_u S_u^2)`` is standard normal where each of a user's differences is as likely x as -x. Zeros are ranked, but
    have no sign (Pratt); every target counts alike, as in the mean that stands beside it.

    Runs must not be averaged first: where one model's seeds agree and the other's do not, means over seeds have many
    small losses and few large gains although both serve everybody equally often, and ranks count the many.

    Source: Rosner, Glynn and Lee 2006, "The Wilcoxon signed rank test for paired comparisons of clustered data", who
    leave zeros out and weigh users of unlike size.

    Args:
        differences: Of each run or pair of runs, and target, [S, n].
        users: User index of each target, [n].
    """
    flat = differences.ravel()
    signed = np.sign(flat) * stats.rankdata(np.abs(flat))
    _, user = np.unique(users, return_inverse=True)
    of_users = np.bincount(np.tile(user, len(differences)), weights=signed)
    deviation = np.sqrt(np.square(of_users).sum())
    return float(of_users.sum() / deviation) if deviation else 0.0


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
