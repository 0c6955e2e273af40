"""The demo's whole journey on a world in miniature: what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from flr.config import load_config
from flr.experiments.demo import run_demo
from toy import TINY, ring_interactions


@pytest.fixture
def _ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.experiments.demo.read_source", lambda name: ring_interactions())


@pytest.mark.usefixtures("_ring")
def test_the_demo_trains_compares_recommends_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, TINY)
    result = run_demo(tmp_path / "demo", seed=3, config=config)
    assert [report.name for report in result.reports] == [
        "flr",
        "popularity",
        "last-item-markov",
        "item-knn",
        "ease",
        "transitions",
    ]
    assert result.reports[0].metrics["ndcg@10"] > result.reports[1].metrics["ndcg@10"]
    assert len(result.examples) == 3
    for example in result.examples:
        assert len(example.recommended) == 5
        assert example.recommended[0][0] == example.taken_next
    page = result.page.read_text(encoding="utf-8")
    for shown in ("Training loss", "Factor 4", result.examples[0].user_id, "last-item-markov"):
        assert shown in page
    assert "<script" not in page

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("flr.training.run.StageOneTrainer.train", never)
    again = run_demo(tmp_path / "demo", seed=3, config=config)
    assert again.reports[0].metrics == result.reports[0].metrics
    with pytest.raises(AssertionError, match="trained again"):
        run_demo(tmp_path / "demo", seed=4, config=config)
