"""How much one factor tells about another, whatever the bases and however curved the relation: mutual information.

Two estimators that fail differently, both in nats:

============  ====================================================  ============================================
estimator     what it is                                            where it misleads
============  ====================================================  ============================================
`neighbours`  the larger of `ksg` (Kraskov et al. 2004, their 1)    low in many dimensions: reduce to few before
              and `gaussian_and_rest`: what is linear in closed
              form, the rest from neighbours
`infonce`     a critic that tells pairs from strangers              a lower bound, at most log of the targets it
              (van den Oord et al. 2018), judged on held-out pairs  is judged on, lower where training data is few
============  ====================================================  ============================================

`ksg` alone finds 1.7 of 2 nats, and 2.5 of 3, between Gaussians of three dimensions and 943 targets: few neighbours are
near where factors share much. `gaussian_and_rest` is right there, and low where targets fall into groups, where `ksg`
is right.

Neither is 0 for independent factors. So each comes with a null: the same estimate when the second factor's targets are
permuted, which keeps both distributions and breaks the relation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor, nn

from flr.devices import own_random_numbers
from flr.diagnostics.factor_records import FactorRecords
from flr.errors import DataError
from flr.records import FloatArray, IntArray
from flr.seeding import derive_seed

Estimator = Callable[[FloatArray, FloatArray], float]
#: Shares of the targets that a critic learns from and that say when it should stop; it is judged on the rest.
_TRAIN, _STOP = 0.6, 0.15
_WIDTH, _BATCH, _PATIENCE = 64, 256, 20
#: Targets that a critic needs.
_FEWEST = 50
#: Samples of Gaussians that tell how far entropies from neighbours are off.
_N_REFERENCES = 20
#: Columns of `factor_information`.
SCHEMA: Final = {
    "estimator": pl.String,
    "pair": pl.String,
    "nats": pl.Float64,
    "null_mean": pl.Float64,
    "null_high": pl.Float64,
    "p_value": pl.Float64,
    "n_targets": pl.Int64,
}


@dataclass(frozen=True)
class Information:
    """A mutual information and what chance gives.

    Attributes:
        nats: The estimate.
        null: Estimates with permuted targets, [n_permutations].
    """

    nats: float
    null: FloatArray

    @property
    def p_value(self) -> float:
        """How often chance gives as much, counting the estimate itself: never below ``1 / (n_permutations + 1)``."""
        return float((1 + np.count_nonzero(self.null >= self.nats)) / (1 + len(self.null)))


def ksg(first: FloatArray, second: FloatArray, k: int = 4) -> float:
    """Return the mutual information of two representations from nearest neighbours, in nats; may be below 0.

    ``psi(k) + psi(n) - < psi(n_x + 1) + psi(n_y + 1) >``, n_x the number of targets strictly nearer in x alone than the
    k-th neighbour in (x, y), maximum norm. Coordinates are standardised; equal rows are told apart by noise of 1e-8.

    Args:
        first, second: [n, d] and [n, e]; a few dimensions each, with none there is nothing to know: 0.
        k: Neighbours; fewer is less biased and noisier.

    Raises:
        DataError: There are not more than k targets.
    """
    n = len(first)
    if n <= k:
        raise DataError(f"got {n} targets, expected more than the k = {k} neighbours of each")
    if not first.shape[1] or not second.shape[1]:
        return 0.0
    x, y = _told_apart(first, second)
    joint = np.concatenate([x, y], axis=1)
    distance = cKDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, k]
    within = np.nextafter(distance, 0)
    n_x, n_y = (cKDTree(one).query_ball_point(one, within, p=np.inf, return_length=True) for one in (x, y))
    # The counts hold the target itself, so they are n_x + 1 and n_y + 1.
    return float(digamma(k) + digamma(n) - np.mean(digamma(n_x) + digamma(n_y)))


def gaussian_and_rest(first: FloatArray, second: FloatArray, k: int = 4) -> float:
    """Return the mutual information as that of Gaussians of the same correlations, and a rest, in nats.

    ``-1/2 sum_i log(1 - rho_i^2) + J(x, y) - J(x) - J(y)``: rho are the canonical correlations, less what chance gives
    them (``d e / 2n``), and J is the negentropy, by how much an entropy is below that of Gaussians of the same
    covariance. Entropies are from neighbours (Kozachenko and Leonenko 1987) after whitening, less what the same
    estimate is off for as many standard normal targets.

    Args:
        first, second: [n, d] and [n, e]; a few dimensions each, with none there is nothing to know: 0.
        k: Neighbours.

    Raises:
        DataError: There are not more targets than k or dimensions.
    """
    n, dimensions = len(first), (first.shape[1], second.shape[1])
    if n <= max(k, sum(dimensions) + 1):
        raise DataError(f"got {n} targets, expected more than {max(k, sum(dimensions) + 1)}")
    if not all(dimensions):
        return 0.0
    x, y = map(_whitened, _told_apart(first, second))
    correlations = np.linalg.svd(x.T @ y / n, compute_uv=False).clip(max=1 - 1e-12)
    linear = -0.5 * np.log1p(-np.square(correlations)).sum() - dimensions[0] * dimensions[1] / (2 * n)
    both, one, other = (
        _normal_entropy(n, values.shape[1], k) - _entropy(values, k)
        for values in (_whitened(np.concatenate([x, y], axis=1)), x, y)
    )
    return float(linear + both - one - other)


def _entropy(values: FloatArray, k: int) -> float:
    """Return an entropy from nearest neighbours, in nats, [n, d]."""
    n, d = values.shape
    distance = cKDTree(values).query(values, k=k + 1)[0][:, k]
    ball = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
    return float(digamma(n) - digamma(k) + ball + d * np.mean(np.log(distance)))


@functools.lru_cache(maxsize=64)
def _normal_entropy(n: int, d: int, k: int) -> float:
    """Return what `_entropy` finds on average of n whitened standard normal targets."""
    rng = np.random.default_rng(0)
    return float(np.mean([_entropy(_whitened(rng.normal(size=(n, d))), k) for _ in range(_N_REFERENCES)]))


def neighbours(first: FloatArray, second: FloatArray, k: int = 4) -> float:
    """Return the larger of `ksg` and `gaussian_and_rest`; each is low where it fails."""
    return max(ksg(first, second, k), gaussian_and_rest(first, second, k))


def infonce(first: FloatArray, second: FloatArray, *, seed: int = 0, max_epochs: int = 200) -> float:
    """Return a lower bound of the mutual information by a trained critic, in nats.

    ``mean_i [ s(x_i, y_i) - log mean_j exp s(x_i, y_j) ]`` over targets that the critic never saw, s the scalar product
    of two small networks. Training stops when further targets, used for nothing else, are told apart no better.

    Args:
        first, second: [n, d] and [n, e].
        seed: Of the split, the weights and the batches.
        max_epochs: Passes over the training targets at most.

    Raises:
        DataError: There are fewer than 50 targets.
    """
    if len(first) < _FEWEST:
        raise DataError(f"got {len(first)} targets, expected at least {_FEWEST} to train a critic on and judge it")
    generator = torch.Generator().manual_seed(derive_seed(seed, "critic"))
    order = torch.randperm(len(first), generator=generator)
    # What lies far out would cost an unseen pair everything; clipping can only lower what there is to know.
    x, y = (torch.from_numpy(_standardised(values).clip(-4, 4)).float()[order] for values in (first, second))
    n_train, n_stop = int(_TRAIN * len(x)), int((_TRAIN + _STOP) * len(x))
    with own_random_numbers(derive_seed(seed, "critic weights")):
        critic = _Critic(x.shape[1], y.shape[1])
    best, stop_at = -float("inf"), 0
    kept = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    optimizer = torch.optim.AdamW(critic.parameters(), lr=2e-3, weight_decay=1e-2)
    for epoch in range(max_epochs):
        _train_epoch(critic, optimizer, (x[:n_train], y[:n_train]), generator)
        with torch.no_grad():
            bound = float(critic(x[n_train:n_stop], y[n_train:n_stop]))
        if bound > best:
            best, stop_at = bound, epoch + _PATIENCE
            kept = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
        elif epoch >= stop_at:
            break
    critic.load_state_dict(kept)
    with torch.no_grad():
        return float(critic(x[n_stop:], y[n_stop:]))


class _Critic(nn.Module):
    """Scores pairs by the scalar product of two networks; its value is the InfoNCE bound of a batch of pairs."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.first, self.second = _network(first), _network(second)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scores = self.first(x) @ self.second(y).T / _WIDTH**0.5
        bound: Tensor = (scores.diagonal() - scores.logsumexp(1)).mean() + np.log(len(x))
        return bound


def _network(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH)
    )


def _train_epoch(
    critic: _Critic, optimizer: torch.optim.Optimizer, pairs: tuple[Tensor, Tensor], generator: torch.Generator
) -> None:
    order = torch.randperm(len(pairs[0]), generator=generator)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        if len(rows) > 1:
            loss = -critic(pairs[0][rows], pairs[1][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def principal_components(values: FloatArray, n: int) -> FloatArray:
    """Return the first n principal components, each with unit variance, [rows, at most n].

    Args:
        values: [rows, d].
        n: Components; directions without variance are left out.
    """
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    left, deviations, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(n, int(np.count_nonzero(deviations > 1e-6 * max(deviations[0], 1e-12))))
    components: FloatArray = left[:, :kept] * np.sqrt(len(values))
    return components


def with_null(
    estimator: Estimator, first: FloatArray, second: FloatArray, rng: np.random.Generator, n_permutations: int
) -> Information:
    """Return an estimate and those of permuted targets.

    Args:
        estimator: `neighbours`, `infonce` or another.
        first, second: [n, d] and [n, e]; rows must be independent of each other, so one per user.
        rng: Permutes.
        n_permutations: Estimates of the null.
    """
    null = [estimator(first, second[rng.permutation(len(second))]) for _ in range(n_permutations)]
    return Information(estimator(first, second), np.array(null))


def one_per_user(users: IntArray, rng: np.random.Generator) -> IntArray:
    """Return the place of one random target of each user, ascending."""
    shuffled = rng.permutation(len(users))
    _, first = np.unique(users[shuffled], return_index=True)
    return np.sort(shuffled[first])


def factor_information(
    records: FactorRecords,
    rng: np.random.Generator,
    *,
    n_components: int = 3,
    n_permutations: int = 100,
    n_permutations_infonce: int = 10,
) -> pl.DataFrame:
    """Return the mutual information of every pair of factors at the last step, by both estimators.

    One target per user is drawn. `neighbours` sees the first principal components of each factor, so that it measures
    what these share; `infonce` sees whole factors, and is left out with fewer than 50 users.

    Args:
        records: Thoughts on held-out targets.
        rng: Draws targets and permutations.
        n_components: Principal components that `neighbours` sees.
        n_permutations: Permutations of its null.
        n_permutations_infonce: The same for `infonce`, each a training.

    Returns:
        Columns as `SCHEMA` has them; ``null_high`` is the null's 95th percentile. p-values are corrected for the pairs
        of an estimator: how often the largest of all pairs' nulls reaches an estimate (Westfall and Young 1993), at
        least ``1 / (n_permutations + 1)``.
    """
    last = records.factors[one_per_user(records.users, rng), -1]
    reduced = [principal_components(last[:, k], n_components) for k in range(records.n_factors)]
    whole = [last[:, k] for k in range(records.n_factors)]
    rows: list[dict[str, object]] = []
    estimators = (
        ("neighbours", neighbours, reduced, n_permutations),
        ("infonce", infonce, whole, n_permutations_infonce),
    )
    if records.n_factors < 2:
        return pl.DataFrame(schema=SCHEMA)
    for name, estimator, factors, n in estimators if len(last) >= _FEWEST else estimators[:1]:
        found = [with_null(estimator, factors[j], factors[k], rng, n) for j, k in zip(*records.pairs(), strict=True)]
        largest = np.max([each.null for each in found], axis=0)
        for j, k, each in zip(*records.pairs(), found, strict=True):
            null = each.null if len(each.null) else np.array([np.nan])
            p_value = Information(each.nats, largest).p_value
            summary = (each.nats, float(null.mean()), float(np.quantile(null, 0.95)), p_value)
            rows.append(dict(zip(SCHEMA, (name, f"{j}-{k}", *summary, len(last)), strict=True)))
    return pl.DataFrame(rows, schema=SCHEMA)


def _whitened(values: FloatArray) -> FloatArray:
    return principal_components(values, values.shape[1])


def _told_apart(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both standardised, and equal rows told apart by noise of 1e-8."""
    rng = np.random.default_rng(0)
    x, y = (_standardised(values) + 1e-8 * rng.normal(size=values.shape) for values in (first, second))
    return x, y


def _standardised(values: FloatArray) -> FloatArray:
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    scaled: FloatArray = centred / np.where(deviation > 1e-12, deviation, 1.0)
    return scaled
