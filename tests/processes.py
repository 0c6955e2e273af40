"""Waiting for other processes, and for their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def is_gone(pid: int, *, group: bool = False) -> bool:
    """Return whether a process, or every process of a group, is at its end."""
    try:
        (os.killpg if group else os.kill)(pid, 0)
    except ProcessLookupError:
        return True
    return False


def waited_for(is_so: Callable[[], object], seconds: float = 300) -> bool:
    """Return whether something came true in time."""
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(is_so())
