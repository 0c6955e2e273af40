"""Drawings: round ticks, places on the axis, nothing lost by thinning."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.experiments.charts import MAX_POINTS, Panel, heat_cell, interval_rows, line_panel, nice_ticks, thinned


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_values_in_even_steps(low: float, span: float, n: int) -> None:
    ticks = nice_ticks(low, low + span, n)
    assert ticks[0] <= low + 1e-6 * span
    assert ticks[-1] >= low + span - 1e-6 * span
    assert 2 <= len(ticks) <= 3 * n + 2
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-3)


def test_thinning_keeps_the_mean() -> None:
    steps, values = thinned(np.arange(10.0 * MAX_POINTS), np.arange(10.0 * MAX_POINTS) ** 2)
    assert len(steps) == len(values) == MAX_POINTS
    assert values.mean() == pytest.approx((np.arange(10.0 * MAX_POINTS) ** 2).mean())


def test_a_line_runs_from_the_first_to_the_last_step() -> None:
    drawing = line_panel(Panel("Loss", [0, 50, 100], [3.0, 2.0, 1.0]), last_step=100, step_axis=True)
    points = re.search(r'points="([^"]+)"', drawing)
    assert points is not None
    assert points[1].split() == ["56.0,34.0", "340.0,89.0", "624.0,144.0"]


def test_only_the_lowest_panel_has_a_step_axis() -> None:
    panel = Panel("Loss", [100, 1000], [2.0, 1.0])
    assert ">1,000</text>" in line_panel(panel, last_step=1000, step_axis=True)
    assert ">1,000</text>" not in line_panel(panel, last_step=1000, step_axis=False)


def test_an_empty_or_single_series_is_drawn() -> None:
    assert "nothing was recorded" in line_panel(Panel("Loss", [], []), last_step=10, step_axis=True)
    assert "step 10: 2.00" in line_panel(Panel("Loss", [10], [2.0]), last_step=10, step_axis=True)


def test_unknown_errors_draw_no_interval() -> None:
    drawing = interval_rows(["flr"], [0.06], [math.nan], "NDCG@10")
    assert "flr: NDCG@10 0.0600<" in drawing
    assert "±" not in drawing
    assert "nan" not in drawing


def test_tones_are_relative_to_the_strongest() -> None:
    assert 'fill-opacity="1.000"' in heat_cell(0.2, 0.2, "all")
    assert 'fill-opacity="0.500"' in heat_cell(0.1, 0.2, "half")
    assert 'fill-opacity="0.000"' in heat_cell(0.0, 0.0, "none")


def test_drawings_are_well_formed_and_escaped() -> None:
    name = "<b>\"Tom\" & 'Jerry'</b>"
    for drawing in (
        heat_cell(0.3, 0.5, name),
        interval_rows([name, "other"], [0.1, 0.2], [0.01, 0.02], name),
        line_panel(Panel(name, [1, 2], [1.0, 2.0], dots=True, marked_step=1), last_step=2, step_axis=True),
    ):
        root = ElementTree.fromstring(drawing)
        assert name in root.attrib["aria-label"]
        assert not root.findall(".//b")


def test_long_names_have_room() -> None:
    name = "single vector, no assistant"
    drawing = interval_rows(["flr", name], [0.06, 0.05], [math.nan, 0.01], "NDCG@10")
    (end,) = re.findall(rf'<text class="name other" x="([\d.]+)"[^>]*>{name}</text>', drawing)
    assert float(end) > 7 * len(name)
