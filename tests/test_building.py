"""From settings to the fresh parts of a model: which factor votes for which relation."""

from __future__ import annotations

import pytest

from flr.building import build_memory
from flr.config import load_config
from flr.data.transitions import count_transitions
from toy import toy_model, toy_sequences

SOON, TOGETHER, HALF = [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "relations"),
    [
        (["reasoner.n_factors=3"], [SOON, TOGETHER, SOON]),
        (["reasoner.n_factors=1"], [HALF]),
        (["reasoner.n_factors=2", "reasoner.relations=shared"], [HALF, HALF]),
    ],
)
def test_factors_vote_for_a_relation_each_where_there_are_several(
    settings: list[str], relations: list[list[float]]
) -> None:
    model, *_ = toy_model()
    transitions = count_transitions(toy_sequences([9, 12], 8), 8)
    memory = build_memory(load_config(None, settings).reasoner, model.backbone, transitions)
    assert memory is not None
    assert memory.relations().tolist() == [pytest.approx(row, abs=1e-5) for row in relations]
