"""Thoughts as a Gaussian policy: noise around the thought, density ratios and divergences in closed form.

All functions take thoughts of any leading shape; the last two axes are the thought positions and the width,
``[..., n_thoughts, D]``, and are summed over: a thought of several positions is one action.

Source: METHOD 7. pi(t | history) = N(t_theta, sigma^2 I).
"""

from __future__ import annotations

import torch
from torch import Tensor


def sample_thoughts(means: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Return a group of thoughts, the first without noise, [G, ..., n_thoughts, D].

    Args:
        means: Thoughts of the policy, [..., n_thoughts, D].
        noise: Standard normal noise of the further thoughts, [G - 1, ..., n_thoughts, D].
        sigma: Standard deviation of the policy, in units of the input embeddings.

    >>> sample_thoughts(torch.zeros(1, 2), torch.ones(1, 1, 2), 0.5).tolist()
    [[[0.0, 0.0]], [[0.5, 0.5]]]
    """
    return torch.cat([means[None], means + sigma * noise])


def log_ratio(samples: Tensor, new: Tensor, old: Tensor, sigma: float) -> Tensor:
    """Return log pi_new(t) - log pi_old(t) of sampled thoughts, [G, ...].

    Source: METHOD Eq. 12, (|t - t_old|^2 - |t - t_new|^2) / 2 sigma^2.

    Args:
        samples: Thoughts t, [G, ..., n_thoughts, D].
        new: Thoughts of the policy that is trained, [..., n_thoughts, D].
        old: Thoughts of the policy that drew the samples, [..., n_thoughts, D].
        sigma: Standard deviation of both policies.

    The new policy has moved half way to a sample that lies one sigma away:

    >>> log_ratio(torch.tensor([[[1.0]]]), torch.tensor([[0.5]]), torch.tensor([[0.0]]), 1.0).tolist()
    [0.375]
    """
    # In this form nothing cancels where new and old are close: (new - old) . (t - (new + old) / 2) / sigma^2.
    away = samples.float() - (new + old).float() / 2
    return ((new - old).float() * away).sum((-2, -1)) / sigma**2


def divergence(new: Tensor, reference: Tensor, sigma: float) -> Tensor:
    """Return KL(pi_new || pi_reference) of two Gaussian policies of equal sigma, [...].

    Source: METHOD Eq. 13, |t_new - t_ref|^2 / 2 sigma^2.

    Args:
        new, reference: Thoughts of the two policies, [..., n_thoughts, D].
        sigma: Standard deviation of both.

    >>> divergence(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), 5.0).item()
    0.5
    """
    return (new - reference).float().square().sum((-2, -1)) / (2 * sigma**2)


def effective_rank(thoughts: Tensor) -> Tensor:
    """Return how many directions the thoughts of different histories use, 1 to min(n, D).

    The exponential of the entropy of the normalised singular values of the centred thoughts (Roy and Vetterli 2007).
    A policy that thinks the same whatever the history has rank 1.

    Args:
        thoughts: One flattened thought per history, [n, D].
    """
    centred = thoughts.float() - thoughts.float().mean(0)
    values = torch.linalg.svdvals(centred)
    if not bool(values.sum() > 0):
        return torch.ones((), device=thoughts.device)
    shares = values / values.sum()
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    rank: Tensor = entropy.exp()
    return rank
