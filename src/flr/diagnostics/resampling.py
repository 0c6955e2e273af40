"""The headline figures of disentanglement under one bootstrap over users, so that two models can be compared by it.

`flr.diagnostics.disentanglement` looks at one run, pair by pair. Here every figure is a mean over pairs (or factors) at
the last step, and comes once for all targets and once per resample of users. Runs asked about the same targets with the
same generator see the same resamples: the difference of two runs has an interval, and runs of several seeds average.

Correlation comes from one weighted covariance of all factors, so that a resample is one product. Linear CKA and mutual
information would take repeated targets for likeness, and have random halves of users instead.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from flr.diagnostics.disentanglement import (
    dead_factors,
    factor_distances,
    gate_entropy,
    item_overlap,
    pair_cosines,
    voted_overlap,
)
from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.mutual_information import neighbours, one_per_user, principal_components
from flr.diagnostics.similarity import debiased_cka
from flr.errors import DataError
from flr.evaluation.significance import half_sampled
from flr.records import FloatArray, IntArray


def resampled_figures(
    records: FactorRecords, rng: np.random.Generator, *, n_top: int = 3, n_resamples: int = 200
) -> pl.DataFrame:
    """Return headline figures, of all targets in the first row and of a resample of users in each other one.

    Args:
        records: Thoughts on held-out targets.
        rng: Draws the resamples.
        n_top: Items per factor of which the overlap is made.
        n_resamples: Resamples of users.

    Returns:
        ``absolute_cosine``, ``correlation``, ``top_item_overlap`` and ``voted_overlap`` (NaN with one
        factor, the last without votes too), ``attention_entropy``, ``gate_entropy``, ``effective_rank`` (of the
        thought), ``dead_factors`` (of all targets, not resampled) and D(r) as ``distance 1`` to ``distance R``.

    Raises:
        DataError: All targets are of one user.
    """
    users, user = np.unique(records.users, return_inverse=True)
    if len(users) < 2:
        raise DataError(f"all {len(records)} targets are of one user, expected 2 or more to draw from")
    of_targets = _per_target(records, n_top)
    rows = []
    for weights in _weights(user, len(users), rng, n_resamples):
        row = {name: _mean(values, weights) for name, values in of_targets.items()}
        row |= {"correlation": _correlation(records, weights), "effective_rank": _effective_rank(records, weights)}
        rows.append(row)
    names = ("absolute_cosine", "correlation", "top_item_overlap", "voted_overlap")
    frame = pl.DataFrame(rows)
    frame = frame.with_columns(pl.lit(float(len(dead_factors(records)))).alias("dead_factors"))
    return frame.select(*names, pl.all().exclude(names))


def _per_target(records: FactorRecords, n_top: int) -> dict[str, FloatArray]:
    """Return what is a mean over targets, one value each, [n]."""
    has_pairs = records.n_factors > 1
    none = np.full(len(records), np.nan)
    distances = factor_distances(records)
    found = {
        "absolute_cosine": abs(pair_cosines(records)[:, -1]).mean(-1) if has_pairs else none,
        "top_item_overlap": item_overlap(records, n_top)[:, -1].mean(-1) if has_pairs else none,
        "voted_overlap": voted_overlap(records).mean(-1) if has_pairs else none,
        "attention_entropy": records.token_entropy[:, -1].mean(-1),
        "gate_entropy": gate_entropy(records)[:, -1],
    }
    return found | {
        f"distance {step + 1}": distances[:, step] if has_pairs else none for step in range(records.n_steps)
    }


def _weights(user: IntArray, n_users: int, rng: np.random.Generator, n: int) -> Iterator[FloatArray]:
    """Yield how often each target counts: once, then as often as its user is drawn."""
    yield np.ones(len(user))
    for _ in range(n):
        yield rng.multinomial(n_users, np.full(n_users, 1 / n_users))[user].astype(np.float64)


def _mean(values: FloatArray, weights: FloatArray) -> float:
    known = ~np.isnan(values)
    total = weights[known].sum()
    return float(weights[known] @ values[known] / total) if total else float("nan")


def _correlation(records: FactorRecords, weights: FloatArray) -> float:
    """Return the correlation of factors, the mean over pairs; see `flr.diagnostics.similarity`."""
    k, width = records.n_factors, records.factors.shape[-1]
    if k < 2:
        return float("nan")
    covariance = _covariance(records.factors[:, -1].reshape(len(records), -1), weights)
    deviation = np.sqrt(covariance.diagonal())
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    correlations = abs(covariance / scale / scale[:, None]).reshape(k, width, k, width).mean((1, 3))
    first, second = records.pairs()
    return float(correlations[first, second].mean())


def _effective_rank(records: FactorRecords, weights: FloatArray) -> float:
    """Return the effective rank of the thoughts, as `flr.reasoner.policy.effective_rank` does."""
    covariance = _covariance(records.vectors.reshape(len(records), -1), weights)
    singular = np.sqrt(np.linalg.eigvalsh(covariance).clip(0))
    # What is below rounding of the largest is no direction.
    singular = singular[singular > 1e-6 * max(singular.max(), 1e-30)]
    shares = singular / singular.sum() if len(singular) else np.ones(1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _covariance(values: FloatArray, weights: FloatArray) -> FloatArray:
    share = (weights / weights.sum())[:, None]
    centred = values - (share * values).sum(0)
    found: FloatArray = (centred * share).T @ centred
    return found


def half_sampled_information(
    records: FactorRecords, rng: np.random.Generator, *, n_components: int = 3, n_halves: int = 20
) -> FloatArray:
    """Return the mean mutual information of all pairs (`neighbours`), of all users and of random halves.

    Args:
        records: Thoughts on held-out targets, of two factors at least.
        rng: Draws one target per user, and the halves.
        n_components: Principal components of each factor.
        n_halves: Halves; see `flr.evaluation.significance.half_sampled`.

    Returns:
        That of all users first, [1 + n_halves].
    """
    last = records.factors[one_per_user(records.users, rng), -1]
    reduced = [principal_components(last[:, k], n_components) for k in range(records.n_factors)]
    pairs = list(zip(*records.pairs(), strict=True))

    def information(rows: IntArray) -> float:
        return float(np.mean([neighbours(reduced[j][rows], reduced[k][rows]) for j, k in pairs]))

    return half_sampled(information, len(last), rng, n_halves=n_halves)


def half_sampled_alignment(records: FactorRecords, rng: np.random.Generator, *, n_halves: int = 20) -> FloatArray:
    """Return the mean linear CKA of all pairs (`debiased_cka`, last step), of all users and of random halves.

    Args:
        records: Thoughts on held-out targets.
        rng: Draws one target per user, and the halves.
        n_halves: Halves; see `flr.evaluation.significance.half_sampled`.

    Returns:
        That of all users first, [1 + n_halves]; NaN where no pair has one.
    """
    last = records.factors[one_per_user(records.users, rng), -1]
    pairs = list(zip(*records.pairs(), strict=True))

    def alignment(rows: IntArray) -> float:
        found = np.array([debiased_cka(last[rows, j], last[rows, k]) for j, k in pairs])
        return float("nan") if np.isnan(found).all() else float(np.nanmean(found))

    return half_sampled(alignment, len(last), rng, n_halves=n_halves)
