"""Profiles find what was planted, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from factor_worlds import records_of
from flr.data.storage import load_prepared
from flr.diagnostics.factor_records import FactorRecords
from flr.errors import ConfigError, DataError
from flr.explanation.lifts import _chance
from flr.explanation.looks import Looks
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


def by_directors(n_items: int = 200) -> Catalogue:
    """Return items by 100 directors, two by each, in four genres."""
    whole = toy_catalogue([f"Title {n}" for n in range(n_items)])
    directors = [f"director {n // 2}" for n in range(n_items)]
    return replace(
        whole, attributes=pl.DataFrame({"director": directors, "genre": [GENRES[n % 4] for n in range(n_items)]})
    )


def reading(liked: list[int], strength: float) -> FactorProfile:
    """Return the profile of a factor that likes some items, each in every fifth history, whatever they are."""
    rng = np.random.default_rng(0)
    items = np.array([rng.choice(np.arange(10, 200), LENGTH, replace=False) for _ in range(300)])
    for number, item in enumerate(liked):
        items[np.arange(number, 300, 5), number] = item
    items[299, -1] = 1  # so that the director of item 0 has two films
    attention = np.where(np.isin(items, liked), strength, 1.0)
    made = records((attention / attention.sum(1, keepdims=True))[..., None], items)
    return profile_records(made, by_directors(), np.ones(200, dtype=np.int64), split="valid").factors[0]


def test_a_factor_that_likes_one_item_is_not_named_after_what_it_has() -> None:
    profile = reading([0], 8)
    assert {lift.value for lift in profile.attributes if lift.lift > 1.2} == {"director 0", "Drama"}
    assert sure(profile) == set()
    # Nor is it said to avoid what the item has not.
    assert not any(lift.is_sure for lift in reading([0], 1e3).attributes)
    assert not any(lift.is_sure for lift in reading([0], 1e-3).attributes)
    # What several items have is a reason.
    assert sure(reading([0, 4, 8], 8)) == {"Drama"}


def test_chance_without_an_item_is_that_of_histories_without_it() -> None:
    items = random_items(80)
    attention = np.where(items == 4, 5.0, 1.0) * np.random.default_rng(5).random(items.shape) ** (items % 4 > 0)
    attention /= attention.sum(1, keepdims=True)
    looks = Looks.of(records(attention[..., None], items, users=np.repeat(np.arange(40), 2).tolist()))
    belongs = csr_array((np.arange(N_ITEMS) % 4 == 0).astype(float)[:, None])
    has = belongs[looks.items]
    found = _chance(looks, 0, belongs, has.T @ looks.attention[:, 0], n_compared=9)
    gain = np.bincount(looks.items, looks.attention[:, 0] - looks.even[:, 0])
    assert gain[::4].argmax() == 1
    others = np.where(np.arange(N_ITEMS) % 4 == 0, np.inf, gain)
    # Nothing is beyond chance where what is read is what chance gives.
    least, most = _chance(looks, 0, belongs, has.T @ looks.even[:, 0], n_compared=9)
    ranges = [least[0], most[0]]
    for item, own in ((4, looks.attention[looks.items == 4, 0].sum()), (int(others.argmin()), 0.0)):
        rest = looks.only(looks.items != item)
        assert rest.by_user(rest.even[:, 0]) == pytest.approx(rest.by_user(rest.attention[:, 0]))
        least, most = _chance(rest, 0, belongs, belongs[rest.items].T @ rest.even[:, 0], n_compared=9)
        ranges += [own + least[0], own + most[0]]
    assert (found[0][0], found[1][0]) == pytest.approx((min(ranges), max(ranges)))


def test_every_user_counts_once() -> None:
    users = [0] * 90 + list(range(1, 11))
    attention = np.full((100, LENGTH, 2), 1 / LENGTH)
    gates = np.repeat([[[0.9, 0.1]], [[0.1, 0.9]]], [90, 10], axis=0)
    made = replace(records(attention, random_items(100), users), gates=gates, token_entropy=gates)
    profile = profile_records(made, catalogue(), np.arange(N_ITEMS), split="valid").factors[0]
    assert profile.gate == pytest.approx((0.9 + 10 * 0.1) / 11)
    assert profile.token_spread == pytest.approx((0.9 + 10 * 0.1) / 11)


def test_an_item_is_typical_of_what_several_users_read() -> None:
    items = np.tile(np.arange(10, 20), (66, 1))
    items[:6, 3] = 5  # in six histories of one user, who reads nothing else
    items[6:11, 3] = 6  # in histories of five users
    attention = np.full(items.shape, 0.1)
    attention[:11] = np.eye(LENGTH)[3]
    profile = profiled(attention[..., None], items, users=[0] * 6 + list(range(1, 61))).factors[0]
    assert [(item.item_index, item.n_read) for item in profile.items] == [(6, 5)]


def of_lengths(*attention: list[float], spread: float) -> FactorRecords:
    """Return records of one factor, a user each, that reads histories so; spread where there are several items."""
    item_attention = [np.array(one)[:, None, None] for one in attention]
    plain = records_of(np.ones((len(attention), 1, 1, 2)), item_attention=item_attention)
    of_several = np.array([len(one) > 1 for one in attention])[:, None, None]
    return replace(plain, token_entropy=spread * of_several)


def test_a_history_of_one_item_leaves_no_choice() -> None:
    made = of_lengths(*[[1.0]] * 80, *[[0.0, 0.0, 1.0]] * 20, spread=0.25)
    profile = profile_records(made, catalogue(), np.arange(N_ITEMS), split="valid").factors[0]
    assert (profile.recency.mean, profile.recency.low, profile.recency.high) == (0.5, 0.5, 0.5)
    assert (profile.spread, profile.token_spread) == (0, 0.25)
    assert profile.name == "latest"
    nothing = profile_records(of_lengths([1.0], [1.0], spread=1), catalogue(), np.arange(N_ITEMS), split="valid")
    (factor,) = nothing.factors
    assert np.isnan([factor.spread, factor.token_spread, factor.recency.mean]).all()
    assert factor.name == "unspecialised"


@pytest.mark.parametrize(("reads", "name"), [("items", "single item"), ("tokens", "single token")])
def test_who_reads_items_does_not_read_a_single_token(
    reads: str, name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = of_lengths(*[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] * 20, spread=0.01)
    monkeypatch.setattr("flr.explanation.profiling.collect_factors", lambda *_, **__: made)
    recommender = make("reasoner.memory=none", f"reasoner.reads={reads}", "reasoner.reads_age=false")
    assert [one.name for one in profile_factors(recommender, toy_sequences([5, 6])).factors] == [name]


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
