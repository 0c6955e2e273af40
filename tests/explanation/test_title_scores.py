"""One title's log-probability is that of the whole catalogue's scores."""

from __future__ import annotations

import numpy as np
import pytest

from flr.explanation.title_scores import score_titles
from flr.records import Histories
from toy import INSTRUCTION, TITLES, UNSET

from .conftest import Make

KINDS = {
    "history": [],
    "thought alone": ["reasoner.titles_see=thought"],
    "all positions": ["reasoner.thought_positions=all"],
    "no thought": ["reasoner.kind=none"],
    "vocabulary": ["objective.likelihood=vocabulary"],
    "instruction": INSTRUCTION,
    "default": UNSET,
}


@pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
def test_a_title_alone_scores_as_among_all(overrides: list[str], make: Make) -> None:
    recommender, rng = make(*overrides), np.random.default_rng(0)
    lengths = rng.integers(1, 10, 40)
    histories = Histories(rng.integers(0, len(TITLES), lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))
    items = rng.integers(0, len(TITLES), 40)
    expected = recommender.score(histories)[np.arange(40), items]
    np.testing.assert_allclose(score_titles(recommender, histories, items), expected, atol=1e-4)


def test_a_title_alone_scores_as_it_is_steered(make: Make) -> None:
    recommender = make(*UNSET)
    history, weights = Histories(np.array([3, 7, 0]), np.array([0, 3])), [0.0, 2.0, 1.0, 1.0]
    expected = recommender.score(history, factor_weights=weights)[0, 8]
    assert score_titles(recommender, history, np.array([8]), weights)[0] == pytest.approx(expected, abs=1e-5)
    assert score_titles(recommender, history, np.array([8]))[0] != pytest.approx(expected, abs=1e-5)


def test_where_there_is_one_title_there_is_nothing_to_choose(make: Make) -> None:
    recommender = make(titles=["Same (1990)"] * 4)
    scores = score_titles(recommender, Histories(np.array([0, 1, 2]), np.array([0, 1, 3])), np.array([3, 0]))
    np.testing.assert_allclose(scores, np.log([0.25, 0.25]))
