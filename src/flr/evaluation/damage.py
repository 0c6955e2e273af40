"""Histories damaged on purpose, and a scorer that is told them; `flr.evaluation.robustness` lists the kinds.

Damage depends on the seed and the history alone, not on batches.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from flr.errors import ConfigError
from flr.evaluation.protocol import Scorer
from flr.records import FloatArray, Histories, IntArray, ragged_indices
from flr.seeding import generator

DAMAGES: Final = ("insert", "drop", "shuffle", "truncate")


def damage(histories: Histories, kind: str, strength: float, *, n_items: int, seed: int) -> Histories:
    """Return damaged histories, none of them empty.

    Args:
        histories: What each person took, oldest first, none empty.
        kind: One of `DAMAGES`.
        strength: See the table on top; 0 changes nothing.
        n_items: Size of the catalogue that inserted items come from.
        seed: With a history's items, all that its damage depends on.

    Raises:
        ConfigError: The kind is unknown, or the strength is negative or, being a share, above 1.
    """
    if kind not in DAMAGES or strength < 0 or (strength > 1 and kind != "truncate"):
        raise ConfigError(
            f"damage {kind!r} of strength {strength}, expected one of {DAMAGES} and a share 0..1 or a number"
        )
    rows = []
    for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        items = histories.item_index[start:end]
        rng = generator(seed, f"damage {kind}", zlib.crc32(np.ascontiguousarray(items, dtype=np.int64).tobytes()))
        rows.append(_damaged(items, kind, strength, n_items, rng))
    offsets = np.cumsum([0, *map(len, rows)])
    return Histories(np.concatenate(rows) if rows else histories.item_index, offsets)


def _damaged(items: IntArray, kind: str, strength: float, n_items: int, rng: np.random.Generator) -> IntArray:
    if kind == "truncate":
        return items[: max(1, len(items) - int(strength))]
    n = round(strength * len(items))
    if kind == "insert":
        places = np.sort(rng.integers(0, len(items) + 1, n))
        return np.insert(items, places, rng.integers(0, n_items, n))
    chosen = np.sort(rng.permutation(len(items))[: min(n, len(items) - (kind == "drop"))])
    if kind == "drop":
        return np.delete(items, chosen)
    shuffled = items.copy()
    shuffled[chosen] = items[rng.permutation(chosen)]
    return shuffled


@dataclass(frozen=True)
class DamagedScorer:
    """A scorer that is told damaged histories.

    Attributes:
        scorer: Who is told.
        kind, strength, seed: See `damage`.
        n_items: Size of the catalogue.
        window: Only the last items are damaged, and told; None damages and tells whole histories. A model that reads
            a window of its own should be given it, or most of the damage falls where it does not look.
        keeps_older: The items before the window are told too, as they are: so models of several windows can be told
            the same.
    """

    scorer: Scorer
    kind: str
    strength: float
    n_items: int
    seed: int = 0
    window: int | None = None
    keeps_older: bool = False

    @property
    def name(self) -> str:
        return f"{self.scorer.name} ({self.kind} {self.strength:g})"

    def score(self, histories: Histories) -> FloatArray:
        """Return the scores of the damaged histories, [B, N]."""
        told = histories if self.window is None else histories.window(self.window)
        damaged = damage(told, self.kind, self.strength, n_items=self.n_items, seed=self.seed)
        return self.scorer.score(_behind(histories, told, damaged) if self.keeps_older else damaged)


def _behind(whole: Histories, window: Histories, damaged: Histories) -> Histories:
    """Return damaged windows behind the older items of the whole histories."""
    n_older, lengths = whole.lengths - window.lengths, damaged.lengths
    offsets = np.concatenate([[0], np.cumsum(n_older + lengths)])
    items = np.empty(offsets[-1], dtype=whole.item_index.dtype)
    for places, starts, sizes, source in (
        (offsets[:-1], whole.offsets[:-1], n_older, whole),
        (offsets[:-1] + n_older, damaged.offsets[:-1], lengths, damaged),
    ):
        items[ragged_indices(places, sizes)[0]] = source.item_index[ragged_indices(starts, sizes)[0]]
    return Histories(items, offsets)
