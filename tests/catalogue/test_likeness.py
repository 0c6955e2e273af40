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
LENDS = np.ones(len(TITLES), dtype=bool)


@pytest.fixture(autouse=True)
def few_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "N_NEIGHBOURS", 2)


def with_new(titles: list[str], genres: list[str] | None = None) -> Catalogue:
    catalogue = toy_catalogue([*TITLES, *titles])
    if genres is None:
        return catalogue
    columns = {"genre": [*GENRES, *genres], "price": np.arange(catalogue.n_items) // 3}
    return replace(catalogue, attributes=pl.DataFrame(columns))


def found(catalogue: Catalogue, lends: np.ndarray = LENDS, before: Likeness | None = None) -> Likeness:
    alike = liken(catalogue, lends, before)
    assert alike is not None
    return alike


def names(alike: Likeness) -> list[list[str]]:
    return [[TITLES[item] for item in row] for row in alike.items]


def test_words_of_titles_and_attributes_make_neighbours() -> None:
    alike = found(with_new(["STAR TREK: Generations", "Casino", "Toy Story 3"], ["Sci-Fi", "Crime", "Comedy"]))
    assert names(alike) == [["Star Trek", "Star Wars"], ["Heat", "Fargo"], ["Toy Story", "Toy Story 2"]]


def test_of_equally_alike_items_the_first_are_neighbours_and_numbers_say_nothing() -> None:
    alike = found(with_new(["Quxx", "Quxx too"], ["Opera", "Opera"]))
    assert alike.items.tolist() == [[0, 1], [0, 1]]
    assert alike.weights.tolist() == [[0, 0], [0, 0]]


def test_shares_sum_to_one_or_to_what_little_is_alike() -> None:
    strong = found(with_new(["Toy Story"], ["Comedy"])).weights
    assert strong.sum() == pytest.approx(1)
    assert strong[0, 0] > strong[0, 1]
    weak = found(with_new(["Heat of the long hot summer nights in Rome"])).weights
    assert 0 < weak.sum() < 0.5


def test_an_item_that_nobody_took_lends_nothing() -> None:
    lends = LENDS.copy()
    lends[4] = False
    assert names(found(with_new(["Toy Story 3"]), lends)) == [["Toy Story 2", "Star Trek"]]
    assert liken(with_new(["Toy Story 3"]), ~LENDS) is None


def test_nothing_is_new_in_a_catalogue_that_is_known() -> None:
    assert liken(toy_catalogue(TITLES), LENDS) is None


def test_neighbours_depend_neither_on_other_new_items_nor_on_how_many_are_compared_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titles, genres = ["Alien 3", "Toy Soldiers", "Star Chamber"], ["Horror", "Comedy|War", "Crime"]
    whole = found(with_new(titles, genres))
    first = found(with_new(titles[:1], genres[:1]))
    monkeypatch.setattr(likeness, "_AT_A_TIME", 1)
    for again in (found(with_new(titles, genres)), found(with_new(titles, genres), before=first)):
        assert again.items.tolist() == whole.items.tolist()
        assert again.weights.tolist() == whole.weights.tolist()
