"""The mixture of transitions: what followed each item, weighted by its age alone."""

from __future__ import annotations

import numpy as np
import pytest

from flr.baselines.transitions import TransitionMixture
from flr.data.transitions import SMOOTHING
from flr.records import CONTEXT, TRAIN, Histories, UserSequences

N_ITEMS = 4


def fitted(decay: float, relations: tuple[float, ...]) -> TransitionMixture:
    """Fit to two people who took 0 1 2 and 0 1 3."""
    users = UserSequences(
        np.array(["a", "b"], dtype=object),
        np.array([0, 3, 6]),
        np.array([0, 1, 2, 0, 1, 3], dtype=np.int32),
        np.arange(6),
        np.array([CONTEXT, TRAIN, TRAIN] * 2, dtype=np.int8),
    )
    return TransitionMixture.fit(users, N_ITEMS, decay=decay, relations=relations)


def test_each_item_votes_for_its_followers_the_latest_most() -> None:
    mixture = fitted(0.5, (1.0, 0.0, 0.0))
    popularity = mixture.popularity.probabilities
    after_0 = (np.array([0, 2, 0, 0]) + SMOOTHING * popularity) / (2 + SMOOTHING)
    after_1 = (np.array([0, 0, 1, 1]) + SMOOTHING * popularity) / (2 + SMOOTHING)
    expected = (after_0 * 0.5 + after_1) / 1.5
    scores = mixture.score(Histories(np.array([0, 1]), np.array([0, 2])))
    assert np.exp(scores[0]) == pytest.approx(expected)


def test_relations_are_mixed() -> None:
    histories = Histories(np.array([1]), np.array([0, 1]))
    soon, together = (fitted(0.5, rho).score(histories) for rho in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    both = fitted(0.5, (0.0, 0.25, 0.75)).score(histories)
    assert np.exp(both) == pytest.approx(0.25 * np.exp(soon) + 0.75 * np.exp(together))
    # Together looks back too: both people took 0 before 1.
    assert together[0, 0] > soon[0, 0]
