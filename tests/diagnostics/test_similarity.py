"""Similarities of representations: known values, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flr.diagnostics.similarity import correlation, cosines, linear_cka

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


def test_cosines_of_nothing_are_zero() -> None:
    assert cosines(np.zeros((1, 2)), np.ones((1, 2))).tolist() == [0]


def test_correlation_is_over_all_pairs_of_coordinates() -> None:
    doubled = np.stack([X[:, 0], -X[:, 0]], axis=1)
    assert correlation(X[:, :1], doubled) == pytest.approx(1)
    expected = abs(np.corrcoef(X.T)[:2, 2:]).mean()
    assert correlation(X[:, :2], X[:, 2:]) == pytest.approx(expected)
    assert correlation(X, np.ones((50, 1))) == 0
