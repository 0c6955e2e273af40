"""Where work is done, how exactly, and random numbers that disturb no others there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def default_device() -> torch.device:
    """Return the process's GPU where it has one, and the CPU where it has none."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Let what is float32 stay so inside of autocast: probabilities and cosines would lose half of their digits."""
    import torch

    known = torch.amp.autocast_mode.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


@contextmanager
def own_random_numbers(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Let torch draw from a seed, and then go on as if nothing had been drawn.

    Other GPUs than the one that is named are left alone: PyTorch would otherwise initialise, and warn of, all that the
    process sees.

    Args:
        seed: Of what is drawn inside.
        device: Where, beside the CPU, something is drawn.
    """
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
