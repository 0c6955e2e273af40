"""Edits of the catalogue over HTTP: one after another, in a thread of their own, and not too many waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from anyio import CapacityLimiter, fail_after, to_thread

from flr.errors import DeadlineError, OverloadedError

T = TypeVar("T")
#: Edits at a time, the one that is being made included; the body of each may be large.
MOST_EDITS: Final = 32


class Edits:
    """Makes edits in a thread of their own, so that those that wait for each other take none from questions.

    Args:
        timeout_seconds: How long an edit may wait until it is begun.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds, self._n_accepted = timeout_seconds, 0
        self._thread = CapacityLimiter(1)

    async def make(self, edit: Callable[[], T]) -> T:
        """Make an edit when it is its turn, and return what it returns; one that is begun ends, however long it takes.

        Raises:
            OverloadedError: Too many edits wait already.
            DeadlineError: It was not begun in time, and is not made.
        """
        if self._n_accepted >= MOST_EDITS:
            raise OverloadedError(f"{self._n_accepted} edits wait already, at most {MOST_EDITS} may; try again in 1 s")
        self._n_accepted += 1
        try:
            with fail_after(self._timeout_seconds):  # a thread that has begun is waited for all the same
                return await to_thread.run_sync(edit, limiter=self._thread)
        except TimeoutError:
            seconds = self._timeout_seconds
            raise DeadlineError(
                f"the edit waited {seconds:g} s for those before it and was not made; try later"
            ) from None
        finally:
            self._n_accepted -= 1
