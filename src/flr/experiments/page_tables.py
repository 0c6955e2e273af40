"""Tables of a report: the same cells on the page, in Markdown and in LaTeX, and whole tables as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: The figure.
        beside: Its interval or spread, in small print; empty where there is none.
        is_prose: Whether these are words, which begin at the left and wrap.
    """

    text: str
    beside: str = ""
    is_prose: bool = False

    def __str__(self) -> str:
        return f"{self.text} ({self.beside})" if self.beside else self.text


@dataclass(frozen=True)
class PageTable:
    """A table of the report.

    Attributes:
        title: What it is.
        head: Names of its columns; the first names the row.
        rows: Cells, as many as columns.
        source: CSV file with all of it and more.
        is_folded: Whether the page shows it on demand only.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    source: str
    is_folded: bool = False


def number(
    row: Mapping[str, Any], name: str, interval: tuple[str, str] | None = None, *, form: str = ".4f", scale: float = 1
) -> Cell:
    """Return a figure of a row with its interval; a dash where there is none.

    Args:
        row: Of a table.
        name: Column of the figure.
        interval: Columns of its ends.
        form: How numbers are written.
        scale: What they are multiplied by.

    >>> str(number({"x": 0.5, "low": 0.25, "high": None}, "x", ("low", "high"), form="+.2f"))
    '+0.50'
    >>> str(number({"x": 0.5, "low": 0.25, "high": 0.75}, "x", ("low", "high"), form=".0f", scale=100))
    '50 (25 to 75)'
    >>> str(number({"x": -1e-9}, "x"))
    '0.0000'
    """
    if not form.startswith("+"):
        form = f"z{form}"  # what is rounded to nothing has no sign
    value = row.get(name)
    if value is None or math.isnan(value):
        return Cell("-")
    ends = [row.get(end) for end in interval or ()]
    known = [end for end in ends if end is not None and not math.isnan(end)]
    beside = " to ".join(format(scale * end, form) for end in known) if len(known) == 2 else ""
    return Cell(format(scale * value, form), beside)


def count(value: int) -> Cell:
    """Return a number of things."""
    return Cell(f"{value:,}")


def latex(table: PageTable) -> str:
    r"""Return a table as a LaTeX tabular.

    >>> print(latex(PageTable("t", ["a_b", "x"], [[Cell("r"), Cell("1", "0 to 2")]], "t.csv")))
    % t
    \begin{tabular}{lr}
    a\_b & x \\ \hline
    r & 1 (0 to 2) \\
    \end{tabular}
    <BLANKLINE>
    """
    lines = [f"% {table.title}", rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}"]
    lines.append(" & ".join(map(escaped, table.head)) + r" \\ \hline")
    lines += [" & ".join(escaped(str(cell)) for cell in row) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\end{tabular}", ""])


_ESCAPED: Final = {ord(character): rf"\{character}" for character in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("^"): r"\textasciicircum{}",
    ord("~"): r"\textasciitilde{}",
}


def escaped(text: str) -> str:
    r"""Return text for LaTeX.

    >>> escaped("50 % of R&D_1, K^2")
    '50 \\% of R\\&D\\_1, K\\textasciicircum{}2'
    """
    return text.translate(_ESCAPED)


def csv_of(tables: dict[str, pl.DataFrame]) -> str | None:
    """Return tables of several data sets as one CSV with a column ``data``; None where all are empty."""
    parts = [
        table.select(pl.lit(data).alias("data"), pl.all()) for data, table in tables.items() if not table.is_empty()
    ]
    return pl.concat(parts, how="vertical_relaxed").write_csv() if parts else None
