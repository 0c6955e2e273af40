"""Figures bring nothing from outside, take the page's colours, tell series apart without them, and are repeatable."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from flr.experiments.figures import Lines, Mark, Rows, Series, lines_figure, rows_figure

SERIES = [
    Series("flr <1>", [Mark(0.3, 0.2, 0.4), Mark(0.5)], is_first=True),
    Series("R&D $x$", [Mark(0.1, 0.0, 0.3), Mark(None)]),
]
ROWS = [Rows("change", ["one & two", "three"], SERIES, zero=True, ticks=[0.05, None], span=(0, 1))]
LINES = [Lines("loss", [0.2, 0.5], SERIES, "share", percent=True)]


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert rows_figure("a", ROWS, "d") == rows_figure("a", ROWS, "d")
    assert lines_figure("b", LINES, "d") == lines_figure("b", LINES, "d")


def test_ticks_are_whole_numbers_to_read_not_what_is_to_be_added_to_another() -> None:
    nearly = [Series("flr", [Mark(1.4190, 1.4189, 1.4191), Mark(1.4193, 1.4192, 1.4194)])]
    drawing = lines_figure("d", [Lines("distance", [1, 2], nearly, "step")], "d")
    assert "+1.41" not in drawing
    assert re.search(r">1\.41\d+<", drawing)


def test_nothing_comes_from_outside_and_colours_are_the_pages() -> None:
    for drawing in (rows_figure("a", ROWS, "d"), lines_figure("b", LINES, "d")):
        assert "http" not in drawing
        assert "<style" not in drawing
        assert not re.search(r"#[0-9a-fA-F]{6}\b", drawing)
        assert {"var(--accent)", "var(--quiet)", "var(--ink)"} <= set(re.findall(r"var\(--\w+\)", drawing))


def test_it_is_well_formed_and_its_ids_are_its_own() -> None:
    drawing = rows_figure("pairs-0", ROWS, 'said "so" & more')
    root = ElementTree.fromstring(drawing)
    assert root.get("aria-label") == 'said "so" & more'
    ids = re.findall(r'\bid="([^"]*)"', drawing)
    assert ids
    assert all(found.startswith("pairs-0") for found in ids)
    used = re.findall(r'(?:href="#|url\(#)([^")]*)', drawing)
    assert set(used) <= set(ids)
    text = " ".join(root.itertext())
    assert "flr <1>" in text
    assert "R&D $x$" in text  # no mathematics
    assert "one & two" in text


def test_series_differ_in_marker_and_line_and_not_in_colour_alone() -> None:
    drawing = lines_figure("b", LINES, "d")
    assert "stroke-dasharray" in drawing
    assert len(set(re.findall(r'<path id="b-m[^"]*" d="([^"]*)"', drawing))) >= 2
    assert "20 %" in drawing
