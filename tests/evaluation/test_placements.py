"""Placements are those of the protocol, and the credit by titles is that of every order of the ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flr.baselines.neighbours import LastItemMarkov
from flr.evaluation import placements
from flr.evaluation.metrics import exclude, hit_rate, rank_statistics
from flr.evaluation.placements import place_targets, title_hit_rate
from flr.evaluation.protocol import SeenItems, evaluate
from flr.records import TEST, UserSequences

TREATMENTS: tuple[SeenItems, SeenItems] = ("exclude", "include")


def ignore(n: int = 1, note: str = "") -> None:
    """Take a step of progress."""


def random_sequences(n_users: int = 30, length: int = 6, n_items: int = 15) -> UserSequences:
    rng = np.random.default_rng(0)
    split = np.tile(np.array([0, 1, 1, 2, 3, 3], dtype=np.int8), n_users)
    users = np.array([f"u{n}" for n in range(n_users)], dtype=object)
    items = rng.integers(0, n_items, n_users * length).astype(np.int32)
    return UserSequences(users, np.arange(n_users + 1) * length, items, np.arange(len(items)), split)


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_ranks_are_those_of_the_protocol_for_any_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "_AT_ONCE", at_once)
    sequences = random_sequences()
    scorer = LastItemMarkov.fit(sequences, 15)
    placed = place_targets(
        scorer, sequences, sequences.targets(TEST), titles=np.arange(15), seen_items=TREATMENTS, step=ignore
    )
    for treatment, found in zip(TREATMENTS, placed, strict=True):
        expected = evaluate(scorer, sequences, 15, seen_items=treatment).per_target
        assert (found.recommender, found.seen_items) == ("last-item-markov", treatment)
        assert found.n_better.tolist() == expected["n_better"].to_list()
        assert found.n_equal.tolist() == expected["n_equal"].to_list()
        assert found.title_hits.tolist() == expected["hr@10"].to_list()


def counted(scores: np.ndarray, target: int, titles: np.ndarray, k: int) -> float:
    """Return the share of all orders of tied items in which the title is among the first k."""
    hits = []
    for order in itertools.permutations(range(len(scores))):
        ranked = [item for item in sorted(order, key=lambda item: -scores[item]) if scores[item] > -np.inf]
        hits.append(titles[target] in titles[ranked[:k]])
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("seen", [[], [0], [0, 4]])
def test_credit_by_titles_counts_all_orders_of_ties(k: int, seen: list[int]) -> None:
    rng = np.random.default_rng(k)
    titles = np.array([0, 1, 0, 2, 0, 1])
    mask = np.tile(np.isin(np.arange(6), seen), (6, 1))
    scores = exclude(rng.integers(0, 3, (6, 6)).astype(float), mask)
    targets = np.arange(6)
    found = title_hit_rate(scores, targets, titles, k, ranks=rank_statistics(scores, targets))
    assert np.allclose(found, [counted(row, target, titles, k) for row, target in zip(scores, targets, strict=True)])


def test_where_no_title_is_shared_titles_are_ids() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (4, 8)).astype(float)
    ranks = rank_statistics(scores, np.arange(4))
    found = title_hit_rate(scores, np.arange(4), np.arange(8), 3, ranks=ranks)
    assert found.tolist() == hit_rate(*ranks, 3).tolist()
