"""What a run will cost before it is started: tokens, operations, memory, disk and hours; no weights are loaded.

1. Tokens are counted on real batches of the first epoch, padding included, as training would pack them.
2. Operations and kept activations follow from the shapes of these batches; see `flr.training.costs`.
3. Weights are counted on the real modules, built on a device that stores nothing.
4. Operations of the assistant are those of all epochs that it may take, so more than it will.
5. Hours are operations over what a device does: its dense peak times the share of it that is put to use.

Not counted: validation, ranking by rewards, reading of data, a second copy of
gradients that several processes keep, the device's own context (about 1 GB on a GPU) and what its allocator wastes.
Activations under autocast over float32 weights count as float32, an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flr.backbone.loading import (
    add_lora,
    backbone_from_config,
    cast_weights,
    compact_architecture,
    pretrained_architecture,
    weights_dtype,
)
from flr.building import build_reasoner, title_tokenizer
from flr.catalogue.titles import build_catalogue
from flr.compiled import compile_catalogue
from flr.config import Config, PolicyConfig, TrainingConfig
from flr.errors import ArtifactError, ConfigError, FetchError
from flr.model import FLRModel
from flr.records import Catalogue, PackedBatch, PreparedData
from flr.sequential.windows import TrainingWindows
from flr.text.tokenizer import TitleTokenizer
from flr.training.costs import (
    BatchSize,
    Operations,
    Shape,
    assistant_operations,
    cache_bytes,
    choice_bytes,
    forward_operations,
    kept_bytes,
    reasoner_bytes,
)
from flr.training.rollouts import PolicyRows
from flr.training.trainer import PackedRows

#: Batches that are looked at.
_N_BATCHES = 24


@dataclass(frozen=True)
class Weights:
    """Numbers and bytes of a model's weights."""

    n_parameters: int
    n_trained: int
    all_bytes: int
    trained_bytes: int
    cast_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a stage of a run takes on one device. Tokens include no padding, operations do.

    Attributes:
        stage: ``"sft"`` or ``"grpo"``.
        tokenizer: Whose tokens were counted.
        n_parameters, n_trained_parameters: Weights.
        n_steps: Optimiser steps, at most.
        targets_per_epoch, steps_per_epoch: An epoch asks about every training target once.
        targets_per_step, stream_tokens_per_step, branch_tokens_per_step: Of an optimiser step.
        targets, stream_tokens, branch_tokens: Of all steps.
        forward_flops, backward_flops, attention_flops: Of an optimiser step; attention is part of the other two.
        total_flops: Of all steps.
        assistant_flops: Of training the assistant of stage one, at most; 0 where it has none.
        weight_bytes, gradient_bytes, optimizer_bytes, cast_bytes: Held throughout; casts are autocast's copies.
        activation_bytes: Most that a batch holds at a time.
        cache_bytes: Encoded histories, part of that.
        peak_bytes: Sum of all these.
        disk_bytes: Two checkpoints and the saved model.
        hours: Of all steps and the assistant; None where the device's speed is not known.
    """

    stage: str
    tokenizer: str
    n_parameters: int
    n_trained_parameters: int
    n_steps: int
    targets_per_epoch: int
    steps_per_epoch: float
    targets_per_step: float
    stream_tokens_per_step: float
    branch_tokens_per_step: float
    targets: float
    stream_tokens: float
    branch_tokens: float
    forward_flops: float
    backward_flops: float
    attention_flops: float
    total_flops: float
    assistant_flops: float
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    cast_bytes: int
    activation_bytes: float
    cache_bytes: float
    peak_bytes: float
    disk_bytes: int
    hours: float | None


def estimate_run(
    config: Config, prepared: PreparedData, stage: str = "sft", *, device_tflops: float | None, utilisation: float
) -> Estimate:
    """Return what a stage takes on one device.

    Args:
        config: Resolved settings.
        prepared: The data.
        stage: ``"sft"`` or ``"grpo"``.
        device_tflops: Dense peak of the device in the run's type of numbers, 10^12 operations a second; None leaves
            the hours out.
        utilisation: Share of that peak that training reaches, in (0, 1].

    Raises:
        ConfigError: Stage two of a model without a thought, or a speed or share out of range.
        ArtifactError, FetchError: The source's config.json is neither there nor reachable.
        DataError: No user has a training target.
    """
    _check(config, stage, device_tflops, utilisation)
    catalogue = build_catalogue(prepared.items)
    tokenizer, whose = _tokenizer(config, catalogue)
    settings, tied = _architecture(config, tokenizer)
    of_stage: TrainingConfig | PolicyConfig = config.training if stage == "sft" else config.grpo
    number_bytes = 2 if config.backbone.dtype == "bfloat16" else 4
    shape = Shape.of(settings, number_bytes)
    size, rows_per_epoch, rows_per_batch, n_targets = _measure(config, prepared, catalogue, tokenizer, stage)
    weights = count_weights(outline(config, settings, tied=tied, stage=stage), config)
    work = forward_operations(shape, size, config.reasoner, likelihood=config.objective.likelihood)
    forward, backward, attention = _stage_one(config, work) if stage == "sft" else _stage_two(config, work)
    n_batches = of_stage.gradient_accumulation_steps
    total = (forward + backward) * n_batches * of_stage.max_steps
    assistant = _of_assistant(config, prepared, catalogue) if stage == "sft" else 0.0
    held, cached = _activations(config, shape, size, stage)
    per_step = {"targets": size.targets, "stream_tokens": size.stream_tokens, "branch_tokens": size.branch_tokens}
    fixed = weights.all_bytes + 3 * weights.trained_bytes + weights.cast_bytes
    return Estimate(
        stage=stage,
        tokenizer=whose,
        n_parameters=weights.n_parameters,
        n_trained_parameters=weights.n_trained,
        n_steps=of_stage.max_steps,
        targets_per_epoch=n_targets,
        steps_per_epoch=rows_per_epoch / rows_per_batch / n_batches,
        **{f"{name}_per_step": n * n_batches for name, n in per_step.items()},
        **{name: n * n_batches * of_stage.max_steps for name, n in per_step.items()},
        forward_flops=forward * n_batches,
        backward_flops=backward * n_batches,
        attention_flops=attention * n_batches,
        total_flops=total,
        assistant_flops=assistant,
        weight_bytes=weights.all_bytes,
        gradient_bytes=weights.trained_bytes,
        optimizer_bytes=2 * weights.trained_bytes,
        cast_bytes=weights.cast_bytes,
        activation_bytes=held,
        cache_bytes=cached,
        peak_bytes=fixed + held,
        disk_bytes=2 * (weights.all_bytes + 2 * weights.trained_bytes) + weights.saved_bytes,
        hours=None if device_tflops is None else (total + assistant) / (device_tflops * 1e12 * utilisation) / 3600,
    )


def _check(config: Config, stage: str, device_tflops: float | None, utilisation: float) -> None:
    if stage == "grpo" and config.reasoner.kind == "none":
        raise ConfigError("reasoner.kind = 'none' has no thought to optimise, so there is no stage two to estimate")
    if not 0 < utilisation <= 1:
        raise ConfigError(f"the utilisation {utilisation:g} is no share of a peak; give a number above 0, at most 1")
    if device_tflops is not None and device_tflops <= 0:
        raise ConfigError(f"{device_tflops:g} TFLOPS is no speed; give the device's dense peak, 312 for an A100")


def _tokenizer(config: Config, catalogue: Catalogue) -> tuple[TitleTokenizer, str]:
    try:
        return title_tokenizer(config, catalogue), config.backbone.source
    except (ArtifactError, FetchError, ConfigError):
        return title_tokenizer(config, catalogue, "compact"), "compact, as the source has none at hand"


def _architecture(config: Config, tokenizer: TitleTokenizer) -> tuple[dict[str, Any], bool]:
    """Return the backbone's architecture, and whether its output weights are the input embeddings."""
    if config.backbone.source == "compact":
        return compact_architecture(config.backbone, tokenizer.vocabulary_size), True
    return pretrained_architecture(config.backbone)


def n_weights(config: Config, catalogue: Catalogue) -> int:
    """Return how many weights a model of these settings has on a catalogue; none of them is made or loaded."""
    settings, tied = _architecture(config, _tokenizer(config, catalogue)[0])
    return count_weights(outline(config, settings, tied=tied, stage="sft"), config).n_parameters


def _measure(
    config: Config, prepared: PreparedData, catalogue: Catalogue, tokenizer: TitleTokenizer, stage: str
) -> tuple[BatchSize, int, int, int]:
    """Return the mean sizes of batches, rows in an epoch and in a batch, and targets in an epoch."""
    compiled = compile_catalogue(
        catalogue,
        tokenizer,
        likelihood=config.objective.likelihood,
        max_title_tokens=config.text.max_title_tokens,
    )
    kind = PackedRows if stage == "sft" else PolicyRows
    once = config.model_copy(update={"grpo": config.grpo.model_copy(update={"updates_per_rollout": 1})})
    rows = kind.of(once, prepared.sequences, compiled.packer(config.reasoner.n_thoughts))
    n_rows, n_targets = rows.epoch_size()
    n, sizes = rows.rows_per_batch, []
    for number in range(min(_N_BATCHES, max(1, n_rows // n))):
        tensors = rows.collate([rows[place] for place in range(number * n, (number + 1) * n)])
        batch = PackedBatch.of(tensors)
        sizes.append(BatchSize.of(batch, compiled.table))
    return BatchSize.mean(sizes), n_rows, n, n_targets


def outline(config: Config, settings: dict[str, Any], *, tied: bool, stage: str) -> nn.Module:
    """Return the model that a stage trains, on a device that stores nothing.

    Args:
        config: Resolved settings.
        settings: The backbone's architecture.
        tied: Whether its output weights are the input embeddings.
        stage: ``"sft"`` or ``"grpo"``; the latter trains the reasoner, or LoRA along, and keeps a copy of the former.
    """
    is_merged = stage == "grpo" and config.backbone.train == "lora"  # LoRA matrices were folded into float32
    with torch.device("meta"):
        backbone = backbone_from_config(settings, tied=tied)
        cast_weights(backbone, torch.float32 if is_merged else weights_dtype(config.backbone))
        reasoner = build_reasoner(config.reasoner, backbone, embedding_rms=1.0)
        model = FLRModel(backbone, reasoner)
        train = _trains(config, stage)
        if train == "frozen":
            backbone.requires_grad_(False)
        elif train == "lora":
            add_lora(backbone, config.backbone)
        if stage == "sft":
            return model
        copy = build_reasoner(config.reasoner, backbone, embedding_rms=1.0)
        assert copy is not None
        return nn.ModuleList([model, copy.requires_grad_(False)])


def _trains(config: Config, stage: str) -> str:
    """Return what a stage trains of the backbone: full, lora or frozen."""
    if stage == "sft":
        return config.backbone.train
    return "lora" if config.grpo.train == "lora" else "frozen"


def count_weights(module: nn.Module, config: Config) -> Weights:
    """Return numbers and bytes of a module's weights; LoRA matrices are saved within what they change, in float32."""
    parameters = list(module.parameters())
    others = [p for name, p in module.named_parameters() if ".lora_" not in name]
    is_folded = len(others) < len(parameters)
    trained = [p for p in parameters if p.requires_grad]
    casts = config.training.mixed_precision == "bf16"
    linear = {id(m.weight): m.weight for m in module.modules() if isinstance(m, nn.Linear)}
    return Weights(
        n_parameters=sum(p.numel() for p in parameters),
        n_trained=sum(p.numel() for p in trained),
        all_bytes=sum(p.numel() * p.element_size() for p in parameters),
        trained_bytes=sum(p.numel() * p.element_size() for p in trained),
        cast_bytes=sum(2 * w.numel() for w in linear.values() if casts and w.dtype == torch.float32),
        saved_bytes=sum(p.numel() * (4 if is_folded else p.element_size()) for p in others),
    )


def _stage_one(config: Config, work: Operations) -> tuple[float, float, float]:
    """Return forward, backward and attention operations of one batch."""
    attention = work.stream_attention + work.branch_attention
    forward = work.encoding + work.writing + work.reasoner
    train = config.backbone.train
    if train == "full":
        return forward, 2 * forward, 3 * attention
    through = work.branch + work.choices + 2 * work.branch_attention + 2 * work.reasoner
    if train == "frozen":
        return forward, through, attention + 2 * work.branch_attention
    return forward, through + work.stream + 2 * work.stream_attention, 3 * attention


def _stage_two(config: Config, work: Operations) -> tuple[float, float, float]:
    """Return forward, backward and attention operations of one batch, rollout and update."""
    settings, group = config.grpo, config.grpo.group_size
    adapts, by_token = settings.train == "lora", settings.update == "token"
    n_writings = group * (2 if by_token and settings.beta > 0 else 1)
    rollouts = 1 / settings.updates_per_rollout
    n_encodings = rollouts * (2 if adapts else 1) + (1 if adapts else 0)
    n_written = rollouts * n_writings + (group if by_token else 0)
    forward = n_encodings * work.encoding + n_written * work.writing + (1 + 2 * rollouts) * work.reasoner
    backward = 2 * work.reasoner
    attention = n_encodings * work.stream_attention + n_written * work.branch_attention
    if by_token:
        backward += group * (work.branch + 2 * work.branch_attention + work.choices)
        attention += 2 * group * work.branch_attention
    if adapts:
        backward += work.stream + 2 * work.stream_attention
        attention += 2 * work.stream_attention
    return forward, backward, attention


def _of_assistant(config: Config, prepared: PreparedData, catalogue: Catalogue) -> float:
    """Return the operations of training the assistant, 0 where a model has none."""
    if not config.reasoner.has_memory or not config.assistant.networks:
        return 0.0
    return assistant_operations(
        config.assistant, TrainingWindows(prepared.sequences, catalogue.n_items, config.text.window)
    )


def _activations(config: Config, shape: Shape, size: BatchSize, stage: str) -> tuple[float, float]:
    """Return the most bytes that batches hold at a time, and those of encoded histories among them."""
    likelihood, thinking = config.objective.likelihood, reasoner_bytes(shape, size, config.reasoner)
    cached, choices = cache_bytes(shape, size), choice_bytes(shape, size, likelihood=likelihood)
    if stage == "sft":
        kept = kept_bytes(shape, size, stream=config.backbone.train != "frozen")
        # Input and output embeddings each get a gradient of full size before the two are added up.
        passing = 2 * shape.vocabulary * shape.width * shape.number_bytes if config.backbone.train == "full" else 0
        return kept + cached + choices + thinking + passing, cached
    settings = config.grpo
    cached *= settings.gradient_accumulation_steps
    writing = kept_bytes(shape, size, stream=False) + choices
    held = cached + thinking + (settings.group_size * writing if settings.update == "token" else choices)
    if settings.train == "lora":
        held += kept_bytes(shape, size) - kept_bytes(shape, size, stream=False)
    return held, cached
