"""Counts of what followed what, and what they are without a given person."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.data.transitions import SMOOTHING, OthersEvidence, count_transitions
from flr.errors import DataError
from flr.records import CONTEXT, TEST, TRAIN, UserSequences
from flr.transitions import RELATIONS, Transitions

N = 9


def sequences_of(rows: list[list[int]], *, held_out: int = 0) -> UserSequences:
    """Return users of given items, the last `held_out` rows of each for test."""
    offsets = np.cumsum([0, *map(len, rows)])
    split = np.full(offsets[-1], TRAIN, dtype=np.int8)
    split[offsets[:-1]] = CONTEXT
    for end in offsets[1:]:
        split[end - held_out : end] = TEST
    items = np.array([item for row in rows for item in row], dtype=np.int32)
    return UserSequences(np.array([f"u{n}" for n in range(len(rows))]), offsets, items, np.arange(len(items)), split)


def counted(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts [N, N, Q] and totals [N, Q], one pair at a time."""
    counts = np.zeros((N, N, len(RELATIONS)))
    for row in rows:
        for place, source in enumerate(row):
            for other, follower in enumerate(row):
                lag = other - place
                counts[source, follower, 0] += lag == 1
                counts[source, follower, 1] += 0.8 ** (lag - 1) if 1 <= lag <= 10 else 0
                counts[source, follower, 2] += 1 <= abs(lag) <= 20
    return counts, counts.sum(1)


def table(transitions: Transitions) -> np.ndarray:
    source, follower = (part.ravel() for part in np.indices((N, N)))
    return transitions.counts_of(source, follower).reshape(N, N, -1)


world = st.lists(st.lists(st.integers(0, N - 1), min_size=2, max_size=25), min_size=1, max_size=5)


@given(world)
def test_counts_equal_counting_pair_by_pair(rows: list[list[int]]) -> None:
    transitions = count_transitions(sequences_of(rows), N)
    counts, totals = counted(rows)
    np.testing.assert_allclose(table(transitions), counts, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(transitions.totals, totals, rtol=1e-5, atol=1e-5)
    taken = np.bincount([item for row in rows for item in row], minlength=N)
    np.testing.assert_allclose(transitions.popularity, taken / taken.sum(), rtol=1e-6)


@given(world)
def test_last_bits_are_those_of_adding_from_the_nearest_lag_on(rows: list[list[int]]) -> None:
    expected = np.zeros((N, N), dtype=np.float32)
    for lag in range(1, 11):
        times = np.zeros((N, N))
        for row in rows:
            np.add.at(times, (row[:-lag], row[lag:]), 1)
        expected += (times * np.float32(0.8 ** (lag - 1))).astype(np.float32)
    np.testing.assert_array_equal(table(count_transitions(sequences_of(rows), N))[:, :, 1], expected)


@given(world)
def test_held_out_rows_are_never_counted(rows: list[list[int]]) -> None:
    longer = [[*row, 0, 1, 2] for row in rows]
    held_out = count_transitions(sequences_of(longer, held_out=3), N)
    np.testing.assert_array_equal(table(held_out), table(count_transitions(sequences_of(rows), N)))


@given(st.lists(st.lists(st.integers(0, N - 1), min_size=6, max_size=40), min_size=1, max_size=4))
def test_evidence_is_what_counting_without_the_person_gives(rows: list[list[int]]) -> None:
    sequences = sequences_of(rows)
    transitions = count_transitions(sequences, N)
    evidence = OthersEvidence(transitions, sequences)
    counts, totals = counted(rows[1:])
    source, target = (part.ravel() for part in np.triu_indices(len(rows[0]), 1))  # rows of the first person
    x, y = np.array(rows[0])[source], np.array(rows[0])[target]
    popular = SMOOTHING * transitions.popularity[y][:, None]
    expected = (counts[x, y] + popular) / (totals[x] + SMOOTHING)
    np.testing.assert_allclose(evidence(source, target), expected, rtol=1e-4, atol=1e-5)


def test_evidence_of_somebody_who_took_the_same_again_is_that_of_others() -> None:
    sequences = sequences_of([[0, 1, 0, 1, 2], [0, 2]])
    evidence = OthersEvidence(count_transitions(sequences, N), sequences)
    popularity = 2 / 7
    alone = (SMOOTHING * popularity) / (1 + SMOOTHING)  # the other person went from 0 to 2
    assert evidence(np.array([0]), np.array([3]))[0] == pytest.approx([alone] * 3)


def test_a_pair_that_only_one_person_took_is_no_evidence_for_that_person() -> None:
    sequences = sequences_of([[0, 1, 2], [3, 4, 5]])
    evidence = OthersEvidence(count_transitions(sequences, N), sequences)
    said = evidence(np.array([0]), np.array([1]))
    assert said[0] == pytest.approx([1 / 6] * 3)  # popularity of item 1, and nothing else


def test_only_the_most_frequent_followers_are_kept_and_totals_still_count_all() -> None:
    rows = [[0, 1], [0, 1], [0, 2], [0, 3]]
    cut = count_transitions(sequences_of(rows), N, max_followers=1)
    of_zero = table(cut)[0]
    assert np.flatnonzero(of_zero[:, 0]).tolist() == [1]
    assert cut.totals[0, 0] == 4


def test_nothing_to_count_is_an_error() -> None:
    sequences = sequences_of([[0]])
    with pytest.raises(DataError, match="no training row"):
        count_transitions(sequences, N)
