"""Worlds whose answer is known, and random rows of a given size."""

from __future__ import annotations

import polars as pl
import pytest

from flr.data.synthetic import pattern_world, synthetic_interactions, titles
from flr.errors import ConfigError


@pytest.mark.parametrize("order", [1, 2])
def test_every_row_follows_from_the_rows_before(order: int) -> None:
    world = pattern_world(n_items=13, n_users=9, length=8, order=order, seed=3)  # type: ignore[arg-type]
    histories = world.interactions.frame.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    assert len(histories) == 9
    for history in histories:
        assert len(set(history)) == 8
        for place in range(order, 8):
            assert world.answers[tuple(history[place - order : place])] == history[place]
    assert len(world.answers) == (13 if order == 1 else 13 * 12)


def test_with_order_two_the_last_item_alone_tells_nothing() -> None:
    answers = pattern_world(n_items=13, order=2).answers
    assert len({following for (_, last), following in answers.items() if last == "i0"}) == 12


def test_worlds_are_repeatable_and_have_distinct_titles() -> None:
    first, second = (pattern_world(seed=5).interactions for _ in range(2))
    assert first.frame.equals(second.frame)
    assert not first.frame.equals(pattern_world(seed=6).interactions.frame)
    assert first.items["title"].n_unique() == 31
    assert titles(2) == ["Amber Anchor", "Azure Arrow"]
    assert len(set(titles(5_000))) == 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_items": 5, "length": 6}, "length 6 must be at most n_items 5"),
        ({"n_items": 12, "order": 2}, "12 must be prime"),
    ],
)
def test_worlds_that_cannot_be(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pattern_world(**arguments)  # type: ignore[arg-type]


def test_random_rows_have_the_size_and_shape_asked_for() -> None:
    record = synthetic_interactions(n_users=200, n_items=500, n_interactions=10_000)
    assert len(record.frame) == 10_000
    assert record.frame["timestamp"].is_sorted()
    assert record.frame["user_id"].value_counts()["count"].min() >= 5
    popularity = record.frame["item_id"].value_counts().sort("count", descending=True)["count"]
    assert popularity.head(50).sum() > 0.3 * 10_000
    assert record.items["item_id"].to_list()[:2] == ["i0", "i1"]
    assert record.frame.select(pl.col("item_id").is_in(record.items["item_id"].implode()).all()).item()
    with pytest.raises(ConfigError, match="must be at least n_users x min_length = 1000"):
        synthetic_interactions(n_users=200, n_items=500, n_interactions=999)
