"""What a run is said to cost is what it takes: weights exactly, tokens exactly, disk and memory nearly."""

from __future__ import annotations

from pathlib import Path

import pytest

from flr.config import Config, load_config
from flr.data.storage import load_prepared
from flr.errors import ConfigError, FetchError
from flr.records import TRAIN, PreparedData
from flr.training.alignment import align_run
from flr.training.estimate import Estimate, estimate_run
from flr.training.run import train_run
from toy import INSTRUCTION, TINY, prepared_ring, save_pretrained

PAPER = Path(__file__).parents[2] / "configs" / "paper"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


def tiny(*overrides: str) -> Config:
    brief = ["training.max_steps=4", "training.eval_steps=4", "training.warmup_steps=1", "grpo.max_steps=2"]
    return load_config(None, [*TINY, *brief, "grpo.eval_steps=2", "grpo.batch_tokens=400", *overrides])


def estimated(config: Config, data: Path, stage: str = "sft") -> Estimate:
    return estimate_run(config, load_prepared(data), stage, device_tflops=1e-3, utilisation=0.5)


@pytest.mark.parametrize(
    "overrides", [(), ("reasoner.kind=none",), ("reasoner.n_factors=2", "reasoner.gate=uniform")], ids=str
)
def test_weights_are_counted_exactly(overrides: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    config = tiny(*overrides)
    found, summary = estimated(config, data), train_run(config, data, tmp_path / "run")
    assert found.n_parameters == summary.n_parameters
    assert found.n_trained_parameters == summary.n_trained_parameters
    assert found.gradient_bytes == 4 * summary.n_trained_parameters
    assert found.optimizer_bytes == 2 * found.gradient_bytes
    saved = (tmp_path / "run" / "model" / "model.safetensors").stat().st_size
    assert found.weight_bytes == pytest.approx(saved, rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("train", ["full", "lora", "frozen"])
def test_pretrained_weights_are_counted_without_loading_them(
    tied: bool, train: str, data: Path, tmp_path: Path
) -> None:
    save_pretrained(tmp_path / "model", "qwen2", tied=tied)
    config = tiny(f"backbone.source={tmp_path / 'model'}", f"backbone.train={train}", "backbone.n_layers=2")
    summary = train_run(config, data, tmp_path / "run")
    (tmp_path / "model" / "model.safetensors").unlink()
    found = estimated(config, data)
    lora = summary.n_trained_parameters if train != "lora" else found.n_trained_parameters
    assert (found.n_parameters, found.n_trained_parameters) == (summary.n_parameters, lora)
    assert found.tokenizer == str(tmp_path / "model")


def test_an_epoch_asks_about_every_target(data: Path) -> None:
    found = estimated(tiny(*INSTRUCTION, "training.batch_tokens=1600"), data)
    n_targets = len(load_prepared(data).sequences.targets(TRAIN)[0])
    assert found.targets_per_epoch == n_targets
    assert found.targets_per_step * found.steps_per_epoch == pytest.approx(n_targets, rel=0.15)
    assert found.targets == found.targets_per_step * found.n_steps
    assert found.total_flops == (found.forward_flops + found.backward_flops) * found.n_steps
    assert found.hours == pytest.approx((found.total_flops + found.assistant_flops) / (1e9 * 0.5) / 3600)


def test_the_assistants_epochs_are_among_the_hours(data: Path) -> None:
    networks, memory = "assistant.networks=[sasrec, gru4rec, ease]", "reasoner.memory=transitions"
    alone, advised = estimated(tiny(), data), estimated(tiny(networks, memory), data)
    assert alone.assistant_flops == 0
    assert advised.hours == pytest.approx((advised.total_flops + advised.assistant_flops) / (1e9 * 0.5) / 3600)
    assert advised.assistant_flops > 0
    assert estimated(tiny(networks), data).assistant_flops == 0, "a model without a memory has nothing to be advised on"


def test_accumulation_multiplies_work_but_not_memory(data: Path) -> None:
    once, twice = estimated(tiny(), data), estimated(tiny("training.gradient_accumulation_steps=2"), data)
    assert twice.total_flops == 2 * once.total_flops
    assert twice.targets == 2 * once.targets
    assert twice.peak_bytes == once.peak_bytes


def test_stage_two_trains_the_reasoner(data: Path, tmp_path: Path) -> None:
    config = tiny()
    train_run(config, data, tmp_path / "sft")
    summary = align_run(config, tmp_path / "sft", tmp_path / "grpo")
    found = estimated(config, data, "grpo")
    assert found.n_trained_parameters == summary.n_trained_parameters
    assert found.n_parameters == summary.n_parameters + summary.n_trained_parameters, "and keeps stage one's"
    by_token = estimated(tiny("grpo.update=token"), data, "grpo")
    assert by_token.backward_flops > 10 * found.backward_flops
    assert by_token.peak_bytes > found.peak_bytes


def test_lora_beside_bfloat16_is_saved_and_aligned_in_float32(data: Path, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", "qwen2", tied=True)
    source = f"backbone.source={tmp_path / 'model'}"
    config = tiny(source, "backbone.train=lora", "backbone.dtype=bfloat16", "grpo.train=lora")
    train_run(config, data, tmp_path / "sft")
    align_run(config, tmp_path / "sft", tmp_path / "grpo")
    saved = [(tmp_path / name / "model" / "model.safetensors").stat().st_size for name in ("sft", "grpo")]
    first, second = estimated(config, data), estimated(config, data, "grpo")
    checkpoints = [2 * (found.weight_bytes + found.optimizer_bytes) for found in (first, second)]
    for found, checkpoint, size in zip((first, second), checkpoints, saved, strict=True):
        assert found.disk_bytes - checkpoint == pytest.approx(size, rel=0.3)
        assert found.disk_bytes - checkpoint > 0.95 * size
    assert second.weight_bytes == 4 * second.n_parameters, "stage two holds in float32 what was folded into it"
    assert first.weight_bytes < 4 * first.n_parameters


def test_the_papers_model_is_counted_from_its_config_alone(data: Path) -> None:
    config = load_config(PAPER / "cds-latentr3.yaml", [f"backbone.source={PAPER / 'qwen2.5-1.5b'}"])
    found = estimated(config, data)
    assert found.n_parameters - 1_543_714_304 == 5 * 1536**2 + 4 * 1536 + 1
    assert found.tokenizer.startswith("compact")
    assert found.weight_bytes == 2 * 1_543_714_304 + 4 * (found.n_parameters - 1_543_714_304)


def test_a_model_out_of_reach_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=r"'somebody/else' could not be fetched.*give its folder as backbone\.source"):
        estimated(tiny("backbone.source=somebody/else"), data)


@pytest.mark.parametrize(
    ("stage", "tflops", "utilisation", "message"),
    [
        ("grpo", 1.0, 0.5, "reasoner.kind = 'none' has no thought"),
        ("sft", 1.0, 1.5, "the utilisation 1.5 is no share of a peak"),
        ("sft", -2.0, 0.5, "-2 TFLOPS is no speed"),
    ],
)
def test_what_cannot_be_estimated(stage: str, tflops: float, utilisation: float, message: str, data: Path) -> None:
    prepared: PreparedData = load_prepared(data)
    with pytest.raises(ConfigError, match=message):
        estimate_run(tiny("reasoner.kind=none"), prepared, stage, device_tflops=tflops, utilisation=utilisation)
