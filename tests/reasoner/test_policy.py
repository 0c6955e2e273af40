"""The Gaussian policy against its textbook density."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from flr.reasoner.policy import divergence, effective_rank, log_ratio, sample_thoughts


def three_policies() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    old = torch.randn(2, 3, 2, 5)
    return old, old + 0.1 * torch.randn(old.shape), torch.randn(6, *old.shape)


def test_the_first_thought_has_no_noise_and_the_others_have_sigma() -> None:
    old, _, noise = three_policies()
    samples = sample_thoughts(old, noise, 0.5)
    assert samples.shape == (7, *old.shape)
    assert torch.equal(samples[0], old)
    torch.testing.assert_close((samples[1:] - old) / 0.5, noise)


def test_ratio_and_divergence_are_those_of_the_density() -> None:
    old, new, noise = three_policies()
    samples = sample_thoughts(old, noise, 0.7)
    of_old, of_new = (Independent(Normal(mean, 0.7), 2) for mean in (old, new))
    expected = of_new.log_prob(samples) - of_old.log_prob(samples)
    torch.testing.assert_close(log_ratio(samples, new, old, 0.7), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(divergence(new, old, 0.7), kl_divergence(of_new, of_old), rtol=1e-4, atol=1e-5)


def test_the_ratio_of_a_policy_to_itself_is_exactly_one() -> None:
    old, _, noise = three_policies()
    assert (log_ratio(sample_thoughts(old, noise, 1e-3), old, old, 1e-3) == 0).all()


def test_gradients_of_the_ratio_point_to_the_sample() -> None:
    old, _, noise = three_policies()
    new = old.clone().requires_grad_()
    samples = sample_thoughts(old, noise, 0.5)
    log_ratio(samples, new, old, 0.5)[3].sum().backward()
    torch.testing.assert_close(new.grad, (samples[3] - old) / 0.25)


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (3, 3.0)])
def test_effective_rank_counts_directions_in_use(rank: int, expected: float) -> None:
    directions = torch.eye(8)[:rank]
    thoughts = torch.cat([directions, -directions]) + 5.0
    assert effective_rank(thoughts).item() == pytest.approx(expected, abs=1e-3)


def test_equal_thoughts_have_rank_one() -> None:
    assert effective_rank(torch.ones(4, 3)).item() == 1.0
