"""The catalogue likelihood: at a trie node the next token can only be one of its children.

Nodes are put into size classes by their number of children, so that a softmax over children is a masked
softmax over a short padded axis: no loop over nodes, no scatter, and the cost follows the number of edges
rather than the vocabulary.

Source: METHOD Eq. 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from flr.blocks import BLOCK, by_block
from flr.records import BoolArray, IntArray, TokenTrie, TriePaths

#: Each size class holds nodes with up to this factor more children than its smallest.
_CLASS_GROWTH = 1.25
#: Below this many nodes in a class, all their children are scored for all queries in one dense product.
DENSE_NODES = 4
#: Logits over the whole vocabulary that are held at a time: 256 MiB.
_LOGITS = 2**26


@dataclass(frozen=True)
class SizeClass:
    """Nodes with about the same number of children.

    Attributes:
        nodes: [n] trie nodes, ascending.
        edges: [n, c] number of the edge to each child, 0 at padding.
        tokens: [n, c] tokens of those children, 0 at padding.
        real: [n, c] True where there is a child.
    """

    nodes: Tensor
    edges: Tensor
    tokens: Tensor
    real: Tensor

    def to(self, device: torch.device) -> SizeClass:
        return SizeClass(*(getattr(self, name).to(device) for name in ("nodes", "edges", "tokens", "real")))


@dataclass(frozen=True)
class ChildTable:
    """The children of all nodes at which a token is chosen, by size class.

    Attributes:
        classes: Size classes, small nodes first.
        class_of_node: Size class of each trie node, -1 where nothing is chosen, [n_nodes].
        place_of_node: Place of each node within its class, [n_nodes].
        first_child: First child of each node, [n_nodes].
        token_of_node: Token on the edge into each node, [n_nodes].
        n_edges: Edges below all counted nodes; an edge's number ascends with the node it leads to.
        normalise: ``"children"`` (Eq. 9) or ``"vocabulary"``.
    """

    classes: tuple[SizeClass, ...]
    class_of_node: Tensor
    place_of_node: Tensor
    first_child: Tensor
    token_of_node: Tensor
    n_edges: int
    normalise: str

    def to(self, device: torch.device) -> ChildTable:
        """Return the table on another device."""
        return ChildTable(
            classes=tuple(part.to(device) for part in self.classes),
            class_of_node=self.class_of_node.to(device),
            place_of_node=self.place_of_node.to(device),
            first_child=self.first_child.to(device),
            token_of_node=self.token_of_node.to(device),
            n_edges=self.n_edges,
            normalise=self.normalise,
        )


def child_table(trie: TokenTrie, *, likelihood: str) -> ChildTable:
    """Return the children of all nodes that count under a likelihood.

    Args:
        trie: The catalogue's trie.
        likelihood: ``"catalogue"`` counts branching nodes only; ``"vocabulary"`` counts every inner node.
    """
    n_children = trie.n_children.astype(np.int64)
    chosen = np.flatnonzero(counted_nodes(trie, likelihood=likelihood))
    size_class = np.ceil(np.log(n_children[chosen]) / np.log(_CLASS_GROWTH)).astype(np.int64)
    distinct, class_of_chosen = np.unique(size_class, return_inverse=True)
    class_of_node = np.full(trie.n_nodes, -1)
    class_of_node[chosen] = class_of_chosen
    place_of_node = np.zeros(trie.n_nodes, dtype=np.int64)
    edge_of_node = edge_numbers(trie, likelihood=likelihood)
    classes = []
    for number in range(len(distinct)):
        nodes = chosen[class_of_chosen == number]
        place_of_node[nodes] = np.arange(len(nodes))
        classes.append(_size_class(trie, nodes, edge_of_node))
    return ChildTable(
        classes=tuple(classes),
        class_of_node=torch.from_numpy(class_of_node),
        place_of_node=torch.from_numpy(place_of_node),
        first_child=torch.from_numpy(trie.child_start.astype(np.int64)),
        token_of_node=torch.from_numpy(trie.token.astype(np.int64)),
        n_edges=int(n_children[chosen].sum()),
        normalise="children" if likelihood == "catalogue" else "vocabulary",
    )


def counted_nodes(trie: TokenTrie, *, likelihood: str) -> BoolArray:
    """Return True at the nodes where a likelihood chooses a token, [n_nodes]."""
    return trie.n_children > (1 if likelihood == "catalogue" else 0)


def edge_numbers(trie: TokenTrie, *, likelihood: str) -> IntArray:
    """Return the number of the edge into each node, -1 where its parent makes no choice, [n_nodes]."""
    has_edge = np.concatenate([[False], counted_nodes(trie, likelihood=likelihood)[trie.parent[1:]]])
    return np.where(has_edge, np.cumsum(has_edge) - 1, -1)


def _size_class(trie: TokenTrie, nodes: IntArray, edge_of_node: IntArray) -> SizeClass:
    counts = trie.n_children[nodes].astype(np.int64)
    slots = np.arange(counts.max())
    real = slots < counts[:, None]
    children = np.where(real, trie.child_start[nodes][:, None] + slots, 0)
    tokens = np.where(real, trie.token[children], 0)
    edges = np.where(real, edge_of_node[children], 0)
    return SizeClass(*(torch.from_numpy(array) for array in (nodes, edges, tokens.astype(np.int64), real)))


def choice_log_probs(hidden: Tensor, nodes: Tensor, children: Tensor, table: ChildTable, output: Tensor) -> Tensor:
    """Return the log-probability of each choice: at a node, with the hidden state there, taking one child.

    Args:
        hidden: Hidden states at the choices, [S, D].
        nodes: Trie node of each choice, counted by the table, [S].
        children: The child taken (a trie node), [S].
        table: Children by size class.
        output: Output embeddings, [V, D].

    Returns:
        Natural logs, float32, [S].
    """
    if table.normalise == "vocabulary":
        log_probs = torch.log_softmax((hidden @ output.T).float(), dim=-1)
        return log_probs.gather(1, table.token_of_node[children][:, None])[:, 0]
    out = hidden.new_zeros(len(nodes), dtype=torch.float32)
    slots = children - table.first_child[nodes]
    for chosen, place, part, weights in _asked_classes(nodes, table, output):
        logits = _logits_of_queries(hidden[chosen], place, part, weights)
        picked = torch.log_softmax(logits, dim=-1).gather(1, slots[chosen, None])[:, 0]
        out = out.index_put((chosen,), picked)
    return out


def _asked_classes(
    nodes: Tensor, table: ChildTable, output: Tensor
) -> Iterator[tuple[Tensor, Tensor, SizeClass, Tensor]]:
    """Yield which nodes are of each size class, their places in it, the class, and the weights of what is asked of it.

    The weights of all classes are looked up at once, because each lookup has a gradient as large as the vocabulary.
    """
    classes = table.class_of_node[nodes]
    asked = []
    for number in torch.unique(classes).tolist():
        if number >= 0:
            chosen, part = torch.nonzero(classes == number)[:, 0], table.classes[number]
            place = table.place_of_node[nodes[chosen]]
            asked.append((chosen, place, part, _asked_tokens(place, part)))
    if not asked:
        return
    weights = nn.functional.embedding(torch.cat([tokens.flatten() for *_, tokens in asked]), output)
    by_class = torch.split(weights, [tokens.numel() for *_, tokens in asked])
    for (chosen, place, part, tokens), rows in zip(asked, by_class, strict=True):
        yield chosen, place, part, rows.view(*tokens.shape, -1)


def _asked_tokens(place: Tensor, part: SizeClass) -> Tensor:
    """Return the tokens of all children of a class of few nodes, [n, c], or of those of each query's node, [S, c]."""
    if len(part.tokens) <= DENSE_NODES:
        return part.tokens
    # Two at least: one query alone would be another kind of product, with other last bits.
    return part.tokens[place.expand(2) if len(place) == 1 else place]


def child_log_probs(hidden: Tensor, nodes: Tensor, table: ChildTable, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return every child of some nodes and the log-probability of stepping to it.

    Args:
        hidden: Hidden states at the nodes, [F, D].
        nodes: Trie nodes, not leaves; one that makes no choice steps to its only child with log-probability 0, [F].
        table: Children by size class.
        output: Output embeddings, [V, D].

    Returns:
        For each child, in no particular order: the place of its parent in `nodes`, the child (a trie node), and the
        natural log, float32; [n] each.
    """
    first = table.first_child[nodes]
    forced = torch.nonzero(table.class_of_node[nodes] < 0)[:, 0]
    found = [(forced, first[forced], hidden.new_zeros(len(forced), dtype=torch.float32))]
    for chosen, place, part, weights in _asked_classes(nodes, table, output):
        states = hidden[chosen]
        log_probs = _normalised(_logits_of_queries(states, place, part, weights), states, table, output)
        queries, slots = torch.nonzero(part.real[place], as_tuple=True)
        owners = chosen[queries]
        found.append((owners, first[owners] + slots, log_probs[queries, slots]))
    owners, children, log_probs = (torch.cat(parts) for parts in zip(*found, strict=True))
    return owners, children, log_probs


def children_of_one(hidden: Tensor, node: int, table: ChildTable, output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the children of one node [c] and the log-probability of each after every hidden state there, [B, c].

    Args:
        hidden: Hidden states at the node, [B, D].
        node: A trie node, not a leaf.
        table: Children by size class.
        output: Output embeddings, [V, D].
    """
    first, number = table.first_child[node], int(table.class_of_node[node])
    if number < 0:
        return first[None], hidden.new_zeros(len(hidden), 1, dtype=torch.float32)
    part, place = table.classes[number], table.place_of_node[node]
    tokens = part.tokens[place][part.real[place]]
    logits = _products(hidden, nn.functional.embedding(tokens, output)).float()
    return first + torch.arange(len(tokens), device=hidden.device), _normalised(logits, hidden, table, output)


def _normalised(logits: Tensor, hidden: Tensor, table: ChildTable, output: Tensor) -> Tensor:
    """Return log-probabilities from the logits of children, [n, c], with -inf at padding."""
    if table.normalise == "vocabulary":
        return logits - _over_vocabulary(hidden, output)
    return torch.log_softmax(logits, dim=-1)


def _over_vocabulary(hidden: Tensor, output: Tensor) -> Tensor:
    """Return the log of the sum over the vocabulary of exponential logits, [..., D] -> [..., 1] float32.

    Thousands of nodes times a vocabulary of 150,000 tokens would be gigabytes, so some are looked at at a time.
    """
    n_at_once = max(BLOCK, _LOGITS // len(output) // BLOCK * BLOCK)

    def summed(rows: Tensor) -> Tensor:
        return torch.logsumexp((rows @ output.T).float(), -1, keepdim=True)

    parts = torch.split(hidden.flatten(0, -2), n_at_once)
    return torch.cat([by_block(summed, rows) for rows in parts]).view(*hidden.shape[:-1], 1)


def _logits_of_queries(hidden: Tensor, place: Tensor, part: SizeClass, weights: Tensor) -> Tensor:
    """Return masked float32 logits over the children of each query's node, [S, c].

    Args:
        hidden: Hidden states at the nodes, [S, D].
        place: Places of the nodes in their class, [S].
        part: The class.
        weights: Output embeddings of its `_asked_tokens`.
    """
    if len(part.tokens) <= DENSE_NODES:
        every = _products(hidden, weights.flatten(0, 1)).view(len(hidden), *part.tokens.shape)
        logits = every[torch.arange(len(place), device=place.device), place]
    else:
        states = hidden.expand(len(weights), -1)
        logits = (weights @ states[..., None])[: len(place), :, 0]
    masked: Tensor = logits.float().masked_fill(~part.real[place], -torch.inf)
    return masked


def _products(hidden: Tensor, weights: Tensor) -> Tensor:
    """Return the product of every hidden state with every row of `weights`, [n, D] x [m, D] -> [n, m]."""
    return by_block(partial(torch.matmul, other=weights.T), hidden)


def write_edge_log_probs(out: Tensor, hidden: Tensor, row_of_node: Tensor, table: ChildTable, output: Tensor) -> None:
    """Write the log-probability of every edge below the evaluated nodes into `out`.

    Args:
        out: Natural logs by edge number, float32, [B, n_edges]; other edges are left alone.
        hidden: Hidden states of evaluated nodes, [B, M, D].
        row_of_node: Row of each trie node in `hidden`, -1 where it was not evaluated, [n_nodes].
        table: Children by size class.
        output: Output embeddings, [V, D].
    """
    for part in table.classes:
        rows = row_of_node[part.nodes]
        chosen = torch.nonzero(rows >= 0)[:, 0]
        if not len(chosen):
            continue
        states = hidden[:, rows[chosen]]
        real = part.real[chosen]
        # One [B, D] x [D, c] product per node, batched over the nodes of the class.
        logits = torch.matmul(states.transpose(0, 1), output[part.tokens[chosen]].transpose(-1, -2)).float()
        if table.normalise == "vocabulary":
            log_probs = logits - _over_vocabulary(states, output).transpose(0, 1)
        else:
            log_probs = torch.log_softmax(logits.masked_fill(~real[:, None], -torch.inf), dim=-1)
        out[:, part.edges[chosen][real]] = log_probs.transpose(0, 1)[:, real]


@dataclass(frozen=True)
class LeafSums:
    """How edges add up to titles: the edges of each leaf's path, level by level.

    Attributes:
        levels: For each number n of choices on a path, the leaves with more than n, and their n-th edge.
        n_leaves: Number of leaves.
    """

    levels: tuple[tuple[Tensor, Tensor], ...]
    n_leaves: int

    def to(self, device: torch.device) -> LeafSums:
        return LeafSums(tuple((a.to(device), b.to(device)) for a, b in self.levels), self.n_leaves)

    def __call__(self, edge_log_probs: Tensor) -> Tensor:
        """Return log p of every leaf, [B, n_leaves], from log-probabilities of edges, [B, n_edges]."""
        total = torch.zeros(edge_log_probs.shape[0], self.n_leaves, device=edge_log_probs.device)
        for leaves, edges in self.levels:
            total.index_add_(1, leaves, edge_log_probs[:, edges])
        return total


def leaf_sums(paths: TriePaths, edge_of_node: IntArray) -> LeafSums:
    """Return how the choices on the way to every leaf add up.

    Args:
        paths: The choices of every leaf.
        edge_of_node: Number of the edge into each node, [n_nodes].
    """
    counts = np.diff(paths.offsets)
    levels = []
    for level in range(int(counts.max(initial=0))):
        leaves = np.flatnonzero(counts > level)
        edges = edge_of_node[paths.children[paths.offsets[leaves] + level]]
        levels.append((torch.from_numpy(leaves), torch.from_numpy(edges)))
    return LeafSums(tuple(levels), len(counts))
