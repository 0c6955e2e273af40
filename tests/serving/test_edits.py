"""Edits over HTTP: one after another, none too late, and not too many at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from flr.errors import DeadlineError, OverloadedError
from flr.serving.edits import MOST_EDITS, Edits


def test_edits_are_made_one_after_another() -> None:
    n_making, most = 0, 0

    def edit_of(number: int) -> Callable[[], int]:
        def edit() -> int:
            nonlocal n_making, most
            n_making += 1
            most = max(most, n_making)
            n_making -= 1
            return number

        return edit

    async def make_all() -> list[int]:
        edits = Edits(60)
        return await asyncio.gather(*[edits.make(edit_of(number)) for number in range(MOST_EDITS)])

    assert asyncio.run(make_all()) == list(range(MOST_EDITS))
    assert most == 1


def test_an_edit_that_is_too_many_or_too_late_is_not_made_and_one_that_is_begun_is() -> None:
    made, begun, may_end = list[int](), threading.Event(), threading.Event()

    def first() -> int:
        begun.set()
        assert may_end.wait(60)
        made.append(0)
        return 0

    async def make_all() -> None:
        edits = Edits(0.2)
        held = asyncio.create_task(edits.make(first))
        assert await asyncio.to_thread(begun.wait, 60)
        late = [asyncio.create_task(edits.make(lambda: made.append(1))) for _ in range(1, MOST_EDITS)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match=f"{MOST_EDITS} edits wait already, at most {MOST_EDITS} may"):
            await edits.make(lambda: made.append(1))
        for one in late:
            with pytest.raises(DeadlineError, match=r"waited 0\.2 s for those before it and was not made; try later"):
                await one
        assert not held.done()
        may_end.set()
        assert await held == 0
        await edits.make(lambda: made.append(2))

    asyncio.run(make_all())
    assert made == [0, 2]
