"""Beam search over the token trie: the best titles of many histories at once, for catalogues too large to score.

Level by level, the best `width` of each row go on: prefixes, and titles that have ended, which keep their place as
long as fewer than `width` others are better. A title ends at its last choice, because forced tokens change nothing:
what is found is what a decoder finds that writes every token (a test compares the two). Nothing is drawn, only
children of the trie are ever written, and every log-probability returned is the exact one; approximate is only the
choice of titles. With a width of all titles it is the exact ranking, with width 1 greedy decoding.

Where it departs from beam search as text generators ship it:

1. No length normalisation unless asked for. D3 (Bao et al. 2024) found that dividing by the length favours titles of
   many near-certain tokens; under the catalogue likelihood log-probabilities are those of a proper distribution.
2. An ended title takes one of the `width` places rather than a place on a list of its own.

Source: METHOD 8 (ours). The decoder is a function; this module knows nothing of text or transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from flr.errors import RequestError
from flr.records import TokenTrie
from flr.scoring.likelihood import ChildTable, child_log_probs, children_of_one
from flr.scoring.pruned import PrefixDecoder

#: (rows [n], trie nodes [n]) -> log-probability that another recommender's pick begins as the node does, [n].
Guide = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Beam:
    """Settings of a search; titles and prefixes compete on (log p + guide_weight x guide) / tokens ** length_power.

    Attributes:
        width: Titles and prefixes of each row that go on, at least 1.
        length_power: 0 compares log-probabilities; 1 the mean per token, as BIGRec's decoder does by default. A prefix
            counts the tokens written so far, a title all of its own, forced ones included.
        guide: Another recommender's opinion of prefixes; see `title_guide` for D3's. What it gives -inf is not found.
        guide_weight: Weight of that opinion, 0 or more. D3 weighs the two with alpha and 1 - alpha, which is the order
            of ``guide_weight = (1 - alpha) / alpha``.
        allowed: True where a prefix may go on or a title be found, [B, n_nodes]; see `allowed_nodes`. None allows all.

    Raises:
        RequestError: `width` is below 1, `guide_weight` is below 0, or only one of guide and weight is given.
    """

    width: int
    length_power: float = 0.0
    guide: Guide | None = None
    guide_weight: float = 0.0
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise RequestError(f"a beam of width {self.width} finds nothing, expected at least 1")
        if self.guide_weight < 0 or (self.guide is None) != (self.guide_weight == 0):
            given = "no guide" if self.guide is None else "a guide"
            raise RequestError(
                f"got {given} with guide_weight = {self.guide_weight}; give a guide with a weight above 0, or neither"
            )


@dataclass(frozen=True)
class BestTitles:
    """The titles that a search found for each of B histories.

    Attributes:
        leaves: Best first, -1 where there were fewer than the width (which is at most the number of titles),
            [B, width] int64.
        log_probs: The model's own log p(title | history), float32, -inf where there is none, [B, width].
        scores: What they are ordered by, float32, -inf where there is none, [B, width].
    """

    leaves: Tensor
    log_probs: Tensor
    scores: Tensor


def beam_search(
    root_hidden: Tensor,
    open_reader: Callable[[], PrefixDecoder],
    beam: Beam,
    *,
    table: ChildTable,
    sole_leaf: Tensor,
    n_tokens: Tensor,
    output: Tensor,
    max_nodes: int,
) -> BestTitles:
    """Return the best titles of each row.

    Args:
        root_hidden: Hidden state that predicts the first token of a title, [B, D].
        open_reader: Makes a decoder of nodes below the thoughts of the B histories; some rows share one.
        beam: Settings.
        table: Children by size class, of either likelihood.
        sole_leaf: Leaf that each node leads to without a further choice, -1 at others, [n_nodes].
        n_tokens: Tokens of each title, [n_leaves].
        output: Output embeddings, [V, D].
        max_nodes: Most nodes that one call of a decoder reads, as long as one row alone does not need more.
    """
    width = min(beam.width, len(n_tokens))

    def best(found: _Hypotheses, n_written: int) -> _Hypotheses:
        leaves = sole_leaf[found.nodes]
        return found.best(beam, torch.where(leaves < 0, n_written, n_tokens[leaves]))

    def search(rows: Tensor) -> _Hypotheses:
        kept = best(_first_children(root_hidden[rows], rows, table, output), 1)
        decode, n_written = open_reader(), 1
        while len(growing := torch.nonzero(sole_leaf[kept.nodes] < 0)[:, 0]):
            ended, prefixes, n_written = kept.take(sole_leaf[kept.nodes] >= 0), kept.take(growing), n_written + 1
            hidden = decode(prefixes.rows, prefixes.nodes, prefixes.parents)
            owners, children, gains = child_log_probs(hidden, prefixes.nodes, table, output)
            log_probs = prefixes.log_probs[owners] + gains
            longer = _Hypotheses(prefixes.rows[owners], children, log_probs, log_probs, owners)
            kept = best(ended.and_more(longer), n_written)
        return kept

    every = torch.arange(len(root_hidden), device=root_hidden.device)
    found = [search(rows) for rows in torch.split(every, max(1, max_nodes // width))]
    return _by_row(found, sole_leaf, (len(root_hidden), width))


@dataclass(frozen=True)
class _Hypotheses:
    """Prefixes and titles of several rows; `parents` are places among the prefixes read before; [n] each."""

    rows: Tensor
    nodes: Tensor
    log_probs: Tensor
    scores: Tensor
    parents: Tensor

    def take(self, chosen: Tensor) -> _Hypotheses:
        return _Hypotheses(*(getattr(self, part.name)[chosen] for part in fields(self)))

    def best(self, beam: Beam, n_tokens: Tensor) -> _Hypotheses:
        """Return the best of each row, by row and best first, scored; `n_tokens` is the length of each, [n]."""
        scores = self.log_probs
        if beam.guide is not None:
            scores = scores + beam.guide_weight * beam.guide(self.rows, self.nodes).float()
        if beam.length_power:
            scores = scores / n_tokens**beam.length_power
        is_possible = scores > -torch.inf
        if beam.allowed is not None:
            is_possible &= beam.allowed[self.rows, self.nodes]
        possible = replace(self, scores=scores).take(is_possible)
        return possible.take(_best_of_rows(possible.rows, possible.scores, beam.width))

    def and_more(self, more: _Hypotheses) -> _Hypotheses:
        return _Hypotheses(*(torch.cat([getattr(self, p.name), getattr(more, p.name)]) for p in fields(self)))


def _first_children(root_hidden: Tensor, rows: Tensor, table: ChildTable, output: Tensor) -> _Hypotheses:
    """Return the first tokens of all titles for some rows, whose hidden states these are, [n, D]."""
    children, log_probs = children_of_one(root_hidden, 0, table, output)
    flat, of_row = log_probs.flatten(), rows[:, None].expand_as(log_probs).flatten()
    return _Hypotheses(of_row, children.expand_as(log_probs).flatten(), flat, flat, of_row)


def _best_of_rows(rows: Tensor, scores: Tensor, width: int) -> Tensor:
    """Return the places of the best of each row, by row and best first; equal scores keep their order.

    >>> _best_of_rows(torch.tensor([1, 0, 1, 1, 0]), torch.tensor([1.0, 2, 3, 2, 4]), 2).tolist()
    [4, 1, 2, 3]
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]
    return order[_ranks(rows[order]) < width]


def _ranks(rows: Tensor) -> Tensor:
    """Return the place of each entry within its row, where rows ascend."""
    return torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)


def _by_row(found: list[_Hypotheses], sole_leaf: Tensor, shape: tuple[int, int]) -> BestTitles:
    """Return the titles of all rows, in order, as a padded table."""
    device = sole_leaf.device
    leaves = torch.full(shape, -1, device=device)
    log_probs, scores = (torch.full(shape, -torch.inf, device=device) for _ in range(2))
    for part in found:
        place = part.rows, _ranks(part.rows)
        leaves[place], log_probs[place], scores[place] = sole_leaf[part.nodes], part.log_probs, part.scores
    return BestTitles(leaves, log_probs, scores)


def title_guide(leaf_log_probs: Tensor, trie: TokenTrie) -> Guide:
    """Return D3's guide: how much of another recommender's probability lies below each node.

    D3 adds, at every token, the log of the share of its helper's probability that the token keeps; over a prefix these
    shares multiply to the probability of all titles that begin so, and over a title to the title's own. (Its released
    code puts the most probable title below a token in place of their sum, which is no probability of the prefix.)

    Args:
        leaf_log_probs: What the other recommender makes of each distinct title, natural logs, -inf where it rules one
            out, [B, n_leaves].
        trie: The catalogue's trie.
    """
    highest = leaf_log_probs.max(dim=1, keepdim=True).values
    mass = _sums_below((leaf_log_probs.double() - highest).exp(), trie)
    log_mass = (mass.log() + highest).float()
    return lambda rows, nodes: log_mass[rows, nodes]


def allowed_nodes(allowed_leaves: Tensor, trie: TokenTrie) -> Tensor:
    """Return True at the nodes below which some title is allowed, [B, n_nodes].

    Args:
        allowed_leaves: True at the distinct titles that may be found, [B, n_leaves].
        trie: The catalogue's trie.
    """
    return _sums_below(allowed_leaves.int(), trie) > 0


def _sums_below(leaf_values: Tensor, trie: TokenTrie) -> Tensor:
    """Return the sum over the titles below each node, [B, n_leaves] -> [B, n_nodes]."""
    sums = leaf_values.new_zeros(len(leaf_values), trie.n_nodes)
    sums[:, trie.node_of_leaf.astype(np.int64)] = leaf_values
    levels = np.searchsorted(trie.depth, np.arange(int(trie.depth.max()) + 2))
    for start, end in zip(levels[-2:0:-1], levels[:1:-1], strict=True):
        parents = torch.from_numpy(trie.parent[start:end].astype(np.int64)).to(sums.device)
        sums.index_add_(1, parents, sums[:, start:end].clone())
    return sums
