"""Interactions that nobody made: as many as a benchmark needs, or so regular that the right answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from flr.errors import ConfigError
from flr.records import ITEM_ID, TIMESTAMP, TITLE, USER_ID, IntArray, Interactions
from flr.seeding import generator

_COLOURS: Final = (
    "Amber Azure Bronze Cobalt Copper Coral Crimson Ebony Emerald Golden Indigo Ivory Jade Lilac Maroon Ochre "
    "Olive Pearl Ruby Russet Sable Saffron Scarlet Silver Teal Topaz Umber Violet"
)
_THINGS: Final = (
    "Anchor Arrow Bridge Candle Canyon Castle Compass Desert Falcon Forest Garden Glacier Harbour Island Journey "
    "Kingdom Lantern Letter Meadow Mirror Mountain Ocean Orchard Palace River Shadow Station Summer Temple Tower "
    "Valley Voyage Window Winter"
)
_FIRST_SECOND: Final = 1_400_000_000
_YEAR_SECONDS: Final = 31_536_000


@dataclass(frozen=True)
class PatternWorld:
    """A toy world and its answers.

    Attributes:
        interactions: Histories that follow the pattern to their last row.
        answers: The last item id, or the last two, oldest first -> the next item id.
    """

    interactions: Interactions
    answers: Mapping[tuple[str, ...], str]


def pattern_world(
    *, n_items: int = 31, n_users: int = 60, length: int = 12, order: Literal[1, 2] = 1, seed: int = 0
) -> PatternWorld:
    """Return a world in which the next item is a function of the last item, or of the last two.

    Items lie on a circle in a secret arrangement. With `order` 1 everybody walks by one place; with `order` 2
    each person has a stride of their own, so that the last item alone tells nothing and the last two tell all.
    Nobody meets an item twice.

    Args:
        n_items: Items N; a prime where `order` is 2, so that every stride visits all items.
        n_users: Users.
        length: Rows per user, at most N.
        order: How many of the last items decide.
        seed: Seed of the arrangement, the starts and the strides.

    Raises:
        ConfigError: `length` is over `n_items`, or `n_items` is not prime though `order` is 2.
    """
    if length > n_items:
        raise ConfigError(f"length {length} must be at most n_items {n_items}, or items would repeat")
    if order == 2 and any(n_items % divisor == 0 for divisor in range(2, int(n_items**0.5) + 1)):
        raise ConfigError(f"n_items {n_items} must be prime for order 2, for example 31")
    rng = generator(seed, "pattern world")
    places = rng.permutation(n_items)
    starts = rng.integers(n_items, size=(n_users, 1))
    strides = rng.integers(1, n_items, size=(n_users, 1)) if order == 2 else np.ones((n_users, 1), dtype=np.int64)
    taken = places[(starts + strides * np.arange(length)) % n_items]
    ids = [f"i{item}" for item in range(n_items)]
    around = [[ids[places[(start + stride * step) % n_items]] for step in range(order + 1)]
              for start in range(n_items) for stride in (range(1, n_items) if order == 2 else [1])]  # fmt: skip
    frame = pl.DataFrame(
        {
            USER_ID: [f"u{user}" for user in np.repeat(np.arange(n_users), length)],
            ITEM_ID: [ids[item] for item in taken.ravel()],
            TIMESTAMP: np.tile(_FIRST_SECOND + 60 * np.arange(length), n_users),
        }
    )
    listed = pl.DataFrame({ITEM_ID: ids, TITLE: titles(n_items)})
    source = {"name": "pattern world", "n_items": n_items, "order": order, "seed": seed}
    return PatternWorld(Interactions(frame, listed, source), {tuple(walk[:-1]): walk[-1] for walk in around})


def synthetic_interactions(
    *, n_users: int, n_items: int, n_interactions: int, seed: int = 0, min_length: int = 5
) -> Interactions:
    """Return random interactions with long-tailed activity and popularity, in the order of time.

    Activity is log-normal above `min_length`, popularity falls with rank as in Zipf's law, and times are uniform
    over three years with some ties.

    Args:
        n_users: Users.
        n_items: Listed items; rare ones may occur in no row.
        n_interactions: Rows, at least ``n_users * min_length``.
        seed: Seed of everything.
        min_length: Rows of the least active user.

    Raises:
        ConfigError: There are too few rows for that many users.
    """
    if n_interactions < n_users * min_length:
        raise ConfigError(
            f"n_interactions {n_interactions} must be at least n_users x min_length = {n_users * min_length}"
        )
    rng = generator(seed, "synthetic interactions")
    activity = rng.lognormal(0.0, 1.0, n_users)
    lengths = min_length + rng.multinomial(n_interactions - n_users * min_length, activity / activity.sum())
    users = rng.permutation(np.repeat(np.arange(n_users, dtype=np.int32), lengths))
    times = np.sort(rng.integers(_FIRST_SECOND, _FIRST_SECOND + 3 * _YEAR_SECONDS, n_interactions))
    frame = pl.DataFrame(
        {
            USER_ID: _names("u", n_users).gather(users),
            ITEM_ID: _names("i", n_items).gather(_zipf(rng, n_items, n_interactions)),
            TIMESTAMP: times,
        }
    )
    listed = pl.DataFrame({ITEM_ID: _names("i", n_items), TITLE: titles(n_items)})
    return Interactions(frame, listed, {"name": "synthetic", "seed": seed})


def titles(n: int) -> list[str]:
    """Return n distinct titles of ordinary words, for example ``"Amber Anchor"``; past 952 they are numbered."""
    colours, things = _COLOURS.split(), _THINGS.split()
    pairs = [f"{colours[i % len(colours)]} {things[(i // len(colours) + i) % len(things)]}"
             for i in range(min(n, len(colours) * len(things)))]  # fmt: skip
    return [pairs[i % len(pairs)] + (f" {i // len(pairs) + 1}" if i >= len(pairs) else "") for i in range(n)]


def _names(prefix: str, n: int) -> pl.Series:
    return pl.select((prefix + pl.int_range(n).cast(pl.String)).alias("name")).to_series()


def _zipf(rng: np.random.Generator, n_items: int, n: int) -> IntArray:
    weights = np.cumsum(1.0 / (np.arange(n_items) + 10.0))
    taken: IntArray = rng.permutation(n_items)[np.searchsorted(weights, rng.random(n) * weights[-1])]
    return taken
