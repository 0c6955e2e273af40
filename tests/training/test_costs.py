"""Formulas of cost, held against torch's own counts on real batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flr.backbone.loading import architecture, backbone_from_config, compact_backbone
from flr.backbone.streams import Backbone
from flr.building import build_reasoner
from flr.compiled import CompiledCatalogue, compile_catalogue
from flr.config import Config
from flr.model import FLRModel
from flr.records import PackedBatch
from flr.sequential.assistant import build_assistant
from flr.sequential.windows import TrainingWindows
from flr.training.costs import (
    BatchSize,
    Shape,
    assistant_operations,
    choice_bytes,
    forward_operations,
    kept_bytes,
)
from flr.training.estimate import _stage_one
from flr.training.trainer import PackedRows
from toy import INSTRUCTION, SHAPE, small_config, toy_catalogue, toy_sequences, toy_tokenizer

#: Wider than the toys of other tests, so that what the formulas leave out is small.
WIDE = ("backbone.width=96", "backbone.n_layers=3", "backbone.n_heads=4", "backbone.feed_forward=160")
KINDS = pytest.mark.parametrize("kind", ["compact", "qwen2"])
LIKELIHOODS = pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])


def world(kind: str, *overrides: str) -> tuple[FLRModel, CompiledCatalogue, PackedBatch, Config]:
    """Return a model of either kind, and a batch."""
    config, catalogue = small_config(*WIDE, *overrides), toy_catalogue()
    tokenizer = toy_tokenizer(catalogue, config)
    compiled = compile_catalogue(catalogue, tokenizer, likelihood=config.objective.likelihood, max_title_tokens=48)
    backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    if kind == "qwen2":
        wide = {"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 4, "num_key_value_heads": 2}
        backbone = backbone_from_config({"model_type": "qwen2", **SHAPE, **wide}, tied=False)
        torch.nn.init.normal_(backbone.output_weight, std=0.1)
    model = FLRModel(backbone, build_reasoner(config.reasoner, backbone))
    rows = PackedRows(
        toy_sequences([9] * 20),
        compiled.packer(model.n_thoughts),
        window=config.text.window,
        row_tokens=None,
        batch_tokens=600,
        seed=0,
    )
    batch = PackedBatch.of(rows.collate([rows[place] for place in range(rows.rows_per_batch)]))
    return model, compiled, batch, config


def sizes(backbone: Backbone, batch: PackedBatch, compiled: CompiledCatalogue) -> tuple[Shape, BatchSize]:
    number_bytes = backbone.embedding.weight.element_size()
    return Shape.of(architecture(backbone), number_bytes), BatchSize.of(batch, compiled.table)


def counted(model: FLRModel, batch: PackedBatch, compiled: CompiledCatalogue) -> tuple[int, int]:
    """Return the operations that torch counts forward and backward; only the plain kernel of attention is counted."""
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = model(batch, compiled.table)["recommendation"]
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@KINDS
@LIKELIHOODS
@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("reasoner.kind=none",),
        ("reasoner.n_factors=1", "reasoner.n_steps=1", *INSTRUCTION),
        ("reasoner.share=factors", "reasoner.thought_positions=all", "reasoner.n_steps=3"),
        ("reasoner.share=key_value", "reasoner.full_width_factors=true", "reasoner.gate=uniform"),
        ("reasoner.titles_see=thought",),
    ],
    ids=["default", "none", "instruction", "all-positions", "full-width", "bottleneck"],
)
def test_operations_are_those_that_torch_counts(kind: str, likelihood: str, settings: tuple[str, ...]) -> None:
    model, compiled, batch, config = world(kind, f"objective.likelihood={likelihood}", *settings)
    shape, size = sizes(model.backbone, batch, compiled)
    work = forward_operations(shape, size, config.reasoner, likelihood=likelihood)
    forward, backward = counted(model, batch, compiled)
    expected_forward, expected_backward, attention = _stage_one(config, work)
    assert expected_forward == pytest.approx(forward, rel=0.03)
    assert expected_backward == pytest.approx(backward, rel=0.05)
    assert 0 < attention < expected_forward + expected_backward


@LIKELIHOODS
def test_a_frozen_backbone_only_passes_gradients_on(likelihood: str) -> None:
    model, compiled, batch, config = world("qwen2", f"objective.likelihood={likelihood}")
    model.backbone.requires_grad_(False)
    frozen = config.model_copy(update={"backbone": config.backbone.model_copy(update={"train": "frozen"})})
    shape, size = sizes(model.backbone, batch, compiled)
    work = forward_operations(shape, size, config.reasoner, likelihood=likelihood)
    assert _stage_one(frozen, work)[1] == pytest.approx(counted(model, batch, compiled)[1], rel=0.15)


def kept(action: object, apart: set[int]) -> tuple[int, set[int]]:
    """Return the bytes of the distinct tensors that an action keeps for its backward pass, and their places."""
    found: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        action()  # type: ignore[operator]
    return sum(n for place, (n, _) in found.items() if place not in apart), set(found)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_layers_keep_is_what_torch_keeps(kind: str, dtype: torch.dtype) -> None:
    model, compiled, batch, _ = world(kind, "reasoner.kind=none", "objective.likelihood=vocabulary")
    model.backbone.to(dtype).train()
    shape, size = sizes(model.backbone, batch, compiled)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def read() -> None:
        streams = model.encode(batch)
        embeddings = model.backbone.embed(batch.branch_ids)
        alive.append((streams, embeddings, model._branches(batch, streams, embeddings)))

    alive: list[object] = []
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        n_bytes, _ = kept(read, weights)
    assert kept_bytes(shape, size) == pytest.approx(n_bytes, rel=0.1)


def test_logits_over_the_vocabulary_are_what_is_large() -> None:
    model, compiled, batch, _ = world("compact", "objective.likelihood=vocabulary")
    shape, size = sizes(model.backbone, batch, compiled)
    n = len(batch.score_nodes)
    assert choice_bytes(shape, size, likelihood="vocabulary") == n * shape.vocabulary * 12
    assert choice_bytes(shape, size, likelihood="catalogue") < n * shape.vocabulary * 12


def test_sizes_are_those_of_the_batch() -> None:
    model, compiled, batch, _ = world("compact")
    _, size = sizes(model.backbone, batch, compiled)
    assert (size.rows, size.stream) == tuple(batch.stream_ids.shape)
    assert size.targets == float(batch.target_mask.sum())
    assert size.stream_tokens <= size.rows * size.stream
    assert size.branch_tokens <= size.rows * size.branch
    twice = BatchSize.mean([size, size])
    assert twice == size


def test_heads_may_be_wider_than_their_share() -> None:
    shape = Shape.of({"model_type": "qwen3", **SHAPE, "head_dim": 16}, 2)
    assert (shape.heads_width, shape.key_width) == (64, 32)


@pytest.mark.parametrize("network", ["sasrec", "gru4rec"])
def test_an_assistants_operations_are_those_that_torch_counts(network: str) -> None:
    config = small_config("assistant.max_epochs=3", f"assistant.networks=[{network}]", "assistant.width=32").assistant
    windows = TrainingWindows(toy_sequences([9] * 40), 31, window=6)
    assistant = build_assistant(config, windows.n_items, window=6)
    assert assistant is not None
    (trained,) = assistant.networks
    trained.requires_grad_(requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for batch in windows.epoch(np.random.default_rng(0), config.batch_targets):
            asked = batch.targets >= 0
            logits = trained.logits(trained.train()(batch.items)[asked])
            functional.cross_entropy(logits, batch.targets[asked]).backward()
    assert assistant_operations(config, windows) == pytest.approx(3 * counter.get_total_flops(), rel=0.05)


def test_an_assistant_that_is_solved_for_takes_its_inversion() -> None:
    config = small_config("assistant.networks=[ease]").assistant
    assert assistant_operations(config, TrainingWindows(toy_sequences([9] * 40), 31, window=6)) == 2 * 31**3
