"""Scores -> the best k items."""

from __future__ import annotations

import torch
from torch import Tensor

from flr.records import Ranking


def top_items(scores: Tensor, k: int) -> Ranking:
    """Return the k best items of each row, best first; equal scores keep the order of item indices.

    Args:
        scores: Natural log-probabilities, -inf at items that must not be shown, [B, N].
        k: Items per row; fewer are returned where the catalogue or the masks leave fewer.
    """
    k = min(k, scores.shape[1])
    # topk does not promise an order among ties: take all that tie with the k-th, then sort stably.
    threshold = scores.topk(k, dim=1).values[:, -1:]
    n_kept = int((scores >= threshold).sum(1).max())
    candidates = scores.topk(n_kept, dim=1).indices.sort(dim=1).values if n_kept < scores.shape[1] else None
    if candidates is None:
        candidates = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    values = scores.gather(1, candidates)
    values, order = values.sort(dim=1, descending=True, stable=True)
    items, values = candidates.gather(1, order)[:, :k], values[:, :k]
    items = torch.where(torch.isneginf(values), -1, items)
    return Ranking(items.cpu().numpy(), values.cpu().numpy())
