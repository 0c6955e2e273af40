"""Rank statistics and metrics: exact fractions, ties, and brute force over all orders of the ties."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flr.evaluation import metrics
from flr.records import CONTEXT, TEST, TRAIN, VALID, UserSequences

NOTHING = -np.inf
METRICS = {
    "hr": (metrics.hit_rate, lambda rank: 1.0),
    "ndcg": (metrics.ndcg, lambda rank: 1 / np.log2(1 + rank)),
    "mrr": (metrics.reciprocal_rank, lambda rank: 1 / rank),
}


def counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_rank_statistics_count_better_and_equal_candidates() -> None:
    scores = np.array([[0.5, 0.2, 0.5, 0.9], [0.1, 0.2, 0.3, 0.4]], dtype=np.float32)
    n_better, n_equal = metrics.rank_statistics(scores, counts(2, 0))
    assert n_better.tolist() == [1, 3]
    assert n_equal.tolist() == [2, 1]


def test_excluded_candidates_leave_the_ranking_and_the_scores_untouched() -> None:
    scores = np.array([[0.5, 0.2, 0.5, 0.9]])
    mask = np.array([[True, False, False, True]])
    for excluded in (mask, (counts(0, 0, 0), counts(0, 3, 3))):
        n_better, n_equal = metrics.rank_statistics(scores, counts(2), excluded)
        assert (n_better.item(), n_equal.item()) == (0, 1)
    assert scores.tolist() == [[0.5, 0.2, 0.5, 0.9]]


def test_an_excluded_target_is_a_miss_and_no_target_is_nan() -> None:
    scores = np.array([[0.5, 0.2], [NOTHING, NOTHING], [0.5, 0.2]])
    n_better, n_equal = metrics.rank_statistics(scores, counts(0, 1, -1), (counts(0), counts(0)))
    assert n_better.tolist() == [2, 2, -1]
    assert n_equal.tolist() == [0, 0, 0]
    for metric, _ in METRICS.values():
        assert metric(n_better, n_equal, 5)[:2].tolist() == [0.0, 0.0]
        assert np.isnan(metric(n_better, n_equal, 5)[2])


@pytest.mark.parametrize(
    ("n_better", "n_equal", "k", "hr", "mrr"),
    [
        (0, 1, 1, Fraction(1), Fraction(1)),
        (1, 1, 1, Fraction(0), Fraction(0)),
        (1, 1, 2, Fraction(1), Fraction(1, 2)),
        (0, 4, 1, Fraction(1, 4), Fraction(1, 4)),
        (0, 4, 3, Fraction(3, 4), Fraction(11, 24)),  # (1 + 1/2 + 1/3 + 0) / 4
        (2, 3, 4, Fraction(2, 3), Fraction(7, 36)),  # (1/3 + 1/4 + 0) / 3
        (9, 5, 10, Fraction(1, 5), Fraction(1, 50)),
        (10, 5, 10, Fraction(0), Fraction(0)),
    ],
)
def test_exact_fractions(n_better: int, n_equal: int, k: int, hr: Fraction, mrr: Fraction) -> None:
    assert metrics.hit_rate(counts(n_better), counts(n_equal), k).item() == pytest.approx(float(hr), abs=1e-15)
    assert metrics.reciprocal_rank(counts(n_better), counts(n_equal), k).item() == pytest.approx(float(mrr), abs=1e-15)


@pytest.mark.parametrize(
    ("n_better", "n_equal", "k", "expected"),
    [
        (0, 1, 10, Fraction(1)),
        (2, 1, 10, Fraction(1, 2)),  # 1 / log2(4)
        (6, 1, 10, Fraction(1, 3)),  # 1 / log2(8)
        (14, 1, 20, Fraction(1, 4)),  # 1 / log2(16)
        (2, 2, 3, Fraction(1, 4)),  # rank 3 is worth 1/2, rank 4 is beyond the cutoff
    ],
)
def test_exact_ndcg(n_better: int, n_equal: int, k: int, expected: Fraction) -> None:
    assert metrics.ndcg(counts(n_better), counts(n_equal), k).item() == pytest.approx(float(expected), abs=1e-15)


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    excluded=st.sets(st.integers(0, 5)),
    target=st.integers(0, 5),
    k=st.integers(1, 8),
)
def test_expected_values_equal_the_mean_over_all_orders(
    scores: list[int], excluded: set[int], target: int, k: int
) -> None:
    target %= len(scores)
    gone = np.array(sorted(item for item in excluded if item < len(scores)), dtype=np.int64)
    n_better, n_equal = metrics.rank_statistics(
        np.array([scores], dtype=np.float32), counts(target), (np.zeros_like(gone), gone)
    )
    candidates = [item for item in range(len(scores)) if item not in excluded]
    orders = [
        order
        for order in itertools.permutations(candidates)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    for metric, gain in METRICS.values():
        ranks = [order.index(target) + 1 if target in order else k + 1 for order in orders]
        expected = np.mean([gain(rank) if rank <= k else 0.0 for rank in ranks])
        assert metric(n_better, n_equal, k).item() == pytest.approx(expected, abs=1e-12)


@given(hnp.arrays(np.float32, (3, 7), elements=st.sampled_from([NOTHING, 0.0, 0.5, 1.0])), st.integers(1, 9))
def test_top_items_equal_a_stable_sort(scores: np.ndarray, k: int) -> None:
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [[item for item in row if scores[i, item] > NOTHING][:k] for i, row in enumerate(order.tolist())]
    assert metrics.top_items(scores, k).tolist() == [row + [-1] * (k - len(row)) for row in expected]


def test_coverage_counts_distinct_items() -> None:
    assert metrics.coverage(np.array([[3, 1], [1, -1], [1, 3]]), 8) == 2 / 8


def test_mean_popularity_is_over_places_not_items() -> None:
    assert metrics.mean_popularity(np.array([[0, 1], [0, -1]]), counts(6, 3)) == 5
    assert np.isnan(metrics.mean_popularity(np.array([[-1]]), counts(6, 3)))


def test_training_counts_leave_held_out_rows_out() -> None:
    sequences = UserSequences(
        np.array(["a"], dtype=object),
        counts(0, 5),
        counts(0, 1, 1, 2, 2),
        counts(1, 2, 3, 4, 5),
        np.array([CONTEXT, TRAIN, TRAIN, VALID, TEST], dtype=np.int8),
    )
    assert metrics.training_counts(sequences, 4).tolist() == [1, 2, 0, 0]


def test_standard_error_with_one_value_per_user_is_the_usual_one() -> None:
    values = np.array([0.1, 0.5, 0.9, np.nan, 0.3])
    kept = values[~np.isnan(values)]
    expected = kept.std(ddof=1) / np.sqrt(len(kept))
    assert metrics.clustered_standard_error(values, np.arange(5)) == pytest.approx(expected)


def test_standard_error_of_copied_targets_does_not_shrink() -> None:
    """Asking every user the same twice is no new evidence."""
    values, users = np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.arange(5)
    once = metrics.clustered_standard_error(values, users)
    assert metrics.clustered_standard_error(np.tile(values, 2), np.tile(users, 2)) == pytest.approx(once)


def test_standard_error_of_one_user_is_unknown() -> None:
    assert np.isnan(metrics.clustered_standard_error(np.array([0.0, 1.0]), counts(7, 7)))
    assert np.isnan(metrics.clustered_standard_error(np.array([np.nan]), counts(7)))
