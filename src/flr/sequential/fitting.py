"""One training loop for all networks: cross-entropy over all items, early stopping on validation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from flr.config import NetworkConfig
from flr.errors import FlrError
from flr.progress import SILENT, Progress
from flr.seeding import derive_seed, generator
from flr.sequential.networks import SequenceNetwork
from flr.sequential.windows import SequenceBatch, TrainingWindows

_MAX_GRAD_NORM: Final = 5.0


@dataclass(frozen=True)
class Training:
    """How a network's training went.

    Attributes:
        valid: NDCG@10 on validation after each epoch.
        best_epoch: The epoch whose weights were kept, from 1.
        seconds: Wall-clock time.
    """

    valid: tuple[float, ...]
    best_epoch: int
    seconds: float


def fit_network(
    network: SequenceNetwork,
    windows: TrainingWindows,
    settings: NetworkConfig,
    validate: Callable[[], float],
    *,
    name: str,
    seed: int,
    mask_share: float | None = None,
    progress: Progress = SILENT,
) -> Training:
    """Train a network in place, and leave it with the weights that did best on validation.

    Args:
        network: What is trained.
        windows: What it is trained on.
        settings: Steps and rates.
        validate: Returns NDCG@10 of the network on validation.
        name: What progress calls it.
        seed: Seed of batches and dropout; torch's global generator is left as it was.
        mask_share: See `TrainingWindows.epoch`.
        progress: Told about epochs.

    Raises:
        FlrError: The loss is no longer finite.
    """
    started = time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    valid: list[float] = []
    best, kept = -1, copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(), progress.task(f"train {name}", settings.max_epochs) as step:
        torch.manual_seed(derive_seed(seed, "baseline dropout"))
        for epoch in range(settings.max_epochs):
            batches = windows.epoch(generator(seed, "baseline windows", epoch), settings.batch_targets, mask_share)
            losses = [_update(network, optimizer, batch) for batch in batches]
            valid.append(validate())
            step(1, f"loss {np.mean(losses):.3f}, valid NDCG@10 {valid[-1]:.4f}")
            if best < 0 or valid[-1] > valid[best]:
                best, kept = epoch, copy.deepcopy(network.state_dict())
            if epoch - best >= settings.patience:
                break
    network.load_state_dict(kept)
    return Training(tuple(valid), best + 1, time.perf_counter() - started)


def _update(network: SequenceNetwork, optimizer: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    """Take one step on the mean cross-entropy over a batch's targets, and return it."""
    network.train()
    device = next(network.parameters()).device
    targets = batch.targets.to(device)
    asked = targets >= 0
    states = network(batch.items.to(device))
    loss = functional.cross_entropy(network.logits(states[asked]), targets[asked])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRAD_NORM)
    optimizer.step()
    value = loss.item()
    if not np.isfinite(value):
        raise FlrError(f"the loss became {value}; train again with a learning rate below {_rate(optimizer)}")
    return value


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
