"""Which rows stay: those of a window of time, on items with a usable title, in a core of active users and items.

The window ends at a fixed month. It starts at another, and goes back year by year until enough items survive.
Rows at the window's very first and last moment belong to it; months begin at midnight UTC (D3: at the preparing
machine's own midnight, which moves nothing where times are whole days and the offset is east of Greenwich).

Source: ``code/process.py`` of github.com/SAI990323/DecodingMatters (D3), read in November 2026. How many items are
enough is 10,000 there, 3,000 in the copy at github.com/Mr-Peach0301/Flower; LatentR3's data sets need 5,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import polars as pl

from flr.data.filtering import k_core
from flr.data.title_rules import apply_title_rule
from flr.errors import DataError
from flr.prepare_config import PrepareConfig
from flr.records import ITEM_INDEX, TIMESTAMP, TITLE, USER_INDEX, BoolArray, IntArray

#: No window starts before the year of Amazon's first reviews.
FIRST_YEAR: Final = 1996


@dataclass(frozen=True)
class Narrowed:
    """What is left of rows and items.

    Attributes:
        kept: True at the rows that stay, [n].
        usable: True at the items that may stay, [N].
        titles: Titles of all items, as the rule cleaned them, [N].
        dropped: Reason -> number, in the order in which the reasons are looked at.
        window: Start, end and number of items of every window that was tried; empty where there is none.
    """

    kept: BoolArray
    usable: BoolArray
    titles: pl.Series
    dropped: dict[str, int]
    window: dict[str, Any]


def narrow(frame: pl.DataFrame, items: pl.DataFrame, settings: PrepareConfig) -> Narrowed:
    """Return which rows and items stay.

    Args:
        frame: Index of user and item, and time in seconds since 1970, of each row.
        items: ``title`` of all items, in the order of their index.
        settings: Window, title rule, and how many rows users and items need.

    Raises:
        DataError: Nothing is left in the widest window.
    """
    users, taken, times = (frame[name].to_numpy() for name in (USER_INDEX, ITEM_INDEX, TIMESTAMP))
    titles, tried = items[TITLE].cast(pl.String), {}
    starts = list(_starts(settings))
    for start in starts:
        titles, readable = apply_title_rule(titles, settings.title_rule)
        usable = readable.to_numpy() if settings.missing_title == "drop" else np.ones(len(items), dtype=np.bool_)
        inside = _inside(times, start, settings.window_end)
        titled = inside & usable[taken]
        try:
            kept = _core(users, taken, titled, settings)
        except DataError:
            if start == starts[-1]:
                raise
            kept = np.zeros_like(titled)
        n_items = len(np.unique(taken[kept]))
        if start is not None:
            tried[start] = n_items
        if n_items >= settings.widen_until_items:
            break
    dropped = _dropped(users, taken, (inside, titled, kept), settings)
    window = {"start": start, "end": settings.window_end, "items_by_start": tried}
    return Narrowed(kept, usable, titles, dropped, window if tried or settings.window_end else {})


def _starts(settings: PrepareConfig) -> Iterator[str | None]:
    """Yield the month of the first window, and of each wider one where the settings allow any."""
    first = settings.window_start
    yield first
    if first is not None and settings.widen_until_items > 1:
        year, month = int(first[:4]), first[4:]
        yield from (f"{earlier}{month}" for earlier in range(year - 1, FIRST_YEAR - 1, -1))


def _inside(times: IntArray, start: str | None, end: str | None) -> BoolArray:
    inside = np.ones(len(times), dtype=np.bool_)
    if start is not None:
        inside &= times >= _seconds(start)
    if end is not None:
        inside &= times <= _seconds(end)
    return inside


def _seconds(month: str) -> int:
    return int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp())


def _core(users: IntArray, taken: IntArray, candidates: BoolArray, settings: PrepareConfig) -> BoolArray:
    min_user, min_item = settings.min_user_interactions, settings.min_item_interactions
    if not candidates.any():
        raise DataError(
            f"none of {len(users)} rows is between window_start={settings.window_start} and "
            f"window_end={settings.window_end} and on an item with a usable title; widen the window"
        )
    if max(min_user, min_item) == 1:
        return candidates
    kept = np.zeros_like(candidates)
    rows = np.flatnonzero(candidates)
    kept[rows[k_core(users[rows], taken[rows], min_user=min_user, min_item=min_item)]] = True
    return kept


def _dropped(
    users: IntArray, taken: IntArray, masks: tuple[BoolArray, BoolArray, BoolArray], settings: PrepareConfig
) -> dict[str, int]:
    inside, titled, kept = masks
    dropped: dict[str, int] = {}
    if settings.window_start or settings.window_end:
        dropped["rows_outside_window"] = int((~inside).sum())
    if settings.missing_title == "drop":
        dropped["untitled_rows"] = int((inside & ~titled).sum())
        dropped["untitled_items"] = len(np.unique(taken[inside & ~titled]))
    if max(settings.min_user_interactions, settings.min_item_interactions) > 1:
        dropped["k_core_rows"] = int((titled & ~kept).sum())
        dropped["k_core_users"] = len(np.unique(users[titled])) - len(np.unique(users[kept]))
        dropped["k_core_items"] = len(np.unique(taken[titled])) - len(np.unique(taken[kept]))
    return dropped
