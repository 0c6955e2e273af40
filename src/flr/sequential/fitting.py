"""One training loop for all networks: cross-entropy over items, averaged weights, early stopping on validation.

What is validated and kept is a running mean of the weights (Polyak and Juditsky 1992): it ranks better at every epoch
than the weights of the last step, which are mostly noise where an item is seen a few dozen times.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from flr.config import NetworkConfig
from flr.devices import own_random_numbers
from flr.errors import FlrError
from flr.progress import SILENT, Progress
from flr.seeding import derive_seed, generator
from flr.sequential.networks import SequenceNetwork
from flr.sequential.windows import SequenceBatch, TrainingWindows

_MAX_GRAD_NORM: Final = 5.0
#: The mean is over about so many of the last steps, or a ninth of all where that is less: the first are soon forgotten.
_MEAN_OVER: Final = 100
#: Scores of so many states are worked out at a time, and their gradients with them: they stay in a processor's cache.
_IN_CHUNKS: Final = nn.LinearCrossEntropyOptions(batch_chunk_size=128)


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
        seed: Seed of batches and dropout; torch's global generators are left as they were.
        mask_share: See `TrainingWindows.epoch`.
        progress: Told about epochs.

    Raises:
        FlrError: The loss is no longer finite.
    """
    started = time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    valid: list[float] = []
    mean = AveragedModel(network, avg_fn=_running_mean)
    best, kept = -1, copy.deepcopy(network.state_dict())
    numbers = own_random_numbers(derive_seed(seed, "baseline dropout"), next(network.parameters()).device)
    with numbers, progress.task(f"train {name}") as step:  # it stops early: nobody knows when
        for epoch in range(settings.max_epochs):
            batches = windows.epoch(generator(seed, "baseline windows", epoch), settings.batch_targets, mask_share)
            losses, before = list[float](), "" if best < 0 else f", best NDCG@10 {valid[best]:.4f} in epoch {best + 1}"
            for batch in batches:
                done = min(1.0, len(losses) * settings.batch_targets / windows.n_targets)
                step(0, f"epoch {epoch + 1}, {done:.0%}{before}")
                losses.append(_update(network, optimizer, batch, settings.sampled_items))
                mean.update_parameters(network)
            latest = copy.deepcopy(network.state_dict())
            network.load_state_dict(mean.module.state_dict())
            valid.append(validate())
            step(1, f"epoch {epoch + 1}, loss {np.mean(losses):.3f}, valid NDCG@10 {valid[-1]:.4f}")
            if best < 0 or valid[-1] > valid[best]:
                best, kept = epoch, copy.deepcopy(network.state_dict())
            if epoch - best >= settings.patience:
                break
            network.load_state_dict(latest)
    network.load_state_dict(kept)
    return Training(tuple(valid), best + 1, time.perf_counter() - started)


def _running_mean(mean: Tensor, weight: Tensor, n_averaged: Tensor | int) -> Tensor:
    return torch.lerp(mean, weight, max(1 / _MEAN_OVER, 9 / (10 + int(n_averaged))))


def _update(
    network: SequenceNetwork, optimizer: torch.optim.Optimizer, batch: SequenceBatch, n_sampled: int | None
) -> float:
    """Take one step on the mean cross-entropy over a batch's targets, and return it."""
    network.train()
    device = next(network.parameters()).device
    targets = batch.targets.to(device)
    asked = targets >= 0
    states = network(batch.items.to(device))
    loss = cross_entropy(network, states[asked], targets[asked], n_sampled)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRAD_NORM)
    optimizer.step()
    value = loss.item()
    if not np.isfinite(value):
        raise FlrError(f"the loss became {value}; train again with a learning rate below {_rate(optimizer)}")
    return value


def cross_entropy(network: SequenceNetwork, states: Tensor, targets: Tensor, n_sampled: int | None) -> Tensor:
    """Return the mean cross-entropy over all items, or where there are more than `n_sampled` an estimate of it.

    The sum over the other items is that of a sample, times N - 1 by what the sample has of them (Jean et al. 2015, with
    an even proposal). The sample, drawn with replacement, is the same for all states.

    Args:
        network: Scores items.
        states: [S, D].
        targets: [S].
        n_sampled: Size of the sample; None takes all items.
    """
    if n_sampled is None or network.n_items <= n_sampled:
        rows, biases = network.output()
        options = _IN_CHUNKS if states.device.type == "cpu" else None
        return functional.linear_cross_entropy(states, rows, targets, linear_bias=biases, options=options)
    wanted, place = torch.unique(targets, return_inverse=True)
    sample = torch.randint(network.n_items, (n_sampled,), device=targets.device)
    logits = network.logits(states, torch.cat([wanted, sample])).float()
    own = logits[:, : len(wanted)].gather(1, place[:, None])[:, 0]
    is_own = sample == targets[:, None]
    others = logits[:, len(wanted) :].masked_fill(is_own, -torch.inf).logsumexp(1)
    others = others + math.log(network.n_items - 1) - (~is_own).sum(1).log()
    return (torch.logaddexp(own, others) - own).mean()


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
