"""What the page keeps in its address, and what becomes of it when the server serves something else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Page, Route, expect

from browsers import Open
from flr.catalogue.filters import ItemFilter
from serving.conftest import make_recommender
from serving.sites import HISTORY, Site, add, best, site_of, with_genres
from toy import TITLES


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(with_genres(TITLES)) as site:
        yield site


def expect_history(page: Page, titles: list[str]) -> None:
    expect(page.locator("#history > li .title")).to_have_text(titles)


def expect_titles(page: Page, titles: list[str]) -> None:
    expect(page.locator("#list > li > .grow > .title")).to_have_text(titles)


def turn_off_factor_1(page: Page) -> None:
    page.get_by_label("Factor 1", exact=True).focus()
    page.keyboard.press("Home")


def test_a_reload_loses_nothing(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    turn_off_factor_1(page)
    page.get_by_label("Items", exact=True).select_option("5")
    page.get_by_label("Leave out what is in the history").uncheck()
    page.click("#attributes summary")
    page.get_by_label("War").check()
    steered = {"factor_weights": [0.0, 1.0, 1.0, 1.0], "filters": ItemFilter(where={"genre": ["War"]})}
    titles = [one.title for one in best(site, HISTORY, exclude_seen=False, **steered)[:5]]
    expect_titles(page, titles)
    expect(page).to_have_url(re.compile("where"))
    page.reload()
    expect_history(page, HISTORY)
    expect_titles(page, titles)
    assert page.get_by_label("Factor 1", exact=True).input_value() == "0"
    assert page.input_value("#k") == "5"
    assert not page.is_checked("#exclude-seen")
    expect(page.locator("#attributes summary").first).to_have_text("genre War")

    page.click("#no-filters")
    page.click("#neutral")
    page.get_by_label("Items", exact=True).select_option("10")
    page.get_by_label("Leave out what is in the history").check()
    expect(page).to_have_url(re.compile(r"#(item=i\d+&?)+$"))
    page.click("#clear")
    expect(page).to_have_url(site.url)


def test_back_and_forward_go_through_histories(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY[:2])
    page.click("#clear")
    expect_history(page, [])
    page.go_back()
    expect_history(page, HISTORY[:2])
    expect_titles(page, [one.title for one in best(site, HISTORY[:2])])
    page.go_back()
    expect_history(page, HISTORY[:1])
    page.keyboard.press("Tab")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "results"
    expect_history(page, HISTORY[:1])
    page.go_forward()
    expect_history(page, HISTORY[:2])


@pytest.mark.parametrize("fragment", ["#results", "#weights=a+b&k=7&where={", "#weights=1+9+1+1&where=[1]"])
def test_an_address_that_makes_no_sense_is_the_page_as_always(fragment: str, site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.goto(site.url + fragment)
    page.reload()
    expect(page.locator("#status")).to_contain_text("Add a title to the history")
    add(page, HISTORY[0])
    expect_titles(page, [one.title for one in best(site, HISTORY[:1])])


def test_items_of_an_address_that_the_catalogue_lacks_are_named(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.goto(f"{site.url}#item=i0&item=gone&item=i4")
    expect_history(page, [TITLES[0], TITLES[4]])
    expect(page.locator("#news")).to_have_text("Not in the catalogue, and left out of the history: “gone”.")
    expect(page).to_have_url(f"{site.url}#item=i0&item=i4")


def test_an_address_may_name_more_items_than_one_question_and_those_removed(open_page: Open) -> None:
    titles = [f"Film {number} (1990)" for number in range(130)]
    with site_of(make_recommender(titles=titles)) as site:
        page = open_page(site.url)
        removed = page.request.delete(f"{site.url}v1/items?item_id=i129")
        assert removed.status == 200, removed.text()
        page.goto(f"{site.url}#" + "&".join(f"item=i{number}" for number in range(130)))
        expect_history(page, titles)
        page.context.close()  # before its server stops


def test_another_model_is_noticed_and_the_page_loaded_anew(site: Site, open_page: Open) -> None:
    titles = TITLES[4:8]  # other films under the ids of the first model's, and fewer
    with site_of(make_recommender("reasoner.n_factors=2", titles=titles)) as other:
        page = open_page(site.url)
        add(page, TITLES[1], TITLES[4])
        turn_off_factor_1(page)
        expect(page).to_have_url(re.compile("weights"))

        def answer(route: Route) -> None:
            url = route.request.url
            route.fulfill(response=route.fetch(url=other.url.rstrip("/") + url[len(f"{site.url}") - 1 :]))

        page.route("**/v1/**", answer)
        page.get_by_label("Factor 2", exact=True).focus()
        page.keyboard.press("Home")
        expect(page.locator("#news")).to_contain_text("The server now serves another model; the page was loaded anew.")
        expect(page.locator("#news")).to_contain_text(f"left out of the history: {TITLES[4]}.")
        expect_history(page, [titles[1]])
        expect_titles(page, [one.title for one in best(other, [titles[1]])])
        assert page.locator(".slider").count() == 2
        assert page.evaluate("document.activeElement.id") == "factor-1"
        page.click("#clear")
        expect(page.locator("#news")).to_be_empty()
        page.unroute_all(behavior="ignoreErrors")  # an explanation may be under way
        page.context.close()  # before its server stops


def test_edits_of_the_catalogue_are_followed(open_page: Open) -> None:
    with site_of(with_genres(TITLES)) as site:
        page = open_page(site.url)
        add(page, HISTORY[0])
        page.click("#attributes summary")
        page.get_by_label("War").check()
        expect(page.locator("#list-note")).to_contain_text(f"over all {len(TITLES)} items")
        added = [{"item_id": "n1", "title": "Brand New (2026)", "attributes": {"genre": "War"}}]
        response = page.request.post(f"{site.url}v1/items", data={"items": added})
        assert response.status == 201, response.text()
        page.get_by_label("Items", exact=True).select_option("20")
        expect(page.locator("#list-note")).to_contain_text(f"over all {len(TITLES) + 1} items")
        expect(page.locator("#model")).to_contain_text(f"{len(TITLES) + 1} items")
        expect(page.locator("#attributes .choice", has_text="War").locator(".figure")).to_have_text("5")
        assert page.get_by_label("War").is_checked()
        page.context.close()  # before its server stops
