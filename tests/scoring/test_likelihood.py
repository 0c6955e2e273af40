from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from flr.catalogue.trie import build_trie, choice_paths
from flr.records import TokenizedTitles, TokenTrie
from flr.scoring.likelihood import (
    child_log_probs,
    child_table,
    choice_log_probs,
    edge_numbers,
    leaf_sums,
    write_edge_log_probs,
)

WIDTH, VOCABULARY, EOI = 6, 40, 1


def random_trie(seed: int, n: int = 300) -> TokenTrie:
    rng = np.random.default_rng(seed)
    titles = sorted({tuple(rng.zipf(1.4, rng.integers(1, 5)) % 30 + 2) for _ in range(n)})
    rows = [[*title, EOI] for title in titles]
    return build_trie(TokenizedTitles(np.array([t for row in rows for t in row]), np.cumsum([0, *map(len, rows)]), EOI))


def weights(seed: int = 0) -> tuple[torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VOCABULARY, WIDTH, generator=generator), generator


def expected(
    trie: TokenTrie, state: torch.Tensor, choice: tuple[int, int], output: torch.Tensor, likelihood: str
) -> float:
    node, child = choice
    start, n = int(trie.child_start[node]), int(trie.n_children[node])
    tokens = range(VOCABULARY) if likelihood == "vocabulary" else trie.token[start : start + n].tolist()
    logits = torch.stack([output[token] @ state for token in tokens])
    return float(torch.log_softmax(logits, 0)[list(tokens).index(int(trie.token[child]))])


@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
def test_each_choice_equals_a_softmax_written_out(likelihood: str) -> None:
    trie = random_trie(1)
    paths = choice_paths(trie, only_branching=likelihood == "catalogue")
    output, generator = weights()
    hidden = torch.randn(len(paths.nodes), WIDTH, generator=generator)
    table = child_table(trie, likelihood=likelihood)
    nodes, children = (torch.from_numpy(a.astype(np.int64)) for a in (paths.nodes, paths.children))
    found = choice_log_probs(hidden, nodes, children, table, output)
    for place in range(0, len(nodes), 7):
        node, child = int(nodes[place]), int(children[place])
        assert float(found[place]) == pytest.approx(
            expected(trie, hidden[place], (node, child), output, likelihood), abs=1e-5
        )


def test_a_large_vocabulary_is_looked_at_in_parts_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    trie, (output, generator) = random_trie(1), weights()
    table = child_table(trie, likelihood="vocabulary")
    nodes = torch.from_numpy(np.flatnonzero(trie.n_children)).repeat(3)
    hidden = torch.randn(len(nodes), WIDTH, generator=generator)
    whole, edges = child_log_probs(hidden, nodes, table, output), torch.zeros(2, 3, table.n_edges)
    of_node = torch.arange(trie.n_nodes)
    states = torch.randn(3, trie.n_nodes, WIDTH, generator=generator)
    write_edge_log_probs(edges[0], states, of_node, table, output)
    held: list[int] = []
    summed = torch.logsumexp
    monkeypatch.setattr(torch, "logsumexp", lambda of, *a, **k: held.append(of.numel()) or summed(of, *a, **k))
    monkeypatch.setattr("flr.scoring.likelihood._LOGITS", 40 * len(output))
    for one, other in zip(child_log_probs(hidden, nodes, table, output), whole, strict=True):
        assert torch.equal(one, other)
    write_edge_log_probs(edges[1], states, of_node, table, output)
    assert torch.equal(edges[1], edges[0])
    assert max(held) == 32 * len(output)


@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
def test_edges_equal_choices_and_sum_to_titles(likelihood: str) -> None:
    trie = random_trie(2)
    paths = choice_paths(trie, only_branching=likelihood == "catalogue")
    output, generator = weights()
    hidden = torch.randn(2, trie.n_nodes, WIDTH, generator=generator)
    table = child_table(trie, likelihood=likelihood)
    edges = torch.zeros(2, table.n_edges)
    write_edge_log_probs(edges, hidden, torch.arange(trie.n_nodes), table, output)
    numbers = edge_numbers(trie, likelihood=likelihood)
    totals = leaf_sums(paths, numbers)(edges)
    nodes, children = (torch.from_numpy(a.astype(np.int64)) for a in (paths.nodes, paths.children))
    for row in range(2):
        by_choice = choice_log_probs(hidden[row, nodes], nodes, children, table, output)
        torch.testing.assert_close(edges[row, torch.from_numpy(numbers)[children]], by_choice, rtol=1e-4, atol=1e-5)
        for leaf, (a, b) in enumerate(itertools.pairwise(paths.offsets)):
            assert float(totals[row, leaf]) == pytest.approx(float(by_choice[a:b].sum()), abs=1e-4)
    if likelihood == "catalogue":
        torch.testing.assert_close(totals.exp().sum(1), torch.ones(2), rtol=0, atol=1e-5)


def test_only_edges_below_evaluated_nodes_are_written() -> None:
    trie = random_trie(3)
    output, generator = weights()
    table = child_table(trie, likelihood="catalogue")
    rows = torch.full((trie.n_nodes,), -1)
    rows[0] = 0
    edges = torch.full((1, table.n_edges), 7.0)
    write_edge_log_probs(edges, torch.randn(1, 1, WIDTH, generator=generator), rows, table, output)
    n_first = int(trie.n_children[0])
    assert float(edges[0, :n_first].exp().sum()) == pytest.approx(1, abs=1e-5)
    assert (edges[0, n_first:] == 7).all()


def test_size_classes_hold_every_counted_node_once_with_little_padding() -> None:
    trie = random_trie(4, 3000)
    table = child_table(trie, likelihood="catalogue")
    held = torch.cat([part.nodes for part in table.classes])
    assert sorted(held.tolist()) == np.flatnonzero(trie.branching).tolist()
    slots = sum(part.real.numel() for part in table.classes)
    assert (
        table.n_edges
        == sum(int(part.real.sum()) for part in table.classes)
        == int(trie.n_children[trie.branching].sum())
    )
    assert slots <= 1.25 * table.n_edges
