"""Similarities of representations: known values, and what must not change them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from flr.diagnostics.similarity import correlation, cosines, debiased_cka, linear_cka

X = np.random.default_rng(0).normal(size=(50, 4))
ROTATION = stats.ortho_group.rvs(4, random_state=0)


def test_cka_ignores_rotations_scales_and_shifts_and_cosines_do_not() -> None:
    moved = X @ ROTATION * 2.5 + 1
    assert linear_cka(X, moved) == pytest.approx(1)
    assert abs(cosines(X, X @ ROTATION)).mean() < 0.9


def test_cka_of_one_coordinate_is_the_squared_correlation() -> None:
    a, b = X[:, :1], X[:, :1] + X[:, 1:2]
    assert linear_cka(a, b) == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1] ** 2)


def test_cka_of_what_never_changes_is_unknown() -> None:
    assert np.isnan(linear_cka(X, np.ones((50, 3))))


def test_debiased_cka_is_zero_on_average_where_plain_cka_is_not() -> None:
    rng = np.random.default_rng(3)
    pairs = [(rng.normal(size=(60, 24)), rng.normal(size=(60, 24))) for _ in range(100)]
    assert np.mean([linear_cka(*pair) for pair in pairs]) > 0.25
    found = np.array([debiased_cka(*pair) for pair in pairs])
    assert abs(found.mean()) < 3 * found.std() / 10
    assert debiased_cka(X, X @ ROTATION * 2.5 + 1) == pytest.approx(1)
    assert np.isnan(debiased_cka(X, np.ones((50, 3))))
    assert np.isnan(debiased_cka(X[:3], X[:3]))


def test_the_dependence_is_the_mean_over_four_different_targets() -> None:
    first, second = X[:7, :2], X[:7, 1:] ** 2
    k, m = (values @ values.T for values in (first, second))
    fours = [of for of in itertools.product(range(7), repeat=4) if len(set(of)) == 4]
    by_hand = np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in fours])
    own = [np.mean([g[i, j] * (g[i, j] + g[q, r] - 2 * g[i, q]) for i, j, q, r in fours]) for g in (k, m)]
    assert debiased_cka(first, second) == pytest.approx(by_hand / np.sqrt(own[0] * own[1]))


def test_cosines_of_nothing_are_zero() -> None:
    assert cosines(np.zeros((1, 2)), np.ones((1, 2))).tolist() == [0]


def test_correlation_is_over_all_pairs_of_coordinates() -> None:
    doubled = np.stack([X[:, 0], -X[:, 0]], axis=1)
    assert correlation(X[:, :1], doubled) == pytest.approx(1)
    expected = abs(np.corrcoef(X.T)[:2, 2:]).mean()
    assert correlation(X[:, :2], X[:, 2:]) == pytest.approx(expected)
    assert correlation(X, np.ones((50, 1))) == 0
