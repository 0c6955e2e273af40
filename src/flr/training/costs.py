"""What a batch of training costs, from the shapes of tensors alone: floating-point operations and bytes.

Legend: B rows of L stream and T branch tokens (padding included), P targets a row, S choices; D width, A = heads x head
width, C = key/value heads x head width, F feed-forward width, V vocabulary, N layers; b bytes of a number. A product of
[m, k] and [k, n] counts 2mkn operations; sums, norms and softmaxes are left out, a few per cent in small models.

1. Forward of t tokens: ``2 t N (2DA + 2DC + 3DF)``, which is 2 operations per weight and token.
2. Attention: ``4 N A B L^2`` for streams, ``4 N A B T (L + T)`` for branches: masks save no operation.
3. Choices: ``2 S D V`` under the vocabulary likelihood, ``2 D`` for every child looked at under the catalogue's.
4. Backward: twice the forward where weights are trained; once where gradients only pass through.
5. Kept for the backward pass of a token in a layer: ``10 b D + 4 b F`` in float32, ``24 D + 8 F`` bytes in bfloat16
   (two float32 copies of D for the norms); branches also keep ``2 b A (L + T)`` of repeated keys and values a row.

Source: ours; `tests/training/test_costs.py` holds it against torch's own counts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from transformers import AutoConfig

from flr.backbone.loading import feed_forward_width
from flr.config import AssistantConfig, ReasonerConfig
from flr.records import PackedBatch
from flr.scoring.likelihood import DENSE_NODES, ChildTable
from flr.seeding import generator
from flr.sequential.assistant import sequence_networks
from flr.sequential.networks import FEED_FORWARD
from flr.sequential.windows import TrainingWindows


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes.

    Attributes:
        width, heads_width, key_width, feed_forward, vocabulary, n_layers: D, A, C, F, V and N of the legend.
        number_bytes: Bytes of an activation, 4 or 2.
    """

    width: int
    heads_width: int
    key_width: int
    feed_forward: int
    vocabulary: int
    n_layers: int
    number_bytes: int

    @classmethod
    def of(cls, settings: dict[str, Any], number_bytes: int) -> Shape:
        """Return the sizes of an architecture as transformers writes it down."""
        known = AutoConfig.for_model(**settings)  # which knows the names that each kind of model has for them
        heads = int(known.num_attention_heads)
        head_width = int(getattr(known, "head_dim", None) or known.hidden_size // heads)
        return cls(
            width=int(known.hidden_size),
            heads_width=heads * head_width,
            key_width=int(getattr(known, "num_key_value_heads", None) or heads) * head_width,
            feed_forward=feed_forward_width(known),
            vocabulary=int(known.vocab_size),
            n_layers=int(known.num_hidden_layers),
            number_bytes=number_bytes,
        )


@dataclass(frozen=True)
class BatchSize:
    """Sizes of a packed batch, padding included, or their means over several.

    Attributes:
        rows, stream, branch, targets_per_row: B, L, T and P of the legend.
        stream_tokens, branch_tokens, targets, choices: Real ones; choices are S.
        children: Children looked at under the catalogue likelihood, over all choices.
        gathered: Those of them whose output embeddings are copied for it.
    """

    rows: float
    stream: float
    branch: float
    targets_per_row: float
    stream_tokens: float
    branch_tokens: float
    targets: float
    choices: float
    children: float
    gathered: float

    @classmethod
    def of(cls, batch: PackedBatch, table: ChildTable) -> BatchSize:
        """Return the sizes of a batch."""
        children = gathered = 0
        of_class = table.class_of_node[batch.score_nodes]
        counts = torch.bincount(of_class, minlength=len(table.classes)).tolist()
        for n_choices, part in zip(counts, table.classes, strict=True):
            n_nodes, n_children = part.tokens.shape
            is_dense = n_nodes <= DENSE_NODES
            children += n_choices * n_children * (n_nodes if is_dense else 1)
            gathered += 0 if is_dense else n_choices * n_children
        rows, stream = batch.stream_ids.shape
        return cls(
            rows=float(rows),
            stream=float(stream),
            branch=float(batch.branch_ids.shape[1]),
            targets_per_row=float(batch.target_items.shape[1]),
            stream_tokens=float((batch.stream_segments >= 0).sum()),
            branch_tokens=float((batch.branch_targets >= 0).sum()),
            targets=float(batch.target_mask.sum()),
            choices=float(len(batch.score_nodes)),
            children=float(children),
            gathered=float(gathered),
        )

    @classmethod
    def mean(cls, sizes: list[BatchSize]) -> BatchSize:
        """Return the means of several."""
        return cls(*(sum(getattr(size, part.name) for size in sizes) / len(sizes) for part in fields(cls)))


@dataclass(frozen=True)
class Operations:
    """Operations of one forward pass, by what does them.

    Attributes:
        stream, branch: Products with weights of the layers.
        stream_attention, branch_attention: Products within attention.
        choices: Output embeddings.
        reasoner: All of the reasoner.
    """

    stream: float
    branch: float
    stream_attention: float
    branch_attention: float
    choices: float
    reasoner: float

    @property
    def encoding(self) -> float:
        """Reading the histories."""
        return self.stream + self.stream_attention

    @property
    def writing(self) -> float:
        """Writing the titles after one thought each."""
        return self.branch + self.branch_attention + self.choices


def forward_operations(shape: Shape, size: BatchSize, reasoner: ReasonerConfig, *, likelihood: str) -> Operations:
    """Return the operations of one forward pass over a packed batch (1 to 3 of the legend)."""
    d, a = shape.width, shape.heads_width
    per_token = 2 * shape.n_layers * (2 * d * a + 2 * d * shape.key_width + 3 * d * shape.feed_forward)
    per_pair = 4 * shape.n_layers * a
    seen = size.branch + (0 if reasoner.titles_see == "thought" else size.stream)
    looked_at = size.choices * shape.vocabulary if likelihood == "vocabulary" else size.children
    return Operations(
        stream=per_token * size.rows * size.stream,
        branch=per_token * size.rows * size.branch,
        stream_attention=per_pair * size.rows * size.stream**2,
        branch_attention=per_pair * size.rows * size.branch * seen,
        choices=2 * d * looked_at,
        reasoner=_reasoner_operations(d, size, reasoner),
    )


def _reasoner_operations(d: int, size: BatchSize, config: ReasonerConfig) -> float:
    if config.kind == "none":
        return 0.0
    factor = config.width_of_factors(d)
    inner = config.n_factors * factor
    read = (factor if config.share == "factors" else inner) * (1 if config.share == "key_value" else 2)
    targets = size.rows * size.targets_per_row
    gate = 2 * d * config.n_factors if config.gate == "softmax" else 0
    a_step = targets * (4 * d * inner + gate + 4 * size.stream * inner)
    return 2 * size.rows * size.stream * d * read + config.n_steps * a_step + 2 * targets * config.n_thoughts * d * d


def kept_bytes(shape: Shape, size: BatchSize, *, stream: bool = True) -> float:
    """Return the bytes kept by the layers for the backward pass over a packed batch (5 of the legend).

    Args:
        shape: The decoder's sizes.
        size: The batch's.
        stream: Whether streams are trained through, or branches alone.
    """
    b, d, f = shape.number_bytes, shape.width, shape.feed_forward
    per_token = 10 * b * d + 4 * b * f if b == 4 else 24 * d + 8 * f
    tokens = size.rows * (size.branch + (size.stream if stream else 0))
    repeated = 2 * b * shape.heads_width * size.rows * size.stream if size.branch else 0.0
    return shape.n_layers * (per_token * tokens + repeated)


def cache_bytes(shape: Shape, size: BatchSize) -> float:
    """Return the bytes of the encoded histories: keys, values and last hidden states, ``b B L (2 N C + D)``."""
    return shape.number_bytes * size.rows * size.stream * (2 * shape.n_layers * shape.key_width + shape.width)


def choice_bytes(shape: Shape, size: BatchSize, *, likelihood: str) -> float:
    """Return the bytes at the output: under the vocabulary likelihood logits and their gradients in b bytes and
    log-probabilities in 4, ``S V (b + 8)``; under the catalogue's the gathered embeddings and their gradients.
    """
    if likelihood == "vocabulary":
        return size.choices * shape.vocabulary * (shape.number_bytes + 8)
    return 2 * size.gathered * shape.width * shape.number_bytes + 8 * size.children


def reasoner_bytes(shape: Shape, size: BatchSize, config: ReasonerConfig) -> float:
    """Return about what the reasoner keeps, in float32: keys and values, and per step 3 of [P, K, L] and 12 of D."""
    if config.kind == "none":
        return 0.0
    a_step = 3 * config.n_factors * size.stream + 12 * shape.width
    return 4 * size.rows * (3 * size.stream * shape.width + config.n_steps * size.targets_per_row * a_step)


def assistant_operations(config: AssistantConfig, windows: TrainingWindows) -> float:
    """Return the operations of training an assistant for as many epochs as it may take; it stops early.

    A network takes ``3 x 2 (w + D N)`` a place or target and epoch, w its weights but embeddings and D N the scores of
    all items, or of the sample, and SASRec ``3 x 4 D T`` a layer for attention in windows of T; EASE inverts a matrix
    of M items once, ``2 M^3``.

    Args:
        config: The assistant's settings.
        windows: What it is trained on; an epoch of them is drawn.
    """
    d, n_items = config.width, windows.n_items
    linear = 2.0 * min(n_items, config.ease.most_items) ** 3 if "ease" in config.networks else 0.0
    names = sequence_networks(config)
    if not names:
        return linear
    places = seen = targets = 0.0
    for batch in windows.epoch(generator(0, "windows to be counted"), config.batch_targets):
        places += batch.items.numel()
        seen += batch.items.numel() * batch.items.shape[1]
        targets += float((batch.targets >= 0).sum())
    sampled = n_items if config.sampled_items is None else config.batch_targets + config.sampled_items
    scored = min(n_items, sampled)
    of_network = {
        "gru4rec": 2 * 7 * d**2 * places,
        "sasrec": config.n_layers * (2 * (4 + 2 * FEED_FORWARD) * d**2 * places + 4 * d * seen),
    }
    epoch = sum(3 * (of_network[name] + 2 * d * scored * targets) for name in names)
    return linear + config.max_epochs * epoch
