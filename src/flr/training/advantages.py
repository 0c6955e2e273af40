"""Rewards of a group of thoughts -> how much better than expected each of them is.

Legend: S targets, G thoughts per target, the first without noise.

Source: METHOD Eq. 11.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Rewards of one group that differ by less than this are equal: no signal, and nothing to divide by.
NO_SPREAD = 1e-6


def group_advantages(rewards: Tensor) -> Tensor:
    """Return (r - mean_g) / std_g, [S, G]; 0 where all thoughts of a target earned the same.

    Args:
        rewards: [S, G].

    >>> group_advantages(torch.tensor([[1.0, 3.0], [2.0, 2.0]])).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    spread = centred.square().mean(-1, keepdim=True).sqrt()
    return torch.where(spread > NO_SPREAD, centred / spread.clamp(min=NO_SPREAD), 0.0)


def batch_statistics(rewards: Tensor) -> Tensor:
    """Return the sums that `batch_advantages` needs, [4] float64.

    Statistics of parts of a batch (accumulation steps, devices) add up to those of the whole.

    Args:
        rewards: [S, G].

    Returns:
        Number of targets, sum of their noiseless rewards, and sum and sum of squares of all rewards, divided by G.
    """
    exact = rewards.double()
    n_targets = torch.tensor(float(len(rewards)), dtype=torch.float64, device=rewards.device)
    return torch.stack([n_targets, exact[:, 0].sum(), exact.mean(-1).sum(), exact.square().mean(-1).sum()])


def batch_advantages(rewards: Tensor, statistics: Tensor) -> Tensor:
    """Return (r - b) / RMS(r - b) with b the mean of the noiseless rewards of the whole optimiser batch, [S, G].

    Args:
        rewards: Of these targets, [S, G].
        statistics: Sum of the `batch_statistics` of every part of the optimiser batch, these targets among them.

    The noiseless rewards (first column) average 1, and the root mean square of the rest from it is 1:

    >>> rewards = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    >>> batch_advantages(rewards, batch_statistics(rewards)).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    n_targets, noiseless, total, squares = statistics.double()
    baseline = noiseless / n_targets
    mean_square = (squares - 2 * baseline * total) / n_targets + baseline.square()
    scale = mean_square.clamp(min=0).sqrt()
    centred = rewards.double() - baseline
    return torch.where(scale > NO_SPREAD, centred / scale.clamp(min=NO_SPREAD), 0.0).to(rewards.dtype)
