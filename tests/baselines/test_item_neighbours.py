"""Item neighbours: EASE solves its regression, over the items that take part, and keeps what is largest."""

from __future__ import annotations

import numpy as np
import pytest

from flr.baselines.item_neighbours import Ease
from flr.records import TEST, TRAIN, VALID, FloatArray, Histories, UserSequences

N_ITEMS, L2 = 12, 3.0


@pytest.fixture(scope="module")
def sequences() -> UserSequences:
    """40 people, the last two rows of each held out; items 10 and 11 are never taken in training."""
    rng = np.random.default_rng(3)
    users = [[*rng.choice(10, 5, replace=False), 10, 11] for _ in range(40)]
    return UserSequences(
        np.array([str(user) for user in range(40)], dtype=object),
        np.arange(0, 7 * 41, 7),
        np.concatenate(users).astype(np.int32),
        np.arange(7 * 40),
        np.tile(np.array([TRAIN] * 5 + [VALID, TEST], dtype=np.int8), 40),
    )


def taken(sequences: UserSequences) -> FloatArray:
    """Return who took what in training, [40, N_ITEMS]."""
    matrix = np.zeros((40, N_ITEMS))
    rows = np.flatnonzero(sequences.split == TRAIN)
    matrix[rows // 7, sequences.item_index[rows]] = 1
    return matrix


def weights_of(fitted: Ease) -> FloatArray:
    dense = np.zeros((N_ITEMS, N_ITEMS))
    np.add.at(dense, (np.arange(N_ITEMS)[:, None], fitted.neighbours), fitted.similarities)
    return dense


def fit(sequences: UserSequences, n_neighbours: int = N_ITEMS, most_items: int = 100, decay: float = 0.5) -> Ease:
    return Ease.fit(sequences, N_ITEMS, l2=L2, decay=decay, n_neighbours=n_neighbours, most_items=most_items)


def test_weights_minimise_the_penalised_error_of_each_item_without_itself(sequences: UserSequences) -> None:
    found, matrix = weights_of(fit(sequences)), taken(sequences)
    assert not found.diagonal().any()
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        ridge = matrix[:, others].T @ matrix[:, others] + L2 * np.eye(N_ITEMS - 1)
        best = np.linalg.solve(ridge, matrix[:, others].T @ matrix[:, item])
        assert found[others, item] == pytest.approx(best, abs=1e-5)


def test_the_largest_weights_are_kept(sequences: UserSequences) -> None:
    every, few = weights_of(fit(sequences)), weights_of(fit(sequences, 3))
    least_kept = np.sort(np.abs(every), axis=1)[:, -3]
    assert np.array_equal(few, np.where(np.abs(every) >= least_kept[:, None], every, 0))


def test_where_there_are_too_many_items_the_most_popular_take_part(sequences: UserSequences) -> None:
    found = weights_of(fit(sequences, most_items=6))
    part = np.sort(np.argsort(-taken(sequences).sum(0), kind="stable")[:6])
    outside = np.delete(np.arange(N_ITEMS), part)
    assert found[np.ix_(part, part)].any()
    assert not found[outside].any()
    assert not found[:, outside].any()


def test_items_speak_by_age_and_what_they_speak_against_is_left_to_popularity(sequences: UserSequences) -> None:
    fitted = fit(sequences)
    dense = weights_of(fitted)
    scores = np.exp(fitted.score(Histories(np.array([4, 7]), np.array([0, 2])))[0])
    expected = (0.5 * dense[4] + dense[7]).clip(min=0)
    assert scores == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert (expected == 0).any()
