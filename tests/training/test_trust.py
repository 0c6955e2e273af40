"""Settling on validation how far votes are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from flr.catalogue.titles import build_catalogue
from flr.data.storage import load_prepared
from flr.data.transitions import count_transitions
from flr.recommender import Recommender
from flr.training.run import build_recommender
from flr.training.trust import settle_trust
from flr.training.validation import Validation
from toy import TINY, prepared_ring, small_config


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


def untrained(ring: Path, *overrides: str) -> Recommender:
    """Return a random model, whose titles say nothing, with the counts of the ring unless it has no memory."""
    config, prepared = small_config(*TINY, *overrides), load_prepared(ring)
    torch.manual_seed(0)
    transitions = count_transitions(prepared.sequences, prepared.items.height)
    return build_recommender(
        config,
        build_catalogue(prepared.items),
        torch.device("cpu"),
        transitions if config.reasoner.has_memory else None,
    )


def bias(recommender: Recommender) -> float:
    assert recommender.model.memory is not None
    return float(recommender.model.memory.trust.bias)


@pytest.mark.parametrize("peak", [-2.0, 0.0, 3.0, 100.0])
def test_the_trust_goes_where_validation_peaks_and_not_without_end(ring: Path, peak: float) -> None:
    recommender = untrained(ring, "reasoner.memory=transitions")
    asked = []

    def validation(_: Any) -> dict[str, float]:
        asked.append(bias(recommender))
        return {"ndcg@10": -abs(bias(recommender) - peak)}

    moved, metrics = settle_trust(recommender, validation, Accelerator(cpu=True), {"ndcg@10": -abs(peak)})  # type: ignore[arg-type]
    assert moved == bias(recommender) == min(peak, 6.0)
    assert metrics["ndcg@10"] == -abs(moved - peak)
    assert len(asked) <= 8


def test_votes_that_know_the_ring_get_the_trust_that_random_titles_lose(ring: Path) -> None:
    recommender = untrained(ring, "reasoner.memory=transitions")
    validation, accelerator = Validation(recommender, load_prepared(ring)), Accelerator(cpu=True)
    assert recommender.model.memory is not None
    torch.nn.init.constant_(recommender.model.memory.trust.bias, -4.0)
    recommender.model.eval()
    before = validation(accelerator)
    moved, after = settle_trust(recommender, validation, accelerator, before)
    assert moved > 0
    assert after["ndcg@10"] > before["ndcg@10"]
    assert validation(accelerator) == after


def test_a_model_without_a_memory_is_left_alone(ring: Path) -> None:
    recommender = untrained(ring, "reasoner.memory=none")
    validation = Validation(recommender, load_prepared(ring))
    assert settle_trust(recommender, validation, Accelerator(cpu=True), {"ndcg@10": 0.5}) == (0.0, {"ndcg@10": 0.5})
