"""A report in a real browser: the committed one is read, and tables are put in order by mouse and keyboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import jinja2
import pytest

pytest.importorskip("axe_playwright_python.sync_playwright", reason="playwright and axe are not installed")

from playwright.sync_api import Locator, Page

from browsers import Open, assert_accessible

REPORT = Path(__file__).parents[2] / "docs" / "studies" / "movielens-100k" / "report.html"


@pytest.fixture
def report(open_page: Open) -> Page:
    return open_page(REPORT.as_uri(), ready="table.sortable button", bypass_csp=True)


def column(table: Locator, place: int) -> list[str]:
    return [text.split("\n")[0].strip() for text in table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()]


def head(table: Locator, name: str) -> Locator:
    return table.locator("thead th", has=table.page.locator("button", has_text=re.compile(f"^{re.escape(name)}$")))


def test_a_table_of_the_report_is_sorted_by_a_click_and_by_keyboard(report: Page) -> None:
    table = report.locator("table.sortable").first
    ndcg, models = head(table, "NDCG@10"), head(table, "model")
    written = column(table, 4)
    figures = dict(zip(column(table, 1), written, strict=True))
    ndcg.get_by_role("button").click()
    assert ndcg.get_attribute("aria-sort") == "descending"
    assert column(table, 4) == sorted(written, key=float, reverse=True) != written
    report.keyboard.press("Enter")
    assert ndcg.get_attribute("aria-sort") == "ascending"
    assert column(table, 4) == sorted(written, key=float)

    models.get_by_role("button").focus()
    report.keyboard.press("Space")
    report.keyboard.press("Space")
    assert models.get_attribute("aria-sort") == "ascending"
    assert table.locator("th[aria-sort]").count() == 1
    assert column(table, 1) == sorted(column(table, 1), key=str.lower)
    assert dict(zip(column(table, 1), column(table, 4), strict=True)) == figures


def test_the_report_is_accessible_and_fits_a_phone(report: Page) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        report.emulate_media(color_scheme=scheme)
        assert_accessible(report)
    report.set_viewport_size({"width": 390, "height": 800})
    assert report.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_grey_printer_tells_models_apart_and_prints_what_is_folded(report: Page) -> None:
    report.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert report.locator("details:not([open])").count() == 0
    report.emulate_media(media="print", color_scheme="dark")
    assert report.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # Models of a legend differ in the shape of their marks, whatever their colour.
    shapes = "all => all.map((one) => document.querySelector(one.getAttribute('href')).getAttribute('d'))"
    legends = report.locator("figure svg [id*='-legend_']")
    assert legends.count() > 3
    for place in range(legends.count()):
        marks = legends.nth(place).locator("use").evaluate_all(shapes)
        assert len(marks) == len(set(marks)) > 1


def test_what_has_no_figure_comes_last_in_both_directions(tmp_path: Path, open_page: Open) -> None:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("flr.experiments"), autoescape=False)
    cells = ["10", "-", "1,200 <span>9 to 10</span>", "", "+9.5", "< 0.001", "-3"]
    rows = "".join(f"<tr><th>seed {place}</th><td>{cell}</td></tr>" for place, cell in enumerate(cells, start=5))
    script = environment.get_template("sorting.js.j2").render()
    page_file = tmp_path / "page.html"
    page_file.write_text(
        f"<table class='sortable'><thead><tr><th>run</th><th>x</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<script>{script}</script>",
        encoding="utf-8",
    )
    page = open_page(page_file.as_uri(), ready="table.sortable button")
    table = page.locator("table")
    head(table, "x").get_by_role("button").click()
    assert [text.split(" 9 ")[0] for text in column(table, 2)] == ["1,200", "10", "+9.5", "< 0.001", "-3", "-", ""]
    page.keyboard.press("Enter")
    assert [text.split(" 9 ")[0] for text in column(table, 2)] == ["-3", "< 0.001", "+9.5", "10", "1,200", "-", ""]
    head(table, "run").get_by_role("button").dblclick()
    assert column(table, 1) == [f"seed {place}" for place in range(5, 12)]
