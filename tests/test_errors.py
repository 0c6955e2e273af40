"""Errors: one tree, as drawn, and a hint that names the nearest candidate."""

from __future__ import annotations

import re

import pytest

from flr import errors
from flr.errors import FlrError, nearest


def kinds() -> list[type]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == "flr.errors"]


def test_the_tree_is_the_one_drawn_in_the_docstring() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)([A-Z]\w+Error|FlrError)\b", line):
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            drawn[found[2]] = path[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds()}


def test_every_error_can_be_mended_and_exits_with_2() -> None:
    assert len(kinds()) > 10
    assert all(issubclass(kind, FlrError) and kind.exit_code == 2 and kind.__doc__ for kind in kinds())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rat", "did you mean 'learning_rate'?"),
        ("xyz", "expected one of: learning_rate, max_steps"),
        ("", "expected one of: learning_rate, max_steps"),
    ],
)
def test_nearest(name: str, hint: str) -> None:
    assert nearest(name, ["learning_rate", "max_steps"]) == hint


def test_nearest_shows_at_most_twenty_candidates() -> None:
    hint = nearest("?", (f"item {number}" for number in range(100)))
    assert hint.endswith("item 19, ...")
