"""Encode histories once, extend them, and run branches on them.

A branch reads the cached keys and values of its history and never changes them, so one encoding serves every
target, every noised thought and every part of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from flr.backbone.lean import LeanLlama, is_plain
from flr.blocks import BLOCK, whole_blocks, whole_slots
from flr.records import IntArray, PackedBatch


@dataclass(frozen=True)
class EncodedStreams:
    """Histories that the backbone has read.

    Attributes:
        hidden: Last hidden states, [B, L, D].
        real: True at tokens, False at padding, [B, L].
        keys, values: Per layer, [B, heads, L, head width].
        items, places: Item that each token is of, and its place in the history; -1 outside titles, [B, L]. None where
            nobody asks for them.
    """

    hidden: Tensor
    real: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    items: Tensor | None = None
    places: Tensor | None = None

    def as_cache(self) -> DynamicCache:
        """Return a cache that starts from these keys and values and leaves them untouched when it grows."""
        cache = DynamicCache()
        for key, value in zip(self.keys, self.values, strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(key, value)
            layer.keys, layer.values = key, value
            cache.layers.append(layer)
        return cache

    def rows(self, chosen: Tensor | slice) -> EncodedStreams:
        """Return some of the rows."""
        keys, values = (tuple(layer[chosen] for layer in layers) for layers in (self.keys, self.values))
        items, places = (None if of is None else of[chosen] for of in (self.items, self.places))
        return EncodedStreams(self.hidden[chosen], self.real[chosen], keys, values, items, places)

    def of_items(self, items: IntArray, places: IntArray) -> EncodedStreams:
        """Return the same, knowing what item each token is of and its place; flat, as in `flr.text.TokenStreams`."""
        known = torch.full((2, *self.real.shape), -1, device=self.real.device)
        known[:, self.real] = torch.from_numpy(np.stack([items, places])).to(known.device)
        return replace(self, items=known[0], places=known[1])

    def without_empty_blocks(self) -> EncodedStreams:
        """Return the same without the blocks of columns in which no row has a token."""
        if self.real.shape[1] % BLOCK:
            return self  # a thought alone: fewer columns than a block, and all rows have the same
        used = self.real.unflatten(1, (-1, BLOCK)).any(2).any(0)  # type: ignore[no-untyped-call]
        if bool(used.all()):
            return self
        columns = torch.nonzero(used.repeat_interleave(BLOCK))[:, 0]
        keys, values = (tuple(layer[:, :, columns] for layer in layers) for layers in (self.keys, self.values))
        items, places = (None if of is None else of[:, columns] for of in (self.items, self.places))
        return EncodedStreams(self.hidden[:, columns], self.real[:, columns], keys, values, items, places)

    def runs(self, rows: Tensor, starts: Tensor, ends: Tensor) -> EncodedStreams:
        """Return runs of columns as rows of their own, each moved to column 0.

        Args:
            rows: Row of each run, [n].
            starts, ends: First and last column of each run, [n].
        """
        offsets = torch.arange(int((ends - starts).max()) + 1, device=rows.device)
        real = offsets <= (ends - starts)[:, None]
        columns = torch.minimum(starts[:, None] + offsets, ends[:, None])
        place = (rows[:, None], slice(None), columns)
        keys, values = (tuple(layer[place].transpose(1, 2) for layer in layers) for layers in (self.keys, self.values))
        return EncodedStreams(self.hidden[rows[:, None], columns], real, keys, values)


class Backbone(nn.Module):
    """A causal language model without its loss: embeddings in, hidden states and output weights out.

    Args:
        transformer: The decoder without a head.
        output: Weights of an untied output layer, [V, D]; None when they are the input embeddings.
        dropout: Dropout on the input embeddings.

    Attributes:
        n_places: Tokens of the longest text that a decoder with learnt places can read; None where places are worked
            out.
    """

    _lean_of: tuple[PreTrainedModel, LeanLlama] | None

    def __init__(self, transformer: PreTrainedModel, output: nn.Parameter | None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.transformer = transformer
        self.output = output
        self.dropout = nn.Dropout(dropout)
        self._lean_of = None
        config = transformer.config
        self.n_places = _learnt_places(transformer)
        self._logit_scale = float(getattr(config, "logit_scale", None) or 1 / getattr(config, "logits_scaling", 1))

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; prepared weights are dropped before training, as fused optimizers change theirs unseen."""
        if mode:
            self._lean_of = None
        return super().train(mode)

    @property
    def width(self) -> int:
        return int(self.transformer.config.hidden_size)

    @property
    def output_weight(self) -> Tensor:
        """Output embeddings, [V, D], times what some decoders (Cohere, Granite) scale their logits by."""
        weight = self.embedding.weight if self.output is None else self.output
        return weight if self._logit_scale == 1 else weight * self._logit_scale

    @property
    def embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.transformer.get_input_embeddings()
        return embedding

    def embed(self, ids: Tensor) -> Tensor:
        """Return input embeddings, [..., D]."""
        embeddings: Tensor = self.dropout(self.embedding(ids))
        return embeddings

    def encode(
        self, ids: Tensor, positions: Tensor, segments: Tensor, past: EncodedStreams | None = None
    ) -> EncodedStreams:
        """Read token streams, or go on reading them.

        Args:
            ids: [B, L] token ids.
            positions: [B, L] position of each token within its segment.
            segments: [B, L] segment of each token, -1 at padding; tokens see earlier tokens of their segment.
            past: What was read of the same rows before, one history per row.
        """
        return self.extend(past, self.embed(ids), positions, segments)

    def extend(
        self, past: EncodedStreams | None, embeddings: Tensor, positions: Tensor, segments: Tensor
    ) -> EncodedStreams:
        """Go on reading from input embeddings, [B, L, D]; otherwise as `encode`."""
        mask = stream_mask(segments)
        if past is not None:
            sees_past = past.real[:, None, None, :].expand(-1, -1, segments.shape[1], -1)
            mask = torch.cat([sees_past, mask], dim=-1)
        return self.grow(past, embeddings, positions, mask, segments >= 0)

    def grow(
        self, past: EncodedStreams | None, embeddings: Tensor, positions: Tensor, mask: Tensor, real: Tensor
    ) -> EncodedStreams:
        """Go on reading under any mask.

        Args:
            past: What was read of the same B rows before, L tokens each; None starts (L = 0).
            embeddings: Input embeddings of the new tokens, [B, T, D].
            positions: [B, T].
            mask: True where a new token may look, [B, 1, T, L + T]; every row must look somewhere.
            real: True at new tokens, False at padding, [B, T].

        Returns:
            All L + T columns, and padding that ends the last block where the quicker forward goes on after a past.
        """
        hidden, keys, values = self._run(embeddings, positions, mask, past)
        if past is not None:
            n_more = keys[0].shape[2] - past.real.shape[1] - real.shape[1]
            pad = nn.functional.pad
            hidden = torch.cat([past.hidden, pad(hidden, (0, 0, 0, n_more))], dim=1)
            real = torch.cat([past.real, pad(real, (0, n_more))], dim=1)
        return EncodedStreams(hidden, real, keys, values)

    def branch(self, streams: EncodedStreams, embeddings: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return the hidden states of branches on encoded streams, [B, T, D]; the streams stay as they are.

        Args:
            streams: Encoded histories of the same B rows.
            embeddings: Input embeddings of thoughts and tokens, [B, T, D].
            positions: [B, T].
            mask: True where a branch token may look, [B, 1, T, L + T]; every row must look somewhere.
        """
        return self._run(embeddings, positions, mask, streams)[0]

    def _run(
        self, embeddings: Tensor, positions: Tensor, mask: Tensor, past: EncodedStreams | None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return hidden states of new tokens, and keys and values of all by layer."""
        additive = torch.zeros(mask.shape, dtype=embeddings.dtype, device=mask.device)
        additive.masked_fill_(~mask, torch.finfo(embeddings.dtype).min)
        if (lean := self._lean()) is not None:
            return lean(embeddings, positions, additive, None if past is None else (past.keys, past.values))
        if self.n_places is not None:  # padding may lie beyond; that texts do not, `flr.Recommender` sees to
            positions = positions.clamp(max=self.n_places - 1)
        cache = DynamicCache() if past is None else past.as_cache()
        out = self.transformer(
            inputs_embeds=embeddings,
            attention_mask=additive,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
        return out.last_hidden_state, keys, values

    def whole_slots(self, n: int, n_rows: int) -> int:
        """Return how many tokens, `n` at least, some rows read at once so that no row's last bits depend on others."""
        return whole_blocks(n) if self._lean() is None else whole_slots(n, n_rows)

    def _lean(self) -> LeanLlama | None:
        """Return the quicker way to run the decoder, where there is one: see `flr.backbone.lean`."""
        if torch.is_grad_enabled() or self.training or not is_plain(self.transformer):
            return None
        if self._lean_of is None or self._lean_of[0] is not self.transformer:
            self._lean_of = (self.transformer, LeanLlama(self.transformer))
        return self._lean_of[1]


def _learnt_places(transformer: PreTrainedModel) -> int | None:
    most = getattr(transformer.config, "max_position_embeddings", None)
    words = transformer.get_input_embeddings()
    tables = [module for module in transformer.modules() if isinstance(module, nn.Embedding) and module is not words]
    return int(most) if most and any(table.num_embeddings >= most for table in tables) else None


def stream_mask(segments: Tensor) -> Tensor:
    """Return who sees whom within packed streams, [B, 1, L, L]: the same segment, no later token."""
    same = segments[:, :, None] == segments[:, None, :]
    n = segments.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool, device=segments.device).tril()
    return (same & causal)[:, None]


def item_ends(places: Tensor, segments: Tensor) -> Tensor:
    """Return True at the last token of every item, [B, L].

    Args:
        places: Which item of its segment each token belongs to, -1 outside titles, [B, L].
        segments: Segment of each token, [B, L].
    """
    after = nn.functional.pad(places, (0, 1), value=-1)[:, 1:]
    segment_after = nn.functional.pad(segments, (0, 1), value=-1)[:, 1:]
    return (places >= 0) & ((places != after) | (segments != segment_after))


def readable_columns(batch: PackedBatch) -> Tensor:
    """Return the stream tokens that each target may read, [B, P, L]: its segment up to its last prompt token."""
    columns = torch.arange(batch.stream_ids.shape[1], device=batch.stream_ids.device)
    return (columns >= batch.target_starts[..., None]) & (columns <= batch.target_ends[..., None])


def branch_mask(batch: PackedBatch) -> Tensor:
    """Return who sees whom for the branches of a packed batch, [B, 1, T, L + T].

    A branch token sees the stream from its segment's start to its target's last prompt token, and the earlier
    tokens of its own branch. Padding sees padding only, so that no row of the softmax is empty.
    """
    owner = batch.branch_targets.clamp(min=0)
    of_owner = owner[..., None].expand(-1, -1, batch.stream_ids.shape[1])
    sees_stream = readable_columns(batch).gather(1, of_owner) & (batch.branch_targets >= 0)[..., None]
    same = batch.branch_targets[:, :, None] == batch.branch_targets[:, None, :]
    not_later = batch.branch_offsets[:, None, :] <= batch.branch_offsets[:, :, None]
    return torch.cat([sees_stream, same & not_later], dim=-1)[:, None]


def branch_positions(batch: PackedBatch) -> Tensor:
    """Return the position of every branch token: right after its target's last prompt token, [B, T]."""
    ends = batch.stream_positions.gather(1, batch.target_ends)
    return ends.gather(1, batch.branch_targets.clamp(min=0)) + 1 + batch.branch_offsets
