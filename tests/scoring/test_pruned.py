"""Pruned scores: exact above the floor, and few nodes read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flr.records import Histories
from flr.scoring.exact import item_log_probs
from flr.scoring.pruned import sole_leaves
from toy import TITLES, toy_model


def three_histories() -> Histories:
    import numpy as np

    return Histories(np.array([0, 3, 4, 5, 9, 1, 2, 8]), np.array([0, 3, 4, 8]))


def test_a_sole_leaf_is_where_no_choice_is_left() -> None:
    _, compiled, _ = toy_model()
    trie = compiled.trie
    needed = compiled.sole_leaf.numpy() < 0
    assert needed[0]
    assert (compiled.sole_leaf[torch.from_numpy(trie.node_of_leaf.astype(int))] == torch.arange(trie.n_leaves)).all()
    for node in range(1, trie.n_nodes):
        if not needed[node]:
            below = trie.child_start[node]
            assert trie.n_children[node] == 0 or compiled.sole_leaf[below] == compiled.sole_leaf[node]
    assert (sole_leaves(trie, needed) == compiled.sole_leaf.numpy()).all()


@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("kind", ["factorized", "none"])
def test_all_titles_above_the_floor_are_exact(likelihood: str, kind: str) -> None:
    model, compiled, _ = toy_model(f"objective.likelihood={likelihood}", f"reasoner.kind={kind}")
    with torch.inference_mode():
        state = model.think(model.read(compiled.template.streams(three_histories())))
        whole = model.score(state, compiled)
        everything = model.score_above(state, compiled, lambda found, rows: found.new_full((len(rows),), -torch.inf))
        floor = whole.sort(dim=1).values[:, -4] - 1e-4
        some = model.score_above(state, compiled, lambda found, rows: floor[rows])
    by_item = item_log_probs(everything, compiled.leaf, compiled.n_sharing)
    torch.testing.assert_close(by_item, whole, rtol=1e-4, atol=1e-4)
    some = item_log_probs(some, compiled.leaf, compiled.n_sharing)
    above = whole >= floor[:, None]
    assert above.sum() >= 12
    torch.testing.assert_close(some[above], whole[above], rtol=1e-4, atol=1e-4)


def test_only_prefixes_that_reach_the_floor_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled, _ = toy_model()
    read: list[int] = []
    grow = model.backbone.grow

    def counting(past: object, embeddings: Tensor, *rest: Tensor) -> object:
        read.append(embeddings.shape[0] * embeddings.shape[1])
        return grow(past, embeddings, *rest)  # type: ignore[arg-type]

    with torch.inference_mode():
        state = model.think(model.read(compiled.template.streams(three_histories())))
        monkeypatch.setattr(model.backbone, "grow", counting)
        model.score_above(state, compiled, lambda found, rows: found.new_full((len(rows),), -torch.inf))
        n_all = sum(read)
        read.clear()
        best = model.score(state, compiled).max(1).values - 1e-4
        model.score_above(state, compiled, lambda found, rows: best[rows])
        n_some = sum(read)
        read.clear()
        model.score_above(state, compiled, lambda found, rows: found.new_full((len(rows),), torch.inf))
        n_none, wanted = sum(read), torch.zeros(compiled.trie.n_nodes, dtype=torch.bool)
        node = int(compiled.trie.node_of_leaf[0])
        while node >= 0:
            wanted[node], node = True, int(compiled.trie.parent[node])
        found = model.score_above(
            state,
            compiled,
            lambda found, rows: found.new_full((len(rows),), -torch.inf),
            lambda rows, nodes: wanted[nodes] & (rows != 1),
        )
        n_wanted, whole = sum(read), model.score(state, compiled)
    assert 0 < n_some < n_all
    assert not n_none
    assert 0 < n_wanted < n_all
    first = compiled.by_item(found)[:, 0]
    torch.testing.assert_close(first[[0, 2]], whole[[0, 2], 0], rtol=1e-4, atol=1e-4)
    assert first[1] == -torch.inf
    assert len(TITLES) > compiled.catalogue.n_leaves


def test_one_title_in_all_is_the_sole_leaf_of_every_node() -> None:
    _, compiled, _ = toy_model(titles=["Same (1990)"] * 2)
    assert compiled.sole_leaf.tolist() == [0] * compiled.trie.n_nodes
