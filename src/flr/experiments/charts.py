"""Small inline SVG drawings for report pages: no script, no font, no outside resource.

Colours are classes (``ink``, ``line``, ``heat``, ...) that the page's style sheet fills in, so one drawing serves
light, dark and print. Shapes carry a ``<title>``, which browsers show as a tooltip and screen readers read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from flr.records import FloatArray

WIDTH, LEFT, RIGHT, TOP = 640, 56, 16, 34
#: Above this share of full colour the text on a heat cell is light (dark mode: dark); there both have contrast 4.5.
STRONG = 0.65
MAX_POINTS = 320
#: Pixels that a character of a name takes, at most on average.
_CHARACTER = 7.5


@dataclass(frozen=True)
class Panel:
    """One line over training steps.

    Attributes:
        title: What the vertical axis shows.
        steps: Horizontal places, ascending, [n].
        values: Vertical places, [n].
        dots: Whether each value is measured on its own and gets a dot and a tooltip.
        marked_step: Step to mark with a dashed line; None marks none.
        height: Height of the plotting area in pixels.
        digits: Decimals of the tooltips and of the closing label.
    """

    title: str
    steps: Sequence[float] | FloatArray
    values: Sequence[float] | FloatArray
    dots: bool = False
    marked_step: int | None = None
    height: int = 110
    digits: int = 2


def line_panel(panel: Panel, *, last_step: float, step_axis: bool) -> Markup:
    """Return one panel of a stack that shares the steps 0..last_step; only the lowest shows the step axis."""
    bottom = TOP + panel.height
    steps, values = thinned(np.asarray(panel.steps, dtype=float), np.asarray(panel.values, dtype=float))
    ticks = nice_ticks(float(values.min()), float(values.max()), 3) if len(values) else [0.0, 1.0]
    to_x = _scale(0, max(last_step, 1), LEFT, WIDTH - RIGHT)
    to_y = _scale(ticks[0], ticks[-1], bottom, TOP)
    parts = [Markup('<text class="label" x="0" y="16">{}</text>').format(panel.title)]
    for tick in ticks:
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, to_y(tick), WIDTH - RIGHT))
        parts.append(_text(LEFT - 8, to_y(tick) + 4, f"{tick:g}", "tick", "end"))
    if panel.marked_step is not None:
        x = to_x(panel.marked_step)
        parts.append(Markup('<path class="marked" d="M{:.1f} {}V{}"/>').format(x, TOP, bottom))
    if len(values):
        points = " ".join(f"{to_x(step):.1f},{to_y(value):.1f}" for step, value in zip(steps, values, strict=True))
        parts.append(Markup('<polyline class="line" points="{}"/>').format(points))
        parts += _dots(panel, steps, values, to_x, to_y)
    if step_axis:
        for tick in nice_ticks(0, last_step, 5):
            if tick <= last_step and tick == int(tick):
                parts.append(_text(to_x(tick), bottom + 18, f"{tick:,.0f}", "tick", "middle"))
    return _svg(WIDTH, bottom + (24 if step_axis else 6), _describe(panel), parts)


def interval_rows(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float],
    metric: str,
    *,
    spread_name: str = "standard errors",
) -> Markup:
    """Return a dot with an interval of two errors either side for each name, on one axis from 0.

    Args:
        names: One per row; the first is drawn in the accent colour.
        values: Metric of each.
        errors: Error of each; NaN draws no interval.
        metric: What is shown, for the tooltip and the description.
        spread_name: What the errors are, for the description.
    """
    spread = 2 * np.nan_to_num(np.asarray(errors, dtype=float))
    ticks = nice_ticks(0, max(float((np.asarray(values) + spread).max()), 1e-9), 4)
    longest = max(map(len, names), default=0)
    left, row, height = max(176, round(_CHARACTER * longest) + 20), 28, 28 * len(names)
    to_x = _scale(0, ticks[-1], left, WIDTH - RIGHT)
    parts = []
    for tick in ticks:
        parts.append(Markup('<path class="grid" d="M{:.1f} 0V{}"/>').format(to_x(tick), height))
        parts.append(_text(to_x(tick), height + 16, f"{tick:g}", "tick", "middle"))
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        y, accent = row * i + row / 2, "ours" if i == 0 else "other"
        low, high = to_x(max(value - spread[i], 0)), to_x(value + spread[i])
        shown = f"{name}: {metric} {value:.4f}" + (f" ± {spread[i]:.4f}" if spread[i] else "")
        parts.append(_text(left - 12, y + 4.5, name, f"name {accent}", "end"))
        parts.append(Markup('<g class="{}"><title>{}</title>').format(accent, shown))
        parts.append(Markup('<path class="interval" d="M{:.1f} {}H{:.1f}"/>').format(low, y, high))
        parts.append(Markup('<circle class="dot" cx="{:.1f}" cy="{}" r="5"/></g>').format(to_x(value), y))
    described = "; ".join(f"{name} {value:.4f}" for name, value in zip(names, values, strict=True))
    return _svg(WIDTH, height + 22, f"{metric} with two {spread_name} either side: {described}", parts)


def heat_cell(share: float, strongest: float, tooltip: str) -> Markup:
    """Return one cell of a heat map: the share in per cent on a tone that is full at `strongest`.

    The tone differs in lightness only, so the map reads the same in grey.

    >>> "43" in heat_cell(0.43, 0.5, "factor 1 reads Heat")
    True
    """
    tone = min(share / strongest, 1.0) if strongest > 0 else 0.0
    parts = [
        Markup("<title>{}</title>").format(tooltip),
        Markup('<rect class="heat" width="56" height="24" rx="3" fill-opacity="{:.3f}"/>').format(tone),
        _text(28, 16.5, percent(share), "strong" if tone > STRONG else "weak", "middle"),
    ]
    return _svg(56, 24, tooltip, parts)


def percent(share: float) -> str:
    """Return a share in per cent without the sign: one decimal below ten, and a dot for next to nothing.

    >>> percent(0.431), percent(0.021), percent(0.0001)
    ('43', '2.1', '·')
    """
    if share < 0.0005:
        return "·"
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}"


def nice_ticks(low: float, high: float, n: int) -> list[float]:
    """Return ascending round numbers that enclose low..high in about n steps.

    >>> nice_ticks(0, 0.071, 4)
    [0.0, 0.02, 0.04, 0.06, 0.08]
    >>> nice_ticks(3, 5.2, 2)
    [3.0, 4.0, 5.0, 6.0]
    """
    if not high > low:
        high = low + 1
    rough = (high - low) / n
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((factor for factor in (1, 2, 5, 10)), key=lambda factor: abs(factor - rough / unit))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thinned(steps: FloatArray, values: FloatArray, limit: int = MAX_POINTS) -> tuple[FloatArray, FloatArray]:
    """Return at most `limit` points: means of equal bins of neighbouring points, so nothing is hidden by sampling."""
    if len(steps) <= limit:
        return steps, values
    edges = np.linspace(0, len(steps), limit + 1).astype(int)
    sizes = np.diff(edges)
    return np.add.reduceat(steps, edges[:-1]) / sizes, np.add.reduceat(values, edges[:-1]) / sizes


def _dots(
    panel: Panel,
    steps: FloatArray,
    values: FloatArray,
    to_x: Callable[[float], float],
    to_y: Callable[[float], float],
) -> list[Markup]:
    parts = []
    for i, (step, value) in enumerate(zip(steps, values, strict=True)):
        if panel.dots or i == len(steps) - 1:
            shown = f"step {step:,.0f}: {value:.{panel.digits}f}"
            circle = '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>'
            parts.append(Markup(circle).format(to_x(step), to_y(value), shown))
    above = max(to_y(values[-1]) - 10, TOP - 6)
    parts.append(_text(to_x(steps[-1]), above, f"{values[-1]:.{panel.digits}f}", "value", "end"))
    return parts


def _describe(panel: Panel) -> str:
    if not len(panel.values):
        return f"{panel.title}: nothing was recorded"
    values = np.asarray(panel.values)
    return f"{panel.title}, from {values[0]:.{panel.digits}f} to {values[-1]:.{panel.digits}f}"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _svg(width: float, height: float, description: str, parts: Sequence[Markup]) -> Markup:
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">'
    return Markup(opening) + Markup("").join(parts) + Markup("</svg>")
