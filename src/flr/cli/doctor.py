"""`flr doctor`: what this machine can do, and how to mend what it cannot."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.text import Text

from flr.cli import console
from flr.cli.guard import AsJson

#: Below these a person should know before a long run.
_MEMORY_GB = 4.0
_DISK_GB = 5.0
_GB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `remedy` is empty where all is well."""

    subject: str
    state: Literal["ok", "warn"]
    found: str
    remedy: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Examine this machine and installation; needs no network.

    \b
    Examples:
      flr doctor
      flr doctor --json
    """
    findings = [finding for examine in _EXAMINATIONS for finding in examine()]
    if as_json:
        console.show_json(findings)
        return
    marks = {"ok": Text("ok", style="green"), "warn": Text("warn", style="yellow")}
    console.show_table(
        ("", "subject", "found", "remedy"),
        [(marks[finding.state], finding.subject, finding.found, finding.remedy) for finding in findings],
    )


def _python() -> list[Finding]:
    return [Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")]


def _packages() -> list[Finding]:
    return [_package(name) for name in ("flr", "torch", "transformers", "polars")]


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "warn", "not installed", "pip install -c constraints.txt -e .")


def _extras() -> list[Finding]:
    return [
        Finding(f"{name} (optional)", "ok", version(name))
        if importlib.util.find_spec(name)
        else Finding(f"{name} (optional)", "warn", f"not installed: {use}", "pip install 'flr[llm]'")
        for name, use in (("peft", "no LoRA"), ("gguf", "no GGUF files"))
    ]


def _device() -> list[Finding]:
    import torch

    from flr.training.machine import usable_cores

    threads, cores = torch.get_num_threads(), usable_cores()
    findings = [
        Finding("threads", "ok", f"{threads} of {cores} cores")
        if threads <= cores
        else Finding("threads", "warn", f"{threads} on {cores} cores", f"set OMP_NUM_THREADS={cores}")
    ]
    if torch.cuda.is_available():
        bf16, n = torch.cuda.is_bf16_supported(), torch.cuda.device_count()
        several = f"; torchrun --nproc-per-node {n} -m flr train uses all {n}" if n > 1 else ""
        findings.append(Finding("device", "ok", f"cuda, {torch.cuda.get_device_name()}{several}"))
    else:
        has = torch.cpu.get_capabilities()
        bf16 = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
        apple = ", Apple's GPU is not used" if torch.backends.mps.is_available() else ""
        findings.append(Finding("device", "ok", f"cpu{apple}"))
    found = "in hardware: training.mixed_precision=bf16 may pay" if bf16 else "not in hardware: slower than float32"
    return [*findings, Finding("bf16", "ok", found)]


def _memory() -> list[Finding]:
    free = _available_memory()
    if free is None:
        return [Finding("memory", "ok", "unknown on this system")]
    remedy = f"below {_MEMORY_GB:.0f} GB: lower training.batch_tokens and evaluation.memory_mb"
    return [_enough("memory", free / _GB, _MEMORY_GB, remedy)]


def _available_memory() -> int | None:
    """Return bytes that can be had without swapping, None where the system does not say."""
    from flr.training.machine import total_memory

    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return total_memory()


def _disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / _GB
    return [_enough("disk", free, _DISK_GB, f"below {_DISK_GB:.0f} GB: free some space before a long run")]


def _cache() -> list[Finding]:
    from flr.fetching import cache_folder

    folder = cache_folder()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        return [Finding("cache", "warn", f"{folder} cannot be written", "set FLR_CACHE to a folder of yours")]
    sets = sorted(path.parent.name for path in folder.glob("*/fetched.json"))
    return [Finding("cache", "ok", f"{folder}: {', '.join(sets) or 'empty, `flr fetch` fills it'}")]


def _enough(subject: str, free: float, needed: float, remedy: str) -> Finding:
    found = f"{free:.1f} GB free"
    return Finding(subject, "ok", found) if free >= needed else Finding(subject, "warn", found, remedy)


_EXAMINATIONS: tuple[Callable[[], list[Finding]], ...] = (_python, _packages, _extras, _device, _memory, _disk, _cache)
