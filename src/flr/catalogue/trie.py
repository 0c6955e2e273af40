"""The catalogue as a token trie in flat integer arrays, built level by level without recursion.

Numbering nodes by level, parent and token makes the children of a node one contiguous run, so every later
question (children, paths, subtrees) is array arithmetic.
"""

from __future__ import annotations

import itertools

import numpy as np

from flr.errors import DataError
from flr.records import BoolArray, IntArray, TokenizedTitles, TokenTrie, TriePaths


def build_trie(titles: TokenizedTitles) -> TokenTrie:
    """Return the trie of all titles.

    The cost is one sort per level over the titles that reach it.

    Source: METHOD 5.

    Args:
        titles: Token ids of every distinct title, each closed by the end-of-item token, which occurs nowhere
            else; so no title is a prefix of another.

    Raises:
        DataError: There is no title, a title is empty, or two titles have the same tokens.
    """
    lengths = titles.lengths
    if len(lengths) == 0 or lengths.min() < 1:
        raise DataError(f"a trie needs at least one title and one token per title; got {len(lengths)} titles")
    node = np.zeros(len(lengths), dtype=np.int64)
    parents, tokens, starts, n_nodes = [np.array([-1])], [np.array([-1])], [0], 1
    n_tokens = int(titles.ids.max()) + 1
    for level in range(int(lengths.max())):
        alive = np.flatnonzero(lengths > level)
        keys = node[alive] * n_tokens + titles.ids[titles.offsets[alive] + level]
        distinct, inverse = np.unique(keys, return_inverse=True)
        node[alive] = n_nodes + inverse
        parents.append(distinct // n_tokens)
        tokens.append(distinct % n_tokens)
        starts.append(n_nodes)
        n_nodes += len(distinct)
    _check_distinct(node)
    parent = np.concatenate(parents)
    depth = np.repeat(np.arange(len(starts)), np.diff([*starts, n_nodes]))
    n_children = np.bincount(parent[1:], minlength=n_nodes)
    child_start = 1 + np.concatenate([[0], np.cumsum(n_children)[:-1]])
    as_int32 = (parent, np.concatenate(tokens), depth, child_start, n_children, node)
    return TokenTrie(*(array.astype(np.int32) for array in as_int32))


def _check_distinct(node_of_leaf: IntArray) -> None:
    _, first, counts = np.unique(node_of_leaf, return_index=True, return_counts=True)
    if (counts > 1).any():
        leaf = int(first[np.argmax(counts > 1)])
        same = np.flatnonzero(node_of_leaf == node_of_leaf[leaf])[:3].tolist()
        raise DataError(f"titles number {same} have the same tokens; distinct titles must stay distinct as tokens")


def choice_paths(trie: TokenTrie, *, only_branching: bool = True) -> TriePaths:
    """Return the nodes at which writing each title makes a choice.

    Source: METHOD Eq. 9.

    Args:
        trie: The catalogue's trie.
        only_branching: Leave out forced tokens (nodes with one child), which cost nothing under the catalogue
            likelihood. False keeps them, as the vocabulary likelihood needs.
    """
    counted = trie.n_children > (1 if only_branching else 0)
    children, leaves = [], []
    node = trie.node_of_leaf.astype(np.int64)
    leaf = np.arange(trie.n_leaves)
    while len(node):
        chosen = counted[trie.parent[node]]
        children.append(node[chosen])
        leaves.append(leaf[chosen])
        above = trie.parent[node] > 0
        node, leaf = trie.parent[node[above]].astype(np.int64), leaf[above]
    child, owner = np.concatenate(children), np.concatenate(leaves)
    order = np.lexsort((trie.depth[child], owner))
    child, owner = child[order], owner[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=trie.n_leaves))]).astype(np.int64)
    n_written = np.zeros(trie.n_leaves, dtype=np.int32)
    np.maximum.at(n_written, owner, trie.depth[child] - 1)
    return TriePaths(trie.parent[child], child.astype(np.int32), offsets, n_written)


def ancestors_of(trie: TokenTrie, nodes: BoolArray) -> BoolArray:
    """Return True at the given nodes and at all their ancestors, [n_nodes].

    Applied to the branching nodes these are the needed nodes: all whose hidden state scoring the whole
    catalogue takes.
    """
    marked = nodes.copy()
    for start, end in reversed(_levels(trie)):
        marked[trie.parent[start:end][marked[start:end]]] = True
    return marked


def preorder(trie: TokenTrie) -> IntArray:
    """Return each node's place in depth-first order, [n_nodes] int64; a subtree is a contiguous run of places."""
    size = np.ones(trie.n_nodes, dtype=np.int64)
    levels = _levels(trie)
    for start, end in reversed(levels):
        np.add.at(size, trie.parent[start:end], size[start:end])
    place = np.zeros(trie.n_nodes, dtype=np.int64)
    for start, end in levels:
        before = np.cumsum(size[start:end]) - size[start:end]
        parent = trie.parent[start:end]
        place[start:end] = place[parent] + 1 + before - before[trie.child_start[parent] - start]
    return place


def _levels(trie: TokenTrie) -> list[tuple[int, int]]:
    """Return the run of nodes of every level below the root, top down."""
    bounds = np.searchsorted(trie.depth, np.arange(1, int(trie.depth.max()) + 2)).tolist()
    return list(itertools.pairwise(bounds))
