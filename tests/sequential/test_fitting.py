"""The loop that trains all networks keeps the running mean of the weights that did best on validation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from flr.config import NetworkConfig
from flr.sequential import fitting
from flr.sequential.fitting import fit_network
from flr.sequential.networks import SASRec
from flr.sequential.windows import TrainingWindows
from toy import toy_sequences

N, WINDOW = 11, 6


def network() -> SASRec:
    torch.manual_seed(0)
    return SASRec(N, width=8, dropout=0.0, n_layers=1, n_heads=1, window=WINDOW)


def windows() -> TrainingWindows:
    return TrainingWindows(toy_sequences([30, 12, 20]), N, WINDOW)


def recorded_steps(trained: SASRec, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return a list that gets the network's biases after every step."""
    steps, update = list[torch.Tensor](), fitting._update

    def recorded(*arguments: Any) -> float:
        loss = update(*arguments)
        steps.append(trained.bias.detach().clone())
        return loss

    monkeypatch.setattr(fitting, "_update", recorded)
    return steps


def test_the_mean_of_the_steps_so_far_is_validated_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = network()
    steps = recorded_steps(trained, monkeypatch)
    validated = list[torch.Tensor]()

    def validate() -> float:
        validated.append(trained.bias.detach().clone())
        return [0.1, 0.3, 0.2][len(validated) - 1]

    settings = NetworkConfig(max_epochs=3, batch_targets=16, learning_rate=1e-3)
    training = fit_network(trained, windows(), settings, validate, name="sasrec", seed=0)
    per_epoch = len(steps) // 3
    mean, means = steps[0], [steps[0]]
    for n, step in enumerate(steps[1:], start=1):
        mean = mean + (step - mean) * max(0.01, 9 / (10 + n))
        means.append(mean)
    for epoch, seen in enumerate(validated, start=1):
        assert torch.allclose(seen, means[epoch * per_epoch - 1], atol=1e-6)
    assert training.best_epoch == 2
    assert torch.equal(trained.bias, validated[1])
    assert not torch.allclose(validated[1], steps[2 * per_epoch - 1], atol=1e-4)


def test_training_goes_on_from_the_last_step_and_not_from_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = network()
    steps = recorded_steps(trained, monkeypatch)
    settings = NetworkConfig(max_epochs=4, batch_targets=16, learning_rate=1e-3)
    fit_network(trained, windows(), settings, lambda: 0.0, name="sasrec", seed=0)
    moved = [float((after - before).abs().max()) for before, after in itertools.pairwise(steps)]
    assert max(moved) <= 1.5e-3, "a step of Adam moves a weight by about the learning rate"


def test_loss_in_chunks_has_the_value_and_the_gradients_of_the_plain_one() -> None:
    trained = network()
    torch.nn.init.normal_(trained.items.weight)
    torch.nn.init.normal_(trained.bias)
    states, targets = torch.randn(300, 8, requires_grad=True), torch.randint(N, (300,))
    learned = (states, trained.items.weight, trained.bias)
    plain = torch.nn.functional.cross_entropy(trained.logits(states), targets)
    expected = torch.autograd.grad(plain, learned)
    chunked = fitting.cross_entropy(trained, states, targets, None)
    assert torch.allclose(chunked, plain)
    for mine, theirs in zip(torch.autograd.grad(chunked, learned), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_sampled_softmax_estimates_that_over_all_items(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = network()
    torch.nn.init.normal_(trained.items.weight)
    torch.nn.init.normal_(trained.bias)
    states, targets = torch.randn(6, 8), torch.randint(N, (6,))
    whole = fitting.cross_entropy(trained, states, targets, None)
    assert torch.equal(fitting.cross_entropy(trained, states, targets, N), whole), "so few items are not sampled"
    everything = torch.arange(N)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: everything)
    assert torch.allclose(fitting.cross_entropy(trained, states, targets, N - 1), whole, atol=1e-5)
    monkeypatch.undo()
    estimates = torch.stack([fitting.cross_entropy(trained, states, targets, 8) for _ in range(400)])
    assert estimates.std() > 0.01
    assert float(estimates.detach().mean()) == pytest.approx(float(whole.detach()), rel=0.1)


def test_a_network_learns_from_samples_of_items() -> None:
    taken, trained = [3, 1, 4, 2, 5], network()

    def loss() -> float:
        with torch.no_grad():
            states = trained(torch.tensor([taken[:-1]]))[0]
            return float(fitting.cross_entropy(trained, states, torch.tensor(taken[1:]), None))

    before = loss()
    repeated = TrainingWindows(replace(toy_sequences([5] * 40), item_index=np.tile(taken, 40)), N, WINDOW)
    settings = NetworkConfig(max_epochs=20, batch_targets=16, learning_rate=1e-2, sampled_items=4)
    epochs = iter(range(100))
    fit_network(trained, repeated, settings, lambda: float(next(epochs)), name="sasrec", seed=0)
    assert loss() < 0.5 * before
