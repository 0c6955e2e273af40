"""New items find the known ones that they are like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from flr.catalogue import likeness
from flr.catalogue.likeness import Likeness, liken
from flr.records import Catalogue
from toy import toy_catalogue

TITLES = ["Star Trek", "Star Wars", "Alien", "Aliens", "Toy Story", "Toy Story 2", "Heat", "Fargo"]
GENRES = ["Sci-Fi", "Sci-Fi", "Horror", "Horror", "Comedy", "Comedy", "Crime", "Crime"]


def with_new(titles: list[str], genres: list[str]) -> Catalogue:
    return replace(
        toy_catalogue([*TITLES, *titles]),
        attributes=pl.DataFrame({"genre": [*GENRES, *genres], "price": np.arange(len(TITLES) + len(titles)) / 3}),
    )


def nearest(found: Likeness | None, n: int = 1) -> list[list[str]]:
    assert found is not None
    order = np.argsort(-found.weights, axis=1, kind="stable")[:, :n]
    return [[TITLES[item] for item in row] for row in np.take_along_axis(found.items, order, axis=1)]


def test_words_of_titles_and_attributes_make_neighbours() -> None:
    found = liken(with_new(["STAR TREK: Generations", "Casino"], ["Sci-Fi", "Crime"]), len(TITLES))
    assert nearest(found)[0] == ["Star Trek"]
    assert set(nearest(found, 2)[1]) == {"Heat", "Fargo"}
    assert found is not None
    assert found.weights.sum(1).tolist() == pytest.approx([1, 1])
    assert found.items.shape == (2, len(TITLES))


def test_what_is_like_nothing_has_no_weights() -> None:
    found = liken(toy_catalogue([*TITLES, "Quxx"]), len(TITLES))
    assert found is not None
    assert found.weights.tolist() == [[0.0] * len(TITLES)]


def test_nothing_is_new_in_a_catalogue_that_is_known() -> None:
    assert liken(toy_catalogue(TITLES), len(TITLES)) is None


def test_neighbours_found_earlier_are_kept_and_do_not_depend_on_how_many_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = with_new(["Alien 3", "Toy Soldiers", "Star Chamber"], ["Horror", "Comedy", "Crime"])
    whole = liken(catalogue, len(TITLES))
    assert whole is not None
    monkeypatch.setattr(likeness, "_AT_A_TIME", 1)
    again = liken(catalogue, len(TITLES), Likeness(whole.items[:1], whole.weights[:1]))
    assert again is not None
    assert again.items.tolist() == whole.items.tolist()
    assert again.weights.tolist() == whole.weights.tolist()
