"""The page of an audit: the figures are there, nothing is fetched, nothing is executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from audited import audited_data
from flr.errors import StorageError
from flr.experiments.audit_report import render_audit_report, write_audit_report
from flr.experiments.data_audit import audit_data


@pytest.fixture(scope="module")
def page() -> str:
    data = audited_data()
    return render_audit_report(audit_data(data, k=3), name="<toy> & world", manifest=data.manifest)


def test_the_figures_are_on_the_page(page: str) -> None:
    for figure in ("0.3125", "0.5000", "0.0833", "0.4167", "0.2887", "0.2165", "25.0%"):
        assert f">{figure}<" in page or f" {figure}" in page, figure
    for text in (
        "4 test targets of 3 users, all items ranked",
        "What moves HR@10 most: test targets tied with history",
        "HR@10 on 1 test targets",
        "Crediting titles would take HR@10 from 0.5000 to 0.7500 (popularity)",
        "Without these rows HR@10 would go from 0.3125 to 0.4167 (popularity)",
        "Looked for and not found: missing titles,",
        "9f2c51e09f2c51e0",
    ):
        assert text in page


def test_nothing_is_fetched_run_or_left_unescaped(page: str) -> None:
    assert "&lt;toy&gt; &amp; world" in page
    assert "&lt;span class=" in page
    for dangerous in ("<script", "<toy>", '<span class="a', "src=", "url(", "@import"):
        assert dangerous not in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(page.encode()) < 60_000


def test_without_scores_the_page_is_a_list_of_findings() -> None:
    data = audited_data()
    page = render_audit_report(audit_data(data, scores=False), name="toy", manifest={})
    assert "findings to know about before training" in page
    assert "HR@10 on" not in page
    assert "Reference scores" not in page


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "audit.html"
    with pytest.raises(StorageError, match=str(path)):
        write_audit_report(path, audit_data(audited_data(), scores=False), name="toy", manifest={})
