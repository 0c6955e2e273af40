"""What turning a factor does, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from flr.catalogue.filters import ItemFilter
from flr.errors import RequestError
from flr.recommender import Recommender
from flr.records import Histories, IntArray
from flr.steering import FactorLists, check_factor_weights, interleave
from flr.thoughts import ThoughtState
from live_shop import shop

HISTORIES = [["i0", "i5"], ["i8", "i3", "i2"], ["i10"]]


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return shop()


def test_weights_of_one_change_no_bit(recommender: Recommender) -> None:
    histories = recommender.resolve(HISTORIES)
    plain = recommender.score(histories)
    assert np.array_equal(recommender.score(histories, factor_weights=[1, 1, 1, 1]), plain)
    assert np.array_equal(recommender.score(histories, factor_weights=np.ones((3, 4))), plain)
    assert recommender.recommend(HISTORIES, factor_weights=[1.0] * 4) == recommender.recommend(HISTORIES)


def test_every_history_has_weights_of_its_own(recommender: Recommender) -> None:
    rows = [[0, 1, 2, 1], [3, 0, 0, 0.5], [1, 1, 1, 1]]
    together = recommender.recommend(HISTORIES, k=20, factor_weights=rows)
    for history, weights, found in zip(HISTORIES, rows, together, strict=True):
        (alone,) = recommender.recommend([history], k=20, factor_weights=weights)
        assert [item.item_id for item in found] == [item.item_id for item in alone]
        assert [item.log_prob for item in found] == pytest.approx([item.log_prob for item in alone], abs=1e-4)


@pytest.mark.parametrize("gate", ["softmax", "uniform"])
def test_a_factor_of_weight_zero_adds_nothing_to_the_thought(gate: str) -> None:
    recommender = shop(f"reasoner.gate={gate}")
    histories, reasoner = recommender.resolve(HISTORIES), recommender.model.reasoner
    assert reasoner is not None
    plain, steered = recommender.score(histories), recommender.score(histories, factor_weights=[1, 0, 1, 1])
    with torch.no_grad():  # W_o reads the second factor no more; the gate still does
        reasoner.mix.weight[:, reasoner.factor_width : 2 * reasoner.factor_width] = 0
    np.testing.assert_allclose(steered, recommender.score(histories), atol=1e-5)
    assert np.abs(steered - plain).max() > 1e-3


def test_where_the_gate_is_even_weight_zero_is_a_factor_of_zeros() -> None:
    recommender = shop("reasoner.gate=uniform")

    def without_third(step: int, factors: Tensor) -> Tensor:
        edited = factors.clone()
        edited[:, :, 2] = 0
        return edited

    def think(read: Histories, rows: IntArray) -> ThoughtState:
        streams = recommender.model.read(recommender.compiled.template.streams(read))
        return recommender.model.think(streams, edit=without_third)

    histories = recommender.resolve(HISTORIES)
    steered = recommender.score(histories, factor_weights=[1, 1, 0, 1])
    np.testing.assert_allclose(steered, recommender.score(histories, think=think), atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, 1, -0.5, 1], "factor weight -0.5, expected a finite number of at least 0"),
        ([1, 1, float("nan"), 1], "factor weight nan"),
        ([[1, 1, 1, 1], [1, 1, 1, float("inf")], [1, 1, 1, 1]], "factor weight inf"),
        ([[1, 1, 1, 1]] * 2, "got 2 rows of factor weights for 3 histories"),
        ([[1, 1, 1]] * 3, "got 3 factor weights, this model has 4 factors"),
        ([1, "a", 1, 1], "are no numbers in equal rows"),
        ([[1, 1, 1, 1], [1], [1]], "are no numbers in equal rows"),
        (2.0, "got 1 factor weights, this model has 4 factors"),
    ],
)
def test_weights_that_are_none_are_refused(weights: object, said: str, recommender: Recommender) -> None:
    with pytest.raises(RequestError, match=said):
        recommender.recommend(HISTORIES, factor_weights=weights)  # type: ignore[arg-type]


def test_rows_of_weights_are_spread() -> None:
    spread = check_factor_weights([1, 2], 2, 3)
    assert spread is not None
    assert spread.tolist() == [[1, 2]] * 3
    assert check_factor_weights(None, 2, 3) is None


def turns(recommender: Recommender, history: list[str], k: int, **options: object) -> list[tuple[str, int]]:
    """Return who picks what, from one request per factor and the gates of one more."""
    with torch.inference_mode():
        thought = recommender.think(recommender.resolve([history])).thought
    assert thought is not None
    order = thought.gates[:, 0, 0].mean(0).argsort(descending=True).tolist()
    weights = 4 * np.eye(4)
    lists = [recommender.recommend([history], k=k, factor_weights=weights[f], **options)[0] for f in range(4)]  # type: ignore[arg-type]
    picked: list[tuple[str, int]] = []
    while len(picked) < k and any(lists):
        for factor in order:
            lists[factor] = [item for item in lists[factor] if item.item_id not in dict(picked)]
            if lists[factor] and len(picked) < k:
                picked.append((lists[factor].pop(0).item_id, factor))
    return picked


@pytest.mark.parametrize("k", [1, 5, 50])
def test_factors_pick_in_turn(k: int, recommender: Recommender) -> None:
    options = {"filters": ItemFilter(exclude=["i2"])}
    lists = recommender.recommend(HISTORIES, k=k, diversify="factors", **options)  # type: ignore[arg-type]
    for history, found in zip(HISTORIES, lists, strict=True):
        assert [(item.item_id, item.factor) for item in found] == turns(recommender, history, k, **options)
        assert len({item.item_id for item in found}) == len(found) == min(k, 10 - len(set(history) - {"i2"}))
        for item in found:
            (alone,) = recommender.recommend([history], 20, factor_weights=4 * np.eye(4)[item.factor])
            same = next(other for other in alone if other.item_id == item.item_id)
            assert item.log_prob == pytest.approx(same.log_prob, abs=1e-4)


def test_weights_order_the_picking_and_silence_factors(recommender: Recommender) -> None:
    weights = [[0, 0, 1000, 1], [1, 1000, 0, 0], [0, 0, 0, 1]]
    lists = recommender.recommend(HISTORIES, k=4, diversify="factors", factor_weights=weights)
    factors = [[item.factor for item in found] for found in lists]
    assert factors == [[2, 3, 2, 3], [1, 0, 1, 0], [3, 3, 3, 3]]


@pytest.mark.parametrize("weights", [[0, 0, 0, 0], [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 0]]])
def test_somebody_has_to_pick(weights: object, recommender: Recommender) -> None:
    said = "all 4 factor weights of a history are 0, so no factor is left to pick; give one a weight above 0"
    with pytest.raises(RequestError, match=said):
        recommender.recommend(HISTORIES, k=4, diversify="factors", factor_weights=weights)  # type: ignore[arg-type]
    assert [len(found) for found in recommender.recommend(HISTORIES, k=4, factor_weights=weights)] == [4, 4, 4]  # type: ignore[arg-type]


def test_without_diversifying_no_factor_is_named(recommender: Recommender) -> None:
    assert {item.factor for found in recommender.recommend(HISTORIES) for item in found} == {None}


def test_a_model_without_factors_cannot_diversify() -> None:
    with pytest.raises(RequestError, match="has no factors to diversify by"):
        shop("reasoner.kind=none").recommend(HISTORIES, diversify="factors")
    with pytest.raises(RequestError, match="diversify = 'factor', expected 'factors' or None"):
        shop().recommend(HISTORIES, diversify="factor")  # type: ignore[arg-type]


def test_an_item_that_is_missing_is_not_picked() -> None:
    lists = FactorLists(np.array([[[3, -1], [3, 4]]]), np.array([[[-1.0, -np.inf], [-2.0, -3.0]]]), np.ones((1, 2)))
    mixed = interleave(lists, 0, 5)
    assert (mixed.item_index.tolist(), mixed.factors.tolist(), mixed.log_probs.tolist()) == ([3, 4], [0, 1], [-1, -3])
