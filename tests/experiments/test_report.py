"""The report page: every panel is there, nothing is fetched, nothing is executed, and it does not flatter."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.experiments.content import FactorAttention, ResultRow, RunReportContent, TrainingCurve, UserExample
from flr.experiments.report import render_run_report, write_run_report
from flr.records import Report

EVIL = "<script>alert('x')</script> & \"Sons\""


def result(name: str, ndcg: float, error: float = 0.005) -> ResultRow:
    metrics = {
        "hr@10": 2 * ndcg,
        "ndcg@10": ndcg,
        "mrr@10": ndcg / 2,
        "coverage@10": 0.25,
        "mean_popularity@10": 123.4,
        "n_targets": 943,
    }
    return ResultRow(name, metrics, {"hr@10": error, "ndcg@10": error, "mrr@10": error})


@pytest.fixture
def content() -> RunReportContent:
    return RunReportContent(
        dataset="ml-100k",
        n_items=1682,
        data={"Users": 943, "Items": 1682},
        settings={"Factors": 2, "Learning rate": 0.002},
        results=[result("flr", 0.064), result("popularity", 0.03), result("last-item-markov", 0.05)],
        curve=TrainingCurve([1, 2, 3, 4], [7.0, 6.0, 5.5, 5.4], [2, 4], [0.02, 0.04], kept_step=4),
        examples=[UserExample("42", ["Heat (1995)", EVIL], 31, [("Fargo (1996)", 0.25), (EVIL, 0.1)], "Fargo (1996)")],
        attention=FactorAttention(
            "42", ["Heat (1995)", EVIL], np.array([[0.5, 0.5], [0.2, 0.7]]), np.array([0.75, 0.25])
        ),
        findings=["44.0 % of targets tie with the item before"],
        facts={"Seed": 0, "Data hash": "9f2c51e0"},
    )


class Reader(HTMLParser):
    """Collects tags and text, and fails on tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", Reader(page).text)


def test_every_panel_is_present(content: RunReportContent) -> None:
    page = render_run_report(content)
    headings = re.findall(r'<h2 id="(\w+)"', page)
    assert headings == ["results", "training", "people", "attention", "audit", "settings", "facts"]
    text = text_of(page)
    for shown in ("ml-100k", "943", "0.0640", "± 0.0050", "25.0%", "Training loss", "Validation NDCG@10"):
        assert shown in text
    assert "The dashed line marks step 4, whose weights were kept." in text
    for shown in ("Heat (1995)", "Fargo (1996)", "44.0 % of targets", "9f2c51e0", "0.002"):
        assert shown in text
    assert len(re.findall("<svg ", page)) == 1 + 2 + 3 * 2  # intervals, two panels, three rows for two factors


def test_nothing_is_fetched_or_executed(content: RunReportContent) -> None:
    page = render_run_report(content)
    reader = Reader(page)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object", "a"}
    assert not [attributes for _, attributes in reader.tags if {"src", "href"} & set(attributes)]
    assert "//" not in page.replace("<!--", "")
    assert "url(" not in page
    assert "@import" not in page


def test_titles_are_escaped_everywhere(content: RunReportContent) -> None:
    page = render_run_report(content)
    assert "<script" not in page
    assert EVIL in Reader(page).text


def test_the_best_value_of_each_quality_metric_is_bold(content: RunReportContent) -> None:
    page = render_run_report(content)
    assert len(re.findall('class="best"', page)) == 3 + 3  # hr, ndcg, mrr of the model; coverage ties
    assert not re.findall('data-label="Mean popularity@10" class="best"', page)


@pytest.mark.parametrize(
    ("ndcg", "sentence"),
    [
        (0.09, "By NDCG@10 it is ahead of last-item-markov by 0.0400: more than two standard errors."),
        (0.052, "By NDCG@10 it is ahead of last-item-markov by 0.0020: within two standard errors, so not settled"),
        (0.01, "By NDCG@10 it is behind last-item-markov by 0.0400: more than two standard errors."),
    ],
)
def test_the_summary_says_who_is_ahead(content: RunReportContent, ndcg: float, sentence: str) -> None:
    changed = replace(content, results=[result("flr", ndcg), *content.results[1:]])
    assert sentence in text_of(render_run_report(changed))


def test_attention_on_other_text_is_shown_not_hidden(content: RunReportContent) -> None:
    page = render_run_report(content)
    assert "Factor 2: 10.0% of its attention on text before the items" in page
    assert content.attention is not None
    whole = replace(content.attention, weights=np.array([[0.5, 0.5], [0.3, 0.7]]))
    assert "text before the items" not in render_run_report(replace(content, attention=whole))


def test_a_model_without_factors_baselines_or_findings(content: RunReportContent) -> None:
    bare = replace(
        content,
        results=[result("bigrec", 0.04, math.nan)],
        attention=None,
        findings=[],
        curve=TrainingCurve([], [], [], []),
        examples=[],
    )
    text = text_of(render_run_report(bare))
    assert "What each factor read" not in text
    assert "Recommendations" not in text
    assert "Nothing that would mislead a metric." in text
    assert "Nothing was recorded." in text
    assert "nan" not in text


def test_the_page_is_written_whole_and_small(content: RunReportContent, tmp_path: Path) -> None:
    write_run_report(tmp_path / "report.html", content)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_run_report(content)
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_a_result_row_takes_its_errors_from_the_targets() -> None:
    targets = pl.DataFrame({"user_index": [0, 1], "ndcg@10": [0.0, 1.0]})
    row = ResultRow.of(Report("flr", "test", {"ndcg@10": 0.5, "coverage@10": 0.1, "n_targets": 2}, targets, 1.0))
    assert row.standard_errors == {"ndcg@10": 0.5}
    assert row.metrics["coverage@10"] == 0.1
