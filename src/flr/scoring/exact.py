"""Exact scores of the whole catalogue in one tree-masked forward.

The trie nodes whose hidden states are needed are laid out in depth-first order as one long branch in which a
node sees its history, its thought and its ancestors. A slice of that order, together with the ancestors of
its first node, stands on its own, so any catalogue fits any memory budget.

Source: METHOD 5 and 8. The decoder is a function; this module knows nothing of text or transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.records import BoolArray, IntArray, TokenTrie
from flr.scoring.likelihood import ChildTable, LeafSums, write_edge_log_probs

#: (token ids [M], depths [M], mask [M, M]) -> hidden states [B, M, D] below the thoughts of B histories.
TreeDecoder = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TreeSlice:
    """A part of the needed nodes that can be evaluated on its own.

    Attributes:
        nodes: Trie nodes below the root, ancestors before descendants, [M].
        tokens: Token on the edge into each, [M].
        depths: Tokens from the root, 1 for the root's children, [M].
        mask: True where row node sees column node: itself and its ancestors, [M, M].
    """

    nodes: Tensor
    tokens: Tensor
    depths: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> TreeSlice:
        return TreeSlice(*(getattr(self, name).to(device) for name in ("nodes", "tokens", "depths", "mask")))


def tree_slices(trie: TokenTrie, needed: BoolArray, place: IntArray, max_nodes: int) -> list[TreeSlice]:
    """Cut the needed nodes into slices of at most `max_nodes` new nodes each.

    Args:
        trie: The catalogue's trie.
        needed: True at nodes whose hidden state is needed, [n_nodes]; every ancestor of one is one.
        place: Each node's place in depth-first order, [n_nodes].
        max_nodes: New nodes per slice; a slice also repeats the few ancestors of its first node.
    """
    nodes = np.flatnonzero(needed[1:]) + 1
    nodes = nodes[np.argsort(place[nodes])]
    return [_slice(trie, nodes[start : start + max_nodes]) for start in range(0, len(nodes), max_nodes)]


def _slice(trie: TokenTrie, fresh: IntArray) -> TreeSlice:
    above, node = [], int(trie.parent[fresh[0]])
    while node > 0:
        above.append(node)
        node = int(trie.parent[node])
    nodes = np.concatenate([np.array(above[::-1], dtype=np.int64), fresh])
    row = np.full(trie.n_nodes, -1)
    row[nodes] = np.arange(len(nodes))
    mask = np.eye(len(nodes), dtype=bool)
    ancestor, below = trie.parent[nodes], np.arange(len(nodes))
    while len(ancestor):
        inner = ancestor > 0
        ancestor, below = ancestor[inner], below[inner]
        mask[below, row[ancestor]] = True
        ancestor = trie.parent[ancestor]
    tokens, depths = trie.token[nodes].astype(np.int64), trie.depth[nodes].astype(np.int64)
    return TreeSlice(*(torch.from_numpy(array) for array in (nodes, tokens, depths, mask)))


def catalogue_log_probs(
    root_hidden: Tensor,
    slices: list[TreeSlice],
    decode: TreeDecoder,
    *,
    table: ChildTable,
    sums: LeafSums,
    output: Tensor,
) -> Tensor:
    """Return log p(title | history) of every distinct title, float32, [B, n_leaves].

    Args:
        root_hidden: Hidden state of the last thought position, which predicts the first token, [B, D].
        slices: The needed nodes below the root.
        decode: Runs one slice below the thoughts of the B histories.
        table: Children by size class.
        sums: How edges add up to titles.
        output: Output embeddings, [V, D].
    """
    edges = torch.zeros(len(root_hidden), table.n_edges, device=root_hidden.device)
    row_of_node = torch.full_like(table.first_child, -1)
    row_of_node[0] = 0
    write_edge_log_probs(edges, root_hidden[:, None], row_of_node, table, output)
    for part in slices:
        row_of_node = torch.full_like(table.first_child, -1)
        row_of_node[part.nodes] = torch.arange(len(part.nodes), device=root_hidden.device)
        write_edge_log_probs(edges, decode(part.tokens, part.depths, part.mask), row_of_node, table, output)
    return sums(edges)


def item_log_probs(leaf_log_probs: Tensor, leaf: Tensor, n_sharing: Tensor, retired: Tensor | None = None) -> Tensor:
    """Divide each title's probability equally among the items that share it, [B, n_leaves] -> [B, N].

    Args:
        leaf_log_probs: Natural logs by leaf.
        leaf: Leaf of each item, [N].
        n_sharing: Items of each leaf, [n_leaves].
        retired: Items that are -inf, whatever their leaf; None where there are none.
    """
    of_items = (leaf_log_probs - n_sharing.float().log())[:, leaf]
    return of_items if retired is None else of_items.index_fill_(1, retired, -torch.inf)
