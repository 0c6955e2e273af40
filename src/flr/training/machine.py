"""The machine and the software that something runs on, as run folders tell them."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import distributed

_PACKAGES = ("flr", "torch", "transformers", "accelerate", "tokenizers", "safetensors", "polars", "numpy", "scipy")


def environment() -> dict[str, Any]:
    """Return versions, commit, machine and the time of day."""
    memory = total_memory()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "commit": _commit(),
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": usable_cores(),
            "memory_gb": None if memory is None else round(memory / 2**30),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def n_processes() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def usable_cores() -> int:
    """Return how many cores this process may use, which a cluster's scheduler or `taskset` limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory() -> int | None:
    """Return the machine's memory in bytes, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _processor() -> str | None:
    """Return what the processor is called, None where the system does not say."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _commit() -> str | None:
    """Return the commit of the source tree that is running, or None where it is not a checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
