from __future__ import annotations

import numpy as np
import pytest

from flr.catalogue.trie import ancestors_of, build_trie, choice_paths, preorder
from flr.errors import DataError
from flr.records import TokenizedTitles, TokenTrie

EOI = 1


def tokenized(*titles: list[int]) -> TokenizedTitles:
    closed = [[*title, EOI] for title in titles]
    offsets = np.cumsum([0, *map(len, closed)])
    return TokenizedTitles(np.array([token for title in closed for token in title]), offsets, EOI)


def random_titles(seed: int, n: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return sorted(
        {tuple(rng.integers(2, 6, rng.integers(1, 6)).tolist()) for _ in range(n)}, key=lambda _: rng.random()
    )


def spell(trie: TokenTrie, leaf: int) -> list[int]:
    node, tokens = int(trie.node_of_leaf[leaf]), []
    while node:
        tokens.append(int(trie.token[node]))
        node = int(trie.parent[node])
    return tokens[::-1]


def test_a_small_trie_is_what_it_should_be() -> None:
    trie = build_trie(tokenized([5, 6], [5, 7], [8]))
    assert trie.n_nodes == 1 + 2 + 3 + 2  # root; 5 8; 5-6 5-7 8-eoi; 5-6-eoi 5-7-eoi
    assert trie.token.tolist() == [-1, 5, 8, 6, 7, 1, 1, 1]
    assert trie.parent.tolist() == [-1, 0, 0, 1, 1, 2, 3, 4]
    assert trie.n_children.tolist() == [2, 2, 1, 1, 1, 0, 0, 0]
    assert trie.branching.tolist() == [True, True] + [False] * 6
    paths = choice_paths(trie)
    assert paths.offsets.tolist() == [0, 2, 4, 5]
    assert paths.nodes.tolist() == [0, 1, 0, 1, 0]
    assert paths.children.tolist() == [1, 3, 1, 4, 2]
    assert paths.n_written.tolist() == [1, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_every_title_can_be_read_back_and_children_are_contiguous(seed: int) -> None:
    titles = random_titles(seed, 60)
    trie = build_trie(tokenized(*map(list, titles)))
    for leaf, title in enumerate(titles):
        assert spell(trie, leaf) == [*title, EOI]
    for node in range(trie.n_nodes):
        start, n = int(trie.child_start[node]), int(trie.n_children[node])
        assert np.flatnonzero(trie.parent == node).tolist() == list(range(start, start + n))


@pytest.mark.parametrize("only_branching", [True, False])
def test_paths_equal_a_walk_from_each_leaf(only_branching: bool) -> None:
    trie = build_trie(tokenized(*map(list, random_titles(3, 60))))
    paths = choice_paths(trie, only_branching=only_branching)
    for leaf in range(trie.n_leaves):
        expected, child = [], int(trie.node_of_leaf[leaf])
        while child:
            node = int(trie.parent[child])
            if trie.n_children[node] > 1 or not only_branching:
                expected.append((node, child))
            child = node
        run = slice(paths.offsets[leaf], paths.offsets[leaf + 1])
        assert list(zip(paths.nodes[run], paths.children[run], strict=True)) == expected[::-1]
        assert paths.n_written[leaf] == max((trie.depth[node] for node, _ in expected), default=0)


def test_needed_nodes_are_branching_nodes_and_their_ancestors() -> None:
    trie = build_trie(tokenized([2, 3, 4], [2, 3, 5], [6, 7, 8]))
    needed = ancestors_of(trie, trie.branching)
    assert sorted(map(tuple, ((trie.depth[n], trie.token[n]) for n in np.flatnonzero(needed)))) == [
        (0, -1),
        (1, 2),
        (2, 3),
    ]


def test_preorder_puts_every_subtree_in_one_run() -> None:
    trie = build_trie(tokenized(*map(list, random_titles(4, 80))))
    place = preorder(trie)
    assert sorted(place.tolist()) == list(range(trie.n_nodes))
    for node in range(trie.n_nodes):
        below = np.zeros(trie.n_nodes, dtype=bool)
        below[node] = True
        for child in range(node + 1, trie.n_nodes):
            below[child] = below[trie.parent[child]]
        assert sorted(place[below].tolist()) == list(range(place[node], place[node] + below.sum()))


def test_a_single_title_has_no_choice() -> None:
    trie = build_trie(tokenized([4, 5]))
    paths = choice_paths(trie)
    assert len(paths.nodes) == 0
    assert paths.n_written.tolist() == [0]


def test_equal_or_empty_titles_are_refused() -> None:
    with pytest.raises(DataError, match=r"titles number \[0, 2\] have the same tokens"):
        build_trie(tokenized([4], [5], [4]))
    with pytest.raises(DataError, match="got 0 titles"):
        build_trie(TokenizedTitles(np.array([], dtype=np.int64), np.array([0]), EOI))
