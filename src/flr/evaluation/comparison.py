"""Two models on the same targets: how large the difference is, how sure it is, and how small a one could be seen.

Targets are paired. Everything is clustered by user: neither a user's targets nor several seeds' answers to one are
independent evidence. A seed may be lucky for all users at once, so where models have several runs, intervals, the t
test and what could be detected allow for other runs too; a single run says nothing of that.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from scipy import stats

from flr.errors import DataError
from flr.evaluation.metrics import clustered_standard_error
from flr.evaluation.significance import Interval, clustered_bootstrap
from flr.records import USER_INDEX, FloatArray, IntArray

#: With so few users the signs of their ranks are all gone through instead of taking z for normal.
_FEW_USERS: Final = 12


@dataclass(frozen=True)
class Comparison:
    """The second model's metric less the first's.

    Attributes:
        difference: Mean over targets, with a bootstrap interval over users that allows for other runs.
        standard_error: Of that mean, clustered by user, and of runs where there are several (`compare_values`).
        degrees: Its degrees of freedom.
        signed_rank: z of a signed-rank test clustered by user, above 0 where the second model is better; see
            `signed_rank_z`.
        signed_rank_p_value: Two-sided; exact with twelve users or fewer.
        n_users, n_targets: How many were compared.
        n_runs: Of the first and of the second model.
    """

    difference: Interval
    standard_error: float
    degrees: float
    signed_rank: float
    signed_rank_p_value: float
    n_users: int
    n_targets: int
    n_runs: tuple[int, int]

    @property
    def p_value(self) -> float:
        """The larger of the two tests', and 1 where they point in opposite directions."""
        if self.signed_rank * self.difference.mean < 0:
            return 1.0
        return max(self.t_p_value, self.signed_rank_p_value)

    @property
    def t_p_value(self) -> float:
        """Two-sided: the paired t test where each user has one target and each model one run."""
        if not self.standard_error:
            return float(self.difference.mean == 0)
        return float(2 * stats.t.sf(abs(self.difference.mean / self.standard_error), self.degrees))

    def minimum_detectable(self, level: float, *, power: float = 0.8) -> float:
        """Return the smallest true difference that the t test would find with the given power.

        ``(t_{1 - level / 2} + t_power) * SE``. A gain below it may be real, but these targets and runs could hardly
        tell.

        Args:
            level: Chance that one is found where there is none; what is corrected for m comparisons by Holm's procedure
                is found at ``level / m`` in any case.
            power: Chance that the difference is found.
        """
        quantiles = stats.t.ppf(1 - level / 2, self.degrees) + stats.t.ppf(power, self.degrees)
        return float(quantiles) * self.standard_error


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

    The variance of the mean is that over users (clustered) and that over runs, ``var(d_s) / S`` of the runs' mean
    differences where both models have as many, paired in order, and the sum of both models' own where not; degrees of
    freedom are Satterthwaite's. What differs by user and run alike is in both, so this errs on the careful side.

    Args:
        first, second: The metric of each target in each run, finite, [runs of the model, n].
        users: User index of each target, [n].
        rng: Draws the resamples.
        n_resamples: Bootstrap resamples.

    Raises:
        DataError: There are fewer than two users, or a value is not finite.
    """
    differences = second.mean(0) - first.mean(0)
    by_pair = (second[:, None] - first[None]).reshape(-1, first.shape[1])
    n_users = len(np.unique(users))
    of_users = clustered_standard_error(differences, users) ** 2
    of_runs = _run_variances(first, second)
    variance = of_users + sum(part for part, _ in of_runs)
    spent = of_users**2 / max(n_users - 1, 1) + sum(part**2 / degrees for part, degrees in of_runs)
    of_ranks = _signed_rank_sums(by_pair, users)
    return Comparison(
        difference=clustered_bootstrap(differences, users, rng, n_resamples=n_resamples, further=of_runs),
        standard_error=variance**0.5,
        degrees=variance**2 / spent if spent else max(n_users - 1, 1),
        signed_rank=_z(of_ranks),
        signed_rank_p_value=_signed_rank_p_value(of_ranks),
        n_users=n_users,
        n_targets=len(differences),
        n_runs=(len(first), len(second)),
    )


def _run_variances(first: FloatArray, second: FloatArray) -> list[tuple[float, int]]:
    """Return the parts of the variance of a mean difference that are due to runs, with their degrees of freedom."""
    means = [of_model.mean(1) for of_model in (first, second)]
    if len(first) == len(second):
        means = [means[1] - means[0]]
    return [(float(mean.var(ddof=1)) / len(mean), len(mean) - 1) for mean in means if len(mean) > 1]


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
    return _z(_signed_rank_sums(differences, users))


def _signed_rank_sums(differences: FloatArray, users: IntArray) -> FloatArray:
    """Return every user's sum of signed ranks, [U]."""
    flat = differences.ravel()
    signed = np.sign(flat) * stats.rankdata(np.abs(flat))
    _, user = np.unique(users, return_inverse=True)
    return np.bincount(np.tile(user, len(differences)), weights=signed).astype(np.float64)


def _z(of_users: FloatArray) -> float:
    deviation = np.sqrt(np.square(of_users).sum())
    return float(of_users.sum() / deviation) if deviation else 0.0


def _signed_rank_p_value(of_users: FloatArray) -> float:
    if len(of_users) > _FEW_USERS:
        return float(2 * stats.norm.sf(abs(_z(of_users))))
    signs = np.array(list(itertools.product((-1, 1), repeat=len(of_users))))
    return float((np.abs(signs @ of_users) >= abs(of_users.sum()) * (1 - 1e-9)).mean())


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
