"""How long work reports how far it is, without printing.

Only `cli/` prints. Everything below it takes a `Progress` and tells it what happens; the default says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """Advances one task by `n` units; `note` is a short live remark such as ``"loss 4.21"``."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


class Progress(Protocol):
    """Receives the progress of long work."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Open a task of `total` units (None: unknown) that is closed on leaving the context."""

    def message(self, text: str) -> None:
        """Take one line that is worth keeping, such as a validation result."""


class Silent:
    """A `Progress` that says nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(n: int = 1, note: str = "") -> None:
            pass

        yield step

    def message(self, text: str) -> None:
        pass


SILENT = Silent()
