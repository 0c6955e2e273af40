"""What becomes of what somebody looks at while the page asks: focus, place, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Page, Route, expect

from browsers import Open
from serving.sites import HISTORY, Site, add, best, site_of, with_genres
from toy import TITLES, UNSET


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(with_genres(TITLES, *UNSET)) as site:
        yield site


def why(page: Page, place: int = 1) -> None:
    page.click(f"#list > li:nth-child({place}) >> text=Why?")
    page.wait_for_selector("#comparison h3")


def settle(page: Page) -> None:
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))


def steer(page: Page, factor: int, weight: str) -> None:
    """Move a slider as if from elsewhere, so that the focus stays where it is."""
    move = "(one, to) => { one.value = to; one.dispatchEvent(new Event('input')); }"
    with page.expect_response("**/v1/recommend"):
        page.locator(f"#factor-{factor}").evaluate(move, weight)
    page.wait_for_timeout(300)
    settle(page)


def test_the_focus_survives_what_is_drawn_anew(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    page.focus("#list > li:nth-child(3) [data-item]")
    label = focused(page)
    steer(page, 0, "0")
    assert focused(page) == label
    page.get_by_label("Items", exact=True).evaluate("one => (one.value = '5')")
    page.focus("#list > li:nth-child(8) [data-item]")
    with page.expect_response("**/v1/recommend"):
        page.get_by_label("Items", exact=True).dispatch_event("change")
    expect(page.locator("#list > li")).to_have_count(5)
    assert page.evaluate("document.activeElement.closest('#list, #results') !== null")

    why(page)
    page.locator("#why .effects tbody tr").nth(2).get_by_role("button").focus()
    label = focused(page)
    steer(page, 0, "1")
    assert focused(page) == label


def test_what_is_compared_and_tested_stays_when_the_list_is_steered(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    why(page)
    expect(page.locator("#why-summary")).to_contain_text("Rank 1")
    page.locator("#why .effects tbody tr").nth(2).get_by_role("button").click()
    expect(page.locator("#comparison h3")).to_have_text("Without Factor 3")
    assert page.locator("#comparison [aria-live]").count() == 1
    page.click(".fidelity > summary")
    page.wait_for_selector("svg.curves[role=img]")
    expect(page.locator(".fidelity .note")).to_be_hidden()
    steer(page, 1, "0.5")
    assert page.inner_text("#comparison h3") == "Without Factor 3"
    expect(page.locator("svg.curves[role=img]")).to_be_visible()
    expect(page.locator(".fidelity .note")).to_contain_text("This is of the list before")
    page.click("text=Test again")
    expect(page.locator(".fidelity .note")).to_be_hidden()
    page.wait_for_selector("svg.curves[role=img]")


def test_what_is_compared_is_brought_into_sight_and_nothing_else_moves(site: Site, open_page: Open) -> None:
    page = open_page(site.url, viewport={"width": 360, "height": 700})
    add(page, *HISTORY)
    why(page)
    page.locator("#why .effects tbody tr").nth(1).get_by_role("button").click()
    expect(page.locator("#comparison h3")).to_be_in_viewport()
    page.click("#why-close")
    settle(page)
    waiting: list[Route] = []
    page.route("**/v1/explain", lambda route: waiting.append(route), times=1)  # noqa: PLW0108
    page.click("#list > li:nth-child(2) >> text=Why?")
    page.focus("#search")
    page.evaluate("scrollTo(0, 0)")
    while not waiting:
        page.wait_for_timeout(50)
    waiting[0].continue_()
    page.wait_for_selector("#comparison h3")
    page.wait_for_timeout(200)
    assert page.evaluate("scrollY") == 0


def test_a_steered_list_waits_for_no_comparison_and_goes_with_its_history(site: Site, open_page: Open) -> None:
    page, waiting = open_page(site.url), list[Route]()
    add(page, HISTORY[0])
    steer(page, 0, "0")

    def hold(route: Route) -> None:
        asked = route.request.post_data_json
        if "factor_weights" in asked or "empty" in asked:
            route.continue_()
        else:
            waiting.append(route)

    page.route("**/v1/recommend", hold)
    add(page, HISTORY[1])
    weights = [0.0, 1.0, 1.0, 1.0]
    titles = [one.title for one in best(site, HISTORY[:2], factor_weights=weights)]
    expect(page.locator("#list > li > .grow > .title")).to_have_text(titles)
    assert "Compared" not in page.inner_text("#status")
    while not waiting:
        page.wait_for_timeout(50)
    page.click("#clear")
    expect(page.locator("#status")).to_contain_text("this is what was taken most often")
    page.wait_for_timeout(1000)  # longer than an explanation waits for more steering
    assert "this is what was taken most often" in page.inner_text("#status")
    assert page.is_hidden("#heat")
    assert page.inner_text("#heat-problem") == ""

    page.click("#undo")
    while len(waiting) < 2:
        page.wait_for_timeout(50)
    waiting[1].continue_()
    expect(page.locator("#status")).to_contain_text("Compared with all at 1")
    expect(page.locator("#list > li > .grow > .title")).to_have_text(titles)


def test_work_that_is_ended_ends_and_tells_no_problem(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    ended = page.evaluate(
        """async () => {
          const part = (name) => import(new URL(name, document.querySelector("script[type=module]").src));
          const [{ ask, pause }, { attempt, begin }] = [await part("api.js"), await part("jobs.js")];
          const nameOf = (work) => work.then(() => "done", (problem) => problem.name);
          const late = new AbortController();
          const unread = (signal) =>
            new Promise((_, fail) => signal.addEventListener("abort", () => fail(signal.reason)));
          window.fetch = async (path, { signal }) => {
            return { ok: false, status: 500, headers: new Headers(), json: () => unread(signal) };
          };
          const refused = nameOf(ask("v1/model", { signal: late.signal }));
          await pause(50);
          late.abort();
          const place = document.createElement("div");
          const work = async () => {
            begin("test");
            throw new Error("of what is wanted no longer");
          };
          await attempt("test", place, work, {});
          return [await refused, await nameOf(pause(0, late.signal)), place.textContent];
        }"""
    )
    assert ended == ["AbortError", "AbortError", ""]


def test_a_message_of_waiting_goes_with_the_wait(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    busy = json.dumps({"type": "urn:flr:problem:overloaded", "title": "Busy", "status": 429, "detail": "full"})
    headers = {"Retry-After": "30", "content-type": "application/problem+json"}
    page.route("**/v1/explain", lambda route: route.fulfill(status=429, headers=headers, body=busy))
    page.click("#list > li:nth-child(1) >> text=Why?")
    expect(page.locator("#why-told")).to_have_text("The server is busy. Asking again in 30 seconds.")
    expect(page.locator("#status")).to_contain_text("after 3 items")
    page.unroute("**/v1/explain")
    page.click("#why-close")
    expect(page.locator("#why-told")).to_be_empty()


def test_an_answer_that_is_no_json_is_a_problem_like_others(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.route(
        "**/v1/recommend", lambda route: route.fulfill(content_type="text/html", body="<h1>Log in</h1>"), times=1
    )
    page.fill("#search", HISTORY[0])
    page.press("#search", "Enter")
    alert = page.locator("#results-problem")
    expect(alert).to_contain_text("Unreadable answer")
    settle(page)
    alert.get_by_role("button", name="Try again").click()
    expect(page.locator("#list > li .title").first).to_have_text(best(site, HISTORY[:1])[0].title)


def test_what_is_old_says_so_and_all_is_asked_again_when_the_network_is_back(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    why(page)
    settle(page)
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_label("Factor 1", exact=True).focus()
    page.keyboard.press("Home")
    expect(page.locator("#results-problem")).to_contain_text("cannot be reached")
    expect(page.locator("#why-old")).to_be_visible()
    expect(page.locator("#heat-old")).to_be_visible()
    settle(page)
    page.unroute("**/v1/**")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator("#list > li .title").first).to_have_text(
        best(site, HISTORY, factor_weights=[0.0, 1.0, 1.0, 1.0])[0].title
    )
    expect(page.locator("#why-old")).to_be_hidden()
    assert page.locator("#results-problem").inner_text() == ""


def test_an_item_that_is_recommended_no_longer_is_named(open_page: Open) -> None:
    with site_of(with_genres(TITLES)) as site:
        page = open_page(site.url)
        add(page, HISTORY[0])
        first = best(site, HISTORY[:1])[0]
        page.request.delete(f"{site.url}v1/items?item_id={first.item_id}")
        page.click("#list > li:nth-child(1) >> text=Why?")
        expect(page.locator("#news")).to_have_text(f"{first.title} is recommended no longer.")
        expect(page.locator("#why")).to_be_hidden()
        expect(page.locator("#list .title", has_text=first.title)).to_have_count(0)
        page.context.close()  # before its server stops
