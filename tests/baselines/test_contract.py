"""What every scorer must satisfy. A new recommender joins by adding a fixture parameter to `SCORERS`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from flr.baselines.neighbours import LastItemMarkov
from flr.baselines.popularity import Popularity, PopularityOfUsers
from flr.evaluation.protocol import Scorer, evaluate
from flr.records import CONTEXT, TEST, TRAIN, VALID, Histories, UserSequences

N_ITEMS = 7
SCORERS: list[Callable[[UserSequences, int], Scorer]] = [
    Popularity.fit,
    PopularityOfUsers.fit,
    LastItemMarkov.fit,
]


def sequences(held_out: tuple[int, int] = (4, 5)) -> UserSequences:
    """Return users who took 0 1 2 3 and then the held-out items, one with a context row; item 6 is never taken."""
    users = [[0, 1, 2, 3, *held_out], [0, 1, 0, 1, *held_out], [2, 1, 2, *held_out]]
    splits = [[CONTEXT, TRAIN, TRAIN, TRAIN], [TRAIN] * 4, [TRAIN] * 3]
    return UserSequences(
        np.array(["a", "b", "c"], dtype=object),
        np.concatenate([[0], np.cumsum([len(user) for user in users])]),
        np.concatenate(users).astype(np.int32),
        np.arange(17),
        np.concatenate([[*split, VALID, TEST] for split in splits]).astype(np.int8),
    )


def histories(*items: list[int]) -> Histories:
    lengths = [len(history) for history in items]
    flat = np.array([item for history in items for item in history], dtype=np.int64)
    return Histories(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


ASKED = histories([0, 1], [], [6], [3, 2, 1, 0])


@pytest.fixture(params=SCORERS, ids=lambda fit: fit.__self__.__name__)
def fit(request: pytest.FixtureRequest) -> Callable[[UserSequences, int], Scorer]:
    return request.param


def test_scores_cover_the_catalogue(fit: Callable[[UserSequences, int], Scorer]) -> None:
    scores = fit(sequences(), N_ITEMS).score(ASKED)
    assert scores.shape == (4, N_ITEMS)
    assert scores.dtype in (np.float32, np.float64)
    assert np.isfinite(scores).all()


def test_probabilities_sum_to_one(fit: Callable[[UserSequences, int], Scorer]) -> None:
    scores = fit(sequences(), N_ITEMS).score(ASKED)
    assert np.exp(scores).sum(axis=1) == pytest.approx(np.ones(4))


def test_a_batch_equals_its_rows(fit: Callable[[UserSequences, int], Scorer]) -> None:
    scorer = fit(sequences(), N_ITEMS)
    rows = [scorer.score(ASKED.take(np.array([b])))[0] for b in range(4)]
    assert np.array_equal(scorer.score(ASKED), np.stack(rows))


def test_no_histories_no_scores(fit: Callable[[UserSequences, int], Scorer]) -> None:
    assert fit(sequences(), N_ITEMS).score(histories()).shape == (0, N_ITEMS)


def test_held_out_rows_teach_nothing(fit: Callable[[UserSequences, int], Scorer]) -> None:
    one, other = fit(sequences((4, 5)), N_ITEMS), fit(sequences((5, 6)), N_ITEMS)
    assert np.array_equal(one.score(ASKED), other.score(ASKED))


def test_scoring_leaves_the_histories_alone(fit: Callable[[UserSequences, int], Scorer]) -> None:
    asked = histories([0, 1], [2])
    fit(sequences(), N_ITEMS).score(asked)
    assert asked.item_index.tolist() == [0, 1, 2]


def test_it_can_be_evaluated(fit: Callable[[UserSequences, int], Scorer]) -> None:
    scorer = fit(sequences(), N_ITEMS)
    report = evaluate(scorer, sequences(), N_ITEMS, cutoffs=(5,))
    assert report.name == scorer.name
    assert report.metrics["n_targets"] == 3
    assert 0 <= report.metrics["ndcg@5"] <= report.metrics["hr@5"] <= 1
