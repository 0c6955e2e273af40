"""Exact scores of the titles that matter, leaving the rest of the trie unread.

A title is at most as probable as any prefix of its path. So the trie is walked level by level, and only prefixes that
reach a floor go on: the k-th best title found so far, or the title whose rank is asked for. What comes out is exact;
titles below the floor are ``-inf``. On MovieLens-100K the ten best films take 12 of 255 nodes.

Source: METHOD 5 and 8 (ours). The decoder is a function; this module knows nothing of text or transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.blocks import whole_blocks
from flr.records import BoolArray, IntArray, TokenTrie
from flr.scoring.likelihood import ChildTable, child_log_probs, children_of_one

#: Rows of one group have at most this many times (and a few) as many nodes as the one with fewest: padding costs, but
#: so does every call of the decoder, as much as a hundred nodes on a CPU.
_SPREAD, _FEW = 3.0, 8

#: (rows [F], trie nodes [F], place of each node's parent in the previous call, or its row at first [F])
#: -> hidden states [F, D]; rows ascend.
PrefixDecoder = Callable[[Tensor, Tensor, Tensor], Tensor]
#: (log-probabilities of prefixes [F], their rows [F], their nodes [F]) -> what is compared with a floor, [F].
Bound = Callable[[Tensor, Tensor, Tensor], Tensor]
#: (log-probabilities of titles found so far [n, n_leaves], rows [n]) -> what a prefix must reach, [n].
Floor = Callable[[Tensor, Tensor], Tensor]
#: (rows [F], trie nodes [F]) -> whether some title below each is asked for, [F].
Wanted = Callable[[Tensor, Tensor], Tensor]


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
        shared_columns: Slots below the thoughts, in whole blocks, that rows may share; rows that need more are read
            one by one, so that no row's last bits depend on others (see `flr.blocks`).
        bound: What a prefix can still come to where something else than titles adds to scores; None takes its
            log-probability.
        wanted: Prefixes that lead to no wanted title are not read; None wants all.
    """
    n_rows, device = len(root_hidden), root_hidden.device
    found = torch.full((n_rows, n_leaves), -torch.inf, device=device)
    every = torch.arange(n_rows, device=device)
    reaches = bound or (lambda log_probs, *_: log_probs)

    def step(frontier: _Frontier, hidden: Tensor, members: Tensor) -> tuple[_Frontier, Tensor]:
        """Write the titles that end below a frontier of some member rows; return what to read on, and its owners."""
        owners, children, gains = child_log_probs(hidden, frontier.nodes, table, output)
        log_probs, rows = frontier.log_probs[owners] + gains, frontier.rows[owners]
        leaves = sole_leaf[children]
        ends = leaves >= 0
        found[rows[ends], leaves[ends]] = log_probs[ends]
        inner = torch.nonzero(~ends)[:, 0]
        threshold = floor(found[members], members)[torch.searchsorted(members, rows[inner])]
        inner = inner[reaches(log_probs[inner], rows[inner], children[inner]) >= threshold]
        if wanted is not None:
            inner = inner[wanted(rows[inner], children[inner])]
        if len(members) > 1:
            inner = inner[rows[inner].argsort(stable=True)]
        return _Frontier(rows[inner], children[inner], log_probs[inner]), owners[inner]

    def first_step() -> _Frontier:
        children, log_probs = children_of_one(root_hidden, 0, table, output)
        leaves = sole_leaf[children]
        found[:, leaves[leaves >= 0]] = log_probs[:, leaves >= 0]
        inner, log_probs = children[leaves < 0], log_probs[:, leaves < 0]
        reached = log_probs
        if bound is not None:
            of_row = every.repeat_interleave(len(inner))
            reached = bound(log_probs.flatten(), of_row, inner.repeat(n_rows)).view_as(log_probs)
        rows, columns = torch.nonzero(reached >= floor(found, every)[:, None], as_tuple=True)
        frontier = _Frontier(rows, inner[columns], log_probs[rows, columns])
        return frontier if wanted is None else frontier.where(wanted(rows, inner[columns]))

    below_root = first_step()
    groups = _alike(torch.bincount(below_root.rows, minlength=n_rows), max_nodes)
    while groups:
        members = groups.pop()
        decode, frontier = open_reader(), below_root.of(members)
        owners, n_columns = frontier.rows, 0
        while len(frontier.rows):
            n_columns += whole_blocks(int(torch.bincount(frontier.rows).max()))
            if n_columns > shared_columns and len(members) > 1:
                groups += [row[None] for row in members]
                break
            hidden = decode(frontier.rows, frontier.nodes, owners)
            frontier, owners = step(frontier, hidden, members)
    return found


@dataclass(frozen=True)
class _Frontier:
    """Trie nodes about to be read: their rows, ascending, and log-probabilities; [F] each."""

    rows: Tensor
    nodes: Tensor
    log_probs: Tensor

    def of(self, members: Tensor) -> _Frontier:
        return self.where(torch.isin(self.rows, members))

    def where(self, chosen: Tensor) -> _Frontier:
        return _Frontier(self.rows[chosen], self.nodes[chosen], self.log_probs[chosen])


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
