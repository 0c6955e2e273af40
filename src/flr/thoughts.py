"""What a model has read and thought of histories, between reading them and scoring titles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flr.backbone.prefixes import Below, Foreseen
from flr.backbone.streams import Backbone, EncodedStreams
from flr.compiled import CompiledCatalogue
from flr.reasoner.memory import Votes
from flr.records import Thought
from flr.scoring.guessing import GuessedNodes
from flr.scoring.pruned import Bound
from flr.sequential.assistant import Advice


def votes_among(votes: Votes, advice: Advice | None, compiled: CompiledCatalogue) -> Votes:
    """Return advised votes for a catalogue that has changed since training; see `Votes.among`."""
    if advice is not None:
        votes = replace(votes, probs=advice.on(votes.probs))
    return votes.among(compiled.catalogue.n_items, compiled.retired, compiled.lenders)


def feed_thoughts(
    backbone: Backbone,
    past: EncodedStreams | None,
    vectors: Tensor,
    *,
    first_position: Tensor,
    guess: GuessedNodes | None = None,
) -> tuple[EncodedStreams, Foreseen | None]:
    """Read thoughts after histories, and trie nodes below the last thought that share their block.

    Args:
        backbone: Reads them.
        past: Histories, one per row; None for thoughts alone.
        vectors: Thoughts, [B, n_thoughts, D].
        first_position: Position of the first thought in each row, [B].
        guess: Which nodes; None fills the block with padding.

    Returns:
        The histories with a block appended whose first columns are the thoughts, and what was read of the nodes.
    """
    n_rows, n_thoughts, width = vectors.shape
    n_slots = backbone.whole_slots(n_thoughts, n_rows) if guess is None else n_thoughts + guess.nodes.shape[1]
    slots = torch.arange(n_slots, device=vectors.device)
    fed = vectors.new_zeros(n_rows, n_slots, width, dtype=backbone.embedding.weight.dtype)
    among = (slots[:, None] == slots) | (slots < n_thoughts)  # all see the thoughts, padding sees itself
    among[:n_thoughts] &= slots <= slots[:n_thoughts, None]
    among = among.repeat(n_rows, 1, 1)
    fed[:, :n_thoughts] = vectors
    positions = first_position[:, None] + slots
    if guess is not None:
        fed[:, n_thoughts:] = backbone.embed(guess.tokens)
        positions[:, n_thoughts:] = first_position[:, None] + n_thoughts - 1 + guess.depths
        among[:, n_thoughts:, n_thoughts:] = guess.sees
    mask = among if past is None else torch.cat([past.real[:, None].expand(-1, n_slots, -1), among], dim=-1)
    grown = backbone.grow(past, fed, positions, mask[:, None], (slots < n_thoughts).expand(n_rows, -1))
    if guess is None:
        return grown, None
    n_before = 0 if past is None else past.real.shape[1]
    hidden = grown.hidden[:, n_before + n_thoughts : n_before + n_slots]
    return grown, Foreseen(guess.nodes, hidden, among[:, n_thoughts:])


@dataclass(frozen=True)
class ThoughtState:
    """Histories whose thoughts have been thought, ready to score titles.

    Attributes:
        streams: The histories with their thought positions appended.
        root_hidden: Hidden state that predicts the first token of a title, [B, D].
        next_position: Position of that first token, [B].
        thought: What the reasoner did; None for a model without a thought.
        votes: What the memory says of all items; None for a model without one.
        advice: A second opinion that `among` has not heard yet; None where there is none.
        foreseen: Trie nodes that were read along with the thoughts, for which votes have been brought `among` the
            catalogue already; None where there are none.
    """

    streams: EncodedStreams
    root_hidden: Tensor
    next_position: Tensor
    thought: Thought | None
    votes: Votes | None = None
    advice: Advice | None = None
    foreseen: Foreseen | None = None

    def histories_of(self, rows: Tensor) -> Below:
        """Return what titles of some of the histories, ascending rows, are read below."""
        sees = None if self.foreseen is None else self.foreseen.sees
        if len(rows) == len(self.next_position):
            return Below(self.streams, self.next_position, sees)
        streams = self.streams.rows(rows).without_empty_blocks()  # as if others had never been there
        return Below(streams, self.next_position[rows], None if sees is None else sees[rows])

    def among(self, compiled: CompiledCatalogue) -> ThoughtState:
        """Return the same with advised votes, for a catalogue that has changed since training; see `Votes.among`."""
        if self.votes is None or self.foreseen is not None:
            return self
        return replace(self, votes=votes_among(self.votes, self.advice, compiled), advice=None)

    def without(self, banned: Tensor) -> ThoughtState:
        """Return the same for a search among other items: what is banned, True in [B, N], has no votes to look for."""
        if self.votes is None:
            return self
        return replace(self, votes=replace(self.votes, probs=self.votes.probs.masked_fill(banned, 0.0)))

    def bound(self, compiled: CompiledCatalogue) -> Bound | None:
        """Return what items below a trie node can reach, given the memory's votes; None where titles decide alone."""
        if self.votes is None:
            return None
        votes = self.votes
        best = compiled.best_below(votes.probs)

        def bound(log_probs: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
            return Votes(votes.log_trust[rows], votes.log_distrust[rows], best[rows, nodes]).mix(log_probs)

        return bound

    def mixed(self, log_probs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return log p(item | history) from those of written titles, [n, N]; `rows` as in `Votes.mix`."""
        return log_probs if self.votes is None else self.votes.mix(log_probs, rows)
