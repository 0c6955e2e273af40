"""Guesses are the nodes above the best leaves, each once, parents first; what is foreseen is not read again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr.backbone.streams import Backbone
from flr.recommender import Recommender
from flr.records import Histories, TokenTrie
from flr.scoring.guessing import GuessTables
from flr.snapshot import Snapshot
from toy import TITLES, toy_catalogue, toy_model, toy_tokenizer

#: 0 -> 1, 2; 1 -> 3, 4; 3 -> 5, 6; 2 -> 7, 8. The leaves are 5, 6, 4, 7, 8, all inner nodes are needed.
TRIE = TokenTrie(
    parent=np.array([-1, 0, 0, 1, 1, 3, 3, 2, 2]),
    token=np.arange(9) + 10,
    depth=np.array([0, 1, 1, 2, 2, 3, 3, 2, 2]),
    child_start=np.array([1, 3, 7, 5, 0, 0, 0, 0, 0]),
    n_children=np.array([2, 2, 2, 2, 0, 0, 0, 0, 0]),
    node_of_leaf=np.array([5, 6, 4, 7, 8]),
)
ABOVE = {0: (0, 1, 3), 1: (0, 1, 3), 2: (0, 1), 3: (0, 2), 4: (0, 2)}


@pytest.fixture(scope="module")
def tables() -> GuessTables:
    pairs = np.array([(leaf, node) for leaf, nodes in ABOVE.items() for node in reversed(nodes)])
    return GuessTables.of((pairs[:, 0], pairs[:, 1]), TRIE)


def test_nodes_above_the_best_leaves_come_in_their_order(tables: GuessTables) -> None:
    found = tables.guess(torch.tensor([[0.1, 0.4, 0.2, 0.05, 0.3], [0.2, 0.1, 0.1, 0.05, 0.5]]), 3)
    assert found.nodes.tolist() == [[1, 3, 2], [2, 1, 3]]
    found = tables.guess(torch.tensor([[0.1, 0.2, 0.15, 0.05, 0.5]]), 5)
    assert found.nodes.tolist() == [[2, 1, 3, -1, -1]]
    assert found.tokens[0, :3].tolist() == [12, 11, 13]
    assert found.depths[0, :3].tolist() == [1, 1, 2]


def test_beginnings_that_many_leaves_share_come_before_what_is_further_down(tables: GuessTables) -> None:
    shared = torch.tensor([[0.4, 0.0, 0.0, 0.3, 0.3]])  # the best leaf is below 1 and 3, more is below 2
    assert tables.guess(shared, 2).nodes.tolist() == [[1, 3]], "the best leaf comes first"
    assert tables.guess(shared, 4).nodes.tolist() == [[1, 3, 2, -1]]
    assert tables.guess(torch.tensor([[0.3, 0.0, 0.4, 0.2, 0.2]]), 3).nodes.tolist() == [[1, 2, 3]], (
        "3 is above the second"
    )


def test_a_node_sees_those_above_it_and_itself(tables: GuessTables) -> None:
    sees = tables.guess(torch.tensor([[0.1, 0.2, 0.15, 0.05, 0.5]]), 4).sees[0]
    assert torch.nonzero(sees).tolist() == [[0, 0], [1, 1], [2, 1], [2, 2], [3, 3]]  # 3 (third) below 1 (second)


def test_what_does_not_fit_is_left_out_from_below(tables: GuessTables) -> None:
    assert tables.guess(torch.tensor([[0.9, 0.0, 0.0, 0.0, 0.1]]), 1).nodes.tolist() == [[1]]
    assert tables.guess(torch.tensor([[0.9, 0.0, 0.0, 0.0, 0.1]]), 2).nodes.tolist() == [[1, 3]]


def voting() -> Recommender:
    """Make a model that trusts its votes."""
    model, compiled, config = toy_model("reasoner.memory=transitions")
    assert model.memory is not None
    model.memory.trust.bias.data.fill_(4.0)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


def histories(n: int) -> Histories:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 6, n)
    return Histories(rng.integers(0, len(TITLES), lengths.sum()), np.concatenate([[0], lengths.cumsum()]))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls, grow = [0], Backbone.grow

    def counting(*arguments: object, **named: object) -> object:
        calls[0] += 1
        return grow(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Backbone, "grow", counting)
    return calls


def test_foreseen_nodes_are_not_read_again_and_change_no_list(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, asked = voting().snapshot, histories(24)
    found = np.concatenate(
        [snapshot.score_best(asked.take(np.array([row])), 3, exclude_seen=True) for row in range(24)]
    )
    with_guesses, counted[0] = counted[0], 0
    think = Snapshot.think
    monkeypatch.setattr(Snapshot, "think", lambda self, read, weights=None, *, banned=None: think(self, read, weights))
    plain = np.concatenate(
        [snapshot.score_best(asked.take(np.array([row])), 3, exclude_seen=True) for row in range(24)]
    )
    assert with_guesses < 0.8 * counted[0]
    whole = snapshot.score(asked)
    for row in range(24):
        seen = np.unique(asked.item_index[asked.offsets[row] : asked.offsets[row + 1]])
        best = np.argsort(-np.where(np.isin(np.arange(len(TITLES)), seen), -np.inf, whole[row]))[:3]
        assert np.allclose(found[row, best], whole[row, best], atol=1e-5)
        assert np.allclose(plain[row, best], whole[row, best], atol=1e-5)


def test_guesses_leave_answers_the_same_to_the_bit_in_any_company() -> None:
    snapshot, asked = voting().snapshot, histories(24)
    alone = [snapshot.score_best(asked.take(np.array([row])), 3, exclude_seen=True)[0] for row in range(24)]
    for size in (2, 5, 24):
        for start in range(0, 24, size):
            rows = np.arange(start, min(24, start + size))
            together = snapshot.score_best(asked.take(rows), 3, exclude_seen=True)
            for row, scores in zip(rows, together, strict=True):
                best = np.argsort(-alone[row])[:3]
                assert np.array_equal(scores[best], alone[row][best])
