"""What followed what: sparse counts of item pairs, as they are saved, voted with and smoothed.

`flr.data.transitions` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from flr.records import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

#: How a pair of rows may count: the very next one; one of the next few, the later the less; either direction, farther.
RELATIONS: Final = ("next", "soon", "together")
#: How much each relation counts where items vote for all of them. Chosen on validation, by ranking: the
#: likelihood would have learnt weights that hedge (docs/log.md).
RELATION_WEIGHTS: Final = (0.0, 0.5, 0.5)
#: Weights of next, soon and together, of one factor after the other and again from the first.
APART_RELATIONS: Final = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
#: Arrays of a saved `Transitions`.
_TRANSITION_TABLES: Final = ("pairs", "counts", "totals", "popularity")
#: The smoothing of counts that were saved before it was.
_FORMER_SMOOTHING: Final = 0.1


@dataclass(frozen=True)
class Transitions:
    """How often items followed each other among training rows, under Q `RELATIONS`.

    Popularity has so many counts, so that an item that little followed yet says what is popular: under relation q,
    ``p(y | x) = (count_q(x, y) + s popularity(y)) / (total_q(x) + s)``, which sums to 1 over y.

    Attributes:
        n_items: Size of the catalogue N.
        pairs: ``source * N + follower`` of each counted pair, ascending, [E] int64.
        counts: [E, Q] float32.
        totals: Counts of each source over all followers, [N, Q] float32.
        popularity: Share of each item in the training rows, sums to 1, [N] float32.
        smoothing: The s above.
    """

    n_items: int
    pairs: IntArray
    counts: FloatArray
    totals: FloatArray
    popularity: FloatArray
    smoothing: float

    @property
    def n_relations(self) -> int:
        return int(self.counts.shape[1])

    @property
    def sources(self) -> IntArray:
        """Source of each pair, [E]."""
        return self.pairs // self.n_items

    @cached_property
    def followers(self) -> IntArray:
        """Follower of each pair, [E]."""
        return self.pairs % self.n_items

    @cached_property
    def starts(self) -> IntArray:
        """The pairs of source x are those from ``starts[x]`` on and below ``starts[x + 1]``, [N + 1]."""
        return np.searchsorted(self.pairs, np.arange(self.n_items + 1) * self.n_items)

    def tables(self) -> dict[str, torch.Tensor]:
        """Return the arrays as tensors, by name, to be saved."""
        import torch

        tables = {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in _TRANSITION_TABLES}
        return tables | {"smoothing": torch.tensor(self.smoothing, dtype=torch.float64)}

    @classmethod
    def from_tables(cls, tables: Mapping[str, torch.Tensor]) -> Transitions:
        """Return what `tables` saved."""
        smoothing = float(tables["smoothing"]) if "smoothing" in tables else _FORMER_SMOOTHING
        arrays = {name: tables[name].numpy() for name in _TRANSITION_TABLES}
        return cls(len(tables["popularity"]), **arrays, smoothing=smoothing)

    @cached_property
    def shares(self) -> FloatArray:
        """What each pair has of p(follower | source) by its own counts; popularity has what is missing, [E, Q]."""
        shares: FloatArray = self.counts / (self.totals[self.sources] + np.float32(self.smoothing))
        return shares

    def smoothed(self, counts: FloatArray, totals: FloatArray, items: IntArray) -> FloatArray:
        """Return p(item | source) from counts of pairs and totals of their sources, [n, Q] and items [n].

        Of a source with more followers than are kept, those that are not have what popularity gives them; a memory
        that votes gives all items what they had (`shares`).
        """
        popular = self.smoothing * self.popularity[items][:, None]
        probabilities: FloatArray = ((counts + popular) / (totals + self.smoothing)).astype(np.float32)
        return probabilities

    def counts_of(self, sources: IntArray, followers: IntArray) -> FloatArray:
        """Return the counts of pairs, [n] and [n] -> [n, Q]."""
        wanted = sources * self.n_items + followers
        if not len(self.pairs):
            return np.zeros((len(wanted), self.n_relations), dtype=np.float32)
        place = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        found: FloatArray = np.where((self.pairs[place] == wanted)[:, None], self.counts[place], np.float32(0))
        return found
