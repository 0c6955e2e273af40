"""How alike two representations of the same targets are. All take [n, ...] arrays, one row per target.

Each factor has projections of its own, so that its coordinates mean nothing to another factor: cosine and correlation
compare them all the same (the regulariser does, METHOD Eq. 6), `linear_cka` does not depend on the bases.
"""

from __future__ import annotations

import numpy as np

from flr.records import FloatArray


def cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the cosine of each target's two vectors, [n]; 0 where one has no length.

    Args:
        first, second: [n, d].

    >>> cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0], [3.0, 3.0]])).round(6).tolist()
    [0.0, 1.0]
    """
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    products = (first.astype(np.float64) * second).sum(-1)
    found: FloatArray = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Return the mean absolute Pearson correlation between coordinates of two representations, in [0, 1].

    Over all pairs (a, b) of a coordinate of the first and one of the second. Coordinates that never change count 0.
    Independent coordinates have about ``sqrt(2 / (pi n))``, not 0.

    Args:
        first, second: [n, d] and [n, e].
    """
    unit = [_standardised(values) for values in (first, second)]
    return float(np.abs(unit[0].T @ unit[1] / len(first)).mean())


def _standardised(values: FloatArray) -> FloatArray:
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    scaled: FloatArray = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)
    return scaled


def linear_cka(first: FloatArray, second: FloatArray) -> float:
    """Return linear centred kernel alignment, in [0, 1]; 1 for representations that differ by a rotation and a scale.

    ``|Y'X|_F^2 / (|X'X|_F |Y'Y|_F)`` of centred X and Y (Kornblith et al. 2019). Independent representations have more
    than 0, the more the wider they are and the fewer the targets, so that models are compared by `debiased_cka`. NaN
    when one representation is the same for all targets.

    Args:
        first, second: [n, d] and [n, e].

    >>> x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> linear_cka(x, x[:, ::-1] * 3)
    1.0
    """
    x = first.astype(np.float64) - first.mean(0, dtype=np.float64)
    y = second.astype(np.float64) - second.mean(0, dtype=np.float64)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.square(y.T @ x).sum() / scale) if scale > 1e-24 else float("nan")


def debiased_cka(first: FloatArray, second: FloatArray) -> float:
    """Return linear centred kernel alignment with unbiased estimates of dependence: about 0 for independent ones.

    ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of the linear kernels, each HSIC the U-statistic of Song et al. 2012
    (Eq. 5), as Nguyen, Raghu and Kornblith 2021 do; it can be a little below 0. NaN with fewer than four targets, or
    where a representation varies no more than chance.

    Args:
        first, second: [n, d] and [n, e]; targets must be independent of each other, one of a user.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(debiased_cka(x, x @ np.linalg.qr(x[:4])[0]), 6)
    1.0
    """
    if len(first) < 4:
        return float("nan")
    kernels = [_hollow_kernel(values) for values in (first, second)]
    own = [_dependence(kernel, kernel) for kernel in kernels]
    if min(own) <= 1e-24:
        return float("nan")
    return float(_dependence(*kernels) / np.sqrt(own[0] * own[1]))


def _hollow_kernel(values: FloatArray) -> FloatArray:
    """Return the products of all rows with each other, 0 on the diagonal; centred first, for rounding's sake."""
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    kernel: FloatArray = centred @ centred.T
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _dependence(first: FloatArray, second: FloatArray) -> float:
    n = len(first)
    sums = [kernel.sum(0) for kernel in (first, second)]
    whole = (
        (first * second).sum() + sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2)) - 2 * sums[0] @ sums[1] / (n - 2)
    )
    return float(whole) / (n * (n - 3))
