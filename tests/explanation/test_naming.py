"""Names say what is sure, and are unique."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flr.evaluation.significance import Interval
from flr.explanation.naming import factor_names
from flr.explanation.profiles import AttributeLift, FactorProfile

NOTHING = Interval(0.0, -0.01, 0.01)
PLAIN = FactorProfile(
    factor=0,
    name="",
    gate=0.25,
    elsewhere=0.1,
    spread=0.5,
    token_spread=0.5,
    recency=NOTHING,
    popularity=NOTHING,
    attributes=(),
    items=(),
)


def about(mean: float) -> Interval:
    return Interval(mean, mean - 0.01, mean + 0.01)


def lift(value: str, size: float = 1.5, chance: float = 1.2) -> AttributeLift:
    return AttributeLift("genre", value, share=0.3, base=0.2, lift=size, chance_low=2 - chance, chance_high=chance)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "unspecialised"),
        ({"spread": 0.95}, "whole history"),
        ({"spread": 0.05}, "single item"),
        ({"token_spread": 0.05, "spread": 0.05}, "single token"),
        ({"elsewhere": 0.95, "attributes": (lift("War"),)}, "no title"),
        ({"recency": about(0.2)}, "recent"),
        ({"recency": about(0.45)}, "latest"),
        ({"recency": about(-0.2)}, "early"),
        ({"recency": about(-0.45)}, "oldest"),
        ({"recency": Interval(0.2, -0.1, 0.5)}, "unspecialised"),
        ({"recency": about(0.05)}, "unspecialised"),
        ({"popularity": about(0.1)}, "popular"),
        ({"popularity": about(-0.1)}, "niche"),
        ({"recency": about(0.2), "attributes": (lift("Sci-Fi"),), "popularity": about(0.1)}, "recent Sci-Fi, popular"),
        ({"attributes": (lift("War"), lift("Drama"), lift("Crime"))}, "War/Drama"),
        ({"attributes": (lift("War", chance=1.6), lift("Drama", size=1.1, chance=1.05))}, "unspecialised"),
        ({"attributes": (lift("War", size=0.3),)}, "unspecialised"),
    ],
)
def test_only_what_is_sure_and_large_gets_a_word(changes: dict[str, object], name: str) -> None:
    assert factor_names([replace(PLAIN, **changes)]) == [name]  # type: ignore[arg-type]


def test_who_reads_items_reads_no_single_token() -> None:
    profile = replace(PLAIN, token_spread=0.05)
    assert factor_names([profile, replace(profile, spread=0.05)], reads_items=True) == ["unspecialised", "single item"]


def test_names_are_told_apart_by_further_values_and_then_by_numbers() -> None:
    war = replace(PLAIN, attributes=(lift("War"), lift("Drama")))
    crime = replace(PLAIN, attributes=(lift("War"), lift("Drama"), lift("Crime")))
    assert factor_names([PLAIN, war, crime, PLAIN, war]) == [
        "unspecialised",
        "War/Drama",
        "War/Drama/Crime",
        "unspecialised #2",
        "War/Drama #2",
    ]


def test_a_name_begins_with_what_the_factor_votes_for() -> None:
    profiles = [replace(PLAIN, relation=relation) for relation in ("soon", "together", "next", "", "soon")]
    assert factor_names(profiles) == [
        "soon after: unspecialised",
        "goes with: unspecialised",
        "next after: unspecialised",
        "unspecialised",
        "soon after: unspecialised #2",
    ]
