"""Settling on validation how far votes are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from flr.catalogue.titles import build_catalogue
from flr.data.storage import load_prepared
from flr.data.transitions import count_transitions
from flr.recommender import Recommender
from flr.training.run import build_recommender
from flr.training.trust import _gains, _settled, settle_trust
from flr.training.validation import Validation, ValidationTargets
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
    return float(recommender.model.memory.trust.bias.detach())


def gains_of(means: list[float], n: int = 400, noise: float = 0.01) -> np.ndarray:
    """Return what n targets gain by each move; their noise is the same for all moves, and so is its mean."""
    rng = np.random.default_rng(0)
    return np.array(means) + noise * rng.normal(size=(n, 1)) + 1e-3 * rng.normal(size=(n, len(means)))


@pytest.mark.parametrize(
    ("means", "settled"),
    [
        ([0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3], 0.0),
        ([0.1, 0.2, 0.3, 0.2, 0.1, 0.1, 0.1], 2.0),
        ([0.1419, 0.1417, 0.1444, 0.144, 0.14, 0.14, 0.14], 2.0),  # a walk uphill would stop at the dip
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 6.0),
        ([0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5001], 6.0),  # what lies between two peaks is worse than both
    ],
)
def test_the_trust_goes_where_validation_peaks(means: list[float], settled: float) -> None:
    moves = [float(move) for move in range(7)]
    assert _settled(moves, gains_of(means), np.random.default_rng(0)) == settled


def test_of_moves_that_are_as_good_it_takes_one_in_between() -> None:
    """Resamples of few targets choose one or the other."""
    gains = np.full((60, 7), 0.2)
    gains[:30, 2], gains[30:, 4], gains[:, 3] = 0.4, 0.4, 0.3
    assert _settled([-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0], gains, np.random.default_rng(0)) == -1.0


@pytest.mark.parametrize("seen_items", ["exclude", "include"])
def test_each_move_gains_what_validation_says_of_it(ring: Path, seen_items: str) -> None:
    recommender = untrained(ring, "reasoner.memory=transitions", f"evaluation.seen_items={seen_items}")
    validation, accelerator = Validation(recommender, load_prepared(ring)), Accelerator(cpu=True)
    targets = ValidationTargets.of(validation.sequences, validation.users, accelerator)
    moves = (0.0, 2.0, -3.0)
    gains = _gains(recommender, targets, moves)
    assert gains.shape == (48, 3)
    for move, of_move in zip(moves, gains.mean(0), strict=True):
        assert recommender.model.memory is not None
        torch.nn.init.constant_(recommender.model.memory.trust.bias, move)
        assert of_move == pytest.approx(validation(accelerator)["ndcg@10"])


def test_votes_that_know_the_ring_get_the_trust_that_random_titles_lose(ring: Path) -> None:
    recommender = untrained(ring, "reasoner.memory=transitions")
    validation, accelerator = Validation(recommender, load_prepared(ring)), Accelerator(cpu=True)
    assert recommender.model.memory is not None
    torch.nn.init.constant_(recommender.model.memory.trust.bias, -4.0)
    recommender.model.eval()
    before = validation(accelerator)
    moved = settle_trust(recommender, validation, accelerator)
    assert moved > 0
    assert bias(recommender) == -4.0 + moved
    assert validation(accelerator)["ndcg@10"] > before["ndcg@10"]


@pytest.mark.parametrize("peak", [-100.0, -3.0, -2.0, -1.0, 0.0, 3.0, 100.0])
def test_much_less_trust_is_tried_where_less_gains(ring: Path, peak: float, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, tried = untrained(ring, "reasoner.memory=transitions"), list[float]()

    def gains(_: Recommender, targets: ValidationTargets, moves: Sequence[float]) -> np.ndarray:
        tried.extend(moves)
        return np.tile([-abs(move - peak) for move in moves], (targets.n, 1))

    monkeypatch.setattr("flr.training.trust._gains", gains)
    validation = Validation(recommender, load_prepared(ring))
    moved = settle_trust(recommender, validation, Accelerator(cpu=True))
    assert moved == bias(recommender) == max(-6.0, min(peak, 6.0))
    assert len(tried) == len(set(tried)) == (9 if peak > -2 else 13)


def test_a_model_without_a_memory_is_left_alone(ring: Path) -> None:
    recommender = untrained(ring, "reasoner.memory=none")
    validation = Validation(recommender, load_prepared(ring))
    assert settle_trust(recommender, validation, Accelerator(cpu=True)) == 0.0
