"""The page in a real browser: what a person would click, type and read, and what must never happen to them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Browser, Page, Route, expect

from browsers import Open
from flr.catalogue.filters import Between, ItemFilter
from flr.explanation.attribution import explain
from flr.recommender import Recommendation
from flr.serving.security import new_key
from flr.serving.settings import ServeSettings
from serving.conftest import SHARED_YEARS, make_recommender
from serving.sites import GENRES, HISTORY, Site, add, best, site_of, with_genres
from toy import TITLES, UNSET

#: Titles that would do harm where text is taken for markup, and some that are hard to show.
NASTY = [
    "<script>window.harm = 1</script> (1990)",
    "<img src=x onerror='window.harm=1'> (1991)",
    "\"Quoted\" & 'single' &amp; &lt;b&gt; (1992)",
    "Rocket 🚀 Émigré (1993)",
    "שלום עולם (1994)",
    "{{ 7 * 7 }} ${7*7} (1995)",
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(with_genres(TITLES)) as site:
        yield site


def shown(page: Page) -> list[str]:
    return page.locator("#list > li > .grow > .title").all_inner_texts()


def expect_list(page: Page, expected: list[Recommendation]) -> None:
    expect(page.locator("#list > li > .grow > .title")).to_have_text([item.title for item in expected])
    # Steering may move probabilities and no title: figures have to be waited for too.
    expect(page.locator("#list > li > .figure")).to_have_text([as_shown(item.probability) for item in expected])


def as_shown(share: float) -> str:
    if share < 0.00001:
        return "< 0.001%"
    return f"{share:.{0 if share >= 0.1 else 1 if share >= 0.01 else 2 if share >= 0.001 else 3}%}"


def year(item: Recommendation) -> int:
    return int(item.title[-5:-1])


def history_of(page: Page) -> list[str]:
    return page.locator("#history > li .title").all_inner_texts()


def test_a_history_is_built_and_put_in_order_with_the_keyboard_alone(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    expect(page.locator("#status")).to_contain_text("Add a title to the history")
    page.focus("#search")
    page.keyboard.type("ali")
    expect(page.locator("#found .title")).to_have_text(["Alien (1979)", "Aliens (1986)"])
    page.keyboard.press("ArrowDown")
    active = page.get_attribute("#search", "aria-activedescendant")
    assert page.inner_text(f"#{active} .title") == "Aliens (1986)"
    page.keyboard.press("Enter")
    expect(page.locator("#search-note")).to_have_text("Added Aliens (1986).")
    assert page.get_attribute("#search", "aria-expanded") == "false"
    add(page, *HISTORY)
    assert history_of(page) == ["Aliens (1986)", *HISTORY]
    expect_list(page, best(site, history_of(page)))

    page.focus("#history > li:nth-child(1) [data-act=down]")
    page.keyboard.press("Enter")
    assert history_of(page) == ["Alien (1979)", "Aliens (1986)", "Blue (1993)", "Toy Story (1995)"]
    page.keyboard.press("Alt+ArrowDown")
    assert history_of(page) == ["Alien (1979)", "Blue (1993)", "Aliens (1986)", "Toy Story (1995)"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Move down: Aliens (1986)"
    expect(page.locator("#search-note")).to_have_text("Aliens (1986) is now number 3 of 4.")
    page.keyboard.press("Delete")
    assert history_of(page) == HISTORY
    assert "Toy Story (1995)" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    expect(page.locator("#status")).to_contain_text("after 3 items")
    expect_list(page, best(site, HISTORY))


def test_a_history_is_put_in_order_with_the_mouse(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.fill("#search", "toy story")
    page.click("#found > li:nth-child(2)")
    add(page, "Heat", "Blue Velvet")
    page.drag_and_drop("#history > li:nth-child(3) .title", "#history > li:nth-child(1) .title")
    assert history_of(page) == ["Blue Velvet (1986)", "Toy Story 2 (1999)", "Heat (1995)"]
    page.click("#history > li:nth-child(2) [data-act=remove]")
    expect(page.locator("#status")).to_contain_text("after 2 items")
    expect_list(page, best(site, ["Blue Velvet (1986)", "Heat (1995)"]))
    first = page.inner_text("#list > li:nth-child(1) .title")
    page.click("#list > li:nth-child(1) [aria-label^='Add']")
    assert history_of(page)[-1] == first
    before = history_of(page)
    page.click("#clear")
    assert history_of(page) == shown(page) == []
    assert page.is_hidden("#heat")
    page.get_by_role("button", name="Undo “Clear all”").click()
    assert history_of(page) == before
    assert page.is_hidden("#undo")
    page.click("#clear")
    page.click("#example")
    expect(page.locator("#history > li")).to_have_count(5)


def test_a_search_that_finds_nothing_says_so(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    page.fill("#search", "<b>none")
    expect(page.locator("#search-note")).to_have_text("No title holds “<b>none”.")
    assert page.is_hidden("#found")
    page.fill("#search", "blue")
    expect(page.locator("#found > li")).to_have_count(3)
    page.keyboard.press("Escape")
    assert page.is_hidden("#found")


def test_factors_filters_and_length_steer_the_list(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    slider = page.get_by_label("Factor 2", exact=True)
    slider.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "1.9 times"
    page.get_by_label("Factor 4", exact=True).focus()
    page.keyboard.press("Home")
    steered = best(site, HISTORY, factor_weights=[1.0, 1.9, 1.0, 0.0])
    assert [one.log_prob for one in steered] != [one.log_prob for one in best(site, HISTORY)]
    expect_list(page, steered)
    page.click("#neutral")
    expect_list(page, best(site, HISTORY))
    assert page.is_disabled("#neutral")
    assert page.locator("#list .tag").count() == 0

    page.get_by_label("Diversify by factors").check()
    diverse = best(site, HISTORY, diversify="factors")
    expect_list(page, diverse)
    picked_by = [f"Factor {(one.factor or 0) + 1}" for one in diverse]
    assert page.locator("#list .by .title").all_inner_texts() == picked_by
    page.get_by_label("Diversify by factors").uncheck()

    page.get_by_label("Leave out what is in the history").uncheck()
    page.get_by_label("Items", exact=True).select_option("5")
    expect_list(page, best(site, HISTORY, exclude_seen=False)[:5])
    page.get_by_label("Leave out what is in the history").check()
    page.get_by_label("Items", exact=True).select_option("10")

    page.click("#attributes summary")
    page.get_by_label("<i>Comedy</i>").check()
    page.get_by_label("War").check()
    allowed = {f"i{place}" for place in range(len(TITLES)) if place % 3}
    expect_list(page, [one for one in best(site, HISTORY) if one.item_id in allowed])
    assert "filters do not raise them" in page.inner_text("#list-note")
    page.click("#no-filters")
    expect_list(page, best(site, HISTORY))


def test_what_weights_change_is_marked(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    page.get_by_label("Items", exact=True).select_option("5")
    for factor in (1, 2, 3):
        page.get_by_label(f"Factor {factor}", exact=True).focus()
        page.keyboard.press("Home")
    weights = [0.0, 0.0, 0.0, 1.0]
    before = [one.item_id for one in best(site, HISTORY)[:5]]
    after = best(site, HISTORY, factor_weights=weights)[:5]
    marks = [mark_of(before, one.item_id, place) for place, one in enumerate(after)]
    assert any(marks)  # else the test is about nothing
    new, moved = marks.count("new"), sum(mark not in ("", "new") for mark in marks)
    expect(page.locator("#status")).to_contain_text(f"Compared with all at 1: {new} new, {moved} moved.")
    shown_marks = "all => all.map((one) => one.querySelector('.tag')?.textContent ?? '')"
    assert page.locator("#list > li").evaluate_all(shown_marks) == marks
    gone = [one.title for one in best(site, HISTORY)[:5] if one.item_id not in {item.item_id for item in after}]
    assert page.locator("#list-gone .title").all_inner_texts() == gone
    page.reload()  # the list to compare with is asked for, where it was not shown before
    expect(page.locator("#status")).to_contain_text(f"Compared with all at 1: {new} new, {moved} moved.")


def mark_of(before: list[str], item_id: str, place: int) -> str:
    if item_id not in before:
        return "new"
    by = before.index(item_id) - place
    return "" if by == 0 else f"↑ {by}" if by > 0 else f"↓ {-by}"


def test_an_empty_history_shows_what_is_popular_and_ranges_of_numbers_filter_it(open_page: Open) -> None:
    with site_of(make_recommender(*UNSET, titles=SHARED_YEARS)) as site:
        page = open_page(site.url)
        expect(page.locator("#status")).to_contain_text("this is what was taken most often")
        popular = site.recommender.recommend([[]], 10, empty="popular")[0]
        expect_list(page, popular)
        expect(page.get_by_role("button", name="Why")).to_have_count(0)
        expect(page.locator("#factors-note")).to_have_text("Add a title first; what is popular is not steered.")
        assert page.locator("#factors input:enabled, #neutral:enabled").count() == 0
        assert page.is_disabled("#diversify")
        page.click("#attributes summary")
        page.get_by_label("year from").fill("1986")
        later = [one for one in site.recommender.recommend([[]], 20, empty="popular")[0] if year(one) >= 1986]
        expect_list(page, later[:10])
        page.get_by_label("year to").fill("1990")
        expect(page.locator("#attributes summary").first).to_have_text("year 1986 to 1990")

        page.get_by_role("button", name="Add to the history").first.click()
        expect(page.locator("#status")).to_contain_text("after 1 item")
        assert page.is_enabled("#factor-0")
        expect(page.locator("#factors-share")).to_contain_text("of the say; the rest is a second opinion")
        listed = best(site, history_of(page), filters=ItemFilter(where={"year": Between(1986, 1990)}))
        assert listed
        expect_list(page, listed)
        page.get_by_label("year from").fill("1991")
        described_by = page.get_attribute("[aria-label='year from']", "aria-describedby")
        expect(page.locator(f"#{described_by}")).to_have_text("1991 is above 1990.")
        assert page.get_attribute("[aria-label='year from']", "aria-invalid") == "true"
        expect_list(page, listed)  # what held before still does
        page.locator("#attributes .choice", has_text="1979").locator("input").check()
        wanted = [Between(1986, 1990), 1979]
        expect_list(page, best(site, history_of(page), filters=ItemFilter(where={"year": wanted})))
        page.get_by_label("year to").press_sequentially("e")
        expect(page.locator(f"#{described_by}")).to_have_text("That is not a number.")
        page.click("#no-filters")
        assert page.input_value("[aria-label='year to']") == ""
        expect(page.locator(f"#{described_by}")).to_be_empty()
        expect_list(page, best(site, history_of(page)))
        page.locator("#list > li").first.get_by_role("button", name="Why").click()
        expect(page.locator("#why")).to_be_visible()
        page.click("#clear")
        expect_list(page, popular)
        expect(page.locator("#why")).to_be_hidden()
        expect(page.locator("#heat")).to_be_hidden()


def test_the_heat_map_follows_a_history_that_is_steered_at_once(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, HISTORY[0])
    expect(page.locator("#heat tbody th").first).to_have_text(HISTORY[0])
    page.fill("#search", HISTORY[1])
    page.press("#search", "Enter")
    page.get_by_label("Items", exact=True).select_option("5")  # before the list of the new history is there
    expect(page.locator("#heat tbody th").nth(1)).to_have_text(HISTORY[1])


def test_the_heat_map_comes_back_with_a_history_that_is_left_for_a_moment(site: Site, open_page: Open) -> None:
    page, lists = open_page(site.url), list[Route]()
    page.route("**/v1/explain", lambda route: None)  # which is never answered
    add(page, HISTORY[0])
    expect(page.locator("#heat-body")).to_have_attribute("aria-busy", "true")
    page.route("**/v1/recommend", lambda route: lists.append(route))  # noqa: PLW0108
    page.fill("#search", HISTORY[1])
    page.press("#search", "Enter")
    page.locator("#history > li").nth(1).locator("[data-act=remove]").click()
    page.wait_for_function("document.querySelectorAll('#history > li').length === 1")
    page.unroute("**/v1/explain")
    page.wait_for_timeout(500)
    lists[-1].continue_()
    expect(page.locator("#heat tbody th").first).to_have_text(HISTORY[0])


def test_a_list_waits_for_more_steering_whatever_is_steered(site: Site, open_page: Open) -> None:
    page, asked = open_page(site.url), list[str]()
    add(page, HISTORY[0])
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("recommend") else None)
    # Three changes in a row: only the list of the last one is asked for.
    page.evaluate(
        """async () => {
          const pause = (ms) => new Promise((done) => setTimeout(done, ms));
          for (const length of ["5", "20", "5"]) {
            const items = document.getElementById("k");
            items.value = length;
            items.dispatchEvent(new Event("change"));
            await pause(50);
          }
          await pause(1000);
        }"""
    )
    expect(page.locator("#list > li")).to_have_count(5)
    assert len(asked) == 1


def test_why_an_item_with_the_list_before_and_after(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    page.click("#list > li:nth-child(2) >> text=Why?")
    page.wait_for_selector("#comparison h3")
    recommender = site.recommender
    indices = [recommender.item_index(title, by="title") for title in HISTORY]
    item = best(site, HISTORY)[1]
    found = explain(recommender, indices, recommender.item_index(item.item_id), k=10)
    assert page.inner_text("#why-title") == f"Why {item.title}?"
    assert page.evaluate("document.activeElement.id") == "why"
    factors, purchases = page.locator("#why .effects tbody").all()
    assert factors.locator("tr").count() == 4
    strongest = sorted(found.history, key=lambda one: -(one.influence or 0))
    assert purchases.locator("th").all_inner_texts() == [one.title for one in strongest]

    factors.locator("tr").nth(2).get_by_role("button").click()
    without = found.factors[2].without
    assert page.inner_text("#comparison h3") == "Without Factor 3"
    before, after = page.locator("#comparison ol").all()
    assert before.locator(".title").all_inner_texts() == [one.title for one in found.items]
    assert after.locator(".title").all_inner_texts() == [one.title for one in without.items]
    assert after.locator(".tag.new").count() == len(without.entered)
    assert before.locator(".tag.gone").count() == len(without.left)
    assert page.locator("#why [aria-pressed=true]").count() == 1

    page.keyboard.press("Escape")
    assert page.is_hidden("#why")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Why {item.title}?"


def test_why_speaks_of_the_list_as_it_is_steered(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    recommender = site.recommender
    indices = [recommender.item_index(title, by="title") for title in HISTORY]
    slider = page.get_by_label("Factor 4", exact=True)
    slider.focus()
    page.keyboard.press("Home")
    weights = [1.0, 1.0, 1.0, 0.0]
    steered = best(site, HISTORY, factor_weights=weights)
    expect_list(page, steered)
    page.click("#list > li:nth-child(1) >> text=Why?")
    item = recommender.item_index(steered[0].item_id)
    plain, found = explain(recommender, indices, item), explain(recommender, indices, item, factor_weights=weights)
    assert f"{plain.item.probability:.3f}" != f"{found.item.probability:.3f}"
    before = page.locator("#comparison > .two ol").first
    expect(before.locator(".title")).to_have_text([one.title for one in steered])
    assert f"Rank 1, probability {page.inner_text('#list > li:nth-child(1) .figure')}" in page.inner_text(
        "#why-summary"
    )
    assert page.locator("#why .effects tbody tr").nth(3).locator("td").first.inner_text() == "0%"
    weight = page.locator("table.heatmap").locator("tbody tr").last
    expect(weight.locator("td").nth(3)).to_have_text("0%")

    # The panel stays open, keeps up with what is steered, and takes no focus.
    page.click("#attributes summary")
    page.get_by_label("War").check()
    filters = ItemFilter(where={"genre": "War"})
    shown_now = best(site, HISTORY, factor_weights=weights, filters=filters)
    expect(before.locator(".title")).to_have_text([one.title for one in shown_now])
    assert page.evaluate("document.activeElement.closest('#why')") is None
    assert ("The filters leave it out." in page.inner_text("#why-summary")) == (steered[0] not in shown_now)
    assert page.is_hidden("#why-plain")
    page.get_by_label("Diversify by factors").check()
    expect(page.locator("#why-plain")).to_be_visible()


def test_the_heat_map_is_a_table_of_what_factors_read(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    table = page.locator("table.heatmap")
    expect(table.locator("tbody th")).to_have_text([*HISTORY, "outside all titles", "weight of the factor"])
    assert table.locator("thead th").all_inner_texts()[1:] == [f"Factor {number}" for number in (1, 2, 3, 4)]
    recommender = site.recommender
    found = explain(recommender, [recommender.item_index(title, by="title") for title in HISTORY])
    cells = [float(text.rstrip("%")) / 100 for text in table.locator("td.heat").all_inner_texts()]
    expected = [one.reads[place] for place in range(3) for one in found.factors]
    assert cells == pytest.approx(expected, abs=0.006)
    darkest = max(range(12), key=lambda place: expected[place])
    colours = table.locator("td.heat").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert colours.count(colours[darkest]) <= 2
    assert page.locator("#profiles-note").inner_text().startswith("Nobody has looked yet")


def test_text_is_never_taken_for_markup(open_page: Open) -> None:
    names = {str(number): name for number, name in enumerate([*NASTY[:3], "Fourth"])}
    recommender = with_genres(NASTY)
    with site_of(recommender, **names) as site:
        page = open_page(site.url)
        for place, title in enumerate(recommender.catalogue.titles[:4]):
            add(page, str(title)[:20])
            assert history_of(page)[place] == title
        page.wait_for_selector(".heatmap")
        page.click("#attributes summary")
        page.click("#list > li:nth-child(1) >> text=Why?")
        page.wait_for_selector("#comparison h3")
        titles = {str(title) for title in recommender.catalogue.titles}
        assert set(history_of(page)) | set(shown(page)) == titles
        for place in ("#sliders label", ".profile h3"):
            assert page.locator(place).all_inner_texts() == list(names.values())
        assert page.locator("#attributes .title").all_inner_texts() == sorted(GENRES)
        assert page.evaluate("window.harm") is None
        assert page.locator("main img, main script, main b, main i").count() == 0
        hebrew = page.locator("#list .title", has_text="שלום").or_(page.locator("#history .title", has_text="שלום"))
        assert hebrew.first.evaluate("one => one.tagName") == "BDI"


def test_a_key_is_asked_for_and_kept_in_the_tab_only(tmp_path: Path, open_page: Open) -> None:
    key = new_key(tmp_path / "keys.json", "read")
    with site_of(make_recommender(), ServeSettings(keys=tmp_path / "keys.json")) as site:
        page = open_page(site.url, ready="#key-form")
        expect(page.locator("#key-note")).to_contain_text("This server asks for a key")
        assert page.locator("main[inert]").count() == 1
        page.get_by_label("API key").fill("flr_wrong_key")
        page.keyboard.press("Enter")
        expect(page.locator("#key-note")).to_contain_text("The server does not know this key")
        page.get_by_label("API key").fill("schlüssel–1")
        page.keyboard.press("Enter")
        expect(page.locator("#key-note")).to_contain_text("letters, digits and signs without accents")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_selector("main:not([inert])")
        assert page.input_value("#key") == ""
        assert page.evaluate("document.activeElement.id") == "search"
        add(page, "Alien")
        assert page.evaluate("[...Object.values(sessionStorage)]") == [key]
        assert page.evaluate("localStorage.length") == 0
        assert page.context.cookies() == []
        assert key not in page.url + page.content()
        page.reload()
        page.wait_for_selector("main:not([inert])")
        with page.expect_download() as saved:
            page.click("#description")
        assert json.loads(saved.value.path().read_text())["info"]["title"] == "flr"
        page.locator("#factor-1").focus()
        page.keyboard.press("Home")
        expect(page).to_have_url(re.compile("weights"))
        refused = (
            '{"type": "urn:flr:problem:key", "title": "Unauthorized", "status": 401, "detail": "the key is not known"}'
        )
        page.route("**/v1/recommend", lambda route: route.fulfill(status=401, body=refused), times=1)
        page.keyboard.press("End")
        expect(page.locator("#key-note")).to_contain_text("takes this key no longer")
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_selector("main:not([inert])")
        expect(page.locator("#factor-1")).to_have_value("2")
        assert history_of(page) == ["Alien (1979)"]
        page.click("#forget")
        expect(page.locator("#key-note")).to_contain_text("This server asks for a key")
        assert page.evaluate("sessionStorage.length") == 0


def test_problems_are_told_in_words_and_can_be_tried_again(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    problem = (
        '{"type": "urn:flr:problem:validation", "title": "Unprocessable <b>Content</b>", "status": 422, "detail": '
        '"body.k: too <i>large</i>", "request_id": "abc-1", "errors": [{"where": "body.k", "problem": "too large"}, '
        '{"where": "body.by", "problem": "is wrong"}]}'
    )
    refuse: Callable[[Route], None] = lambda route: route.fulfill(  # noqa: E731
        status=422, content_type="application/problem+json", body=problem
    )
    page.route("**/v1/recommend", refuse, times=1)
    page.fill("#search", "Alien")
    page.press("#search", "Enter")
    alert = page.locator("#results-problem")
    expect(alert).to_contain_text("Unprocessable <b>Content</b>")
    expect(alert).to_contain_text("body.k: too <i>large</i>")
    expect(alert).to_contain_text("abc-1")
    expect(alert.locator("li")).to_have_text(["body.k: too large", "body.by: is wrong"])
    page.route("**/v1/recommend", lambda route: route.abort(), times=1)
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("The server cannot be reached")
    alert.get_by_role("button", name="Try again").click()
    expect_list(page, best(site, ["Alien (1979)"]))
    assert alert.inner_text() == ""


def test_a_busy_server_is_asked_again_when_it_says(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    times: list[float] = []
    page.on("request", lambda one: times.append(time.monotonic()) if one.url.endswith("/v1/recommend") else None)
    busy = '{"type": "urn:flr:problem:overloaded", "title": "Too Many Requests", "status": 429, "detail": "full"}'
    page.route(
        "**/v1/recommend",
        lambda route: route.fulfill(
            status=429, content_type="application/problem+json", body=busy, headers={"Retry-After": "2"}
        ),
        times=1,
    )
    page.fill("#search", "Alien")
    page.press("#search", "Enter")
    expect(page.locator("#status")).to_have_text("The server is busy. Asking again in 2 seconds.")
    expect_list(page, best(site, ["Alien (1979)"]))
    assert len(times) == 2
    assert times[1] - times[0] > 1.9


def test_a_server_that_is_down_at_first_is_asked_again(site: Site, open_page: Open, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/v1/model", lambda route: route.abort(), times=1)
    page.goto(site.url)
    expect(page.locator("#problem")).to_contain_text("cannot be reached")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("main:not([inert])")
    context.close()


def test_a_model_without_factors_has_no_sliders_and_no_heat_map(open_page: Open) -> None:
    with site_of(make_recommender("reasoner.kind=none")) as site:
        page = open_page(site.url)
        add(page, *HISTORY)
        expect(page.locator("#no-factors")).to_be_visible()
        for hidden in ("#factors", "#diversify", "#heat", "#profiles"):
            assert page.is_hidden(hidden), hidden
        page.click("#list > li:nth-child(1) >> text=Why?")
        page.wait_for_selector("#comparison h3")
        assert page.locator("#why caption").all_inner_texts() == ["What each purchase does"]
        assert shown(page) == [one.title for one in best(site, HISTORY)]
        page.context.close()  # before its server stops


def test_where_all_factors_are_off_nobody_has_their_say(open_page: Open) -> None:
    with site_of(make_recommender("reasoner.memory=transitions")) as site:
        page = open_page(site.url)
        add(page, *HISTORY)
        expect(page.locator("#factors-share")).to_contain_text("of the say; the rest is a second opinion")
        for factor in (1, 2, 3, 4):
            page.get_by_label(f"Factor {factor}", exact=True).focus()
            page.keyboard.press("Home")
        expect(page.locator("#factors-share")).to_contain_text("neither factors nor a second opinion have a say")
        assert "100%" not in page.inner_text("#factors-share")
        page.context.close()  # before its server stops


def test_why_says_where_the_probability_comes_from(open_page: Open) -> None:
    with site_of(make_recommender("reasoner.memory=transitions")) as site:
        page = open_page(site.url)
        add(page, *HISTORY)
        page.click("#list > li:nth-child(1) >> text=Why?")
        page.wait_for_selector("#comparison h3")
        captions = page.locator("#why caption").all_inner_texts()
        assert captions == ["What each factor does", "Where the probability comes from", "What each purchase does"]
        page.get_by_role("button", name="Compare lists with and without a second opinion on the votes").click()
        expect(page.locator("#comparison h3")).to_have_text("Without a second opinion on the votes")
        page.context.close()  # before its server stops
