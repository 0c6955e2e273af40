"""Weights that are counted in folders are those of the modules that were saved there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flr.baselines.fitting import Baseline, FittedBaseline, Trial
from flr.baselines.item_neighbours import Ease, ItemNeighbours
from flr.baselines.popularity import Popularity
from flr.baselines.sequential import SequenceScorer, build_network
from flr.baselines.settings import NetworkSettings
from flr.baselines.storage import save_baseline
from flr.errors import ArtifactError
from flr.experiments.weight_counts import assistant_weights, baseline_weights
from flr.recommender import Recommender
from flr.training.folder import RunFolder
from toy import toy_catalogue, toy_model, toy_tokenizer

N_ITEMS = 9


def saved(path: Path, scorer: Baseline) -> Path:
    trial = Trial(settings={}, valid=0.5, best_epoch=1, n_epochs=1, seconds=1.0)
    save_baseline(FittedBaseline(scorer.name, scorer, (trial,), 0), path)
    return path


@pytest.mark.parametrize("name", ["gru4rec", "caser", "sasrec", "bert4rec", "alpharec"])
def test_weights_of_a_network_are_its_parameters(name: str, tmp_path: Path) -> None:
    titles = np.eye(N_ITEMS, 4, dtype=np.float32)
    network = build_network(name, N_ITEMS, NetworkSettings(width=8, n_heads=2), titles)
    scorer = SequenceScorer(name, network, 5, Popularity(np.ones(N_ITEMS, dtype=np.int64)))
    expected = sum(weights.numel() for weights in network.parameters())
    assert baseline_weights(saved(tmp_path / name, scorer), name) == expected > 0


def test_a_regression_has_weights_and_counts_are_none(tmp_path: Path) -> None:
    popularity = Popularity(np.ones(N_ITEMS, dtype=np.int64))
    table = np.zeros((N_ITEMS, 3), dtype=np.int64), np.ones((N_ITEMS, 3), dtype=np.float32)
    ease, neighbours = Ease(popularity, *table, 0.5), ItemNeighbours(popularity, *table, 0.5)
    assert baseline_weights(saved(tmp_path / "ease", ease), "ease") == 3 * N_ITEMS
    assert baseline_weights(saved(tmp_path / "knn", neighbours), "item-knn") is None
    assert baseline_weights(saved(tmp_path / "popularity", popularity), "popularity") is None


@pytest.mark.parametrize(
    ("networks", "n_buffers"), [("[sasrec,gru4rec,ease]", 3), ("[gru4rec]", 2), ("[ease]", 2), ("[]", 0)]
)
def test_weights_of_an_assistant_are_all_but_its_counts(networks: str, n_buffers: int, tmp_path: Path) -> None:
    """Its networks, what its regression has set, and how much each has to say: alpha, beta as they are there, gamma."""
    model, compiled, config = toy_model("reasoner.memory=transitions", f"assistant.networks={networks}")
    recommender = Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)
    recommender.save(RunFolder(tmp_path).model)
    expected = n_buffers
    if model.assistant is not None:
        expected += sum(weights.numel() for weights in model.assistant.parameters())
        expected += 0 if model.assistant.linear is None else model.assistant.linear.weights.numel()
    assert assistant_weights(tmp_path) == expected
    own = sum(weights.numel() for weights in model.parameters()) - model.count_parameters()[0]
    assert expected >= own


def test_weights_that_are_gone_are_not_known_and_damaged_ones_are_told(tmp_path: Path) -> None:
    assert assistant_weights(tmp_path) is None
    assert baseline_weights(tmp_path, "sasrec") is None
    (tmp_path / "arrays.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"cannot read the weights .*arrays\.safetensors.*; remove the folder"):
        baseline_weights(tmp_path, "sasrec")
