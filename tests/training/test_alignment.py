"""Stage two end to end: never below stage one, the same however batches are cut, resumed to the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_run import InterruptedAt

from flr.config import Config, load_config
from flr.errors import ArtifactError, ConfigError, FlrError
from flr.recommender import Recommender
from flr.training.alignment import align_run
from flr.training.finished import evaluate_run
from flr.training.run import train_run
from processes import train_in_two_processes
from toy import TINY, UNSET, prepared_ring, save_pretrained

STAGE_ONE = [*TINY, "training.max_steps=30", "training.eval_steps=15"]
STAGE_TWO = ["grpo.max_steps=4", "grpo.eval_steps=2", "grpo.batch_tokens=400", "grpo.group_size=4", "grpo.sigma=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


@pytest.fixture(scope="module")
def stage_one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "stage-one"
    train_run(load_config(None, STAGE_ONE), data, run)
    return run


@pytest.fixture(scope="module")
def barely_trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that almost anything improves on."""
    run = tmp_path_factory.mktemp("runs") / "barely"
    train_run(load_config(None, [*TINY, "training.max_steps=4", "training.eval_steps=4"]), data, run)
    return run


def settings(*overrides: str) -> list[str]:
    return [*STAGE_ONE, *STAGE_TWO, *overrides]


def config(*overrides: str) -> Config:
    return load_config(None, settings(*overrides))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["grpo.reward=ndcg@10 + 0.1 * likelihood", "grpo.targets_per_row=5"], id="ranking"),
        pytest.param(["grpo.update=token", "grpo.advantage=batch", "grpo.updates_per_rollout=2"], id="token"),
        pytest.param(["grpo.train=lora"], id="lora"),
        pytest.param(["training.mixed_precision=bf16"], id="bfloat16"),
    ],
)
def test_every_kind_trains_and_says_which_stage_won(overrides: list[str], stage_one: Path, tmp_path: Path) -> None:
    before = (stage_one / "model" / "model.safetensors").read_bytes()
    summary = align_run(config(*overrides), stage_one, tmp_path / "run")
    assert (stage_one / "model" / "model.safetensors").read_bytes() == before
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["stage"], facts["status"], facts["from"]) == ("grpo", "finished", str(stage_one))
    assert facts["winner"] == summary.winner == ("grpo" if summary.best_step else "sft")
    assert summary.stage_one is not None
    assert summary.valid["ndcg@10"] >= summary.stage_one["ndcg@10"]
    assert f"stage {'two' if summary.best_step else 'one'} wins" in str(summary)
    report = evaluate_run(tmp_path / "run", split="valid")
    assert report.metrics["ndcg@10"] == pytest.approx(
        summary.valid["ndcg@10"], abs=2e-2 if "bf16" in overrides[0] else 1e-4
    )
    recorded = next(line for line in lines(tmp_path / "run") if "reward" in line)
    assert {"reward_noiseless", "reward_noised", "reward_spread", "zero_advantage", "kl"} <= set(recorded)
    assert {"clip_share", "thought_norm", "effective_rank"} <= set(recorded)


@pytest.mark.parametrize("rate", [5e-4, 5e-3, 1.0, 1e9])
def test_no_learning_rate_ends_below_stage_one(rate: float, stage_one: Path, tmp_path: Path) -> None:
    steep = config(f"grpo.learning_rate={rate}", "grpo.warmup_steps=0", "grpo.max_steps=8", "grpo.patience=9")
    summary = align_run(steep, stage_one, tmp_path / "run")
    assert summary.stage_one is not None
    assert summary.valid["ndcg@10"] >= summary.stage_one["ndcg@10"]
    report = evaluate_run(tmp_path / "run", split="valid")
    assert report.metrics["ndcg@10"] == pytest.approx(summary.valid["ndcg@10"], abs=1e-6)
    worst = min(line["eval_ndcg@10"] for line in lines(tmp_path / "run") if "eval_ndcg@10" in line)
    if rate >= 1:
        assert worst < summary.stage_one["ndcg@10"]
        assert summary.winner == "sft"
        kept, started = weights(tmp_path / "run"), weights(stage_one)
        assert all(torch.equal(kept[name], started[name]) for name in started)


def test_what_lora_learnt_beside_bfloat16_is_loaded_as_it_was_saved(data: Path, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", "qwen2", tied=True)
    held = [f"backbone.source={tmp_path / 'model'}", "backbone.dtype=bfloat16"]
    train_run(load_config(None, [*TINY, *held, "training.max_steps=2"]), data, tmp_path / "sft")
    adapted = config(*held, "training.max_steps=2", "training.eval_steps=15", "grpo.train=lora")
    align_run(adapted, tmp_path / "sft", tmp_path / "grpo")
    for run, folded in ((tmp_path / "sft", torch.bfloat16), (tmp_path / "grpo", torch.float32)):
        saved = weights(run)
        loaded = Recommender.load(run, device="cpu").model.backbone.state_dict()
        assert {tensor.dtype for tensor in loaded.values()} == {folded}
        assert all(torch.equal(tensor.float(), saved[f"backbone.{name}"].float()) for name, tensor in loaded.items())


def test_a_step_that_leaves_no_probabilities_is_taken_back_before_the_next_validation(
    stage_one: Path, tmp_path: Path
) -> None:
    steep = ["grpo.learning_rate=1e10", "grpo.warmup_steps=0", "grpo.max_steps=6", "grpo.eval_steps=6"]
    summary = align_run(config(*steep), stage_one, tmp_path / "run")
    assert summary.n_steps == 6
    assert summary.stage_one is not None
    assert summary.valid["ndcg@10"] >= summary.stage_one["ndcg@10"]


def test_an_interrupted_run_resumes_to_the_same_weights(stage_one: Path, tmp_path: Path) -> None:
    chosen = config("grpo.updates_per_rollout=2", "grpo.max_steps=6", "grpo.learning_rate=1e-3")
    whole = align_run(chosen, stage_one, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        align_run(chosen, stage_one, tmp_path / "cut", progress=InterruptedAt(5))
    resumed = align_run(chosen, stage_one, tmp_path / "cut", resume=True)
    assert (resumed.best_step, resumed.n_steps, resumed.valid) == (whole.best_step, whole.n_steps, whole.valid)
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "cut").items())
    again = align_run(chosen, stage_one, tmp_path / "cut", resume=True)
    assert (again.winner, again.stage_one) == (resumed.winner, resumed.stage_one)


@pytest.mark.parametrize(("advantage", "update"), [("group", "latent"), ("batch", "token")])
def test_accumulation_and_processes_do_not_move_the_weights(
    advantage: str, update: str, barely_trained: Path, tmp_path: Path
) -> None:
    # Eight rows per step, cut as one batch of eight, as eight of one, and as two processes with four of one.
    stage_one = barely_trained
    row = ["training.row_tokens=80", f"grpo.advantage={advantage}", f"grpo.update={update}", "grpo.learning_rate=0.02"]
    row += ["grpo.max_steps=4", "grpo.sigma=4", "grpo.warmup_steps=0"]
    cuts = {
        "whole": [*row, "grpo.batch_tokens=640"],
        "accumulated": [*row, "grpo.batch_tokens=80", "grpo.gradient_accumulation_steps=8"],
        "processes": [*row, "grpo.batch_tokens=80", "grpo.gradient_accumulation_steps=4"],
    }
    for name in ("whole", "accumulated"):
        align_run(config(*cuts[name]), stage_one, tmp_path / name)
    overrides = [part for value in settings(*cuts["processes"]) for part in ("--set", value)]
    train_in_two_processes("--stage", "grpo", "--from", stage_one, "--output", tmp_path / "processes", *overrides)
    whole, started = weights(tmp_path / "whole"), weights(stage_one)
    moved = [name for name in whole if not torch.equal(whole[name], started[name])]
    assert moved, "the guard kept stage one, so this compares nothing"
    assert all(name.startswith("reasoner.") for name in moved)
    for name in ("accumulated", "processes"):
        for key, tensor in weights(tmp_path / name).items():
            torch.testing.assert_close(tensor, whole[key], rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def test_two_processes_align_a_model_with_a_memory(data: Path, tmp_path: Path) -> None:
    chosen = settings(*UNSET, "training.max_steps=2", "training.eval_steps=2", "grpo.batch_tokens=80")
    train_run(load_config(None, chosen), data, tmp_path / "one")
    overrides = [part for value in chosen for part in ("--set", value)]
    train_in_two_processes("--stage", "grpo", "--from", tmp_path / "one", "--output", tmp_path / "two", *overrides)
    facts = json.loads((tmp_path / "two" / "run.json").read_text())
    reasoner = sum(tensor.numel() for name, tensor in weights(tmp_path / "two").items() if name.startswith("reasoner."))
    assert (facts["status"], facts["n_trained_parameters"]) == ("finished", reasoner)


@pytest.mark.parametrize("other", ["training.mixed_precision=bf16", "reasoner.shuffle_factors=true"])
def test_thoughts_are_tried_out_by_the_policy_that_is_updated(other: str, data: Path, tmp_path: Path) -> None:
    chosen = config(other, "training.max_steps=4", "training.eval_steps=4", "grpo.max_steps=1", "grpo.eval_steps=1")
    train_run(chosen, data, tmp_path / "one")
    align_run(chosen, tmp_path / "one", tmp_path / "two")
    (first,) = (line for line in lines(tmp_path / "two") if "kl" in line)
    assert (first["kl"], first["clip_share"]) == (pytest.approx(0, abs=1e-6), 0), "at the first step the ratio is 1"


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["reasoner.n_steps=3"], ConfigError, r"reasoner.n_steps = 3, but .* was trained with 2"),
        (["grpo.reward=clicks"], ConfigError, "unknown reward 'clicks'"),
        (["evaluation.cutoffs=[5]"], ConfigError, r"\(5,\) must hold 10"),
    ],
)
def test_what_cannot_be_aligned_is_said(
    overrides: list[str], error: type[FlrError], said: str, stage_one: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        align_run(config(*overrides), stage_one, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_stage_one_is_never_overwritten_by_stage_two(stage_one: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="stage two needs a folder of its own"):
        align_run(config(), stage_one, stage_one, overwrite=True)
    with pytest.raises(ArtifactError, match=r"there is no run .*nowhere"):
        align_run(config(), tmp_path / "nowhere", tmp_path / "run")


def test_a_run_is_resumed_from_its_own_stage_one_only(stage_one: Path, barely_trained: Path, tmp_path: Path) -> None:
    align_run(config("grpo.max_steps=2"), stage_one, tmp_path / "run")
    with pytest.raises(ArtifactError, match=f"was started from '{stage_one}', whose weights are not those"):
        align_run(config("grpo.max_steps=2"), barely_trained, tmp_path / "run", resume=True)
    with pytest.raises(ArtifactError, match="was started as stage 'sft'"):
        align_run(load_config(None, STAGE_ONE), barely_trained, stage_one, resume=True)
