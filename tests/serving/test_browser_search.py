"""The search of the page: what is typed in haste, on a slow server, and for titles that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Page, Route, expect

from browsers import Open
from serving.conftest import make_recommender
from serving.sites import Site, site_of, with_genres

OTHERS = [f"Film {number} (1990)" for number in range(9)]
FILMS = ["Aliens (1986)", "Alien (1979)", "Heat (1995)", "Heat (1995)", "Blue (1993)", *OTHERS]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(with_genres(FILMS)) as site:
        yield site


def hold_searches(page: Page) -> list[Route]:
    """Keep searches from being answered; returns what waits."""
    waiting: list[Route] = []
    page.route("**/v1/items?*", lambda route: waiting.append(route))  # noqa: PLW0108
    return waiting


def wait_for(page: Page, waiting: list[Route], n: int) -> None:
    while len(waiting) < n:
        page.wait_for_timeout(20)


def test_enter_adds_the_title_that_was_typed(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.fill("#search", "alien")
    page.press("#search", "Enter")
    expect(page.locator("#history .title")).to_have_text(["Alien (1979)"])
    page.fill("#search", "ALIEN")
    expect(page.locator("#found > li")).to_have_count(2)
    expect(page.locator("#found [aria-selected=true] .title")).to_have_text("Alien (1979)")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#history .title")).to_have_text(["Alien (1979)", "Aliens (1986)"])


def test_titles_that_are_typed_in_haste_are_added_in_their_order(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    waiting = hold_searches(page)
    page.focus("#search")
    page.keyboard.type("blue")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.input_value("#search") == ""
    expect(page.locator("#search-note")).to_have_text("Looking for “blue”…")
    page.keyboard.type("alien")
    page.keyboard.press("Enter")
    page.keyboard.type("none such")
    page.keyboard.press("Enter")
    wait_for(page, waiting, 3)
    for route in reversed(waiting):
        route.continue_()
    expect(page.locator("#history .title")).to_have_text(["Blue (1993)", "Alien (1979)"])
    expect(page.locator("#search-note")).to_have_text("No title holds “none such”.")
    assert page.input_value("#search") == "none such"


@pytest.mark.parametrize("key", ["Tab", "Escape"])
def test_nothing_opens_that_nobody_waits_for(key: str, site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    waiting = hold_searches(page)
    page.focus("#search")
    page.keyboard.type("alien")
    wait_for(page, waiting, 1)
    page.keyboard.press(key)
    page.unroute("**/v1/items?*")
    page.wait_for_timeout(500)
    assert page.is_hidden("#found")
    assert page.get_attribute("#search", "aria-expanded") == "false"


def test_what_is_chosen_while_a_newer_search_is_under_way_ends_it(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.focus("#search")
    page.keyboard.type("alie")
    expect(page.locator("#found > li")).to_have_count(2)
    page.keyboard.type("n")
    page.click("#found > li:nth-child(1)")
    page.wait_for_timeout(500)
    assert page.is_hidden("#found")
    expect(page.locator("#search-note")).to_have_text("Added Aliens (1986).")


def test_items_of_one_title_are_told_apart(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.fill("#search", "heat")
    told = ["id i2 · <i>Comedy</i>", "id i3 · Drama"]
    expect(page.locator("#found .by")).to_have_text(told)
    page.click("#found > li:nth-child(1)")
    expect(page.locator("#history .by")).to_have_count(0)
    page.fill("#search", "heat")
    page.click("#found > li:nth-child(2)")
    expect(page.locator("#history .by")).to_have_text(told)
    page.fill("#search", "alien")
    expect(page.locator("#found .by")).to_have_text(["War", "Drama"])


def test_every_value_of_an_attribute_can_be_found(open_page: Open) -> None:
    titles = [f"Film {n} ({1500 + n // 2})" for n in range(300)]
    with site_of(make_recommender(titles=titles)) as site:
        page = open_page(site.url)
        page.click("#attributes summary")
        expect(page.locator("#attributes .choice")).to_have_count(150)
        page.get_by_label("Find a value of year").fill("1649")
        expect(page.locator("#attributes .choice:visible")).to_have_count(1)
        page.locator("#attributes .choice:visible input").check()
        page.get_by_label("Find a value of year").fill("zz")
        expect(page.get_by_text("No value of year holds “zz”.")).to_be_visible()
        expect(page.locator("#attributes summary").first).to_have_text("year 1649")
        page.context.close()  # before its server stops
