"""One state of a recommender: histories as item indices in, scores of the catalogue out.

A request takes one snapshot and keeps to it, so items that come and go meanwhile are none of its business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from flr.arguments import check_resolved
from flr.backbone.loading import feed_forward_width
from flr.backbone.streams import EncodedStreams
from flr.blocks import BLOCK, shared_columns, whole_blocks
from flr.catalogue.filters import AllowedItems
from flr.compiled import CompiledCatalogue
from flr.config import Config
from flr.errors import ConfigError, RequestError
from flr.live import LiveCatalogue
from flr.model import FLRModel
from flr.reasoner.memory import Votes
from flr.records import Catalogue, FloatArray, Histories, IntArray
from flr.scoring.beam import Beam, allowed_nodes, title_guide
from flr.scoring.guessing import GuessedNodes
from flr.scoring.pruned import Wanted
from flr.scoring.ranking import top_items
from flr.sequential.assistant import Advice
from flr.steering import FactorLists, FactorWeights, alone, check_factor_weights
from flr.text.template import TokenStreams
from flr.thoughts import ThoughtState, votes_among

#: Memory of one scoring forward, MiB, where the settings name none: what fits a processor's caches is fastest there.
_CPU_MB, _GPU_MB = 64, 2048
#: Trie nodes that finding one of the best items takes, about; measured 1.2 on MovieLens-100K.
_NODES_PER_ITEM = 2
#: Takes histories cut to the window, and their places among all that are scored; reads them and thinks.
Thinker = Callable[[Histories, IntArray], ThoughtState]
#: Token streams -> what the model reads there.
Reader = Callable[[TokenStreams], EncodedStreams]
#: What was thought -> what might have been.
_Change = Callable[[ThoughtState], ThoughtState]
#: Takes histories cut to the window, and their places among all that are scored; returns scores, [n, N].
_Scored = Callable[[Histories, IntArray], Tensor]


@dataclass(frozen=True)
class Snapshot:
    """A model and one state of its catalogue; the methods are those of `flr.Recommender`, documented there.

    Attributes:
        model: Reads, thinks and writes.
        config: Settings.
        live: The catalogue.
        reader: Reads token streams in the model's place, as a cache of what was read does; must read the same.
        max_rows: Histories of one forward at most; None takes as many as memory allows.
    """

    model: FLRModel
    config: Config
    live: LiveCatalogue
    reader: Reader | None = None
    max_rows: int | None = None

    @property
    def compiled(self) -> CompiledCatalogue:
        return self.live.compiled

    @property
    def catalogue(self) -> Catalogue:
        return self.live.compiled.catalogue

    @property
    def n_factors(self) -> int:
        """Factors K; 0 for a model without a thought."""
        return 0 if self.model.reasoner is None else self.model.reasoner.n_factors

    def score(
        self, histories: Histories, *, factor_weights: FactorWeights | None = None, think: Thinker | None = None
    ) -> FloatArray:
        """Return log p(item | history) over the whole catalogue, float32, [B, N]."""
        gates_of = self._gate_weights(histories, factor_weights)

        def scored(read: Histories, rows: IntArray) -> Tensor:
            state = self.think(read, gates_of(rows)) if think is None else think(read, rows)
            return self.model.score(state.among(self.compiled), self.compiled)

        n_nodes = max((len(part.nodes) for part in self.compiled.slices), default=1)
        return self._score(histories, self._rows_per_forward(histories, n_nodes), scored)

    def score_best(
        self,
        histories: Histories,
        k: int,
        *,
        exclude_seen: bool,
        factor_weights: FactorWeights | None = None,
        allowed: AllowedItems | None = None,
        think: Thinker | None = None,
    ) -> FloatArray:
        """Return what `score` does for the k best items of each history and their equals, -inf for others, [B, N]."""
        gates_of = self._gate_weights(histories, factor_weights)

        def scored(read: Histories, rows: IntArray) -> Tensor:
            banned = self._banned(histories.take(rows), rows, exclude_seen, allowed)
            state = self.think(read, gates_of(rows), banned=banned) if think is None else think(read, rows)
            return self._best(state.among(self.compiled), banned, k, self._wanted(rows, allowed))

        n_rows = self._rows_per_forward(histories, _NODES_PER_ITEM * min(k, self.catalogue.n_items))
        return self._score(histories, n_rows, scored)

    def best_under(
        self,
        histories: Histories,
        k: int,
        changes: Sequence[_Change],
        *,
        exclude_seen: bool,
    ) -> Iterator[tuple[IntArray, list[FloatArray]]]:
        """Yield places of histories, and what `score_best` would return under each change of what is thought of them.

        Every history is read once. Votes have heard the assistant before they are changed.
        """
        n_rows = self._rows_per_forward(histories, _NODES_PER_ITEM * min(k, self.catalogue.n_items))
        for rows, read in self._batches(histories, n_rows):
            with torch.inference_mode():
                banned = self._banned(histories.take(rows), rows, exclude_seen)
                state = self.think(read).among(self.compiled)
                scores = [self._best(change(state), banned, k, None).float().cpu().numpy() for change in changes]
            yield rows, scores

    def best_by_factor(
        self, histories: Histories, k: int, *, exclude_seen: bool, allowed: AllowedItems | None = None
    ) -> FactorLists:
        """Return the k best items of each history for each factor alone; every history is read once.

        Raises:
            RequestError: The model has no factors.
        """
        n_factors, k = self.n_factors, min(k, self.catalogue.n_items)
        if not n_factors:
            raise RequestError("this model has no factors to diversify by; leave diversify out, or train another one")
        items = np.empty((len(histories), n_factors, k), dtype=np.int64)
        log_probs = np.empty(items.shape, dtype=np.float32)
        gates = np.empty((len(histories), n_factors), dtype=np.float32)
        n_rows = max(1, self._rows_per_forward(histories, _NODES_PER_ITEM * k) // n_factors)
        with torch.inference_mode():
            for rows, read in self._batches(histories, n_rows):
                state, of_gates = self._think_apart(read)
                gates[rows] = of_gates.float().cpu().numpy()
                each = np.repeat(rows, n_factors)
                banned = self._banned(histories.take(each), each, exclude_seen, allowed)
                best = top_items(self._best(state, banned, k, self._wanted(each, allowed)), k)
                items[rows] = best.item_index.reshape(len(rows), n_factors, k)
                log_probs[rows] = best.log_probs.reshape(len(rows), n_factors, k)
        return FactorLists(items, log_probs, gates)

    def score_beam(
        self, histories: Histories, *, exclude_seen: bool, guide: Callable[[Histories], FloatArray] | None = None
    ) -> FloatArray:
        """Return the scores of what a beam search finds for each history, and -inf for others, [B, N]."""
        settings, compiled = self.config.evaluation, self.compiled
        if self.model.memory is not None and (settings.length_power or guide is not None):
            raise ConfigError(
                f"evaluation.length_power = {settings.length_power} and guide = {settings.guide!r} make scores that "
                "are no probabilities, so a memory's votes cannot be mixed in; set 0 and none, or ranking=best"
            )
        lengths = torch.from_numpy(compiled.template.titles.lengths[: compiled.trie.n_leaves]).to(self.model.device)
        shares = compiled.n_sharing.log() / lengths**settings.length_power

        def scored(read: Histories, rows: IntArray) -> Tensor:
            state, of_rows = self.think(read).among(compiled), histories.take(rows)
            banned = self._banned(of_rows, rows, exclude_seen)
            beam = Beam(settings.beam_width, settings.length_power)
            if exclude_seen:
                beam = replace(beam, allowed=allowed_nodes(self._by_leaf((~banned).int()) > 0, compiled.trie))
            if guide is not None:
                opinion = torch.tensor(guide(of_rows), device=self.model.device).double().exp()
                by_title = title_guide(self._by_leaf(self._without_retired(opinion)).log(), compiled.trie)
                beam = replace(beam, guide=by_title, guide_weight=settings.guide_weight)
            found = self.model.search(state, compiled, beam)
            leaves = torch.full((len(rows), compiled.trie.n_leaves + 1), -torch.inf, device=banned.device)
            leaves.scatter_(1, torch.where(found.leaves < 0, leaves.shape[1] - 1, found.leaves), found.scores)
            items = (leaves[:, :-1] - shares)[:, compiled.leaf]
            items = torch.where(items.isneginf(), items, state.mixed(items))
            return items.masked_fill_(banned, -torch.inf)

        n_rows = self._rows_per_forward(histories, settings.beam_width * int(lengths.max()))
        return self._score(histories, n_rows, scored)

    @property
    def popularity(self) -> FloatArray | None:
        """Share of each item in the training rows, 0 for new and retired ones, [N]; None where there is no memory."""
        if self.model.memory is None:
            return None
        known = self.model.memory.transitions.popularity
        shares = np.pad(known.astype(np.float64), (0, self.catalogue.n_items - len(known)))
        if self.catalogue.retired is not None:
            shares[self.catalogue.retired] = 0.0
        return shares

    def think(
        self, histories: Histories, factor_weights: Tensor | None = None, *, banned: Tensor | None = None
    ) -> ThoughtState:
        """Read histories (cut to the window) and think once at the end of each; votes are not advised yet.

        Args:
            histories: Item indices.
            factor_weights: Multipliers of the gates, [K] or [B, 1, K].
            banned: Where titles are going to be searched: True at items that are not asked for, [B, N].
        """
        recent = histories.window(self.config.text.window)
        advised = self.model.ask_assistant(recent)
        streams = self.read(recent)
        if banned is None:
            return self.model.think(streams, factor_weights, advised=advised)

        def foresee(votes: Votes, advice: Advice | None, n_guesses: int) -> tuple[Votes, GuessedNodes]:
            among = votes_among(votes, advice, self.compiled)
            return among, self.compiled.guess(among.probs.masked_fill(banned, 0.0), n_guesses)

        return self.model.think(streams, factor_weights, foresee=foresee, advised=advised)

    @torch.no_grad()
    def think_advised(self, histories: Histories, factor_weights: FactorWeights | None = None) -> ThoughtState:
        """Think once at the end of each history, and let votes hear the assistant; see `Recommender.think`."""
        check_resolved(histories, self.catalogue.n_items)
        weights = self._gate_weights(histories, factor_weights)(np.arange(len(histories)))
        return self.think(histories, weights).among(self.compiled)

    def read(self, histories: Histories) -> EncodedStreams:
        """Read histories, none longer than the window."""
        if self.model.training:
            self.model.eval()  # visits every part of it
        return (self.reader or self.model.read)(self.compiled.template.streams(histories))

    def thoughts(self, histories: Histories) -> Iterator[tuple[IntArray, ThoughtState]]:
        """Yield places of histories of similar length, and what is thought of them; votes are not advised yet."""
        for rows, read in self._batches(histories, self._rows_per_forward(histories, 1)):
            yield rows, self.think(read)

    def _think_apart(self, read: Histories) -> tuple[ThoughtState, Tensor]:
        """Return histories thought about in each factor alone, K rows each, and the gates of the whole, [B, K]."""
        streams = self.read(read)
        thought = self.model.think(streams).thought
        assert thought is not None
        each = torch.arange(len(read), device=self.model.device).repeat_interleave(self.n_factors)
        state = self.model.think(streams.rows(each), alone(self.n_factors, len(read), self.model.device))
        return state.among(self.compiled), thought.gates[:, :, 0].mean(0)

    def _gate_weights(
        self, histories: Histories, factor_weights: FactorWeights | None
    ) -> Callable[[IntArray], Tensor | None]:
        """Return what gives the checked multipliers of some rows' gates, [n, 1, K]; None leaves them as they are."""
        weights = check_factor_weights(factor_weights, self.n_factors, len(histories))
        if weights is None:
            return lambda _: None
        of_gates = torch.tensor(weights, device=self.model.device)[:, None]
        return lambda rows: of_gates[torch.from_numpy(rows).to(of_gates.device)]

    def _best(self, state: ThoughtState, banned: Tensor, k: int, wanted: Wanted | None) -> Tensor:
        """Return log-probabilities of the k best items that are not banned and their equals, others -inf, [B, N]."""
        n_left = (~banned).sum(1).clamp(max=k)
        k, last, is_none_left = max(1, int(n_left.max())), (n_left - 1).clamp(min=0)[:, None], n_left == 0

        def candidates(found: Tensor, members: Tensor) -> Tensor:
            titles = self.compiled.by_item(found)
            return state.mixed(titles, members).masked_fill_(banned[members], -torch.inf)

        def worst_wanted(scores: Tensor, members: Tensor) -> Tensor:
            # Where fewer than k are left, the worst of these, so that the search can end.
            worst = scores.topk(k, dim=1).values.gather(1, last[members])[:, 0]
            return worst.masked_fill(is_none_left[members], torch.inf)

        def floor(found: Tensor, members: Tensor) -> Tensor:
            return worst_wanted(candidates(found, members), members)

        found = self.model.score_above(state.without(banned), self.compiled, floor, wanted)
        every = torch.arange(len(banned), device=found.device)
        scores = candidates(found, every)
        # Below the floor titles may not have been read, so that votes alone would stand for their items.
        return scores.masked_fill(scores < worst_wanted(scores, every)[:, None], -torch.inf)

    def _banned(
        self, histories: Histories, rows: IntArray, exclude_seen: bool, allowed: AllowedItems | None = None
    ) -> Tensor:
        """Return True at the items that each history rules out, [B, N]."""
        banned = torch.zeros(len(histories), self.catalogue.n_items, dtype=torch.bool)
        if exclude_seen:
            banned[np.repeat(np.arange(len(histories)), histories.lengths), histories.item_index] = True
        if allowed is not None:
            banned |= ~torch.from_numpy(allowed.at(rows))
        banned = banned.to(self.model.device)
        retired = self.compiled.retired
        return banned if retired is None else banned.index_fill_(1, retired, True)

    def _wanted(self, rows: IntArray, allowed: AllowedItems | None) -> Wanted | None:
        """Return which prefixes lead to an allowed item; None where all do."""
        if allowed is None:
            return None
        used, place = np.unique(allowed.of_row[rows], return_inverse=True)
        masks = self._without_retired(torch.from_numpy(allowed.masks[used]).int().to(self.model.device))
        nodes = allowed_nodes(self._by_leaf(masks) > 0, self.compiled.trie)
        of_row = torch.from_numpy(place).to(nodes.device)
        return lambda members, prefixes: nodes[of_row[members], prefixes]

    def _by_leaf(self, of_items: Tensor) -> Tensor:
        """Return sums over the items of each title, [B, N] -> [B, n_leaves]; retired items must be 0."""
        sums = of_items.new_zeros(len(of_items), self.compiled.trie.n_leaves)
        return sums.index_add_(1, self.compiled.leaf, of_items)

    def _without_retired(self, of_items: Tensor) -> Tensor:
        retired = self.compiled.retired
        return of_items if retired is None else of_items.index_fill(1, retired, 0)

    def _score(self, histories: Histories, n_rows: int, scored: _Scored) -> FloatArray:
        """Score histories of similar length together, `n_rows` at a time."""
        out = np.empty((len(histories), self.catalogue.n_items), dtype=np.float32)
        with torch.inference_mode():
            for rows, read in self._batches(histories, n_rows):
                out[rows] = scored(read, rows).float().cpu().numpy()
        return out

    def _batches(self, histories: Histories, n_rows: int) -> Iterator[tuple[IntArray, Histories]]:
        """Yield places of histories of similar length, and these histories cut to the window."""
        recent = histories.window(self.config.text.window)
        for rows in self._together(recent, n_rows):
            yield rows, recent.take(rows)

    def _together(self, histories: Histories, n_rows: int) -> list[IntArray]:
        """Return runs of at most `n_rows` histories that are read together; long ones only with their like.

        On a CPU a long history's last bits would depend on how far it is padded, see `flr.blocks`.
        """
        if len(histories) == 1:
            return [np.zeros(1, dtype=np.int64)]
        n_tokens = self.compiled.template.streams(histories).lengths
        order = np.argsort(n_tokens, kind="stable")  # by items, a longer stream could come before a shorter one
        lengths = [whole_blocks(int(n)) for n in n_tokens[order]]
        most = shared_columns() - 2 * BLOCK if self.model.device.type == "cpu" else max(lengths, default=0)
        runs: list[IntArray] = []
        start = 0
        for end in range(1, len(order) + 1):
            unlike = end < len(order) and lengths[start] != lengths[end] > most
            if end == len(order) or end - start == n_rows or unlike:
                runs.append(order[start:end])
                start = end
        return runs

    def _rows_per_forward(self, histories: Histories, n_nodes: int) -> int:
        """Return how many histories one forward may take within the memory budget, with so many trie nodes each."""
        check_resolved(histories, self.catalogue.n_items)
        if len(histories) == 1:
            return 1
        settings = self.model.backbone.transformer.config
        recent = histories.window(self.config.text.window)
        n_stream = int(self.compiled.template.streams(recent).lengths.max(initial=1)) + n_nodes
        per_node = 8 * settings.hidden_size + 3 * feed_forward_width(settings) + 2 * n_stream
        cache = 2 * settings.num_hidden_layers * settings.hidden_size * n_stream
        outputs = 2 * self.compiled.table.n_edges + 3 * self.catalogue.n_items
        bytes_per_row = 4 * int(n_nodes * per_node + cache + outputs)
        budget = self.config.evaluation.memory_mb or (_CPU_MB if self.model.device.type == "cpu" else _GPU_MB)
        return max(1, min(budget * 2**20 // bytes_per_row, self.max_rows or len(histories)))
