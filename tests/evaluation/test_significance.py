"""The bootstrap covers a known mean at its nominal rate, and clusters widen it as they must."""

from __future__ import annotations

import numpy as np
import pytest

from flr.errors import DataError
from flr.evaluation.significance import (
    bootstrap_statistic,
    clustered_bootstrap,
    over_seeds,
    percentile_interval,
    resampled_means,
)


def test_it_covers_a_known_mean_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        effect = rng.normal(0.3, 1.0, size=60)
        values = (effect[:, None] + rng.normal(0, 0.5, size=(60, 3))).ravel()
        found = clustered_bootstrap(values, np.repeat(np.arange(60), 3), rng, n_resamples=600, confidence=0.9)
        covered += found.low <= 0.3 <= found.high
    # 0.9 give or take three standard errors of 400 trials, and the percentile method's slight optimism at 60 clusters.
    assert 0.84 <= covered / 400 <= 0.945


def test_equal_values_of_a_user_are_worth_one() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=200)
    once = clustered_bootstrap(values, np.arange(200), rng)
    fourfold = clustered_bootstrap(np.repeat(values, 4), np.repeat(np.arange(200), 4), rng)
    pretended = clustered_bootstrap(np.repeat(values, 4), np.arange(800), rng)
    assert fourfold.high - fourfold.low == pytest.approx(once.high - once.low, rel=0.05)
    assert pretended.high - pretended.low == pytest.approx((once.high - once.low) / 2, rel=0.07)


def test_an_interval_beside_zero_excludes_it() -> None:
    rng = np.random.default_rng(2)
    assert clustered_bootstrap(rng.normal(1, 1, 300), np.arange(300), rng).excludes_zero
    assert not clustered_bootstrap(rng.normal(0, 1, 300) - 0.01, np.arange(300), rng).excludes_zero


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [([1.0, 2.0], [3, 3], "got 1 clusters"), ([1.0, np.nan], [0, 1], "1 values that are not finite")],
)
def test_what_has_no_interval_is_said(values: list[float], clusters: list[int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        clustered_bootstrap(np.array(values), np.array(clusters), np.random.default_rng(0))


def test_a_statistic_of_all_targets_agrees_with_the_mean_where_it_is_one() -> None:
    rng = np.random.default_rng(3)
    values, users = rng.normal(size=300), np.repeat(np.arange(100), 3)
    of_mean = clustered_bootstrap(values, users, rng)
    of_statistic = bootstrap_statistic(lambda rows: float(values[rows].mean()), users, rng, n_resamples=2000)
    assert of_statistic.mean == pytest.approx(of_mean.mean)
    assert [of_statistic.low, of_statistic.high] == pytest.approx([of_mean.low, of_mean.high], abs=0.015)


def test_a_statistic_that_is_never_defined_has_no_interval() -> None:
    found = bootstrap_statistic(lambda _: float("nan"), np.arange(4), np.random.default_rng(0), n_resamples=5)
    assert np.isnan([found.mean, found.low, found.high]).all()


def test_seeds_have_a_mean_and_a_deviation() -> None:
    found = over_seeds([0.1, 0.2, 0.6])
    assert (found.mean, found.n) == (pytest.approx(0.3), 3)
    assert found.sd == pytest.approx(((0.04 + 0.01 + 0.09) / 2) ** 0.5)
    assert np.isnan(over_seeds([0.1]).sd)
    with pytest.raises(DataError, match="got no seed"):
        over_seeds([])


def test_columns_are_resampled_together_and_only_where_they_are() -> None:
    """The interval of a mean is that of the bootstrap of one column; the second column is of every other user only."""
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(80), 2)
    first = rng.normal(1, 1, 160)
    second = np.where(users % 2 == 0, 3 * first, np.nan)
    drawn = resampled_means(np.stack([first, second, 2 * first], axis=1), users, np.random.default_rng(5))
    assert drawn.shape == (2000, 3)
    np.testing.assert_allclose(drawn[:, 2], 2 * drawn[:, 0])
    alone = clustered_bootstrap(first, users, np.random.default_rng(6))
    found = percentile_interval(float(first.mean()), drawn[:, 0])
    assert [found.low, found.high] == pytest.approx([alone.low, alone.high], abs=0.02)
    assert drawn[:, 1].mean() == pytest.approx(np.nanmean(second), abs=0.02)
    assert drawn[:, 1].std() > 3 * drawn[:, 0].std() * 1.2  # half of the users


def test_a_column_without_a_target_of_the_resample_is_nan() -> None:
    values = np.array([[1.0, np.nan], [1.0, 5.0]])
    drawn = resampled_means(values, np.array([0, 1]), np.random.default_rng(0), n_resamples=50)
    assert set(np.unique(drawn[:, 1][~np.isnan(drawn[:, 1])])) == {5.0}
    assert np.isnan(drawn[:, 1]).any()
    with pytest.raises(DataError, match="got 1 clusters"):
        resampled_means(values, np.array([4, 4]), np.random.default_rng(0))
