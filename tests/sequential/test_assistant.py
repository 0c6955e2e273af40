"""A second opinion on votes: a product of distributions, the same to the bit in any company, silent on strangers."""

from __future__ import annotations

import pytest
import torch

from flr.config import AssistantConfig
from flr.sequential.assistant import Advice, LinearOpinion, SequenceAssistant, build_assistant

N, WINDOW = 29, 40


@pytest.fixture(scope="module")
def assistant() -> SequenceAssistant:
    torch.manual_seed(0)
    built = build_assistant(AssistantConfig(width=16), N, WINDOW)
    assert built is not None
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert built.linear is not None
    built.linear.neighbours.random_(N)
    torch.nn.init.normal_(built.linear.weights)
    built.weights.copy_(torch.tensor([0.4, 0.2]))
    built.discount.fill_(0.1)
    torch.nn.init.normal_(built.log_popularity)
    return built


def histories(*taken: list[int]) -> torch.Tensor:
    longest = max(len(items) for items in taken)
    return torch.tensor([items + [-1] * (longest - len(items)) for items in taken])


def test_advice_multiplies_votes_and_leaves_a_distribution(assistant: SequenceAssistant) -> None:
    votes = torch.rand(2, N).softmax(-1)
    advice = assistant(histories([3, 1, 4], [5]))
    networks, linear = (opinion.exp() for opinion in advice.opinions)
    product = votes**0.4 * networks**0.4 * linear**0.2 / assistant.log_popularity.exp() ** 0.1
    assert torch.allclose(advice.on(votes), product / product.sum(1, keepdim=True), atol=1e-6)


def test_what_nobody_has_counted_can_still_be_advised() -> None:
    votes, likely = torch.zeros(1, 4), torch.tensor([[0.1, 0.1, 0.1, 0.7]]).log()
    votes[0, 0] = 1
    after = Advice((likely,), torch.zeros(4), torch.tensor([[0.9]]), torch.zeros(1)).on(votes)
    assert float(after[0, 3]) > float(after[0, 1]) > 0


def test_it_says_what_its_networks_say_on_average_of_the_items_they_know(assistant: SequenceAssistant) -> None:
    known, linear = assistant(histories([3, 1, 4])).opinions
    with torch.no_grad():
        each = [net.logits(net(torch.tensor([[3, 1, 4]]))[:, -1]).log_softmax(-1) for net in assistant.networks]
    assert len(each) == 2
    assert not torch.allclose(each[0], each[1], atol=0.1)
    assert torch.allclose(known, (each[0] + each[1]) / 2, atol=1e-5)
    with_strangers = assistant(histories([3, N + 2, 1, N, 4])).opinions
    assert torch.equal(with_strangers[0], known), "new items are left out"
    assert torch.equal(with_strangers[1], linear)


def test_a_history_of_strangers_gets_no_advice(assistant: SequenceAssistant) -> None:
    advice, votes = assistant(histories([N + 1], [2])), torch.rand(2, N).softmax(-1)
    assert advice.say.tolist() == pytest.approx([0, 0.6])
    after = advice.on(votes)
    assert torch.allclose(after[0], votes[0], atol=1e-6)
    assert not torch.allclose(after[1], votes[1], atol=1e-3)


def test_nobody_knows_anything_of_empty_histories(assistant: SequenceAssistant) -> None:
    assert assistant(torch.empty(2, 0, dtype=torch.long)).say.tolist() == [0, 0]


def test_advice_is_the_same_to_the_bit_in_any_company(assistant: SequenceAssistant) -> None:
    lengths = (1, 7, 33, 2, 5, 40, 4, 1, 16, 17, 3, 7, 20, 1, 4, 15, 6, 32, 2)
    taken = [torch.randint(N, (n,)).tolist() for n in lengths]
    votes = torch.rand(len(taken), N).softmax(-1)
    together = assistant(histories(*taken)).on(votes)
    alone = [assistant(histories(items)).on(votes[row, None]) for row, items in enumerate(taken)]
    assert torch.equal(together, torch.cat(alone))
    few = assistant(histories(*taken[:3])).on(votes[:3])
    assert torch.equal(together[:3], few)


def test_the_linear_opinion_adds_up_weights_by_age_and_takes_popularity_where_there_are_none() -> None:
    linear = LinearOpinion(4, 2, decay=0.5, window=3)
    linear.neighbours.copy_(torch.tensor([[1, 2], [2, 3], [0, 3], [0, 0]]))
    linear.weights.copy_(torch.tensor([[0.4, 0.2], [0.6, -0.5], [0.1, 0.1], [0.0, 0.0]]))
    popularity = torch.tensor([0.4, 0.3, 0.2, 0.1])
    probs = linear(torch.tensor([[0, 1, 4], [3, 4, 4], [4, 4, 4]]), popularity).exp()
    votes = torch.tensor([0.0, 0.5 * 0.4, 0.5 * 0.2 + 0.6, 0.0])  # -0.5 counts as nothing
    assert torch.allclose(probs[0], 0.9 * votes / votes.sum() + 0.1 * popularity)
    assert torch.allclose(probs[1:], popularity.expand(2, 4))


def test_there_is_none_where_none_is_asked_for() -> None:
    assert build_assistant(AssistantConfig(networks=()), N, WINDOW) is None


def test_the_linear_model_can_speak_alone() -> None:
    built = build_assistant(AssistantConfig(networks=("ease",)), N, WINDOW)
    assert built is not None
    assert [opinion.shape for opinion in built(histories([3, 1])).opinions] == [(1, N)]
