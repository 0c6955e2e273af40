"""FLRModel: a backbone that reads, a reasoner that thinks, a likelihood over the catalogue. No input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from flr.backbone.prefixes import Below, Foreseen, HistoriesOf, PrefixReader
from flr.backbone.streams import (
    Backbone,
    EncodedStreams,
    branch_mask,
    branch_positions,
    item_ends,
    readable_columns,
)
from flr.blocks import BLOCK, CHUNK, UNLIMITED, shared_columns, whole_blocks
from flr.compiled import CompiledCatalogue
from flr.devices import without_autocast
from flr.errors import ConfigError, RequestError
from flr.reasoner.factors import FactorEdit, MultiFactorAttention
from flr.reasoner.memory import ItemMemory, Votes, items_in_order
from flr.records import Histories, PackedBatch, Thought
from flr.scoring.beam import Beam, BestTitles, beam_search
from flr.scoring.exact import catalogue_log_probs
from flr.scoring.guessing import GuessedNodes
from flr.scoring.likelihood import ChildTable, choice_log_probs
from flr.scoring.pruned import Bound, Floor, KnownNodes, Wanted, leaf_log_probs_above
from flr.sequential.assistant import Advice, SequenceAssistant
from flr.text.template import TokenStreams
from flr.thoughts import ThoughtState, feed_thoughts

#: (votes, advice, how many nodes fit) -> the votes among the catalogue, and nodes that a search will probably read.
Foresight = Callable[[Votes, Advice | None, int], tuple[Votes, GuessedNodes]]
#: Trie nodes that one call of the backbone reads when it prunes: what fits a processor's caches, or fills a GPU.
_NODES_PER_CALL = {True: 1024, False: 65536}


@dataclass(frozen=True)
class WrittenTitles:
    """The targets' titles of a packed batch, written after their thoughts.

    Attributes:
        log_probs: Natural log of each choice, in the order of the batch's scored places, float32, [S].
        branch_hidden: Hidden states of the branches, [B, T, D]; None where the batch has none.
    """

    log_probs: Tensor
    branch_hidden: Tensor | None


class FLRModel(nn.Module):
    """Factorized latent reasoning over a causal language model.

    Args:
        backbone: Reads histories and titles.
        reasoner: Turns hidden states into thoughts; None for a model that writes titles at once (BIGRec).
        memory: Lets factors vote for items; None for a model that only writes titles.
        assistant: Gives a second opinion on the votes once it is trained; None for none.
    """

    def __init__(
        self,
        backbone: Backbone,
        reasoner: MultiFactorAttention | None,
        memory: ItemMemory | None = None,
        assistant: SequenceAssistant | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.reasoner = reasoner
        self.memory = memory
        self.assistant = assistant

    @property
    def n_thoughts(self) -> int:
        """Thought positions between a history and a title."""
        return 0 if self.reasoner is None else self.reasoner.n_thoughts

    @property
    def is_bottleneck(self) -> bool:
        """Whether titles see the thought alone."""
        return self.reasoner is not None and self.reasoner.is_bottleneck

    def count_parameters(self) -> tuple[int, int]:
        """Return how many weights there are, and how many are trained; an assistant's are its own."""
        counted = [p for name, p in self.named_parameters() if not name.startswith("assistant.")]
        return sum(p.numel() for p in counted), sum(p.numel() for p in counted if p.requires_grad)

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
            ``recommendation``: minus log p(item | history); the reasoner's `regularizers`, where there is one. With a
            memory also ``titles`` and ``votes``: each of the two that are mixed learns to recommend by itself, and
            ``recommendation`` teaches the trust alone. Learning from the mixture, whichever is ahead in the first
            steps would take over, and the other starve. Scalars, float32.
        """
        streams = self.encode(batch)
        thought = self.reason(batch, streams)
        choices = self.write(batch, streams, None if thought is None else thought.vectors, table)
        with without_autocast(self.device):
            losses = self._losses(batch, thought, choices.log_probs)
            if thought is not None:
                losses |= self._regularizers(batch, thought)
        return losses

    def _losses(self, batch: PackedBatch, thought: Thought | None, choices: Tensor) -> dict[str, Tensor]:
        """Return the sums of minus log p over the targets, given the log-probabilities of their choices."""
        if self.memory is None or thought is None:
            return {"recommendation": -choices.sum()}
        if batch.evidence is None or batch.target_popularity is None or batch.target_sharing is None:
            raise ConfigError("a model with a memory needs batches with evidence; give the packer some")
        titles = choices.new_zeros(batch.target_items.shape)
        titles = titles.index_put((batch.score_rows, batch.score_targets), choices, accumulate=True)
        titles = titles - batch.target_sharing
        votes = self.memory.on_targets(thought, batch.evidence, batch.stream_places, batch.target_popularity)
        per_target = {
            "recommendation": votes.detached().mix(titles.detach()),
            "titles": titles,
            "votes": votes.probs.log(),
        }
        return {name: -(log_probs * batch.target_mask).sum() for name, log_probs in per_target.items()}

    def encode(self, batch: PackedBatch) -> EncodedStreams:
        """Read the histories of a packed batch."""
        return self.backbone.encode(batch.stream_ids, batch.stream_positions, batch.stream_segments)

    def reason(self, batch: PackedBatch, streams: EncodedStreams) -> Thought | None:
        """Think once for every target of a packed batch; None for a model without a thought."""
        return self._think(streams.hidden, self.readable(batch), batch.target_ends, places=batch.stream_places)

    def readable(self, batch: PackedBatch) -> Tensor:
        """Return the stream tokens that the factors of each target read, [B, P, L]."""
        readable = readable_columns(batch)
        if self.reasoner is None or not self.reasoner.reads_items:
            return readable
        ends = item_ends(batch.stream_places, batch.stream_segments)[:, None]
        # Padded targets have no items; they read the token they stand for, so that no softmax is empty.
        return readable & (ends | ~batch.target_mask[..., None])

    def write(
        self, batch: PackedBatch, streams: EncodedStreams, vectors: Tensor | None, table: ChildTable
    ) -> WrittenTitles:
        """Return how probable the targets' titles are after given thoughts.

        Args:
            batch: Whose titles are written.
            streams: Its histories, encoded.
            vectors: Thoughts of its targets, [B, P, n_thoughts, D]; None for a model without a thought.
            table: Children of the catalogue's trie.
        """
        prompt_column = batch.target_ends[batch.score_rows, batch.score_targets]
        at_choices = streams.hidden[batch.score_rows, prompt_column]
        hidden = None
        if batch.branch_ids.shape[1]:
            hidden = self._branches(batch, streams, self._branch_embeddings(batch, vectors))
            from_branch = hidden[batch.score_rows, batch.score_columns.clamp(min=0)]
            at_choices = torch.where((batch.score_columns < 0)[:, None], at_choices, from_branch)
        nodes, children = batch.score_nodes, batch.score_children
        log_probs = choice_log_probs(at_choices, nodes, children, table, self.backbone.output_weight)
        return WrittenTitles(log_probs, hidden)

    def root_hidden(self, batch: PackedBatch, branch_hidden: Tensor) -> Tensor:
        """Return the hidden state after the thought of each real target of a packed batch, in row order, [S, D].

        Args:
            batch: Targets whose titles were written after a thought.
            branch_hidden: Hidden states of its branches, [B, T, D].
        """
        return branch_hidden[(batch.branch_offsets == self.n_thoughts - 1) & (batch.branch_targets >= 0)]

    def _think(
        self,
        hidden: Tensor,
        readable: Tensor,
        ends: Tensor,
        factor_weights: Tensor | None = None,
        *,
        fixed_gates: Tensor | None = None,
        edit: FactorEdit | None = None,
        places: Tensor | None = None,
    ) -> Thought | None:
        if self.reasoner is None:
            return None
        hidden = hidden.to(self.reasoner.out.weight.dtype)
        thought: Thought = self.reasoner(
            hidden, readable, ends, factor_weights, fixed_gates=fixed_gates, edit=edit, places=places
        )
        return thought

    def _branches(self, batch: PackedBatch, streams: EncodedStreams, embeddings: Tensor) -> Tensor:
        """Return the hidden states of the batch's branches, [B, T, D]."""
        positions, mask = branch_positions(batch), branch_mask(batch)
        if not self.is_bottleneck:
            return self.backbone.branch(streams, embeddings, positions, mask)
        among_branches = mask[..., streams.real.shape[1] :]
        return self.backbone.grow(None, embeddings, positions, among_branches, batch.branch_targets >= 0).hidden

    def _branch_embeddings(self, batch: PackedBatch, vectors: Tensor | None) -> Tensor:
        tokens = self.backbone.embed(batch.branch_ids)
        if vectors is None:
            return tokens
        vectors = vectors.to(tokens.dtype).flatten(1, 2)
        slot = batch.branch_targets.clamp(min=0) * self.n_thoughts + batch.branch_offsets.clamp(max=self.n_thoughts - 1)
        thoughts = vectors.gather(1, slot[..., None].expand(-1, -1, vectors.shape[-1]))
        is_thought = (batch.branch_offsets < self.n_thoughts) & (batch.branch_targets >= 0)
        return torch.where(is_thought[..., None], thoughts, tokens)

    def _regularizers(self, batch: PackedBatch, thought: Thought) -> dict[str, Tensor]:
        assert self.reasoner is not None
        per_target = self.reasoner.regularizers(thought, self.readable(batch).sum(-1))
        return {name: (loss * batch.target_mask).sum() for name, loss in per_target.items()}

    def read(self, streams: TokenStreams, past: EncodedStreams | None = None) -> EncodedStreams:
        """Encode one token stream per row, or what comes after a past one; columns are padded to whole blocks.

        Args:
            streams: Token ids; where there is a past, only the tokens that are new.
            past: What was read of the same rows before. After whole blocks without padding (whole chunks, where it all
                comes to more than `shared_columns`), the result is the same to the bit as that of reading anew.
        """
        encoded = past
        for part in self._parts(streams, past):
            encoded = self._read_on(part, encoded)
        assert encoded is not None
        if past is None:
            return encoded.of_items(streams.items, streams.places)
        if past.items is None or past.places is None:
            return encoded  # whoever kept no items of the past has to tell what they were
        real = encoded.real[:, past.real.shape[1] :]
        items, places = (torch.full(real.shape, -1, device=self.device) for _ in range(2))
        items[real], places[real] = (torch.from_numpy(of).to(self.device) for of in (streams.items, streams.places))
        places = torch.where(places < 0, -1, places + past.places.amax(1, keepdim=True) + 1)
        return replace(encoded, items=torch.cat([past.items, items], 1), places=torch.cat([past.places, places], 1))

    def _parts(self, streams: TokenStreams, past: EncodedStreams | None) -> Iterator[TokenStreams]:
        """Yield what is read at once: everything, or chunks of a stream that is long for a processor."""
        longest = int(streams.lengths.max())
        n_before = 0 if past is None else past.real.shape[1]
        if self.device.type != "cpu" or n_before + whole_blocks(longest) <= shared_columns():
            yield streams
            return
        for start in range(0, longest, CHUNK):
            yield streams.columns(start, start + CHUNK)

    def _read_on(self, streams: TokenStreams, past: EncodedStreams | None) -> EncodedStreams:
        lengths = torch.from_numpy(streams.lengths).to(self.device)
        columns = torch.arange(whole_blocks(int(lengths.max())), device=self.device)
        real = columns < lengths[:, None]
        ids = torch.zeros(real.shape, dtype=torch.long, device=self.device)
        ids[real] = torch.from_numpy(streams.ids).to(self.device)
        before = 0 if past is None else past.real.sum(1, keepdim=True)
        return self.backbone.encode(ids, (columns + before).expand_as(ids), torch.where(real, 0, -1), past)

    def think(
        self,
        streams: EncodedStreams,
        factor_weights: Tensor | None = None,
        *,
        fixed_gates: Tensor | None = None,
        edit: FactorEdit | None = None,
        vectors: Tensor | None = None,
        foresee: Foresight | None = None,
        advised: Callable[[], Advice] | None = None,
    ) -> ThoughtState:
        """Think once at the end of every history.

        Args:
            streams: Encoded histories, one per row.
            factor_weights: Multipliers of the gates, [K] or [B, 1, K].
            fixed_gates: Gates of every refinement step instead of the model's own, [K].
            edit: Replaces the factors of each refinement step.
            vectors: Thoughts that are fed instead of the model's own, [B, n_thoughts, D].
            foresee: Where titles are going to be searched: which beginnings, so that they are read along.
            advised: What `ask_assistant` returned of these histories; None asks now.
        """
        columns = torch.arange(streams.real.shape[1], device=self.device)
        ends = torch.where(streams.real, columns, -1).max(1).values[:, None]
        n_of_read = streams.real.sum(1)
        readable = streams.real[:, None]
        if self.reasoner is not None and self.reasoner.reads_items:
            if streams.places is None:
                raise ValueError("factors that read items need to know them; see `EncodedStreams.of_items`")
            readable = item_ends(streams.places, torch.zeros_like(streams.places))[:, None]
        thought = self._think(
            streams.hidden,
            readable,
            ends,
            factor_weights,
            fixed_gates=fixed_gates,
            edit=edit,
            places=streams.places,
        )
        if thought is None:
            root = streams.hidden.gather(1, ends[..., None].expand(-1, -1, streams.hidden.shape[-1]))[:, 0]
            return ThoughtState(streams, root, n_of_read, None)
        votes, advice = self._votes(thought, streams, advised)
        fed = thought.vectors[:, 0] if vectors is None else vectors
        n_guesses, guess = BLOCK - self.n_thoughts, None
        if foresee is not None and votes is not None and n_guesses > 0 and not self.is_bottleneck:
            votes, guess = foresee(votes, advice, n_guesses)
            advice = None  # has been heard
        extended, foreseen = self._below_thoughts(streams, fed, guess)
        n_before = 0 if self.is_bottleneck else streams.real.shape[1]
        root = extended.hidden[:, n_before + self.n_thoughts - 1]
        return ThoughtState(extended, root, n_of_read + self.n_thoughts, thought, votes, advice, foreseen)

    def _below_thoughts(
        self, streams: EncodedStreams, vectors: Tensor, guess: GuessedNodes | None = None
    ) -> tuple[EncodedStreams, Foreseen | None]:
        """Return `feed_thoughts` for these histories, or for thoughts alone where titles see nothing else."""
        past = None if self.is_bottleneck else streams
        return feed_thoughts(self.backbone, past, vectors, first_position=streams.real.sum(1), guess=guess)

    def ask_assistant(self, histories: Histories) -> Callable[[], Advice] | None:
        """Ask the assistant about histories while they are read; return what waits for its answer, None without one.

        Args:
            histories: Cut to the window.
        """
        if self.memory is None or self.assistant is None:
            return None
        return self.assistant.ask(torch.from_numpy(histories.padded(-1)).to(self.device))

    def _votes(
        self, thought: Thought, streams: EncodedStreams, advised: Callable[[], Advice] | None
    ) -> tuple[Votes | None, Advice | None]:
        if self.memory is None:
            return None, None
        if streams.items is None or streams.places is None:
            raise ValueError("a memory needs to know the items of the histories; see `EncodedStreams.of_items`")
        items = items_in_order(streams.items, streams.places)
        votes = self.memory.on_items(thought, items, streams.places)
        if advised is None and self.assistant is not None:
            advised = partial(self.assistant, items)
        return votes, None if advised is None else advised()

    def score(self, state: ThoughtState, compiled: CompiledCatalogue) -> Tensor:
        """Return log p(item | history) of the whole catalogue, float32, [B, N].

        Args:
            state: Histories with their thoughts; votes have been brought `among` the catalogue.
            compiled: The catalogue, on the model's device.

        Raises:
            RequestError: The assistant has not been heard yet.
        """
        _check_advised(state)

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
        return state.mixed(compiled.by_item(leaves))

    def score_above(
        self, state: ThoughtState, compiled: CompiledCatalogue, floor: Floor, wanted: Wanted | None = None
    ) -> Tensor:
        """Return log p(title | history) of the distinct titles that reach a floor, float32, [B, n_leaves].

        Agrees with `score` on these, before the memory's votes; titles below, and those not wanted, may be -inf.

        Args:
            state: Histories with their thoughts; votes have been brought `among` the catalogue.
            compiled: The catalogue, on the model's device.
            floor, wanted: See `flr.scoring.pruned`.

        Raises:
            RequestError: The assistant has not been heard yet.
        """
        _check_advised(state)
        return self._above(
            state.root_hidden,
            state.histories_of,
            state.streams.real.shape[1],
            compiled=compiled,
            floor=floor,
            wanted=wanted,
            bound=state.bound(compiled),
            known=None if state.foreseen is None else KnownNodes(state.foreseen.nodes, state.foreseen.hidden),
        )

    def search(self, state: ThoughtState, compiled: CompiledCatalogue, beam: Beam) -> BestTitles:
        """Return the best titles that a beam search finds for each history, with their exact log-probabilities.

        Args:
            state: Histories with their thoughts.
            compiled: The catalogue, on the model's device.
            beam: See `flr.scoring.beam`.
        """
        return beam_search(
            state.root_hidden,
            self._reader(state.histories_of, compiled),
            beam,
            table=compiled.table,
            sole_leaf=compiled.sole_leaf,
            n_tokens=torch.from_numpy(compiled.template.titles.lengths[: compiled.trie.n_leaves]).to(self.device),
            output=self.backbone.output_weight,
            max_nodes=_NODES_PER_CALL[self.device.type == "cpu"],
        )

    def score_targets_above(
        self,
        batch: PackedBatch,
        streams: EncodedStreams,
        vectors: Tensor,
        root_hidden: Tensor,
        *,
        compiled: CompiledCatalogue,
        floor: Floor,
    ) -> Tensor:
        """Return the same as `score_above` for thoughts on the targets of a packed batch, [n * S, n_leaves].

        Args:
            batch: Whose S real targets are asked about, in the order of `PackedBatch.target_mask`.
            streams: Its histories, encoded.
            vectors: n thoughts for each, [n, S, n_thoughts, D].
            root_hidden: Hidden state after each thought, [n, S, D].
            compiled: The catalogue, on the model's device.
            floor: See `flr.scoring.pruned`.
        """
        of_row, column = torch.nonzero(batch.target_mask, as_tuple=True)
        starts, ends = batch.target_starts[of_row, column], batch.target_ends[of_row, column]
        by_row = vectors.flatten(0, 1)

        def histories_of(rows: Tensor) -> Below:
            target = rows % len(of_row)
            histories = streams.runs(of_row[target], starts[target], ends[target])
            return Below(
                self._below_thoughts(histories, by_row[rows])[0], (ends - starts)[target] + 1 + self.n_thoughts
            )

        n_columns = whole_blocks(int((ends - starts).max()) + 1) + whole_blocks(self.n_thoughts)
        return self._above(root_hidden.flatten(0, 1), histories_of, n_columns, compiled=compiled, floor=floor)

    def _reader(self, histories_of: HistoriesOf, compiled: CompiledCatalogue) -> Callable[[], PrefixReader]:
        return partial(PrefixReader, self.backbone, histories_of, compiled.table.token_of_node, compiled.depth_of_node)

    def _above(
        self,
        root_hidden: Tensor,
        histories_of: HistoriesOf,
        n_columns: int,
        *,
        compiled: CompiledCatalogue,
        floor: Floor,
        wanted: Wanted | None = None,
        bound: Bound | None = None,
        known: KnownNodes | None = None,
    ) -> Tensor:
        on_cpu = self.device.type == "cpu"
        return leaf_log_probs_above(
            root_hidden,
            self._reader(histories_of, compiled),
            floor,
            table=compiled.table,
            sole_leaf=compiled.sole_leaf,
            n_leaves=compiled.trie.n_leaves,
            output=self.backbone.output_weight,
            max_nodes=_NODES_PER_CALL[on_cpu],
            shared_columns=max(0, shared_columns() - n_columns) if on_cpu else UNLIMITED,
            wanted=wanted,
            bound=bound,
            known=known,
        )


def _check_advised(state: ThoughtState) -> None:
    if state.advice is not None:
        raise RequestError("these votes have not heard the assistant: score state.among(compiled)")
