"""Baselines on a prepared folder: what is written, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flr.baselines.sequential import SequenceScorer
from flr.baselines.settings import BaselineSettings
from flr.baselines.storage import load_baseline
from flr.data.preparation import prepare
from flr.data.storage import save_prepared
from flr.data.synthetic import pattern_world
from flr.errors import ArtifactError, ConfigError
from flr.experiments.baselines import run_baselines
from flr.prepare_config import PrepareConfig
from flr.recommender import Recommender
from flr.training.run import train_run
from toy import TINY, ring_interactions, save_pretrained, small_config


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


def test_an_assistant_of_a_run_is_the_one_that_would_be_trained(tmp_path: Path) -> None:
    data = tmp_path / "data"
    interactions = pattern_world(n_items=17, n_users=100, length=8, order=2).interactions
    save_prepared(prepare(interactions, PrepareConfig()), data)
    assistant = ["assistant.max_epochs=8", "assistant.width=16", "assistant.networks=[sasrec, ease]"]
    config = small_config(*TINY, "reasoner.memory=transitions", "training.max_steps=2", "seed=3", *assistant)
    run = train_run(config, data, tmp_path / "run").path
    assert Recommender.load(run).model.assistant is not None
    settings = BaselineSettings(
        trials=1,
        assistant=config.assistant,
        assistant_window=config.text.window,
        seen_items=config.evaluation.seen_items,
    )
    arrays = []
    for name, taken in (("trained", None), ("taken", run)):
        (result,) = run_baselines(
            data, tmp_path / name, only=["assisted-transitions"], assistant_from=taken, settings=settings, seed=3
        )
        arrays.append(load_file(tmp_path / name / result.name / "arrays.safetensors"))
    assert arrays[0].keys() == arrays[1].keys()
    with pytest.raises(ConfigError, match="has other settings or another seed than assisted-transitions here"):
        run_baselines(
            data, tmp_path / "other", only=["assisted-transitions"], assistant_from=run, settings=settings, seed=4
        )
    assert [name for name in arrays[0] if not torch.equal(arrays[0][name], arrays[1][name])] == []
