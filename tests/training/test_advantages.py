"""Advantages by hand, and the same however a batch is cut."""

from __future__ import annotations

import pytest
import torch

from flr.training.advantages import batch_advantages, batch_statistics, group_advantages


def test_group_advantages_by_hand() -> None:
    advantages = group_advantages(torch.tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    assert advantages[0].tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])
    assert advantages[1].tolist() == [0.0, 0.0, 0.0]


def test_batch_advantages_by_hand() -> None:
    # Noiseless rewards 1 and 3, so the baseline is 2; squares of what is left: 1, 4, 1, 0; their mean is 1.5.
    rewards = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
    advantages = batch_advantages(rewards, batch_statistics(rewards))
    expected = torch.tensor([[-1.0, 2.0], [1.0, 0.0]]) / 1.5**0.5
    torch.testing.assert_close(advantages, expected)


def test_batch_advantages_do_not_depend_on_how_the_batch_is_cut() -> None:
    torch.manual_seed(0)
    rewards = torch.rand(24, 8)
    whole = batch_advantages(rewards, batch_statistics(rewards))
    for sizes in ([12, 12], [1] * 24, [3, 20, 1]):
        parts = rewards.split(sizes)
        statistics = torch.stack([batch_statistics(part) for part in parts]).sum(0)
        cut = torch.cat([batch_advantages(part, statistics) for part in parts])
        torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-6)


def test_equal_rewards_give_no_advantage_whatever_their_size() -> None:
    rewards = torch.full((3, 4), 1e6)
    assert (batch_advantages(rewards, batch_statistics(rewards)) == 0).all()
    assert (group_advantages(rewards) == 0).all()
