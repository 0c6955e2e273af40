"""Attributes are columns whose values are shared, taken apart where text lists several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from flr.catalogue.attributes import attribute_values
from toy import toy_catalogue


def values_of(column: list[Any], dtype: Any = None) -> set[tuple[int, str]]:
    catalogue = toy_catalogue([f"Title {n}" for n in range(len(column))])
    attributes = pl.DataFrame({"x": pl.Series(column, dtype=dtype)})
    found = attribute_values(replace(catalogue, attributes=attributes))
    assert set(found["attribute"]) <= {"x"}
    return set(found.select("item_index", "value").iter_rows())


def test_texts_that_are_shared_are_values() -> None:
    found = values_of(["Acme Toys", "Acme Toys", " Bolt", "Bolt", None, ""])
    assert found == {(0, "Acme Toys"), (1, "Acme Toys"), (2, "Bolt"), (3, "Bolt")}


@pytest.mark.parametrize("separator", ["|", "; ", ", ", " "])
def test_texts_that_list_values_are_taken_apart(separator: str) -> None:
    lists = [["War", "Drama"], ["Drama"], ["War"], ["Sci-Fi", "War"], ["Sci-Fi"], ["Sci-Fi", "Drama"]] * 2
    found = values_of([separator.join(values) for values in lists])
    assert found == {(item, value) for item, values in enumerate(lists) for value in values}


def test_names_of_several_words_stay_whole() -> None:
    names = ["Melissa & Doug", "Fisher Price", "Little Tikes", "Green Toys"]
    assert values_of(names * 2) == {(item, name) for item, name in enumerate(names * 2)}


def test_lists_years_and_flags_are_values() -> None:
    assert values_of([["a", "b"], ["a"], ["b"], ["a", "b"]]) == {
        (0, "a"), (0, "b"), (1, "a"), (2, "b"), (3, "a"), (3, "b")
    }  # fmt: skip
    assert values_of([1990, 1990, 1991, 1991]) == {(0, "1990"), (1, "1990"), (2, "1991"), (3, "1991")}
    assert values_of([True, False, True, None, True]) == {(0, "true"), (1, "false"), (2, "true"), (4, "true")}
    assert values_of(["x", "y", "x", "y"], pl.Categorical) == {(0, "x"), (1, "y"), (2, "x"), (3, "y")}


@pytest.mark.parametrize(
    "column",
    [
        [f"a-{n}" for n in range(8)],
        [f"A long description of item number {n} that nobody else has" for n in range(8)],
        ["9.99", "9.99", "12.50", "12.50"],
        [0.5, 0.5, 1.5, 1.5],
        [None, None],
    ],
    ids=["identifiers", "descriptions", "prices", "numbers", "nothing"],
)
def test_what_nobody_shares_is_no_attribute(column: list[Any]) -> None:
    assert values_of(column) == set()


def test_a_catalogue_without_columns_has_none() -> None:
    assert attribute_values(toy_catalogue()).is_empty()
