"""Votes of factors: a distribution over items that comes from what they read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr.reasoner.memory import ItemMemory, Votes, items_in_order
from flr.records import Thought
from flr.transitions import Transitions

N, K, D = 5, 2, 4


def transitions() -> Transitions:
    """Return counts in which 1 and 2 follow 0, and 3 follows 1, under two relations."""
    pairs = np.array([0 * N + 1, 0 * N + 2, 1 * N + 3])
    counts = np.array([[3, 1], [1, 1], [1, 0]], dtype=np.float32)
    totals = np.zeros((N, 2), dtype=np.float32)
    totals[0], totals[1] = [4, 2], [1, 0]
    return Transitions(N, pairs, counts, totals, np.array([0.4, 0.3, 0.1, 0.1, 0.1], dtype=np.float32), 0.1)


def thought(attention: list[list[float]], gates: list[float]) -> Thought:
    """Return a thought of one target, of one step."""
    attentions = torch.tensor(attention)[None, None, None]
    factors = torch.zeros(1, 1, 1, K, 2)
    return Thought(
        torch.zeros(1, 1, 1, D), torch.zeros(1, 1, 2, D), factors, attentions, torch.tensor(gates)[None, None, None]
    )


def p(source: int, item: int, relation: int) -> float:
    t = transitions()
    count = float(t.counts_of(np.array([source]), np.array([item]))[0, relation])
    return (count + 0.1 * float(t.popularity[item])) / (float(t.totals[source, relation]) + 0.1)


# Tokens: one of the preamble, two of item 0, one of item 1.
PLACES = torch.tensor([[-1, 0, 0, 1]])
ITEMS = items_in_order(torch.tensor([[-1, 0, 0, 1]]), PLACES)


#: Both relations alike, for both factors.
HALF = [(0.5, 0.5)] * K


def test_votes_are_the_followers_of_what_each_factor_reads() -> None:
    memory = ItemMemory(transitions(), D, [(1.0, 0.0), (0.0, 1.0)])
    read = thought([[0.2, 0.3, 0.1, 0.4], [0.0, 0.5, 0.5, 0.0]], [0.25, 0.75])
    votes = memory.on_items(read, ITEMS, PLACES)
    popularity = transitions().popularity
    for item in range(N):
        first = 0.2 * popularity[item] + 0.4 * p(0, item, 0) + 0.4 * p(1, item, 0)
        second = p(0, item, 1)
        assert float(votes.probs[0, item]) == pytest.approx(0.25 * first + 0.75 * second, rel=1e-5)
    assert float(votes.probs.sum()) == pytest.approx(1, abs=1e-6)


def test_votes_for_a_target_equal_those_for_all_items() -> None:
    torch.manual_seed(0)
    memory = ItemMemory(transitions(), D, HALF)
    torch.nn.init.normal_(memory.relation, std=0.1)
    read = thought([[0.2, 0.3, 0.1, 0.4], [0.1, 0.5, 0.2, 0.2]], [0.6, 0.4])
    of_all = memory.on_items(read, ITEMS, PLACES)
    for target in range(N):
        evidence = torch.tensor([[[[p(source, target, q) for q in range(2)] for source in (0, 1)]]])
        popular = torch.tensor([[float(transitions().popularity[target])]])
        one = memory.on_targets(read, evidence, PLACES, popular)
        torch.testing.assert_close(one.probs[0, 0], of_all.probs[0, target], rtol=1e-5, atol=1e-7)


def test_turning_a_factor_off_leaves_the_votes_of_the_others_and_turning_all_off_silences_the_memory() -> None:
    memory = ItemMemory(transitions(), D, HALF)
    attention = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    alone = memory.on_items(thought(attention, [0.3, 0.0]), ITEMS, PLACES)
    whole = memory.on_items(thought(attention, [1.0, 0.0]), ITEMS, PLACES)
    torch.testing.assert_close(alone.probs, whole.probs)
    written = torch.randn(1, N).log_softmax(-1)
    silent = memory.on_items(thought(attention, [0.0, 0.0]), ITEMS, PLACES)
    torch.testing.assert_close(silent.mix(written), written)


def test_items_that_the_memory_does_not_know_get_no_vote_and_give_none() -> None:
    memory = ItemMemory(transitions(), D, HALF)
    new = torch.tensor([[N, 0]])
    votes = memory.on_items(thought([[0.0, 0.5, 0.5, 0.0]] * 2, [0.5, 0.5]), new, PLACES)
    torch.testing.assert_close(votes.probs[0].detach(), torch.from_numpy(transitions().popularity))
    grown = votes.among(N + 2)
    assert grown.probs[0, N:].tolist() == [0, 0]
    mixed = grown.mix(torch.zeros(1, N + 2)).exp()
    torch.testing.assert_close(mixed[0, N:], votes.log_distrust.exp().expand(2))


def test_new_items_borrow_votes_of_those_that_they_are_like_and_retired_ones_lend_too() -> None:
    votes = Votes(torch.tensor([-0.5]), torch.tensor([-0.9]), torch.tensor([[0.2, 0.3, 0.5]]))
    lenders = torch.tensor([[0, 2], [1, 2]]), torch.tensor([[0.75, 0.25], [0.0, 0.0]])
    grown = votes.among(5, lenders=lenders)
    lent = 0.75 * 0.2 + 0.25 * 0.5
    torch.testing.assert_close(grown.probs, torch.tensor([[0.2, 0.3, 0.5, lent, 0.0]]) / (1 + lent))
    left = votes.among(5, torch.tensor([2]), lenders)
    torch.testing.assert_close(left.probs, torch.tensor([[0.2, 0.3, 0.0, lent, 0.0]]) / (0.5 + lent))


def test_votes_of_a_large_changed_catalogue_are_the_same_to_the_bit_in_any_company() -> None:
    torch.manual_seed(0)
    n_threads, trust = torch.get_num_threads(), torch.zeros(8)
    votes = Votes(trust, trust, torch.rand(8, 200_000))
    retired = torch.arange(0, 200_000, 7)
    try:
        torch.set_num_threads(2)  # which share the sum over one long row, but not those over several
        together = votes.among(200_000, retired).probs
        for row in range(8):
            alone = Votes(trust[:1], trust[:1], votes.probs[row : row + 1]).among(200_000, retired).probs
            assert torch.equal(alone[0], together[row])
    finally:
        torch.set_num_threads(n_threads)


def test_mixing_is_a_weighted_mean_of_probabilities() -> None:
    trust = torch.tensor([0.3]).log()
    votes = Votes(trust, torch.tensor([0.7]).log(), torch.tensor([[0.5, 0.5, 0.0]]))
    mixed = votes.mix(torch.tensor([[0.1, 0.1, 0.8]]).log()).exp()
    torch.testing.assert_close(mixed, torch.tensor([[0.22, 0.22, 0.56]]))


def test_mixtures_are_the_same_to_the_bit_in_any_company() -> None:
    torch.manual_seed(0)
    trust = torch.rand(24)
    votes = Votes(trust.log(), (1 - trust).log(), torch.rand(24, 11).softmax(-1))  # eleven: rows end anywhere
    titles = torch.randn(24, 11).mul(3).log_softmax(-1)
    together = votes.mix(titles)
    for row in range(24):
        rows = torch.tensor([row])
        assert torch.equal(votes.mix(titles[rows], rows)[0], together[row])


def test_trust_is_the_same_to_the_bit_in_any_company() -> None:
    memory = ItemMemory(transitions(), 32, [[0.5, 0.5]])
    torch.nn.init.normal_(memory.trust.weight)
    states = torch.randn(40, 1, 3, 32)

    def trust(some: torch.Tensor) -> torch.Tensor:
        none = torch.zeros(0)
        return memory._trust(Thought(none, some, none, none, none))[0]

    with torch.inference_mode():
        alone = torch.cat([trust(row) for row in states.split(1)])
        for size in (2, 5, 17, 19, 23, 40):
            together = torch.cat([trust(rows) for rows in states.split(size)])
            assert torch.equal(together, alone)


def test_items_of_a_history_come_in_order_and_once() -> None:
    assert ITEMS.tolist() == [[0, 1]]
    shorter = torch.tensor([[-1, 5, 5, 6, -1], [-1, 7, -1, -1, -1]])
    places = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1]])
    assert items_in_order(shorter, places).tolist() == [[5, 6], [7, -1]]
