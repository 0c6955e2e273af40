"""Pages of a catalogue, while other threads list another state of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from flr.recommender import Recommender
from flr.serving.listing import Listing
from serving.conftest import make_recommender


class Overtaken(Listing):
    """A listing in which somebody lists a newer catalogue after so many looks at what is prepared."""

    newer: Any = None
    n_looks = -1

    @property
    def _prepared(self) -> Any:  # type: ignore[override]
        found = self.kept
        self.n_looks -= 1
        if self.n_looks == 0:
            self.kept = self.newer
        return found

    @_prepared.setter
    def _prepared(self, prepared: Any) -> None:
        self.kept = prepared


@pytest.mark.parametrize("n_looks", [1, 2, 3])
def test_a_page_is_of_one_catalogue_whatever_is_listed_meanwhile(n_looks: int) -> None:
    recommender = make_recommender()
    listing, old = Overtaken(), recommender.snapshot.live
    recommender.add_items([{"item_id": f"n{n}", "title": f"Heat {n} (1995)", "year": 1995} for n in range(3)])
    listing.page(recommender.snapshot.live, "", 0, 50)
    listing.newer = listing.kept
    before = listing.page(old, "heat", 0, 50)
    listing.n_looks = n_looks
    assert listing.page(old, "heat", 0, 50) == before
    assert before[0] == 2


@pytest.mark.parametrize(
    "search", ["Amélie", "ame\u0301lie", "AMÉLIE  (2001)", " amélie (2001)", "STRASSE", "straße", "ΟΔΥΣ", "οδυσσευς"]
)
def test_titles_are_found_however_they_are_typed(search: str) -> None:
    live = make_recommender(
        titles=["Amélie (2001)", "Große Straße (1990)", "ΟΔΥΣΣΕΥΣ (1997)", "Heat (1995)"]
    ).snapshot.live
    assert Listing().page(live, search, 0, 10)[0] == 1


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("the godfather", ["Godfather, The (1972)"]),
        ("godfather 1972", ["Godfather, The (1972)"]),
        ("emigre", ["Émigré (1987)"]),
        ("alien", ["Alien (1979)", "Aliens (1986)", "My Alien (1990)"]),
        ("dr strangelove", ["Dr. Strangelove (1963)"]),
        ("alien godfather", []),
    ],
)
def test_words_are_found_in_any_order_and_whole_beginnings_come_first(search: str, found: list[str]) -> None:
    titles = ["My Alien (1990)", "Aliens (1986)", "Alien (1979)", "Godfather, The (1972)", "Émigré (1987)"]
    live = make_recommender(titles=[*titles, "Dr. Strangelove (1963)"]).snapshot.live
    assert [item.title for item in Listing().page(live, search, 0, 10)[1]] == found


def test_bytes_are_no_attribute_that_a_page_can_hold() -> None:
    recommender = make_recommender()
    given = pl.DataFrame({"cover": [b"\xff\xd8"] * 11, "year": range(11)})
    catalogue = replace(recommender.catalogue, attributes=given)
    live = Recommender(recommender.model, recommender.tokenizer, catalogue, recommender.config).snapshot.live
    assert Listing().page(live, "", 0, 1)[1][0].model_dump(mode="json")["attributes"] == {"year": 0}
