"""The bootstrap covers a known mean at its nominal rate, and clusters widen it as they must."""

from __future__ import annotations

import numpy as np
import pytest

from flr.errors import DataError
from flr.evaluation.significance import clustered_bootstrap


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
