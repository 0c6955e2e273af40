"""Profiles find what was planted, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from factor_worlds import records_of
from flr.data.storage import load_prepared
from flr.diagnostics.factor_records import FactorRecords
from flr.errors import ConfigError, DataError
from flr.explanation.profiles import FactorProfile, FactorProfiles
from flr.explanation.profiling import profile_factors, profile_records
from flr.recommender import Recommender
from flr.records import Catalogue, Histories
from toy import toy_catalogue, toy_sequences

from .conftest import Make

N_ITEMS, LENGTH = 40, 10
GENRES = ["Drama", "War", "Sci-Fi", "Comedy"]


def catalogue() -> Catalogue:
    """Return items whose genre is their index modulo 4, and whose makers say nothing."""
    genres = [GENRES[n % 4] for n in range(N_ITEMS)]
    makers = [f"maker {n // 4 % 5}" for n in range(N_ITEMS)]
    whole = toy_catalogue([f"Title {n}" for n in range(N_ITEMS)])
    return replace(whole, attributes=pl.DataFrame({"genre": genres, "maker": makers}))


def records(attention: np.ndarray, items: np.ndarray, users: list[int] | None = None) -> FactorRecords:
    """Return records of attention [n, LENGTH, K] on items [n, LENGTH]."""
    n, _, n_factors = attention.shape
    plain = records_of(np.ones((n, 1, n_factors, 2)), users=users, item_attention=[one[:, None] for one in attention])
    return replace(plain, histories=Histories(items.ravel(), np.arange(n + 1) * LENGTH))


def random_items(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, N_ITEMS, (n, LENGTH))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits)
    return weights / weights.sum(1, keepdims=True)


def profiled(attention: np.ndarray, items: np.ndarray, users: list[int] | None = None) -> FactorProfiles:
    return profile_records(records(attention, items, users), catalogue(), np.arange(N_ITEMS), split="valid")


def sure(profile: FactorProfile) -> set[str]:
    return {lift.value for lift in profile.attributes if lift.is_sure and lift.lift > 1}


def test_a_planted_attribute_is_found_and_only_that() -> None:
    items = random_items(300)
    planted = softmax(1.5 * (items % 4 == 2))
    even = np.full(items.shape, 1 / LENGTH)
    found = profiled(np.stack([planted, even], axis=2), items)
    assert found.columns == ("genre", "maker")
    assert found.n_values == 9
    assert sure(found.factors[0]) == {"Sci-Fi"}
    assert found.factors[0].name == "Sci-Fi"
    assert sure(found.factors[1]) == set()
    assert found.factors[1].name == "whole history"
    assert found.factors[1].spread == pytest.approx(1)
    best = found.factors[0].attributes[0]
    share = (planted * (items % 4 == 2)).sum(1).mean()
    base = (items % 4 == 2).mean()
    assert (best.attribute, best.value) == ("genre", "Sci-Fi")
    assert best.share == pytest.approx(share, abs=1e-6)
    assert best.base == pytest.approx(base, abs=1e-6)
    assert best.lift == pytest.approx((300 * share + 1) / (300 * base + 1), abs=1e-5)
    assert {item.item_index % 4 for item in found.factors[0].items} == {2}


def test_attention_that_looks_at_no_attribute_is_never_sure() -> None:
    n_found = 0
    for seed in range(40):
        items, rng = random_items(120, seed), np.random.default_rng(1000 + seed)
        # One item at a time, the case that breaks normal approximations.
        single = np.eye(LENGTH)[rng.integers(0, LENGTH, 120)]
        uneven = softmax(2 * rng.normal(size=items.shape))
        found = profiled(np.stack([single, uneven], axis=2), items)
        n_found += any(lift.is_sure for profile in found.factors for lift in profile.attributes)
    assert n_found <= 2  # 5 % of 40


def test_many_targets_of_one_user_are_not_many_users() -> None:
    items = np.repeat(random_items(25), 8, axis=0)
    # Every user looks at one item of theirs, always the same: 25 looks, not 200.
    at = np.repeat(np.random.default_rng(3).integers(0, LENGTH, 25), 8)
    attention = np.eye(LENGTH)[at][..., None]
    by_user = profiled(attention, items, users=np.repeat(np.arange(25), 8).tolist())
    once = profiled(attention[::8], items[::8])
    assert by_user.n_users == 25
    for many, single in zip(by_user.factors[0].attributes, once.factors[0].attributes, strict=True):
        assert many.lift == pytest.approx(single.lift)
        assert many.chance_high == pytest.approx(single.chance_high)


def test_recency_and_popularity_are_of_what_is_read() -> None:
    items = random_items(200)
    latest = np.eye(LENGTH)[np.full(200, LENGTH - 1)]
    oldest = np.eye(LENGTH)[np.zeros(200, dtype=int)]
    popular = softmax(items / 10)
    found = profiled(np.stack([latest, oldest, popular], axis=2), items)
    assert [one.recency.mean for one in found.factors[:2]] == [0.5, -0.5]
    assert [one.recency.low for one in found.factors[:2]] == [0.5, -0.5]
    percentiles = (np.arange(N_ITEMS) + 0.5) / N_ITEMS
    expected = ((popular - 1 / LENGTH) * percentiles[items]).sum(1)
    got = found.factors[2].popularity
    assert got.mean == pytest.approx(expected.mean(), abs=1e-6)
    half = 1.959964 * expected.std(ddof=1) / np.sqrt(200)
    assert (got.low, got.high) == pytest.approx((expected.mean() - half, expected.mean() + half), abs=1e-6)
    assert found.factors[0].name.startswith("latest")
    assert found.factors[1].name.startswith("oldest")
    assert found.factors[2].name.endswith("popular")


def test_a_factor_that_looks_at_no_title_says_nothing() -> None:
    items = random_items(60)
    faint = 1e-4 * softmax(3.0 * (items % 4 == 1))
    found = profiled(np.stack([faint, np.zeros_like(faint)], axis=2), items)
    assert [one.name for one in found.factors] == ["no title", "no title #2"]
    assert found.factors[0].elsewhere == pytest.approx(1 - 1e-4)
    assert sure(found.factors[0]) == set()
    assert found.factors[1].attributes == ()
    assert np.isnan(found.factors[1].recency.mean)


def test_a_model_is_profiled_on_any_split(ring_run: Path) -> None:
    recommender = Recommender.load(ring_run)
    sequences = load_prepared(ring_run.parent / "data").sequences
    for split, n_targets in (("valid", 48), ("train", 48 * 6)):
        found = profile_factors(recommender, sequences, split=split)
        assert (found.split, found.n_targets, found.n_users) == (split, n_targets, 48)
        assert len({one.name for one in found.factors}) == 4
        assert sum(one.gate for one in found.factors) == pytest.approx(1, abs=1e-5)
        assert found.columns == ()


@pytest.mark.parametrize(
    ("settings", "relations"),
    [
        (["reasoner.memory=transitions"], ["soon", "together"] * 2),
        (["reasoner.memory=transitions", "reasoner.relations=shared"], [""] * 4),
        (["reasoner.memory=none"], [""] * 4),
    ],
)
def test_a_profile_tells_what_a_factor_votes_for(make: Make, settings: list[str], relations: list[str]) -> None:
    found = profile_factors(make("reasoner.n_factors=4", *settings), toy_sequences([5, 6]), split="train")
    assert [one.relation for one in found.factors] == relations


def test_what_cannot_be_profiled(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"reasoner.kind = 'none'"):
        profile_factors(make("reasoner.kind=none"), toy_sequences([5, 6]), split="train")
    with pytest.raises(DataError, match="the records are of 1 user"):
        profile_factors(make(), toy_sequences([6]), split="train")
