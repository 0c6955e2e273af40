"""A compiled catalogue: what is counted, what is needed, and that its parts agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr.catalogue.trie import ancestors_of
from toy import TITLES, toy_model


@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
def test_slices_hold_the_needed_nodes_once_and_edges_reach_every_leaf(likelihood: str) -> None:
    _, compiled, _ = toy_model(f"objective.likelihood={likelihood}")
    trie = compiled.trie
    counted = trie.branching if likelihood == "catalogue" else trie.n_children > 0
    assert compiled.n_needed_nodes == int(ancestors_of(trie, counted).sum())
    assert compiled.table.n_edges == int(trie.n_children[counted].sum())
    # One nat on every edge: a leaf's sum is the number of choices on its path.
    n_choices = compiled.sums(torch.ones(1, compiled.table.n_edges))[0]
    assert n_choices.tolist() == np.diff(compiled.paths.offsets).tolist()


def test_items_that_share_a_title_are_counted_on_their_leaf() -> None:
    _, compiled, _ = toy_model()
    shared = int(compiled.leaf[TITLES.index("Heat (1995)")])
    assert compiled.n_sharing[shared] == 2
    assert int(compiled.n_sharing.sum()) == len(TITLES)


def test_moving_keeps_everything() -> None:
    _, compiled, _ = toy_model()
    moved = compiled.to(torch.device("meta"))
    assert moved.leaf.device.type == moved.table.first_child.device.type == "meta"
    assert moved.slices[0].mask.shape == compiled.slices[0].mask.shape
    assert (moved.table.n_edges, moved.table.normalise) == (compiled.table.n_edges, compiled.table.normalise)
