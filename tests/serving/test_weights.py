"""Smaller weights: what they keep is measured, and too little is refused."""

from __future__ import annotations

import pytest
import torch

from flr.errors import ConfigError
from flr.recommender import Recommender
from flr.serving.engine import Engine
from flr.serving.questions import Question
from flr.serving.weights import reduce_weights
from serving.conftest import histories_of


def test_full_weights_are_left_alone(recommender: Recommender) -> None:
    assert reduce_weights(recommender, "float32", 1.0) is None
    assert recommender.model.backbone.embedding.weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_what_smaller_weights_keep_is_measured_and_served(weights: str, recommender: Recommender) -> None:
    before = recommender.recommend([["i1", "i2"]])
    overlap = reduce_weights(recommender, weights, 0.5)  # type: ignore[arg-type]
    assert overlap is not None
    assert 0.5 <= overlap <= 1
    assert recommender.recommend([["i1", "i2"]]) != before
    engine = Engine(recommender)
    engine.warm_up()
    for history in histories_of(4):
        index = recommender.resolve([history]).item_index
        (found,) = engine.ask([Question(index)], snapshot=recommender.snapshot, timeout_seconds=60).result()
        assert found == recommender.recommend([history])[0]
    engine.close(10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_that_keep_too_little_are_refused(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match=r"with --weights int8 .*% of the top 10 stay, expected 110.0%"):
        reduce_weights(recommender, "int8", 1.1)


def test_int8_on_a_gpu_is_refused(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(recommender.model), "device", torch.device("cuda"))
    with pytest.raises(ConfigError, match="give --weights bfloat16"):
        reduce_weights(recommender, "int8", 0.5)
