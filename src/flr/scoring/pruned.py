"""Exact scores of the titles that matter, leaving the rest of the trie unread.

A title is at most as probable as any prefix of its path. So the trie is walked from the root, and only prefixes that
reach a floor go on: the k-th best title found so far, or the title whose rank is asked for. What comes out is exact;
titles below the floor are ``-inf``. On MovieLens-100K the ten best films take 12 of 255 nodes. Where some nodes have
been read already, titles below them are written first, so that the floor is high before anything is read.

Source: METHOD 5 and 8 (ours). The decoder is a function; this module knows nothing of text or transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flr.blocks import whole_blocks
from flr.records import BoolArray, IntArray, TokenTrie
from flr.scoring.likelihood import ChildTable, child_log_probs

#: Rows of one group have at most this many times (and a few) as many nodes as the one with fewest: padding costs, but
#: so does every call of the decoder, as much as a hundred nodes on a CPU.
_SPREAD, _FEW = 3.0, 8

#: (rows [F], trie nodes [F], place of each node's parent in the previous call, or at first its slot among known nodes,
#: -1 where it is the root [F]) -> hidden states [F, D]; rows ascend.
PrefixDecoder = Callable[[Tensor, Tensor, Tensor], Tensor]
#: (log-probabilities of prefixes [F], their rows [F], their nodes [F]) -> what is compared with a floor, [F].
Bound = Callable[[Tensor, Tensor, Tensor], Tensor]
#: (log-probabilities of titles found so far [n, n_leaves], rows [n]) -> what a prefix must reach, [n].
Floor = Callable[[Tensor, Tensor], Tensor]
#: (rows [F], trie nodes [F]) -> whether some title below each is asked for, [F].
Wanted = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class KnownNodes:
    """Trie nodes below the root that have been read, with all nodes above each.

    Attributes:
        nodes: Of each row, in no particular order, -1 where there is none, [B, S].
        hidden: Their hidden states, [B, S, D].
    """

    nodes: Tensor
    hidden: Tensor


def sole_leaves(trie: TokenTrie, needed: BoolArray) -> IntArray:
    """Return the leaf that each node leads to without a further choice, -1 at needed nodes, [n_nodes] int64.

    Args:
        trie: The catalogue's trie.
        needed: True at nodes whose hidden state scoring needs, [n_nodes]; no leaf is one.
    """
    leaf_of_node = np.full(trie.n_nodes, -1, dtype=np.int64)
    node, leaf = trie.node_of_leaf.astype(np.int64), np.arange(trie.n_leaves)
    while len(node):
        leaf_of_node[node] = leaf
        parent = trie.parent[node].astype(np.int64)
        inner = (parent >= 0) & ~needed[parent]  # with one title in all, not even the root is needed
        node, leaf = parent[inner], leaf[inner]
    return leaf_of_node


def leaf_log_probs_above(
    root_hidden: Tensor,
    open_reader: Callable[[], PrefixDecoder],
    floor: Floor,
    *,
    table: ChildTable,
    sole_leaf: Tensor,
    n_leaves: int,
    output: Tensor,
    max_nodes: int,
    shared_columns: int,
    bound: Bound | None = None,
    wanted: Wanted | None = None,
    known: KnownNodes | None = None,
) -> Tensor:
    """Return log p(title | history) of all titles that reach the floor, float32, [B, n_leaves].

    Titles below the floor may be there too, where reading on cost nothing; else they are -inf.

    Args:
        root_hidden: Hidden state that predicts the first token of a title, [B, D].
        open_reader: Makes a decoder of nodes below the thoughts of the B histories; rows with about as many nodes to
            read share one.
        floor: Asked after every level; must not fall as titles are found.
        table: Children by size class.
        sole_leaf: Of each node, see `sole_leaves`, [n_nodes].
        n_leaves: Distinct titles.
        output: Output embeddings, [V, D].
        max_nodes: Most nodes of the first level that one call of a decoder reads, padding included.
        shared_columns: Slots below the thoughts, in whole blocks, that rows may share; a row that needs more is read
            by itself, so that no row's last bits depend on others (see `flr.blocks`).
        bound: What a prefix can still come to where something else than titles adds to scores; None takes its
            log-probability.
        wanted: Prefixes that lead to no wanted title are not read; None wants all.
        known: Nodes that have been read already; None where there is only the root.
    """
    n_rows, device = len(root_hidden), root_hidden.device
    found = torch.full((n_rows, n_leaves), -torch.inf, device=device)
    every = torch.arange(n_rows, device=device)
    reaches = bound or (lambda log_probs, *_: log_probs)

    def written(rows: Tensor, children: Tensor, log_probs: Tensor) -> Tensor:
        """Write the titles that end at some nodes; return at which none does, [n]."""
        leaves = sole_leaf[children]
        ends = leaves >= 0
        found[rows[ends], leaves[ends]] = log_probs[ends]
        return ~ends

    def reaching(prefixes: _Frontier, members: Tensor) -> _Frontier:
        """Return the prefixes that are to be read, by row."""
        rows, nodes, log_probs, _ = prefixes
        threshold = floor(found[members], members)[torch.searchsorted(members, rows)]
        chosen = torch.nonzero(reaches(log_probs, rows, nodes) >= threshold)[:, 0]
        if wanted is not None:
            chosen = chosen[wanted(rows[chosen], nodes[chosen])]
        return prefixes.where(chosen[rows[chosen].argsort(stable=True)] if len(members) > 1 else chosen)

    def step(frontier: _Frontier, hidden: Tensor, members: Tensor) -> _Frontier:
        """Write the titles that end below a frontier of some member rows; return what to read on."""
        owners, children, gains = child_log_probs(hidden, frontier.nodes, table, output)
        log_probs, rows = frontier.log_probs[owners] + gains, frontier.rows[owners]
        inner = torch.nonzero(written(rows, children, log_probs))[:, 0]
        return reaching(_Frontier(rows, children, log_probs, owners).where(inner), members)

    def first_step() -> _Frontier:
        heads = _heads(root_hidden, known)
        owners, children, gains = child_log_probs(heads.hidden, heads.nodes, table, output)
        rows = heads.rows[owners]
        head, total = heads.linked(owners, children, gains, len(sole_leaf))
        log_probs = total[owners] + gains
        inner = torch.nonzero(written(rows, children, log_probs) & (head < 0))[:, 0]
        return reaching(_Frontier(rows, children, log_probs, heads.slots[owners]).where(inner), every)

    below_root = first_step()
    groups = _alike(torch.bincount(below_root.rows, minlength=n_rows), max_nodes)
    while groups:
        members = groups.pop()
        decode, frontier = open_reader(), below_root.of(members)
        n_left = shared_columns if len(members) > 1 else math.inf  # who is alone shares nothing
        while len(frontier.rows):
            n_asked = whole_blocks(torch.bincount(frontier.rows, minlength=n_rows)[members])
            if int(n_asked.max()) > n_left:
                groups += [row[None] for row in members[n_asked > n_left]]
                members = members[n_asked <= n_left]
                frontier = frontier.of(members)
                continue
            n_left -= int(n_asked.max())
            frontier = step(frontier, decode(frontier.rows, frontier.nodes, frontier.parents), members)
    return found


class _Frontier(NamedTuple):
    """Trie nodes about to be read: their rows, ascending, log-probabilities and what `PrefixDecoder` asks; [F] each."""

    rows: Tensor
    nodes: Tensor
    log_probs: Tensor
    parents: Tensor

    def of(self, members: Tensor) -> _Frontier:
        return self.where(torch.isin(self.rows, members))

    def where(self, chosen: Tensor) -> _Frontier:
        return _Frontier(*(part[chosen] for part in self))


class _Heads(NamedTuple):
    """Nodes whose hidden states are known, the roots of all rows first: row, slot (-1 of a root), [H] each, [H, D]."""

    rows: Tensor
    nodes: Tensor
    slots: Tensor
    hidden: Tensor
    n_slots: int

    def linked(self, owners: Tensor, children: Tensor, gains: Tensor, n_nodes: int) -> tuple[Tensor, Tensor]:
        """Return which children are heads themselves, -1 at others [n], and the log-probability of each head [H].

        Args:
            owners: Head of each child, [n].
            children: Trie nodes, [n].
            gains: Log-probability of the step to each child, [n].
            n_nodes: Of the trie.
        """
        edge, above = gains.new_zeros(len(self.rows)), torch.arange(len(self.rows), device=gains.device)
        if not self.n_slots:
            return torch.full_like(children, -1), edge
        keys, order = (self.rows * n_nodes + self.nodes).sort()
        asked = self.rows[owners] * n_nodes + children
        place = torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)
        is_head = keys[place] == asked
        head = torch.where(is_head, order[place], -1)
        edge[head[is_head]], above[head[is_head]] = gains[is_head], owners[is_head]
        for _ in range(self.n_slots.bit_length()):  # twice as far up each time, until roots, which gain nothing
            edge, above = edge + edge[above], above[above]
        return head, edge


def _heads(root_hidden: Tensor, known: KnownNodes | None) -> _Heads:
    """Return the roots of all rows, and the known nodes."""
    rows = torch.arange(len(root_hidden), device=root_hidden.device)
    if known is None:
        return _Heads(rows, torch.zeros_like(rows), torch.full_like(rows, -1), root_hidden, 0)
    of_row, slots = torch.nonzero(known.nodes >= 0, as_tuple=True)
    return _Heads(
        torch.cat([rows, of_row]),
        torch.cat([torch.zeros_like(rows), known.nodes[of_row, slots]]),
        torch.cat([torch.full_like(rows, -1), slots]),
        torch.cat([root_hidden, known.hidden[of_row, slots]]),
        known.nodes.shape[1],
    )


def _alike(counts: Tensor, budget: int) -> list[Tensor]:
    """Return rows with something to count in groups of about equal counts; rows x largest count keeps to the budget.

    >>> [rows.tolist() for rows in _alike(torch.tensor([30, 0, 1, 28, 1]), 64)]
    [[2, 4], [0, 3]]
    """
    order = counts.argsort(stable=True)
    order = order[counts[order] > 0]
    sizes = counts[order].tolist()
    groups, start = [], 0
    while start < len(order):
        end = start + 1
        while (
            end < len(order)
            and sizes[end] * (end + 1 - start) <= budget
            and sizes[end] <= _SPREAD * sizes[start] + _FEW
        ):
            end += 1
        groups.append(order[start:end].sort().values)
        start = end
    return groups
