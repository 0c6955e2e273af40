"""The test of an explanation on the page: what it says, and that nobody computes it whom nobody asked."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Page, Route, expect

from browsers import Open
from flr.explanation.fidelity import Fidelity, fidelity
from flr.records import Histories
from serving.sites import HISTORY, Site, add, best, site_of, with_genres
from toy import TITLES, UNSET


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(with_genres(TITLES, *UNSET)) as site:
        yield site


def why(page: Page, place: int = 1) -> None:
    page.click(f"#list > li:nth-child({place}) >> text=Why?")
    page.wait_for_selector("#comparison h3")


def curves_of(site: Site, place: int, weights: list[float]) -> dict[str, Fidelity]:
    recommender = site.recommender
    indices = np.array([recommender.item_index(title, by="title") for title in HISTORY])
    item = recommender.item_index(best(site, HISTORY, factor_weights=weights)[place - 1].item_id)
    (found,) = fidelity(recommender, Histories(indices, np.array([0, 3])), np.array([item]), factor_weights=weights)
    return {one.measure: one for one in found}


def nats(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def test_an_explanation_is_tested_by_keyboard_when_somebody_asks(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.post_data or "") if one.url.endswith("/v1/explain") else None)
    add(page, *HISTORY)
    slider = page.get_by_label("Factor 2", exact=True)
    slider.focus()
    with page.expect_response("**/v1/recommend"):
        page.keyboard.press("Home")
    expect(page.locator("[aria-busy=true]")).to_have_count(0)  # the heat map is drawn, too
    why(page)
    assert not [body for body in asked if "fidelity" in body]
    page.focus(".fidelity > summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("svg.curves[role=img]")
    assert len([body for body in asked if '"fidelity":true' in body]) == 1
    curves = curves_of(site, 1, [1.0, 0.0, 1.0, 1.0])
    first = curves["leave-one-out"]
    said = page.inner_text(".fidelity > [role=status]")
    verdicts = {0: "It does not hold up", 1: "It holds up in part", 2: "It holds up against random orders"}
    n_better = sum(gain > 0.05 for gain in (first.deletion_gain, first.insertion_gain))
    assert said.startswith(verdicts[n_better])
    is_beaten = n_better > 0 and first.score - curves["latest"].score <= 0.05
    assert ("no better than the mere order in time" in said) == is_beaten
    assert f"{nats(first.deletion_gain)} nats on average" in said
    assert f"{nats(first.insertion_gain)} nats," in said
    rows = page.get_by_role("table", name="Nats better than random orders").locator("tbody tr")
    orders = ["largest effect first", "most attention first", "most attention first, factors alike", "latest first"]
    assert rows.locator("th").all_inner_texts() == orders
    ordered = [curves[measure] for measure in ("leave-one-out", "gated", "attention", "latest")]
    expected = [nats(value) for one in ordered for value in (one.deletion_gain, one.insertion_gain, one.score)]
    assert rows.locator("td").all_inner_texts() == expected
    points = [one.split(",") for one in (page.get_attribute(".deletion polyline", "points") or "").split()]
    heights = [-float(y) for _, y in points]
    assert len(points) == len(first.n_kept)
    assert np.argsort(heights).tolist() == np.argsort(first.deletion).tolist()
    page.click("text=Figures of the chart")
    shown = page.get_by_role("table", name="Probability with the purchases that are left").locator("tbody th")
    assert shown.all_inner_texts() == ["1 purchase", "2 purchases", "3 purchases"]

    # Closed and opened again it is not asked for anew.
    for _ in range(2):
        page.focus(".fidelity > summary")
        page.keyboard.press("Enter")
    expect(page.locator("svg.curves[role=img]")).to_be_visible()
    assert len([body for body in asked if '"fidelity":true' in body]) == 1


def test_a_test_that_is_closed_before_it_ends_is_left(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    why(page)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.wait_for_selector(".heatmap")
    cancelled = site.service.engine.counts.cancelled
    site.service.engine.run(lambda: time.sleep(2), timeout_seconds=60)
    page.click(".fidelity > summary")
    expect(page.locator(".fidelity > [role=status]")).to_contain_text("Asking again with fewer and fewer purchases")
    page.wait_for_timeout(500)  # until the server has it
    page.click(".fidelity > summary")
    expect(page.locator(".fidelity > [role=status]")).to_have_text("")
    site.service.engine.run(lambda: None, timeout_seconds=60).result(60)
    assert site.service.engine.counts.cancelled == cancelled + 1
    page.click(".fidelity > summary")
    page.wait_for_selector("svg.curves[role=img]")


def test_one_purchase_cannot_be_tested(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, HISTORY[0])
    page.click("#list > li:nth-child(1) >> text=Why?")
    page.wait_for_selector("#comparison h3")
    assert page.locator(".fidelity").count() == 0


def verdict_on(page: Page, n_kept: int, *scores: float) -> str:
    """Test a made-up answer: the scores of the order of effects and of the order in time."""
    kept = list(range(1, n_kept + 1))
    curves = [
        {
            "measure": measure,
            "n_kept": kept,
            **{name: [-float(n) for n in kept] for name in ("deletion", "insertion", "random")},
            **dict.fromkeys(("deletion_gain", "insertion_gain", "score"), score),
        }
        for measure, score in zip(("leave-one-out", "latest"), scores, strict=True)
    ]

    def answer(route: Route) -> None:
        if not (route.request.post_data_json or {}).get("fidelity"):
            return route.fallback()
        return route.fulfill(json={"explanation": {}, "skipped": [], "fidelity": curves})

    page.route("**/v1/explain", answer)
    page.click(".fidelity > summary")
    page.wait_for_selector("svg.curves[role=img]")
    said = page.inner_text(".fidelity > [role=status]")
    page.unroute("**/v1/explain")
    page.click("#why-close")
    return said


def test_a_verdict_is_given_only_where_the_test_could_fail(site: Site, open_page: Open) -> None:
    page = open_page(site.url)
    add(page, *HISTORY)
    for scores, begins in (
        ((0.5, 0.1), "It holds up against random orders."),
        ((0.5, 0.5), "It holds up against random orders, but the order is no better than the mere order in time"),
        ((0.01, 0.5), "It does not hold up."),
    ):
        why(page)
        assert verdict_on(page, 3, *scores).startswith(begins)
    why(page)
    assert verdict_on(page, 2, 0.9, 0.1) == "With two purchases this test cannot fail; add more."
