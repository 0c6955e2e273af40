"""The scorer with a fake decoder: it knows nothing of text or transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_likelihood import VOCABULARY, WIDTH, random_trie, weights

from flr.catalogue.trie import ancestors_of, choice_paths, preorder
from flr.scoring.exact import catalogue_log_probs, item_log_probs, tree_slices
from flr.scoring.likelihood import child_table, edge_numbers, leaf_sums


class FakeDecoder:
    """A node's hidden state is its history's state plus the embeddings of all tokens it can see."""

    def __init__(self, root: torch.Tensor, embeddings: torch.Tensor) -> None:
        self.root, self.embeddings, self.n_calls = root, embeddings, 0

    def __call__(self, tokens: torch.Tensor, depths: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        assert torch.equal(mask.sum(1), depths), "a node sees itself and its ancestors below the root"
        return self.root[:, None] + mask.float() @ self.embeddings[tokens]


@pytest.mark.parametrize("max_nodes", [1, 5, 10_000])
def test_scores_equal_a_walk_down_each_title(max_nodes: int) -> None:
    trie = random_trie(5, 120)
    output, generator = weights()
    embeddings, root = torch.randn(VOCABULARY, WIDTH, generator=generator), torch.randn(3, WIDTH, generator=generator)
    paths = choice_paths(trie)
    needed = ancestors_of(trie, trie.branching)
    slices = tree_slices(trie, needed, preorder(trie), max_nodes)
    decoder = FakeDecoder(root, embeddings)
    sums = leaf_sums(paths, edge_numbers(trie, likelihood="catalogue"))
    table = child_table(trie, likelihood="catalogue")
    found = catalogue_log_probs(root, slices, decoder, table=table, sums=sums, output=output)
    assert decoder.n_calls == len(slices) == -(-(int(needed.sum()) - 1) // max_nodes)
    for leaf in range(0, trie.n_leaves, 5):
        path, node = [], int(trie.node_of_leaf[leaf])
        while node:
            path.append(node)
            node = int(trie.parent[node])
        state, total = root, torch.zeros(3)
        for child in path[::-1]:
            parent = int(trie.parent[child])
            start, n = int(trie.child_start[parent]), int(trie.n_children[parent])
            logits = state @ output[torch.from_numpy(trie.token[start : start + n].astype(np.int64))].T
            total = total + torch.log_softmax(logits, 1)[:, child - start]
            state = state + embeddings[int(trie.token[child])]
        torch.testing.assert_close(found[:, leaf], total, rtol=1e-4, atol=1e-4)


def test_a_shared_title_is_divided_equally() -> None:
    leaf = torch.tensor([0, 1, 1, 1])
    items = item_log_probs(torch.tensor([[0.4, 0.6]]).log(), leaf, torch.bincount(leaf))
    torch.testing.assert_close(items.exp(), torch.tensor([[0.4, 0.2, 0.2, 0.2]]))
