"""Servers whose page is opened in a browser, and what everybody does there first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from flr.evaluation.significance import Interval
from flr.explanation.profiles import AttributeLift, FactorProfile, FactorProfiles, TypicalItem
from flr.recommender import Recommendation, Recommender
from flr.serving.pages import add_pages
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from serving.conftest import listening, make_recommender

if TYPE_CHECKING:
    from playwright.sync_api import Page

HISTORY = ["Alien (1979)", "Blue (1993)", "Toy Story (1995)"]
GENRES = ["Drama", "War", "<i>Comedy</i>"]


@dataclass(frozen=True)
class Site:
    """A server and what it serves."""

    url: str
    recommender: Recommender
    service: Service


@contextmanager
def site_of(recommender: Recommender, settings: ServeSettings | None = None, **names: str) -> Iterator[Site]:
    service = Service(recommender, settings or ServeSettings())
    if names:
        service.profiles = profiles_of(list(names.values()))
    with listening(service, add_pages) as url:
        yield Site(f"{url}/", recommender, service)


def with_genres(titles: list[str], *overrides: str) -> Recommender:
    plain = make_recommender(*overrides, titles=titles)
    genres = pl.DataFrame({"genre": [GENRES[place % 3] for place in range(len(titles))]})
    return Recommender(plain.model, plain.tokenizer, replace(plain.catalogue, attributes=genres), plain.config)


def profiles_of(names: list[str]) -> FactorProfiles:
    even, lift = Interval(0.0, -0.1, 0.1), AttributeLift("genre", "<i>Comedy</i>", 0.4, 0.2, 2.0, 0.8, 1.2)
    item = TypicalItem(0, "i0", "<b>Typical</b>", 3, 2.5)
    factors = [
        FactorProfile(number, name, 0.25, 0.1, 0.5, 0.5, Interval(0.2, 0.1, 0.3), even, (lift,), (item,))
        for number, name in enumerate(names)
    ]
    return FactorProfiles("valid", 100, 50, ("genre",), 3, tuple(factors))


def add(page: Page, *titles: str) -> None:
    """Add titles to the history, and wait for the list."""
    from playwright.sync_api import expect

    for title in titles:
        n_rows = page.locator("#history > li").count()
        page.fill("#search", title)
        page.press("#search", "Enter")
        expect(page.locator("#history > li")).to_have_count(n_rows + 1)
    expect(page.locator("#status")).to_contain_text(f"after {page.locator('#history > li').count()} item")


def best(site: Site, history: list[str], **options: object) -> list[Recommendation]:
    return site.recommender.recommend([history], 10, by="title", **options)[0]  # type: ignore[arg-type]
