"""What is trained and used on another device than the CPU does there what it does here: nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elsewhere import AWAY, elsewhere
from flr.baselines.fitting import fit_baseline
from flr.baselines.settings import BaselineSettings, NetworkSettings
from flr.config import load_config
from flr.data.storage import load_prepared
from flr.diagnostics.factor_records import collect_factors
from flr.diagnostics.interventions import Intervention, intervened_values
from flr.explanation.attribution import explain
from flr.explanation.fidelity import fidelity
from flr.explanation.profiling import profile_factors
from flr.lists import Recommendation
from flr.recommender import Recommender
from flr.records import Histories, IntArray
from flr.serving.batches import Batches
from flr.serving.questions import EngineCounts, EngineSettings, Question
from flr.training.alignment import align_run
from flr.training.finished import evaluate_run
from flr.training.run import train_run
from toy import INSTRUCTION, TINY, UNSET, prepared_ring

SHORT = [*TINY, "training.max_steps=4", "training.eval_steps=2", "assistant.max_epochs=2"]
ONE_TRIAL = BaselineSettings(trials=1, network=NetworkSettings(max_epochs=2))
KINDS = {
    "default": UNSET,
    "published": [],
    "instruction": [*INSTRUCTION, "training.batch_tokens=1600", "text.max_title_tokens=24"],
    "searched": ["evaluation.ranking=beam", "evaluation.guide=last_item_markov"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


def test_the_other_device_refuses_what_a_gpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with elsewhere(monkeypatch):
        away = torch.arange(6.0, device=AWAY).view(2, 3)
        assert away.device == AWAY
        assert (away.sum().item(), away[:, torch.tensor([1])].tolist()) == (15.0, [[1.0], [4.0]])
        with pytest.raises(RuntimeError, match="on the CPU beside others"):
            away + torch.ones(3)
        with pytest.raises(RuntimeError, match="on the CPU beside others"):
            torch.ones(3)[torch.tensor([1], device=AWAY)]
        with pytest.raises(RuntimeError, match="on the CPU beside others"):
            away[torch.tensor([1])] = torch.ones(3)
        with pytest.raises(RuntimeError, match="on the CPU beside others"):
            torch.stack([torch.tensor(1.0), away.sum()])
        with pytest.raises(RuntimeError, match="generator of the CPU"):
            torch.randn(3, device=AWAY, generator=torch.Generator())
        with pytest.raises(TypeError, match="to numpy"):
            away.numpy()
        assert away.cpu().numpy().sum() == 15


@pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
def test_a_run_elsewhere_is_that_of_here(
    overrides: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, [*SHORT, *overrides])
    here, away = tmp_path / "here", tmp_path / "away"
    train_run(config, data, here)
    evaluated = evaluate_run(here).metrics
    with elsewhere(monkeypatch):
        train_run(config, data, away)
        assert evaluate_run(away).metrics == pytest.approx(evaluated)
    weights = [load_file(run / "model" / "model.safetensors") for run in (here, away)]
    assert set(weights[0]) == set(weights[1])
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=1e-4)


def uses(run: Path, data: Path) -> dict[str, list[float]]:
    """Return what people ask of a run, as numbers."""
    recommender, prepared = Recommender.load(run), load_prepared(data)
    of_two = Histories(np.arange(9) % 7, np.array([0, 4, 9]))
    records = collect_factors(recommender, prepared.sequences, users=np.arange(12))
    changed = [Intervention("remove", 0), Intervention("only", 1), Intervention("swap", None)]
    of_users: dict[str, Any] = {"interventions": changed, "users": np.arange(12), "seen_items": "include"}
    of_changed = intervened_values(recommender, records, prepared.sequences, **of_users)
    profiles = profile_factors(recommender, prepared.sequences, min_users=2).factors
    network = fit_baseline("gru4rec", prepared.sequences, recommender.catalogue.n_items, settings=ONE_TRIAL).scorer
    recommender.add_items([{"item_id": "new", "title": "Blue House (1999)"}])
    lists = {
        "plain": recommender.recommend([["i1", "i2"], ["i3"]], k=5)[0],
        "steered": recommender.recommend([["i1", "i2"]], k=5, factor_weights=[0, 1, 2, 1])[0],
        "extended": served(recommender, [[np.arange(5), np.arange(7)], [np.arange(6), np.arange(9), np.arange(2)]])[1],
        "diversified": recommender.recommend([["i1", "i2"]], k=5, diversify="factors")[0],
    }
    return {name: [one.log_prob for one in found] for name, found in lists.items()} | {
        "all": recommender.score(of_two).ravel().tolist(),
        "beam": np.maximum(recommender.score_beam(of_two, exclude_seen=True), -1e3).ravel().tolist(),
        "explained": [factor.contribution for factor in explain(recommender, [1, 2, 3]).factors],
        "fidelity": [one.score for one in fidelity(recommender, of_two, np.array([5, 6]), n_random=2)[0]],
        "profiles": [profile.gate for profile in profiles],
        "factors": records.factors.ravel().tolist(),
        "interventions": list(of_changed.drop("row").sum().row(0)),
        "network": network.score(of_two).ravel().tolist(),
    }


def served(recommender: Recommender, batches: list[list[IntArray]]) -> list[list[Recommendation]]:
    """Return the lists of the last of some batches of histories, which extend earlier ones, as a server does."""
    computed = Batches(recommender, EngineSettings(), EngineCounts())
    for histories in batches:
        asked = [(recommender.snapshot, Question(history)) for history in histories]
        found = computed.lists(asked, lambda: None)
    assert computed.cache.n_tokens
    return found


def test_what_a_run_is_used_for_is_the_same_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train_run(load_config(None, [*SHORT, *UNSET]), data, run)
    expected = uses(run, data)
    with elsewhere(monkeypatch):
        found = uses(run, data)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-3, abs=1e-4), name


def test_stage_two_elsewhere_is_that_of_here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    train_run(load_config(None, SHORT), data, source)
    config = load_config(None, [*SHORT, "grpo.max_steps=2", "grpo.eval_steps=1", "grpo.batch_tokens=400"])
    here = align_run(config, source, tmp_path / "here")
    with elsewhere(monkeypatch):
        away = align_run(config, source, tmp_path / "away")
    assert away.valid == pytest.approx(here.valid)
