"""Items taken by the same people, read off a recency-weighted history.

Which items go with which is told by cosines with shrinkage (item-kNN), or by a regression of each item on all others
(EASE), which knows that of two items that always come together one says nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from flr.baselines.neighbours import BACK_OFF, known_items
from flr.baselines.popularity import Popularity, takers
from flr.records import FloatArray, Histories, IntArray, UserSequences

#: Items whose similarities are held densely at once: memory is this many rows of N and of U floats.
_BLOCK: Final = 256


@dataclass(frozen=True)
class NeighbourScorer:
    """Scores an item by its similarity to the items of the history, the later the more.

    ``s(y) = sum_i decay^(items after x_i) sim(x_i, y)``, and ``p(y) = (1 - eps) s(y) / sum s + eps * popularity(y)``
    with eps = `BACK_OFF`, so that popularity breaks ties only. A history without neighbours falls back to popularity.

    Similarities below 0 speak against an item; an s(y) below 0 counts as 0.

    Attributes:
        popularity: The back-off.
        neighbours: The most similar items of each item, [N, k] int64.
        similarities: How similar they are, 0 where an item has fewer than k neighbours, [N, k] float32.
        decay: Weight of an item of the history relative to its successor, in (0, 1].
    """

    name: ClassVar[str]

    popularity: Popularity
    neighbours: IntArray
    similarities: FloatArray
    decay: float

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y | history)``, [B, N] float64; exponentials of a row sum to 1."""
        n_items, n_rows = len(self.neighbours), len(histories)
        known = known_items(histories, n_items)
        rows = np.repeat(np.arange(n_rows), known.lengths)
        age = known.offsets[1:][rows] - 1 - np.arange(len(rows))
        votes = self.similarities[known.item_index] * (self.decay**age)[:, None]
        places = rows[:, None] * n_items + self.neighbours[known.item_index]
        scores = np.bincount(places.ravel(), votes.ravel(), n_rows * n_items).reshape(n_rows, n_items)
        scores = scores.astype(np.float64).clip(min=0)
        total = scores.sum(axis=1, keepdims=True)
        found = total > 0
        shares = np.divide(scores, total, out=np.zeros_like(scores), where=found)
        probabilities: FloatArray = np.where(found, BACK_OFF, 1.0) * self.popularity.probabilities
        probabilities += np.where(found, 1 - BACK_OFF, 0.0) * shares
        return np.log(probabilities, out=probabilities)


class ItemNeighbours(NeighbourScorer):
    """Item-kNN: ``sim(x, y) = |U_x and U_y| / (sqrt(|U_x| |U_y|) + shrinkage)`` of the users U of two items."""

    name: ClassVar[str] = "item-knn"

    @classmethod
    def fit(
        cls,
        sequences: UserSequences,
        n_items: int,
        *,
        n_neighbours: int,
        shrinkage: float,
        decay: float,
    ) -> ItemNeighbours:
        """Find the neighbours in context and training rows.

        Args:
            sequences: All users; held-out rows are never read.
            n_items: Size of the catalogue N.
            n_neighbours: Neighbours k kept of each item, at most N.
            shrinkage: Added to the denominator: pairs that few people took count less.
            decay: Weight of an item of the history relative to its successor, in (0, 1]; 1 ignores order.
        """
        taken = _taken(sequences, n_items)
        k = min(n_neighbours, n_items)
        neighbours, similarities = np.empty((n_items, k), dtype=np.int64), np.empty((n_items, k), dtype=np.float32)
        norms = taken.sum(dim=1).to_dense().reshape(-1).sqrt()
        for start in range(0, n_items, _BLOCK):
            block = torch.arange(start, min(start + _BLOCK, n_items))
            cosine = _shared(taken, block) / (norms[block][:, None] * norms + shrinkage).clamp(min=1e-9)
            cosine[torch.arange(len(block)), block] = 0
            best = cosine.topk(k, dim=1)
            neighbours[block], similarities[block] = best.indices.numpy(), best.values.numpy()
        return cls(Popularity.fit(sequences, n_items), neighbours, similarities, decay)


class Ease(NeighbourScorer):
    """EASE: similarities are the weights of a ridge regression of each item on all others.

    With X of people and what they took, ``P = (X' X + l2 I)^-1`` and ``w(x, y) = -P_xy / P_yy``, 0 for x = y, minimise
    ``|X - X W|^2 + l2 |W|^2``; kept are the largest of each x, by magnitude.

    Source: EASE (Steck 2019); the recency weights, and keeping some, are ours.
    """

    name: ClassVar[str] = "ease"

    @classmethod
    def fit(
        cls, sequences: UserSequences, n_items: int, *, l2: float, decay: float, n_neighbours: int, most_items: int
    ) -> Ease:
        """Solve the regression on context and training rows.

        Args:
            sequences: All users; held-out rows are never read.
            n_items: Size of the catalogue N.
            l2: The ridge penalty.
            decay: Weight of an item of the history relative to its successor, in (0, 1]; 1 ignores order.
            n_neighbours: Weights k kept of each item, at most as many as take part.
            most_items: Items M that take part, the most popular: time is M cubed, memory three matrices of M squared.
        """
        popularity = Popularity.fit(sequences, n_items)
        taken = _taken(sequences, n_items)
        told = torch.from_numpy(np.sort(np.argsort(-popularity.counts, kind="stable")[:most_items]))
        taken = taken.index_select(0, told)
        k = min(n_neighbours, len(told))
        neighbours, weights = torch.zeros(n_items, k, dtype=torch.long), torch.zeros(n_items, k)
        if k:
            gram = torch.cat([_shared(taken, block) for block in torch.split(torch.arange(len(told)), _BLOCK)])
            gram.diagonal().add_(l2)
            precision = torch.cholesky_inverse(torch.linalg.cholesky(gram))
            solved = precision.div_(-precision.diagonal().clone())
            solved.fill_diagonal_(0)
            kept = solved.abs().topk(k, dim=1).indices
            neighbours[told], weights[told] = told[kept], solved.gather(1, kept)
        return cls(popularity, neighbours.numpy(), weights.numpy(), decay)


def _shared(taken: Tensor, items: Tensor) -> Tensor:
    """Return how many people took both, of some items and all, [n, N], given who took what."""
    columns = taken.index_select(0, items).to_dense().T.contiguous()
    shared: Tensor = torch.sparse.mm(taken, columns).T
    return shared


def _taken(sequences: UserSequences, n_items: int) -> Tensor:
    """Return who took what, once each, as a coalesced sparse [N, U] of ones."""
    places = torch.from_numpy(np.stack(takers(sequences)))
    ones = torch.ones(places.shape[1])
    return torch.sparse_coo_tensor(places, ones, (n_items, sequences.n_users), check_invariants=True).coalesce()
