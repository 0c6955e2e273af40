"""Popularity: counts of training rows, smoothed by one."""

from __future__ import annotations

import numpy as np

from flr.baselines.popularity import Popularity, PopularityOfUsers
from flr.records import CONTEXT, TEST, TRAIN, VALID, Histories, UserSequences


def test_probabilities_are_smoothed_training_counts() -> None:
    sequences = UserSequences(
        np.array(["a"], dtype=object),
        np.array([0, 6]),
        np.array([0, 1, 1, 1, 2, 2]),
        np.arange(6),
        np.array([CONTEXT, TRAIN, TRAIN, TRAIN, VALID, TEST], dtype=np.int8),
    )
    popularity = Popularity.fit(sequences, 4)
    assert popularity.counts.tolist() == [1, 3, 0, 0]
    assert np.allclose(popularity.probabilities, [2 / 8, 4 / 8, 1 / 8, 1 / 8])


def test_items_of_equal_count_tie_exactly() -> None:
    scores = Popularity(np.array([3, 3, 0, 0])).score(Histories(np.zeros(0, dtype=np.int64), np.array([0, 0])))
    assert scores[0, 0] == scores[0, 1]
    assert scores[0, 2] == scores[0, 3]


def test_whoever_takes_an_item_again_counts_once() -> None:
    sequences = UserSequences(
        np.array(["a", "b"], dtype=object),
        np.array([0, 4, 7]),
        np.array([1, 1, 1, 0, 1, 2, 2]),
        np.arange(7),
        np.array([CONTEXT, TRAIN, TRAIN, TRAIN, CONTEXT, TRAIN, TEST], dtype=np.int8),
    )
    assert PopularityOfUsers.fit(sequences, 4).counts.tolist() == [1, 2, 1, 0]
    assert Popularity.fit(sequences, 4).counts.tolist() == [1, 4, 1, 0]
