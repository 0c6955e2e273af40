"""The estimators recover the mutual information of Gaussians, which is known, within a tenth."""

from __future__ import annotations

import numpy as np
import pytest

from factor_worlds import records_of
from flr.diagnostics.mutual_information import (
    Information,
    factor_information,
    gaussian_and_rest,
    infonce,
    ksg,
    neighbours,
    one_per_user,
    principal_components,
    with_null,
)
from flr.errors import DataError


def gaussians(n: int, d: int, correlation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """Return x, y with coordinate-wise correlation, and their mutual information -d/2 log(1 - r^2)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=(n, d))
    return x, y, -d / 2 * np.log(1 - correlation**2)


@pytest.mark.parametrize(("d", "correlation"), [(1, 0.6), (2, 0.8), (3, 0.6)])
def test_neighbours_recover_gaussians(d: int, correlation: float) -> None:
    x, y, expected = gaussians(3000, d, correlation)
    assert ksg(x, y) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("d", "correlation"), [(2, 0.8), (4, 0.6)])
def test_the_critic_recovers_gaussians(d: int, correlation: float) -> None:
    x, y, expected = gaussians(6000, d, correlation)
    assert infonce(x, y) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("nats", [1.0, 2.0, 3.0, 5.7])
@pytest.mark.parametrize("n", [280, 500, 943, 1723])
def test_neighbours_recover_gaussians_that_share_as_much_as_factors_do(n: int, nats: float) -> None:
    correlation = float(np.sqrt(1 - np.exp(-2 * nats / 3)))
    found = [neighbours(*gaussians(n, 3, correlation, seed)[:2]) for seed in range(4)]
    assert np.mean(found) == pytest.approx(nats, rel=0.1)


def test_groups_are_not_lost_on_the_larger_of_two_estimates() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 8, 900)  # all that x and y share: log 8 = 2.08 nats
    x, y = (rng.normal(size=(8, 3))[group] * 6 + rng.normal(size=(900, 3)) for _ in range(2))
    assert gaussian_and_rest(x, y) < 1.6
    assert neighbours(x, y) == pytest.approx(np.log(8), rel=0.1)


def test_a_curved_relation_without_correlation_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 1))
    y = x**2 + 0.1 * rng.normal(size=(1000, 1))
    for estimator in (ksg, gaussian_and_rest, infonce):
        found = with_null(estimator, x, y, rng, 5)
        assert found.nats > found.null.max() + 0.3


def test_independent_factors_are_within_their_null() -> None:
    x, y, _ = gaussians(600, 3, 0.0)
    assert abs(ksg(x, y)) < 0.06
    assert abs(gaussian_and_rest(x, y)) < 0.1
    assert abs(infonce(x, y)) < 0.06
    assert with_null(ksg, x, y, np.random.default_rng(0), 39).p_value > 0.025


def test_neighbours_ignore_scales_and_know_nothing_from_nothing() -> None:
    x, y, _ = gaussians(400, 2, 0.7)
    assert ksg(x, y[:, :0]) == 0
    assert ksg(x * 1000, y + 5) == pytest.approx(ksg(x, y), abs=1e-3)


def test_p_values_count_the_estimate_itself() -> None:
    assert Information(1.0, np.array([0.0, 2.0, 0.5])).p_value == 0.5
    assert Information(3.0, np.array([0.0, 2.0, 0.5])).p_value == 0.25


def test_components_are_uncorrelated_of_unit_variance_and_real() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 5))
    found = principal_components(flat, 4)
    assert found.shape == (100, 2)
    np.testing.assert_allclose(found.T @ found / 100, np.eye(2), atol=1e-8)
    assert principal_components(np.ones((9, 3)), 2).shape == (9, 0)


def test_one_target_of_each_user() -> None:
    users = np.array([4, 2, 4, 4, 9])
    chosen = one_per_user(users, np.random.default_rng(0))
    assert sorted(users[chosen].tolist()) == [2, 4, 9]


def test_the_table_finds_the_pair_that_shares() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(300, 1, 3, 4))
    factors[:, 0, 2] = np.tanh(2 * factors[:, 0, 0][:, ::-1])
    table = factor_information(records_of(factors), rng, n_permutations=59, n_permutations_infonce=2)
    assert table.height == 6
    sharing = {row["pair"]: row for row in table.filter(estimator="neighbours").to_dicts()}
    assert sharing["0-2"]["p_value"] == pytest.approx(1 / 60), "no permutation of any pair shares as much"
    assert min(sharing[pair]["p_value"] for pair in ("0-1", "1-2")) > 0.1
    by_critic = {row["pair"]: row["nats"] for row in table.filter(estimator="infonce").to_dicts()}
    assert by_critic["0-2"] > 1 > abs(by_critic["0-1"])


def test_too_few_targets_are_refused() -> None:
    with pytest.raises(DataError, match="got 4 targets, expected more than the k = 4"):
        ksg(np.zeros((4, 1)), np.zeros((4, 1)))
    with pytest.raises(DataError, match="got 49 targets"):
        infonce(np.zeros((49, 1)), np.zeros((49, 1)))


def test_with_few_users_or_one_factor_there_is_less_to_tell() -> None:
    rng = np.random.default_rng(0)
    few = factor_information(records_of(rng.normal(size=(40, 1, 2, 3))), rng, n_permutations=2)
    assert few["estimator"].to_list() == ["neighbours"]
    alone = factor_information(records_of(rng.normal(size=(80, 1, 1, 3))), rng, n_permutations=2)
    assert alone.is_empty()
