"""One named random stream per purpose, all derived from the run's seed.

Drawing more numbers for one purpose (say, windows of long histories) never moves another (say, the
initial weights), so ablations that change one thing change one thing only.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit seed for `purpose`, optionally for one epoch, worker, ...

    Args:
        seed: The run's seed.
        purpose: Name of the stream, for example ``"windows"``.
        counters: Further integers that tell streams of one purpose apart.
    """
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a NumPy generator for `purpose`; equal arguments give equal streams."""
    return np.random.default_rng(derive_seed(seed, purpose, *counters))
