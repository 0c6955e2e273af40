"""What makes factors specialise: three losses per target, each in [0, 1].

All three are means over factor pairs (or factors) and refinement steps; means over targets are left to the
caller, who knows how many there are in the whole optimiser batch.

Source: METHOD Eqs. 6-8.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def orthogonality(factors: Tensor) -> Tensor:
    """Return the mean squared cosine between the factors of each target, [B, P].

    Source: METHOD Eq. 6, mean_{j<k} cos^2(f_j, f_k).

    Args:
        factors: [R, B, P, K, d_f]. With K = 1 there is no pair and the loss is 0.
    """
    first, second = _pairs(factors.shape[-2], factors.device)
    if not len(first):
        return factors.new_zeros(factors.shape[1:3])
    unit = torch.nn.functional.normalize(factors.float(), dim=-1, eps=1e-6)
    cosines = unit @ unit.transpose(-1, -2)
    return cosines[..., first, second].square().mean(-1).mean(0)


def diversity(attentions: Tensor) -> Tensor:
    """Return the mean overlap of the factors' attention distributions of each target, [B, P].

    Source: METHOD Eq. 7, mean_{j<k} sum_l min(a_j[l], a_k[l]).

    Args:
        attentions: [R, B, P, K, L], each a distribution over L. With K = 1 the loss is 0.
    """
    pairs = list(itertools.combinations(range(attentions.shape[-2]), 2))
    if not pairs:
        return attentions.new_zeros(attentions.shape[1:3])
    by_factor = attentions.float()
    overlaps = [torch.minimum(by_factor[..., j, :], by_factor[..., k, :]).sum(-1) for j, k in pairs]
    return torch.stack(overlaps).mean(0).mean(0)


def sparsity(attentions: Tensor, n_readable: Tensor) -> Tensor:
    """Return the mean normalised entropy of the factors' attentions of each target, [B, P].

    Source: METHOD Eq. 8, mean_k H(a_k) / log L, with L the tokens that the target may read.

    Args:
        attentions: [R, B, P, K, L], zero outside what the target may read.
        n_readable: Tokens each target may read, [B, P]. With one token the entropy is 0.
    """
    by_factor = attentions.float()
    # The clamp keeps the logarithm's gradient finite where the attention is exactly 0.
    entropy = -(by_factor * by_factor.clamp(min=1e-12).log()).sum(-1).mean(-1).mean(0)
    return entropy / n_readable.clamp(min=2).float().log()


def step_distances(factors: Tensor) -> Tensor:
    """Return D(r), the mean pairwise Euclidean distance of unit factors at each step, [R, B, P].

    Source: METHOD 4. 0 means that all factors point the same way, sqrt(2) that they are orthogonal.

    Args:
        factors: [R, B, P, K, d_f].
    """
    first, second = _pairs(factors.shape[-2], factors.device)
    if not len(first):
        return factors.new_zeros(factors.shape[:3])
    unit = torch.nn.functional.normalize(factors.float(), dim=-1, eps=1e-6)
    distances: Tensor = torch.linalg.vector_norm(unit[..., first, :] - unit[..., second, :], dim=-1)
    return distances.mean(-1)


def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    pairs = torch.triu_indices(n, n, offset=1, device=device)
    return pairs[0], pairs[1]
