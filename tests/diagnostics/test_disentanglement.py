"""Disentanglement of factors whose state is known."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from factor_worlds import records_of
from flr.diagnostics.disentanglement import (
    chance_overlap,
    dead_factors,
    disentanglement,
    factor_distances,
    gate_entropy,
    item_overlap,
    pair_cosines,
    permuted_users,
    voted_overlap,
)


def value(table: pl.DataFrame, statistic: str, part: str = "all") -> dict[str, float]:
    (row,) = table.filter((pl.col("statistic") == statistic) & (pl.col("part") == part)).to_dicts()
    return row


def test_equal_and_orthogonal_factors() -> None:
    factors = np.zeros((2, 1, 2, 3))
    factors[0, 0] = [[1, 0, 0], [0, 2, 0]]
    factors[1, 0] = [[1, 1, 0], [2, 2, 0]]
    records = records_of(factors)
    np.testing.assert_allclose(pair_cosines(records)[:, 0, 0], [0, 1], atol=1e-7)
    np.testing.assert_allclose(factor_distances(records)[:, 0], [math.sqrt(2), 0], atol=1e-6)


def test_item_overlap_by_hand() -> None:
    """Two factors agree on one of their two items, so the index is 1 / 3; of two items there is no choice of two."""
    attention = [[[0.5, 0.1], [0.3, 0.6], [0.1, 0.3]], [[0.9, 0.1], [0.1, 0.9]]]
    records = records_of(np.ones((2, 1, 2, 3)), item_attention=[np.array(a)[:, None] for a in attention])
    found = item_overlap(records, 2)
    assert found[0, 0, 0] == pytest.approx(1 / 3)
    assert np.isnan(found[1, 0, 0])


def test_voted_overlap_by_hand() -> None:
    """Of two items each, the first target's factors share one and the second's both."""
    voted = np.array([[[4, 7], [7, 1]], [[2, 3], [3, 2]]])
    records = records_of(np.ones((2, 1, 2, 3)), voted=voted)
    np.testing.assert_allclose(voted_overlap(records)[:, 0], [1 / 3, 1])
    np.testing.assert_allclose(voted_overlap(records, np.array([1, 0]))[:, 0], [0, 0])
    table = disentanglement(records, np.random.default_rng(0), n_resamples=20)
    assert value(table, "voted_overlap", "0-1")["value"] == pytest.approx(2 / 3)
    without = records_of(np.ones((2, 1, 2, 3)))
    assert np.isnan(voted_overlap(without)).all()
    assert "voted_overlap" not in disentanglement(without, np.random.default_rng(0), n_resamples=20)["statistic"]


def test_overlap_by_chance_is_that_of_random_choices() -> None:
    rng = np.random.default_rng(0)
    drawn = [(set(rng.permutation(7)[:3]), set(rng.permutation(7)[:3])) for _ in range(4000)]
    expected = np.mean([len(a & b) / len(a | b) for a, b in drawn])
    assert chance_overlap(np.array([7]), 3)[0] == pytest.approx(expected, abs=0.012)
    assert np.isnan(chance_overlap(np.array([2]), 3)[0])


def test_gates_entropy_and_dead_factors() -> None:
    gates = np.array([[[0.5, 0.5, 0.0]], [[0.98, 0.01, 0.01]]])
    records = records_of(np.ones((2, 1, 3, 2)), gates=gates)
    assert gate_entropy(records)[0, 0] == pytest.approx(math.log(2) / math.log(3))
    assert dead_factors(records).tolist() == [2]
    shares = np.array([[[0.05, 0.45, 0.5]]] * 2)
    uniform = np.full((2, 1, 3), 1 / 3)
    assert dead_factors(records_of(np.ones((2, 1, 3, 2)), gates=uniform, contributions=shares)).tolist() == [0]


def test_the_table_tells_independent_factors_from_copies() -> None:
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(300, 2, 3, 4))
    factors[:, :, 2] = factors[:, :, 0] + 0.1 * rng.normal(size=(300, 2, 4))
    attention = [rng.dirichlet(np.ones(8), size=(2, 3)).transpose(2, 0, 1) for _ in range(300)]
    table = disentanglement(records_of(factors, item_attention=attention), rng, n_resamples=40)
    last = table.filter(pl.col("step") == 2)
    assert value(last, "cosine", "0-2")["value"] > 0.95
    assert abs(value(last, "cosine", "0-1")["value"]) < 0.1
    apart, copies = value(last, "linear_cka", "0-1"), value(last, "linear_cka", "0-2")
    assert copies["low"] > 0.9
    assert apart["value"] == pytest.approx(apart["null"], abs=0.02)
    overlap = value(last, "top_item_overlap")
    assert overlap["low"] < overlap["null"] < overlap["high"]
    rank = value(last, "effective_rank", "1")
    assert 3.8 < rank["value"] <= 4
    assert rank["low"] <= rank["high"]
    assert value(last, "correlation", "0-2")["value"] > value(last, "correlation", "0-1")["value"] + 0.1
    assert set(table["step"]) == {1, 2}


def test_one_factor_has_no_pairs() -> None:
    rng = np.random.default_rng(0)
    table = disentanglement(records_of(rng.normal(size=(5, 1, 1, 3))), rng, n_resamples=5)
    assert not set(table["statistic"]) & {"cosine", "linear_cka", "top_item_overlap"}
    assert value(table, "gate", "0")["value"] == 1


def test_places_without_attention_are_nobodys_choice() -> None:
    rng = np.random.default_rng(0)
    attention = np.zeros((300, 9, 1, 2))
    attention[np.arange(300), rng.integers(0, 4, 300), 0, 0] = 1
    attention[np.arange(300), 4 + rng.integers(0, 4, 300), 0, 1] = 1  # never the same item
    records = records_of(rng.normal(size=(300, 1, 2, 3)), item_attention=list(attention))
    chance = chance_overlap(np.full(300, 9), 3)[0]
    assert item_overlap(records, 3).mean() < 1.2 * chance


def test_users_change_places_as_a_whole() -> None:
    users = np.array([3, 5, 3, 3, 9, 5])
    found = permuted_users(users, np.random.default_rng(0))
    assert (users[found] != users).all()
    partner = dict(zip(users.tolist(), users[found].tolist(), strict=True))
    assert all(partner[user] == users[place] for user, place in zip(users.tolist(), found, strict=True))
    assert sorted(partner.values()) == [3, 5, 9]
    assert found[[0, 2, 3]].tolist() in ([1, 5, 1], [4, 4, 4]), "target by target"


def test_what_is_stable_within_a_user_is_no_relation_between_factors() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 10)
    factors = rng.normal(size=(60, 1, 2, 8))[users] + 0.1 * rng.normal(size=(600, 1, 2, 8))
    table = disentanglement(records_of(factors, users=users.tolist()), np.random.default_rng(1), n_resamples=40)
    row = table.filter((pl.col("statistic") == "correlation") & (pl.col("part") == "0-1")).row(0, named=True)
    assert row["null"] == pytest.approx(row["value"], rel=0.25)
    cka = table.filter((pl.col("statistic") == "linear_cka") & (pl.col("part") == "0-1")).row(0, named=True)
    assert cka["low"] < 0 < cka["high"]
