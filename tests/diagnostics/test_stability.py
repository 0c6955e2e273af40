"""Factors are found again under other numbers and in other bases, and not where there is nothing to find."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from factor_worlds import records_of
from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.stability import attention_similarity, best_match, factor_stability, match_factors
from flr.errors import DataError

N, K, WIDTH = 120, 4, 5


def one_run(seed: int, *, noise: float = 0.1, shared: int | None = 0) -> FactorRecords:
    """Return a run with the factors of world `shared`, renumbered by seed and each rotated; None shares none."""
    world = np.random.default_rng(1000 + seed if shared is None else shared)
    outputs, attention = world.normal(size=(N, K, WIDTH)), world.dirichlet(np.full(6, 0.3), size=(N, K))
    rng = np.random.default_rng(seed)
    order = rng.permutation(K)
    outputs = outputs[:, order] + noise * rng.normal(size=(N, K, WIDTH))
    for k in range(K):
        outputs[:, k] = outputs[:, k] @ stats.ortho_group.rvs(WIDTH, random_state=seed + k)
    of_items = [one[order].T[:, None] for one in attention]
    return records_of(outputs[:, None], item_attention=of_items)


def order_of(seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(K).tolist()


@pytest.mark.parametrize("measure", ["attention", "output"])
def test_renumbered_and_rotated_factors_are_found_again(measure: str) -> None:
    found = match_factors(one_run(1), one_run(2), np.random.default_rng(0), measure=measure)
    assert [order_of(2)[k] for k in found.partner] == order_of(1)
    assert found.matched > found.random + 0.3
    assert found.p_value == pytest.approx(1 / 24)
    assert found.agreement == 1


@pytest.mark.parametrize("measure", ["attention", "output"])
def test_runs_that_share_nothing_are_matched_no_better_than_by_chance(measure: str) -> None:
    found = [
        match_factors(
            one_run(seed, shared=None), one_run(seed + 50, shared=None), np.random.default_rng(0), measure=measure
        )
        for seed in range(8)
    ]
    assert np.mean([each.matched - each.random for each in found]) == pytest.approx(0, abs=0.02)
    assert np.median([each.p_value for each in found]) > 0.2


def test_attention_similarity_by_hand() -> None:
    first = records_of(np.ones((1, 1, 1, 2)), item_attention=[np.array([[[0.2]], [[0.2]]])])
    second = records_of(np.ones((1, 1, 2, 2)), item_attention=[np.array([[[0.9, 0.0]], [[0.1, 0.0]]])])
    # Half and half shares 0.5 + 0.1 with 0.9 and 0.1, and nothing with a factor that reads no item.
    np.testing.assert_allclose(attention_similarity(first, second), [[0.6, 0.0]])


def test_the_best_match_is_best_in_total() -> None:
    assert best_match(np.array([[0.9, 0.8, 0], [0.8, 0.1, 0], [0, 0, 0.2]])).tolist() == [1, 0, 2]


def test_all_pairs_of_runs_by_both_measures() -> None:
    table = factor_stability([one_run(seed) for seed in (1, 2, 3)], np.random.default_rng(0))
    assert table.select("first", "second").unique().height == 3
    assert table.filter(pl.col("measure") == "output")["agreement"].to_list() == [1, 1, 1]


def test_the_order_of_targets_does_not_matter() -> None:
    shuffled = one_run(2).take(np.random.default_rng(0).permutation(N))
    once = match_factors(one_run(1), one_run(2), np.random.default_rng(0))
    assert match_factors(one_run(1), shuffled, np.random.default_rng(0)).matched == pytest.approx(once.matched)


def test_runs_on_other_targets_or_with_other_factors_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="got 120 and 3 targets"):
        match_factors(one_run(1), one_run(2).take(np.arange(3)), rng)
    with pytest.raises(DataError, match="got runs of 4 and 2 factors"):
        match_factors(one_run(1), records_of(np.ones((N, 1, 2, 3))), rng)
    with pytest.raises(DataError, match="different histories"):
        match_factors(one_run(1), records_of(np.ones((N, 1, K, 3))), rng)
