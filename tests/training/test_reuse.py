"""What a run takes over from a finished one: it ends as if it had trained all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flr.config import Config, load_config
from flr.data.preparation import prepare
from flr.data.storage import save_prepared
from flr.data.synthetic import pattern_world
from flr.errors import ArtifactError, ConfigError
from flr.persistence import read_json, write_json
from flr.prepare_config import PrepareConfig
from flr.recommender import Recommender
from flr.training.alignment import align_run
from flr.training.assisting import Say
from flr.training.run import train_run
from processes import train_in_two_processes
from toy import TINY

ASSISTED = [
    *TINY,
    "reasoner.memory=transitions",
    "assistant.max_epochs=20",
    "assistant.width=32",
    "assistant.batch_targets=128",
]


def config_of(*overrides: str) -> Config:
    return load_config(None, [*ASSISTED, *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    interactions = pattern_world(n_items=17, n_users=100, length=8, order=2).interactions
    save_prepared(prepare(interactions, PrepareConfig()), folder)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    train_run(config_of(), data, run)
    return run


def check_same_weights(first: Path, second: Path) -> None:
    one, other = (load_file(run / "model" / "model.safetensors") for run in (first, second))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def check_same(first: Path, second: Path) -> None:
    check_same_weights(first, second)
    assert read_json(first / "metrics.json", "metrics") == read_json(second / "metrics.json", "metrics")


@pytest.mark.parametrize(
    "overrides", [[], ["assistant.networks=[]"], ["assistant.networks=[gru4rec]", "assistant.width=16"]]
)
def test_weights_that_are_taken_over_get_another_assistant(
    overrides: list[str], run: Path, data: Path, tmp_path: Path
) -> None:
    config = config_of(*overrides)
    summary = train_run(config, data, tmp_path / "taken", weights_from=run)
    whole = train_run(config, data, tmp_path / "whole")
    check_same(tmp_path / "taken", tmp_path / "whole")
    assert (summary.best_step, summary.n_steps, summary.valid) == (whole.best_step, whole.n_steps, whole.valid)
    facts = read_json(tmp_path / "taken" / "run.json", "run")
    assert (facts["status"], facts["from"]) == ("finished", str(run))
    assert facts["config"] == config.model_dump(mode="json")
    again = train_run(config, data, tmp_path / "taken", weights_from=run, resume=True)
    assert again.valid == summary.valid


def test_an_assistant_that_is_taken_over_settles_with_the_new_model(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("reasoner.n_factors=1")
    train_run(config, data, tmp_path / "whole")
    monkeypatch.setattr("flr.training.assisting.train_assistant", lambda *_, **__: pytest.fail("trained again"))
    train_run(config, data, tmp_path / "taken", assistant_from=run)
    check_same(tmp_path / "taken", tmp_path / "whole")


def test_where_a_run_settled_on_no_assistant_one_is_trained(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flr.training.assisting.settle", lambda *_, **__: Say((0.0, 0.0)))
    train_run(config_of(), data, tmp_path / "without", weights_from=run)
    monkeypatch.undo()
    assert Recommender.load(tmp_path / "without").model.assistant is None
    config = config_of("reasoner.n_factors=1")
    train_run(config, data, tmp_path / "whole")
    train_run(config, data, tmp_path / "taken", assistant_from=tmp_path / "without")
    check_same(tmp_path / "taken", tmp_path / "whole")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=1", "seed = 1, but .* was trained with 0; weights are taken over, so leave it out"),
        ("reasoner.n_factors=1", "reasoner.n_factors = 1, but .* was trained with"),
        ("training.learning_rate=0.5", "training.learning_rate = 0.5, but"),
    ],
)
def test_weights_of_other_settings_are_refused(override: str, said: str, run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        train_run(config_of(override), data, tmp_path / "new", weights_from=run)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("override", ["seed=1", "assistant.width=16", "evaluation.seen_items=exclude", "text.window=3"])
def test_an_assistant_of_other_settings_is_refused(override: str, run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{override.split('=', maxsplit=1)[0]} = .*the assistant is taken over"):
        train_run(config_of(override, "training.max_steps=1"), data, tmp_path / "new", assistant_from=run)
    assert not (tmp_path / "new").exists()


def test_only_finished_runs_of_stage_one_on_the_same_data_are_taken_from(run: Path, data: Path, tmp_path: Path) -> None:
    interactions = pattern_world(n_items=17, n_users=100, length=8, order=2, seed=1).interactions
    save_prepared(prepare(interactions, PrepareConfig()), tmp_path / "other")
    with pytest.raises(ArtifactError, match="the data has hash"):
        train_run(config_of(), tmp_path / "other", tmp_path / "new", weights_from=run)
    align_run(config_of("grpo.max_steps=2", "grpo.eval_steps=2"), run, tmp_path / "two")
    with pytest.raises(ArtifactError, match="is of stage two, expected a run of stage one"):
        train_run(config_of(), data, tmp_path / "new", weights_from=tmp_path / "two")
    with pytest.raises(ArtifactError, match="run"):
        train_run(config_of(), data, tmp_path / "new", weights_from=tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()


def test_a_run_that_does_not_tell_its_learnt_trust_is_refused(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_json(run / "run.json", "run")
    older = {name: value for name, value in facts.items() if name != "learnt_trust"}
    write_json(run / "run.json", older)
    try:
        with pytest.raises(ArtifactError, match="does not tell what its trust was"):
            train_run(config_of(), data, tmp_path / "new", weights_from=run)
    finally:
        write_json(run / "run.json", facts)


def test_two_processes_take_over_what_one_does(run: Path, data: Path, tmp_path: Path) -> None:
    train_in_two_processes("--weights-from", run, "--output", tmp_path / "two", "--set", "assistant.width=16")
    one = train_run(config_of("assistant.width=16"), data, tmp_path / "one", weights_from=run)
    check_same_weights(tmp_path / "one", tmp_path / "two")
    valid = read_json(tmp_path / "two" / "metrics.json", "metrics")["valid"]
    assert valid == pytest.approx(one.valid, abs=1e-9)  # sums of two shares
