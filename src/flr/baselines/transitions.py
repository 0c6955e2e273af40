"""What followed the items of a history, the latest most: `flr.reasoner.memory` with no factors and no words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from flr.baselines.neighbours import known_items
from flr.baselines.popularity import Popularity
from flr.data.transitions import count_transitions
from flr.records import FloatArray, Histories, UserSequences, ragged_indices
from flr.transitions import Transitions

#: Most recent items of a history that count.
_WINDOW = 20


@dataclass(frozen=True)
class TransitionMixture:
    """Mixes what followed each item of a history, every item weighted by its age alone.

    ``p(y) = sum_i w_i sum_q rho_q p_q(y | x_i)``, ``w_i`` proportional to ``decay^(items after x_i)``, with the
    relations q and probabilities of `flr.transitions.Transitions`. It is what a model with a memory must beat to
    show that its factors read histories better than a fading glance does.

    Attributes:
        popularity: Of an empty history.
        transitions: The counts.
        decay: Weight of an item of the history relative to its successor, in (0, 1].
        relations: rho, [Q], sums to 1.
    """

    name: ClassVar[str] = "transitions"

    popularity: Popularity
    transitions: Transitions
    decay: float
    relations: tuple[float, ...]

    @classmethod
    def fit(
        cls, sequences: UserSequences, n_items: int, *, decay: float, relations: tuple[float, ...]
    ) -> TransitionMixture:
        """Count transitions in context and training rows."""
        return cls(Popularity.fit(sequences, n_items), count_transitions(sequences, n_items), decay, relations)

    def score(self, histories: Histories) -> FloatArray:
        """Return ``log p(y | history)``, [B, N] float64; exponentials of a row sum to 1."""
        table, n_rows = self.transitions, len(histories)
        known = known_items(histories, table.n_items).window(_WINDOW)
        rows = np.repeat(np.arange(n_rows), known.lengths)
        weights = self.decay ** (known.offsets[1:][rows] - 1 - np.arange(len(rows)))
        weights /= np.bincount(rows, weights, n_rows)[rows]
        starts = table.starts
        entries, offsets = ragged_indices(
            starts[known.item_index], starts[known.item_index + 1] - starts[known.item_index]
        )
        owner = np.repeat(np.arange(len(rows)), np.diff(offsets))
        votes = table.shares[entries] @ np.array(self.relations) * weights[owner]
        places = rows[owner] * table.n_items + table.followers[entries]
        probabilities = np.bincount(places, votes.astype(np.float64), n_rows * table.n_items)
        probabilities = probabilities.reshape(n_rows, table.n_items).astype(np.float64)
        left = 1 - probabilities.sum(1, keepdims=True)
        probabilities += left * self.popularity.probabilities
        return np.log(probabilities)
