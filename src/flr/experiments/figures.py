"""Figures of evidence as SVG inside the page: matplotlib draws, the page's style sheet colours.

Colours are placeholders that become the page's own, so one drawing serves light, dark and print. What is told apart is
told apart by marker and line style first, so figures survive a grey printer. Drawing the same numbers gives the same
bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, QUIET, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
_COLOURS: Final = {INK: "var(--ink)", QUIET: "var(--quiet)", RULE: "var(--rule)", ACCENT: "var(--accent)"}
_PAPER: Final = "#050505"
_MARKERS: Final = "osD^vPX*<>hp"
_LINES: Final = ("-", "--", ":", "-.")
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Mark:
    """A figure with its interval.

    Attributes:
        value: The figure; None draws nothing.
        low, high: Ends of the interval; None draws none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One model, or one kind of change, in every row (or at every place) of a panel.

    Attributes:
        name: What the legend calls it.
        marks: One per row.
        is_first: Drawn filled and in the accent colour.
    """

    name: str
    marks: Sequence[Mark]
    is_first: bool = False


@dataclass(frozen=True)
class Rows:
    """A panel of rows with a dot and an interval for each series.

    Attributes:
        title: What the horizontal axis shows.
        names: One per row, from the top.
        series: What is drawn in each row, one below the other.
        zero: Whether a line marks 0, "no difference".
        ticks: A further mark in each row: the null; None draws none.
        span: Values that are on the axis in any case.
    """

    title: str
    names: Sequence[str]
    series: Sequence[Series]
    zero: bool = False
    ticks: Sequence[float | None] | None = None
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Lines:
    """A panel of lines over numbers.

    Attributes:
        title: What the vertical axis shows.
        places: Horizontal places, the same for all series.
        series: A mark per place.
        across: What the horizontal axis shows.
        percent: Whether values are shares.
    """

    title: str
    places: Sequence[float]
    series: Sequence[Series]
    across: str
    percent: bool = False


def rows_figure(name: str, panels: Sequence[Rows], description: str) -> Markup:
    """Return panels of rows side by side, rows named once.

    Args:
        name: Of the figure, unlike that of any other on its page.
        panels: With the same rows.
        description: For those who do not see it.
    """
    n_series = max(len(panel.series) for panel in panels)
    height = 0.55 + len(panels[0].names) * (0.16 + 0.14 * n_series) + (0.3 if n_series > 1 else 0)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(max(5.6, 1.9 * len(panels) + 1.9), height), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _draw_rows(axis, panel)
        if n_series > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8.5)
        return _svg(figure, name, description)


def lines_figure(name: str, panels: Sequence[Lines], description: str, *, n_columns: int = 3) -> Markup:
    """Return panels of lines in a grid, with one legend; arguments as `rows_figure`."""
    n_columns = min(n_columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    n_names = max(len(panel.series) for panel in panels)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        size = (max(3.6, 2.5 * n_columns), 1.9 * n_rows + 0.2 * -(-n_names // 3) + 0.2)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw_lines(axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower left", ncols=min(3, n_columns + 1), fontsize=8.5)
        return _svg(figure, name, description)


def _draw_rows(axis: Axes, panel: Rows) -> None:
    n = len(panel.series)
    for number, series in enumerate(panel.series):
        places = [row + (number - (n - 1) / 2) * 0.62 / max(n, 1) for row in range(len(panel.names))]
        _draw(axis, series, number, places, sideways=True)
    if panel.ticks is not None:
        known = [(row, tick) for row, tick in enumerate(panel.ticks) if tick is not None]
        look: dict[str, Any] = {
            "marker": "|",
            "color": QUIET,
            "markersize": 11,
            "markeredgewidth": 1.6,
            "linestyle": "none",
        }
        axis.plot([tick for _, tick in known], [row for row, _ in known], **look)
    if panel.zero:
        axis.axvline(0, color=INK, linewidth=0.9)
    axis.set_title(panel.title, color=INK)
    axis.set_yticks(range(len(panel.names)), panel.names, color=INK)
    axis.set_ylim(len(panel.names) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.locator_params(axis="x", nbins=4)
    if panel.span is not None:
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, panel.span[0] - 0.04), max(high, panel.span[1] + 0.04))


def _draw_lines(axis: Axes, panel: Lines) -> None:
    spread = (max(panel.places) - min(panel.places)) or 1.0
    for number, series in enumerate(panel.series):
        shift = (number - (len(panel.series) - 1) / 2) * 0.012 * spread
        _draw(axis, series, number, [place + shift for place in panel.places], sideways=False)
    axis.set_title(panel.title, color=INK)
    axis.set_xlabel(panel.across, fontsize=8)
    axis.set_xticks(list(panel.places), [f"{place:g}" for place in panel.places])
    axis.grid(visible=False, axis="x")
    axis.locator_params(axis="y", nbins=4)
    if panel.percent:
        axis.yaxis.set_major_formatter(FuncFormatter(_in_percent))


def _draw(axis: Axes, series: Series, number: int, places: Sequence[float], *, sideways: bool) -> None:
    """Draw a series, along the rows or over the places."""
    known = [(place, mark) for place, mark in zip(places, series.marks, strict=True) if mark.value is not None]
    at, values = [place for place, _ in known], np.array([mark.value for _, mark in known], dtype=float)
    ends = [(_end(mark.low, mark.value), _end(mark.high, mark.value)) for _, mark in known]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    reach = np.stack([(values - low).clip(0), (high - values).clip(0)])
    colour = ACCENT if series.is_first else QUIET
    look: dict[str, Any] = {
        "color": colour,
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 5.5,
        "markerfacecolor": colour if series.is_first else _PAPER,
        "markeredgecolor": colour,
        "elinewidth": 1.3,
        "linestyle": "none" if sideways else _LINES[number % len(_LINES)],
        "label": series.name,
    }
    if sideways:
        axis.errorbar(values, at, xerr=reach, **look)
    else:
        axis.errorbar(at, values, yerr=reach, **look)


def _in_percent(share: float, _: int) -> str:
    return f"{100 * share:g} %"


def _end(end: float | None, value: float | None) -> float | None:
    return value if end is None else end


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """Return the drawing for use inside a page: its own ids, the page's colours, nothing from elsewhere."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = content.getvalue().decode("utf-8")
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = _opening(name, figure, description) + text[text.index(">") + 1 :]
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    for colour, variable in {**_COLOURS, _PAPER: "var(--paper)"}.items():
        text = text.replace(colour, variable)
    return Markup(text)


def _opening(name: str, figure: Figure, description: str) -> str:
    """Return the opening tag: as wide on the page as the type asks for, never wider than the page."""
    width, height = (inches * 72 for inches in figure.get_size_inches())
    about = f'id="{name}" role="img" aria-label="{escape(description)}"'
    return f'<svg {about} viewBox="0 0 {width:.2f} {height:.2f}" style="width: {1.45 * width / 16:.1f}rem">'
