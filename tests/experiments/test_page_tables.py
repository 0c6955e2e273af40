"""The cells of a report: figures as they are told, in HTML, LaTeX and CSV alike."""

from __future__ import annotations

import math

import polars as pl

from flr.experiments.page_parts import places_of
from flr.experiments.page_tables import Cell, PageTable, count, csv_of, escaped, latex, number


def test_what_is_not_known_is_a_dash_and_half_an_interval_is_none() -> None:
    row = {"x": 0.12345, "low": 0.1, "high": None, "nan": math.nan}
    assert number(row, "missing") == number(row, "nan") == Cell("-")
    assert number(row, "x", ("low", "high")) == Cell("0.1235")
    assert number(row | {"high": 0.2}, "x", ("low", "high"), form="+.1f", scale=100) == Cell("+12.3", "+10.0 to +20.0")
    assert count(12345) == Cell("12,345")


def test_latex_escapes_what_it_would_read() -> None:
    table = PageTable("t", ["a&b", "c"], [[Cell("50 %"), Cell("x_1", "0 to 1")]], "t.csv")
    assert r"a\&b & c \\ \hline" in latex(table)
    assert r"50 \% & x\_1 (0 to 1) \\" in latex(table)
    assert escaped("a\\b^c~") == r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}"


def test_tables_of_data_sets_go_into_one_file() -> None:
    tables = {"one": pl.DataFrame({"x": [1]}), "empty": pl.DataFrame(), "two": pl.DataFrame({"x": [2.5]})}
    assert csv_of(tables) == "data,x\none,1.0\ntwo,2.5\n"
    assert csv_of({"empty": pl.DataFrame()}) is None


def test_slices_that_cut_nothing_are_left_out() -> None:
    keys = [("all", "all"), ("title", "rare words"), ("popularity", "head"), ("popularity", "tail"), ("all", "all")]
    assert places_of(keys) == [("all", "all"), ("popularity", "head"), ("popularity", "tail")]
