"""Starting other processes, waiting for them, and for their end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


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


def train_in_two_processes(*arguments: str | Path) -> None:
    """Run `flr train` as two gloo processes of one thread each; it must succeed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flr"]
    done = subprocess.run(
        [*command, "train", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
