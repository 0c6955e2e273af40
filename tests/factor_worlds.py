"""Factor records whose answer is known."""

from __future__ import annotations

import numpy as np

from flr.diagnostics.factor_records import FactorRecords
from flr.records import Histories


def records_of(
    factors: np.ndarray,
    *,
    users: list[int] | None = None,
    gates: np.ndarray | None = None,
    contributions: np.ndarray | None = None,
    item_attention: list[np.ndarray] | None = None,
    voted: np.ndarray | None = None,
) -> FactorRecords:
    """Return records of given factors [n, R, K, d_f]; a user per target, and a history of four items if none is given.

    `item_attention` holds an array [length, R, K] per target.
    """
    n, n_steps, n_factors, _ = factors.shape
    even = np.full((n, n_steps, n_factors), 1 / n_factors)
    attention = item_attention or [np.full((4, n_steps, n_factors), 0.25)] * n
    offsets = np.cumsum([0, *map(len, attention)])
    last = factors[:, -1].reshape(n, -1).astype(np.float32)
    return FactorRecords(
        users=np.arange(n) if users is None else np.array(users),
        rows=np.arange(n),
        items=np.zeros(n, dtype=np.int64),
        histories=Histories(np.arange(offsets[-1]) % 7, offsets),
        vectors=last[:, None],
        states=np.repeat(last[:, None], n_steps + 1, axis=1),
        factors=factors.astype(np.float32),
        gates=even if gates is None else gates,
        contributions=even if contributions is None else contributions,
        token_entropy=np.full((n, n_steps, n_factors), 0.5),
        item_attention=np.concatenate(attention),
        voted=np.empty((n, n_factors, 0), dtype=np.int32) if voted is None else voted,
    )
