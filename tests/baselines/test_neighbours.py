"""Last-item Markov: counts of consecutive pairs, popularity where they tie."""

from __future__ import annotations

import numpy as np
import pytest

from flr.baselines.neighbours import BACK_OFF, LastItemMarkov
from flr.records import CONTEXT, TEST, TRAIN, VALID, Histories, UserSequences

N_ITEMS = 6


def fitted(users: list[list[int]], splits: list[list[int]]) -> LastItemMarkov:
    sequences = UserSequences(
        np.array([str(i) for i in range(len(users))], dtype=object),
        np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64),
        np.concatenate(users).astype(np.int32),
        np.arange(sum(map(len, users))),
        np.concatenate(splits).astype(np.int8),
    )
    return LastItemMarkov.fit(sequences, N_ITEMS)


def score(markov: LastItemMarkov, *histories: list[int]) -> np.ndarray:
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    return markov.score(
        Histories(np.array([item for history in histories for item in history], dtype=np.int64), offsets)
    )


@pytest.fixture
def markov() -> LastItemMarkov:
    users = [[0, 1, 2, 3, 4], [0, 1, 0, 2, 5], [3, 0, 1, 4], []]
    splits = [[TRAIN, TRAIN, TRAIN, VALID, TEST], [TRAIN] * 3 + [VALID, TEST], [CONTEXT, TRAIN, VALID, TEST], []]
    return fitted(users, splits)


def test_pairs_are_counted_within_users_and_end_in_training_rows(markov: LastItemMarkov) -> None:
    pairs = {
        (x, int(y)): round(float(share), 9)
        for x in range(N_ITEMS)
        for y, share in zip(
            markov.followers[markov.offsets[x] : markov.offsets[x + 1]],
            markov.shares[markov.offsets[x] : markov.offsets[x + 1]],
            strict=True,
        )
    }
    assert pairs == {(0, 1): 1.0, (1, 2): 0.5, (1, 0): 0.5, (3, 0): 1.0}


def test_score_is_the_stated_mixture(markov: LastItemMarkov) -> None:
    popularity = np.array([5, 3, 2, 2, 1, 1]) / 14  # counts 4, 2, 1, 1 (context), 0, 0, each plus one
    followers = np.array([0.5, 0, 0.5, 0, 0, 0])
    expected = np.log((1 - BACK_OFF) * followers + BACK_OFF * popularity)
    assert score(markov, [3, 1])[0] == pytest.approx(expected)


def test_only_the_last_item_matters(markov: LastItemMarkov) -> None:
    scores = score(markov, [0, 1], [5, 4, 1], [1])
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def test_popularity_breaks_ties_and_nothing_else(markov: LastItemMarkov) -> None:
    scores = score(markov, [1])[0]
    # 0 and 2 followed once each and 0 is more popular; the others never did, so their own popularity orders them.
    assert np.argsort(-scores, kind="stable").tolist() == [0, 2, 1, 3, 4, 5]
    assert scores[4] == scores[5]


@pytest.mark.parametrize("history", [[], [4], [N_ITEMS + 3], [-1]])
def test_unknown_and_empty_histories_fall_back_to_popularity(markov: LastItemMarkov, history: list[int]) -> None:
    asked = Histories(np.array(history, dtype=np.int64), np.array([0, len(history)]))
    assert score(markov, history)[0] == pytest.approx(markov.popularity.score(asked)[0])


def test_no_pairs_at_all_is_popularity() -> None:
    markov = fitted([[0], [1]], [[TRAIN], [TRAIN]])
    assert len(markov.followers) == 0
    assert np.exp(score(markov, [0])[0]).sum() == pytest.approx(1)
