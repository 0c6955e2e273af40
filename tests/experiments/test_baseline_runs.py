"""Baselines on a prepared folder: what is written, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.baselines.sequential import SequenceScorer
from flr.baselines.settings import BaselineSettings
from flr.baselines.storage import load_baseline
from flr.data.preparation import prepare
from flr.data.storage import save_prepared
from flr.errors import ArtifactError, ConfigError
from flr.experiments.baselines import run_baselines
from flr.prepare_config import PrepareConfig
from toy import ring_interactions, save_pretrained


@pytest.fixture
def data(tmp_path: Path) -> Path:
    save_prepared(prepare(ring_interactions(), PrepareConfig(split="leave_one_out")), tmp_path / "data")
    return tmp_path / "data"


def test_results_are_written_and_not_made_twice(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, settings = tmp_path / "out", BaselineSettings(trials=2)
    results = run_baselines(data, output, only=["item-knn", "popularity"], settings=settings)
    assert [(result.name, result.n_trials) for result in results] == [("popularity", 1), ("item-knn", 2)]
    assert {path.name for path in (output / "item-knn").iterdir()} == {
        "arrays.safetensors", "baseline.json", "metrics.json", "targets-test.parquet", "targets-valid.parquet"
    }  # fmt: skip
    monkeypatch.setattr("flr.experiments.baselines.fit_baseline", None)
    again = run_baselines(data, output, only=["item-knn"], settings=settings)
    assert again[0].test.metrics == results[1].test.metrics
    with pytest.raises(ArtifactError, match="holds a baseline of another seed"):
        run_baselines(data, output, only=["item-knn"], settings=settings, seed=1)
    saved = json.loads((output / "item-knn" / "baseline.json").read_text())
    del saved["settings"]["network"]["sampled_items"]  # as if nobody could have set it then
    (output / "item-knn" / "baseline.json").write_text(json.dumps(saved))
    assert run_baselines(data, output, only=["item-knn"], settings=settings)[0].test.metrics == again[0].test.metrics
    with pytest.raises(ArtifactError, match="holds a baseline of another settings"):
        run_baselines(data, output, only=["item-knn"], settings=BaselineSettings(trials=1))


def test_unknown_names_and_missing_titles(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no baseline 'sasrek'; did you mean 'sasrec'"):
        run_baselines(data, tmp_path, only=["sasrek"])
    with pytest.raises(ConfigError, match="alpharec got nothing that reads titles"):
        run_baselines(data, tmp_path, only=["alpharec"])


def test_a_language_model_reads_titles_as_it_comes(data: Path, tmp_path: Path) -> None:
    """Nobody trained it on these items; another reader is another baseline."""
    first, second = tmp_path / "llama", tmp_path / "qwen"
    save_pretrained(first)
    save_pretrained(second, "qwen2")
    settings = BaselineSettings(trials=1)
    (result,) = run_baselines(
        data, tmp_path / "out", only=["alpharec"], titles_from=str(first), settings=settings, seed=1
    )
    scorer = load_baseline(tmp_path / "out" / "alpharec").scorer
    assert isinstance(scorer, SequenceScorer)
    titles = scorer.network.get_buffer("titles")
    assert len({tuple(row) for row in titles.tolist()}) == len(titles)  # every title has states of its own
    assert result.test.metrics["ndcg@10"] > 0
    with pytest.raises(ArtifactError, match="holds a baseline of another titles_from"):
        run_baselines(data, tmp_path / "out", only=["alpharec"], titles_from=str(second), settings=settings, seed=1)
    with pytest.raises(ConfigError, match="got 'compact' to read titles"):
        run_baselines(data, tmp_path / "other", only=["alpharec"], titles_from="compact")
