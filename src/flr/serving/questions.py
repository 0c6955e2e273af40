"""What the engine takes, and how it works: plain records, and jobs that wait for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from flr.lists import Recommendation
from flr.records import BoolArray, IntArray
from flr.snapshot import Snapshot


@dataclass(frozen=True)
class EngineSettings:
    """How the engine works.

    Attributes:
        max_batch: Histories computed together at most.
        wait_seconds: How long a question waits for company when the engine is idle.
        max_queued: Histories that may wait; further questions are refused.
        cache_tokens: Tokens of histories whose reading is kept; 0 keeps none.
        batches: ``"exact"`` computes histories one by one, and keeps nothing of them, where company would change the
            last bits of an answer; ``"fast"`` lets it.
    """

    max_batch: int = 16
    wait_seconds: float = 0.0
    max_queued: int = 256
    cache_tokens: int = 32_768
    batches: Literal["exact", "fast"] = "exact"


@dataclass(frozen=True)
class Question:
    """One history and what is asked about it; arguments as `Recommender.recommend` checks them.

    Attributes:
        history: Item indices, oldest first; none has an empty list, or that of what is popular.
        k: Items wanted.
        exclude_seen: Leave out the items of the history.
        allowed: True at the items that may be recommended, [N]; None allows all.
        factor_weights: Multiplier of each factor's gate.
        diversify: ``"factors"``, or None.
        popular: Whether a history without items has the list of what is popular.
    """

    history: IntArray
    k: int = 10
    exclude_seen: bool = True
    allowed: BoolArray | None = None
    factor_weights: tuple[float, ...] | None = None
    diversify: Literal["factors"] | None = None
    popular: bool = False


Lists = list[list[Recommendation]]


@dataclass
class EngineCounts:
    """What the engine has done so far; read without a lock."""

    questions: int = 0
    histories: int = 0
    batches: int = 0
    cancelled: int = 0
    expired: int = 0
    refused: int = 0
    busy_seconds: float = 0.0
    batch_sizes: deque[int] = field(default_factory=lambda: deque(maxlen=1000))


class UnwantedError(Exception):
    """Nobody waits any more for what is being computed."""


@dataclass(frozen=True)
class Job:
    """What is to be done; its future can be cancelled until it is settled."""

    future: Future[Any]
    deadline: float
    size: int = 1
    snapshot: Snapshot | None = None
    questions: tuple[Question, ...] = ()
    work: Callable[[], Any] | None = None

    @property
    def is_list(self) -> bool:
        """Whether it asks for lists, not for other work."""
        return self.work is None

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled() and time.monotonic() <= self.deadline

    def settle(self, found: Any) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(found)

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
