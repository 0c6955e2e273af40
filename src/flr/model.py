"""FLRModel: a backbone that reads, a reasoner that thinks, a likelihood over the catalogue. No input or output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flr.backbone.streams import Backbone, EncodedStreams, branch_mask, branch_positions, readable_columns
from flr.compiled import CompiledCatalogue
from flr.config import ReasonerConfig
from flr.reasoner.factors import MultiFactorAttention
from flr.reasoner.regularizers import diversity, orthogonality, sparsity
from flr.records import PackedBatch, Thought
from flr.scoring.exact import catalogue_log_probs, item_log_probs
from flr.scoring.likelihood import ChildTable, choice_log_probs
from flr.text.template import TokenStreams


@dataclass(frozen=True)
class ThoughtState:
    """Histories whose thoughts have been thought, ready to score titles.

    Attributes:
        streams: The histories with their thought positions appended.
        root_hidden: Hidden state that predicts the first token of a title, [B, D].
        next_position: Position of that first token, [B].
        thought: What the reasoner did; None for a model without a thought.
    """

    streams: EncodedStreams
    root_hidden: Tensor
    next_position: Tensor
    thought: Thought | None


class FLRModel(nn.Module):
    """Factorized latent reasoning over a causal language model.

    Args:
        backbone: Reads histories and titles.
        reasoner: Turns hidden states into thoughts; None for a model that writes titles at once (BIGRec).
    """

    def __init__(self, backbone: Backbone, reasoner: MultiFactorAttention | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.reasoner = reasoner

    @property
    def n_thoughts(self) -> int:
        """Thought positions between a history and a title."""
        return 0 if self.reasoner is None else self.reasoner.n_thoughts

    @property
    def device(self) -> torch.device:
        return self.backbone.embedding.weight.device

    def forward(self, batch: PackedBatch, table: ChildTable) -> dict[str, Tensor]:
        """Return the losses of a packed batch, each summed over its targets.

        Source: METHOD 4 to 6.

        Args:
            batch: Shared-prefix examples.
            table: Children of the catalogue's trie, for the likelihood the model is trained under.

        Returns:
            ``recommendation``: minus log p(title | history); ``orthogonality``, ``diversity`` and ``sparsity``,
            where there is a reasoner. Scalars, float32.
        """
        streams = self.backbone.encode(batch.stream_ids, batch.stream_positions, batch.stream_segments)
        thought = self._think(streams.hidden, readable_columns(batch), batch.target_ends)
        hidden = self._score_hidden(batch, streams, thought)
        log_probs = choice_log_probs(
            hidden, batch.score_nodes, batch.score_children, table, self.backbone.output_weight
        )
        losses = {"recommendation": -log_probs.sum()}
        if thought is not None:
            losses |= self._regularizers(batch, thought)
        return losses

    def _think(
        self, hidden: Tensor, readable: Tensor, ends: Tensor, factor_weights: Tensor | None = None
    ) -> Thought | None:
        if self.reasoner is None:
            return None
        thought: Thought = self.reasoner(hidden.to(self.reasoner.out.weight.dtype), readable, ends, factor_weights)
        return thought

    def _score_hidden(self, batch: PackedBatch, streams: EncodedStreams, thought: Thought | None) -> Tensor:
        """Return the hidden states that predict the scored tokens, [S, D]."""
        prompt_column = batch.target_ends[batch.score_rows, batch.score_targets]
        from_prompt = streams.hidden[batch.score_rows, prompt_column]
        if batch.branch_ids.shape[1] == 0:
            return from_prompt
        embeddings = self._branch_embeddings(batch, thought)
        hidden = self.backbone.branch(streams, embeddings, branch_positions(batch), branch_mask(batch))
        from_branch = hidden[batch.score_rows, batch.score_columns.clamp(min=0)]
        if thought is not None:
            return from_branch
        return torch.where((batch.score_columns < 0)[:, None], from_prompt, from_branch)

    def _branch_embeddings(self, batch: PackedBatch, thought: Thought | None) -> Tensor:
        tokens = self.backbone.embed(batch.branch_ids)
        if thought is None:
            return tokens
        vectors = thought.vectors.to(tokens.dtype).flatten(1, 2)
        slot = batch.branch_targets.clamp(min=0) * self.n_thoughts + batch.branch_offsets.clamp(max=self.n_thoughts - 1)
        thoughts = vectors.gather(1, slot[..., None].expand(-1, -1, vectors.shape[-1]))
        is_thought = (batch.branch_offsets < self.n_thoughts) & (batch.branch_targets >= 0)
        return torch.where(is_thought[..., None], thoughts, tokens)

    def _regularizers(self, batch: PackedBatch, thought: Thought) -> dict[str, Tensor]:
        n_readable = batch.target_ends - batch.target_starts + 1
        per_target = {
            "orthogonality": orthogonality(thought.factors),
            "diversity": diversity(thought.attentions),
            "sparsity": sparsity(thought.attentions, n_readable),
        }
        return {name: (loss * batch.target_mask).sum() for name, loss in per_target.items()}

    def read(self, streams: TokenStreams, past: EncodedStreams | None = None) -> EncodedStreams:
        """Encode one token stream per row, or what comes after a past one.

        Args:
            streams: Token ids; where there is a past, only the tokens that are new.
            past: What was read of the same rows before.
        """
        lengths = torch.from_numpy(streams.lengths).to(self.device)
        columns = torch.arange(int(lengths.max()), device=self.device)
        real = columns < lengths[:, None]
        ids = torch.zeros(real.shape, dtype=torch.long, device=self.device)
        ids[real] = torch.from_numpy(streams.ids).to(self.device)
        before = 0 if past is None else past.real.sum(1, keepdim=True)
        return self.backbone.encode(ids, (columns + before).expand_as(ids), torch.where(real, 0, -1), past)

    def think(self, streams: EncodedStreams, factor_weights: Tensor | None = None) -> ThoughtState:
        """Think once at the end of every history.

        Args:
            streams: Encoded histories, one per row.
            factor_weights: Multipliers of the gates, [K] or [B, 1, K].
        """
        columns = torch.arange(streams.real.shape[1], device=self.device)
        ends = torch.where(streams.real, columns, -1).max(1).values[:, None]
        next_position = streams.real.sum(1)
        thought = self._think(streams.hidden, streams.real[:, None], ends, factor_weights)
        if thought is None:
            root = streams.hidden.gather(1, ends[..., None].expand(-1, -1, streams.hidden.shape[-1]))[:, 0]
            return ThoughtState(streams, root, next_position, None)
        vectors = thought.vectors[:, 0].to(self.backbone.embedding.weight.dtype)
        positions = next_position[:, None] + torch.arange(self.n_thoughts, device=self.device)
        extended = self.backbone.extend(streams, vectors, positions, torch.zeros_like(positions))
        return ThoughtState(extended, extended.hidden[:, -1], next_position + self.n_thoughts, thought)

    def score(self, state: ThoughtState, compiled: CompiledCatalogue) -> Tensor:
        """Return log p(item | history) of the whole catalogue, float32, [B, N].

        Args:
            state: Histories with their thoughts.
            compiled: The catalogue, on the model's device.
        """

        def decode(tokens: Tensor, depths: Tensor, mask: Tensor) -> Tensor:
            n_rows, n_nodes = len(state.root_hidden), len(tokens)
            sees_stream = state.streams.real[:, None, None, :].expand(-1, -1, n_nodes, -1)
            full_mask = torch.cat([sees_stream, mask.expand(n_rows, 1, -1, -1)], dim=-1)
            embeddings = self.backbone.embed(tokens).expand(n_rows, -1, -1)
            return self.backbone.branch(state.streams, embeddings, state.next_position[:, None] + depths - 1, full_mask)

        leaves = catalogue_log_probs(
            state.root_hidden,
            list(compiled.slices),
            decode,
            table=compiled.table,
            sums=compiled.sums,
            output=self.backbone.output_weight,
        )
        return item_log_probs(leaves, compiled.leaf, compiled.n_sharing)


def build_reasoner(config: ReasonerConfig, backbone: Backbone) -> MultiFactorAttention | None:
    """Return a fresh reasoner for a backbone, or None where the config asks for no thought."""
    if config.kind == "none":
        return None
    with torch.no_grad():
        embedding_rms = float(backbone.embedding.weight.float().square().mean().sqrt())
    return MultiFactorAttention(
        backbone.width,
        n_factors=config.n_factors,
        n_steps=config.n_steps,
        embedding_rms=embedding_rms,
        gate=config.gate,
        share=config.share,
        full_width_factors=config.full_width_factors,
        thought_positions=config.thought_positions,
    )
