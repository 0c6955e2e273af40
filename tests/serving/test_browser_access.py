"""The page for everybody: in every state, with any colours, at any width, by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Page, Route, expect

from browsers import Open, assert_accessible
from serving.sites import HISTORY, Site, add, site_of, with_genres
from toy import TITLES


@pytest.fixture(scope="module")
def named_site() -> Iterator[Site]:
    names = {str(number): f"a rather long name of factor {number}" for number in range(4)}
    with site_of(with_genres(TITLES), **names) as site:
        yield site


def ask_for_a_list(page: Page) -> None:
    page.fill("#search", "Alien")
    page.press("#search", "Enter")


def refusing(status: int, name: str, headers: dict[str, str] | None = None) -> Callable[[Route], None]:
    errors = [{"where": "body.k", "problem": "too large"}, {"where": "body.by", "problem": "is wrong"}]
    problem = {
        "type": f"urn:flr:problem:{name}",
        "title": "Refused",
        "status": status,
        "detail": "no",
        "errors": errors,
    }
    given = {"content-type": "application/problem+json", **(headers or {})}
    return lambda route: route.fulfill(status=status, headers=given, body=json.dumps({**problem, "errors": errors}))


def nothing_yet(page: Page) -> None:
    expect(page.locator("#status")).to_contain_text("Add a title to the history")


def refused(page: Page) -> None:
    page.route("**/v1/recommend", refusing(422, "validation"))
    ask_for_a_list(page)
    expect(page.locator("#results-problem li")).to_have_count(2)


def server_gone(page: Page) -> None:
    page.route("**/v1/recommend", lambda route: route.abort())
    ask_for_a_list(page)
    expect(page.locator("#results-problem")).to_contain_text("The server cannot be reached")


def busy(page: Page) -> None:
    page.route("**/v1/recommend", refusing(429, "overloaded", {"Retry-After": "20"}))
    ask_for_a_list(page)
    expect(page.locator("#status")).to_contain_text("The server is busy. Asking again in 20 seconds.")


def too_busy(page: Page) -> None:
    page.route("**/v1/recommend", refusing(429, "overloaded", {"Retry-After": "3600"}))
    ask_for_a_list(page)
    expect(page.locator("#results-problem").get_by_role("button", name="Try again")).to_be_visible()


def unknown_title(page: Page) -> None:
    page.fill("#search", "no such title")
    expect(page.locator("#search-note")).to_have_text("No title holds “no such title”.")


def titles_found(page: Page) -> None:
    page.fill("#search", "blue")
    expect(page.locator("#found > li")).to_have_count(3)


def explained(page: Page) -> None:
    add(page, *HISTORY)
    page.click("#attributes summary")
    page.get_by_label("War").check()
    expect(page.locator("#list-note")).to_contain_text("filters")
    page.click("#list > li:nth-child(1) >> text=Why?")
    page.wait_for_selector("#comparison h3")
    page.wait_for_selector(".heatmap")
    page.click("text=Test the order of purchases")
    page.click("text=Figures of the chart")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def untested(page: Page) -> None:
    add(page, *HISTORY)
    page.click("#list > li:nth-child(1) >> text=Why?")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.route("**/v1/explain", refusing(503, "too-late"))
    page.click("text=Test the order of purchases")
    expect(page.locator(".fidelity").get_by_role("button", name="Try again")).to_be_visible()


#: Every state, wide or narrow; the widest, with all tables, as both.
STATES = [
    (nothing_yet, 1400),
    (titles_found, 320),
    (unknown_title, 1400),
    (refused, 320),
    (server_gone, 1400),
    (busy, 320),
    (too_busy, 1400),
    (explained, 320),
    (explained, 1400),
    (untested, 320),
]
State = Callable[[Page], None]


def opened(open_page: Open, url: str, width: int, **options: object) -> Page:
    view = {"viewport": {"width": width, "height": 800}, "bypass_csp": True, "reduced_motion": "reduce"}
    page = open_page(url, **view, **options)
    if page.locator("#steer:not([open])").count():
        page.click("#steer > summary")
    return page


@pytest.mark.parametrize(("reach", "width"), STATES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_every_state_is_accessible(reach: State, width: int, named_site: Site, open_page: Open) -> None:
    page = opened(open_page, named_site.url, width)
    reach(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert_accessible(page)


def test_nothing_is_cut_off_at_twice_the_size(named_site: Site, open_page: Open) -> None:
    page = opened(open_page, named_site.url, 640, device_scale_factor=2)
    explained(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
    wide = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)"
    assert page.locator("#why .scroller").evaluate_all(wide) == []


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of an element's text and ground."""
    style = "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, page.locator(selector).first.evaluate(style)))
    return (light + 0.05) / (dark + 0.05)


def test_buttons_can_be_read_under_the_mouse(named_site: Site, open_page: Open) -> None:
    page = opened(open_page, named_site.url, 1400)
    add(page, *HISTORY)
    page.click("#list > li:nth-child(1) >> text=Why?")
    page.wait_for_selector("#comparison h3")
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        for button in ("#list [aria-expanded=true]", "#why [aria-pressed=true]", "#why [aria-pressed=false]", "#clear"):
            page.hover(button)
            assert page.locator(f"{button}:hover").count() == 1
            assert contrast(page, button) >= 4.5, (scheme, button)


@pytest.mark.parametrize("width", [360, 720, 1400])
def test_a_long_title_pushes_nothing_out_of_sight(width: int, open_page: Open) -> None:
    titles = ["X" * 60 + " (1990)", *TITLES]
    with site_of(with_genres(titles)) as site:
        page = opened(open_page, site.url, width)
        add(page, "XXX", "Blue (1993)")
        page.click("#list > li:nth-child(1) >> text=Why?")
        page.wait_for_selector("#comparison h3")
        page.wait_for_selector("table.heatmap")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.dataset.label)"
        assert page.locator("#why .scroller, #heat .scroller").evaluate_all(cut) == []
        assert page.locator(".scroller[tabindex]").count() == 0
        page.context.close()  # before its server stops


def test_a_name_of_a_factor_leads_to_what_it_stands_for(named_site: Site, open_page: Open) -> None:
    page = opened(open_page, named_site.url, 1400)
    add(page, HISTORY[0])
    page.get_by_role("button", name="What a rather long name of factor 2 stands for").click()
    assert page.evaluate("document.activeElement.id") == "profile-2"
    card = page.locator("#profile-2")
    expect(card).to_be_in_viewport()
    expect(card).to_contain_text("Place read +0.20 (+0.10 to +0.30)")
    expect(card).to_contain_text("2.5×, 3 people")
    expect(card.locator(".tag")).to_have_text("of most factors")
    expect(card.locator("td").last).to_have_text("2.00×0.8–1.2")
    page.click("#words > summary")
    assert_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_lose_nothing(scheme: str, named_site: Site, open_page: Open) -> None:
    page = opened(open_page, named_site.url, 1400, forced_colors="active", color_scheme=scheme)
    explained(page)
    assert_accessible(page)
    style = "(one, [name, pseudo]) => getComputedStyle(one, pseudo)[name]"

    def of(selector: str, name: str, pseudo: str | None = None) -> str:
        return str(page.locator(selector).first.evaluate(style, [name, pseudo]))

    ink, canvas = of("body", "color"), of("body", "backgroundColor")
    assert ink != canvas
    pressed, other = ("#why .effects [aria-pressed=true]", "#why .effects [aria-pressed=false]")
    assert of(pressed, "backgroundColor") not in (of(other, "backgroundColor"), of(pressed, "color"))
    for kind in ("random", "deletion", "insertion"):
        assert of(f".curves .{kind} polyline", "stroke") == ink
    assert of(".effect", "backgroundColor", "::after") not in (canvas, "rgba(0, 0, 0, 0)")
    assert of(".bar", "backgroundImage") != "none"
    assert of("#history > li", "borderTopColor") == canvas


def test_motion_is_reduced_and_focus_is_seen(named_site: Site, open_page: Open) -> None:
    page = open_page(named_site.url, reduced_motion="reduce")
    durations = "all => [...new Set(all.map((one) => getComputedStyle(one).transitionDuration))]"
    assert page.locator("body *").evaluate_all(durations) == ["0s"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the recommendations"
    for _ in range(12):
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(f"document.activeElement === document.body || {style} === 'solid'")
        page.keyboard.press("Tab")
