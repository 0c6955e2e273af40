"""A second opinion on votes: a product of distributions, the same to the bit in any company, silent on strangers."""

from __future__ import annotations

import pytest
import torch

from flr.config import AssistantConfig
from flr.sequential.assistant import Advice, SequenceAssistant, build_assistant

N, WINDOW = 29, 40


@pytest.fixture(scope="module")
def assistant() -> SequenceAssistant:
    torch.manual_seed(0)
    built = build_assistant(AssistantConfig(width=16), N, WINDOW)
    assert built is not None
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    built.weight.fill_(0.4)
    built.discount.fill_(0.1)
    torch.nn.init.normal_(built.log_popularity)
    return built


def histories(*taken: list[int]) -> torch.Tensor:
    longest = max(len(items) for items in taken)
    return torch.tensor([items + [-1] * (longest - len(items)) for items in taken])


def test_advice_multiplies_votes_and_leaves_a_distribution(assistant: SequenceAssistant) -> None:
    votes = torch.rand(2, N).softmax(-1)
    advice = assistant(histories([3, 1, 4], [5]))
    product = votes**0.6 * advice.log_probs.exp() ** 0.4 / assistant.log_popularity.exp() ** 0.1
    assert torch.allclose(advice.on(votes), product / product.sum(1, keepdim=True), atol=1e-6)


def test_what_nobody_has_counted_can_still_be_advised() -> None:
    votes, likely = torch.zeros(1, 4), torch.tensor([[0.1, 0.1, 0.1, 0.7]]).log()
    votes[0, 0] = 1
    after = Advice(likely, torch.zeros(4), torch.tensor([0.9]), torch.zeros(1)).on(votes)
    assert float(after[0, 3]) > float(after[0, 1]) > 0


def test_it_says_what_its_networks_say_on_average_of_the_items_they_know(assistant: SequenceAssistant) -> None:
    known = assistant(histories([3, 1, 4])).log_probs
    with torch.no_grad():
        each = [net.logits(net(torch.tensor([[3, 1, 4]]))[:, -1]).log_softmax(-1) for net in assistant.networks]
    assert len(each) == 2
    assert not torch.allclose(each[0], each[1], atol=0.1)
    assert torch.allclose(known, (each[0] + each[1]) / 2, atol=1e-5)
    assert torch.equal(assistant(histories([3, N + 2, 1, N, 4])).log_probs, known), "new items are left out"


def test_a_history_of_strangers_gets_no_advice(assistant: SequenceAssistant) -> None:
    advice, votes = assistant(histories([N + 1], [2])), torch.rand(2, N).softmax(-1)
    assert advice.weight.tolist() == pytest.approx([0, 0.4])
    after = advice.on(votes)
    assert torch.allclose(after[0], votes[0], atol=1e-6)
    assert not torch.allclose(after[1], votes[1], atol=1e-3)


def test_nobody_knows_anything_of_empty_histories(assistant: SequenceAssistant) -> None:
    assert assistant(torch.empty(2, 0, dtype=torch.long)).weight.tolist() == [0, 0]


def test_advice_is_the_same_to_the_bit_in_any_company(assistant: SequenceAssistant) -> None:
    lengths = (1, 7, 33, 2, 5, 40, 4, 1, 16, 17, 3, 7, 20, 1, 4, 15, 6, 32, 2)
    taken = [torch.randint(N, (n,)).tolist() for n in lengths]
    votes = torch.rand(len(taken), N).softmax(-1)
    together = assistant(histories(*taken)).on(votes)
    alone = [assistant(histories(items)).on(votes[row, None]) for row, items in enumerate(taken)]
    assert torch.equal(together, torch.cat(alone))
    few = assistant(histories(*taken[:3])).on(votes[:3])
    assert torch.equal(together[:3], few)


def test_there_is_none_where_none_is_asked_for() -> None:
    assert build_assistant(AssistantConfig(networks=()), N, WINDOW) is None
