"""Work for a processor's next core while the caller's goes on.

Small operations in a row keep one core busy however many there are: what needs nothing of what the caller does next can
be worked out beside it. On a GPU operations queue up anyway, and where one operation may use several threads already,
a second team of them would get in the first one's way: there work is done at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_T = TypeVar("_T")
_ASIDE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside")  # its thread begins with the first work


def aside(work: Callable[[], _T], device: torch.device) -> Callable[[], _T]:
    """Begin some work without gradients; return what waits for its result, or raises what it raised.

    Args:
        work: What is done; must not ask for work aside itself.
        device: Where its operations run.
    """
    with_inference = torch.is_inference_mode_enabled()

    def without_gradients() -> _T:
        with torch.inference_mode(with_inference), torch.no_grad():
            return work()

    if device.type != "cpu" or torch.get_num_threads() > 1:
        result = without_gradients()
        return lambda: result
    return _ASIDE.submit(without_gradients).result
