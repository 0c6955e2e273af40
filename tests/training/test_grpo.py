"""The policy's losses and gradients, by hand and against the naive twin, and a world whose best thought is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.naive import policy_loss
from test_rollouts import SETTINGS, batch_of, history_of, policy_rows
from torch import Tensor, nn

from flr.compiled import CompiledCatalogue
from flr.config import Config
from flr.errors import ConfigError
from flr.reasoner.policy import divergence, log_ratio, sample_thoughts
from flr.training.advantages import group_advantages
from flr.training.grpo import PolicyModule, clipped_surrogate, sampled_divergence
from flr.training.rewards import parse_reward
from flr.training.rollouts import Environment, PolicyBatch, Rollout
from toy import INSTRUCTION, toy_model, toy_sequences


def module(*overrides: str, seed: int = 0) -> tuple[PolicyModule, CompiledCatalogue, Config]:
    model, compiled, config = toy_model("grpo.group_size=4", *overrides, seed=seed)
    return PolicyModule(model, config).train(), compiled, config


def rolled_out(
    policy: PolicyModule, compiled: CompiledCatalogue, reward: str = "likelihood"
) -> tuple[PolicyBatch, Rollout]:
    batch = batch_of(policy_rows(toy_sequences([4, 5, 3, 7]), compiled), 0)
    with torch.no_grad():
        rollout = policy.roll_out(batch, Environment(policy.model, compiled, True), parse_reward(reward))
    return batch, replace(rollout, advantages=group_advantages(rollout.rewards))


def gradients(policy: PolicyModule) -> dict[str, Tensor]:
    assert policy.model.reasoner is not None
    return {name: p.grad.clone() for name, p in policy.model.reasoner.named_parameters() if p.grad is not None}


def nudge(policy: PolicyModule, size: float) -> None:
    """Move the policy away from where it drew its thoughts, as an earlier update on them does."""
    assert policy.model.reasoner is not None
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.reasoner.parameters():
            parameter.add_(size * torch.randn(parameter.shape))


def test_the_surrogate_by_hand() -> None:
    ratios = torch.tensor([0.5, 0.5, 1.0, 1.5, 1.5])
    advantages = torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0])
    values, clipped = clipped_surrogate(ratios.log(), advantages, 0.2, 0.3)
    torch.testing.assert_close(values, torch.tensor([0.5, -0.8, 2.0, 1.3, -1.5]))
    assert clipped.tolist() == [False, True, False, True, False]


def test_a_ratio_without_bound_stays_a_number() -> None:
    values, _ = clipped_surrogate(torch.tensor([1e4, -1e4]), torch.tensor([-1.0, 1.0]), 0.2, 0.2)
    assert torch.isfinite(values).all()


def test_the_k3_estimate_averages_to_the_divergence() -> None:
    new, reference = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.5, 0.3]).log()
    expected = (new.exp() * (new - reference)).sum()
    torch.testing.assert_close((new.exp() * sampled_divergence(new, reference)).sum(), expected)


def test_only_the_reasoner_is_trained_and_nothing_drops_out() -> None:
    policy, _, _ = module("backbone.dropout=0.3")
    trained = {name.split(".")[1] for name, p in policy.named_parameters() if p.requires_grad}
    assert trained == {"reasoner"}
    assert not any(m.training for m in policy.model.backbone.modules())
    names = list(policy.state_dict())
    assert len(names) == len(set(names))
    assert not any(name.startswith("reasoner.") for name in names)


def test_the_first_update_has_ratio_one_and_no_divergence() -> None:
    for update in ("latent", "token"):
        policy, compiled, _ = module(f"grpo.update={update}")
        batch, rollout = rolled_out(policy, compiled)
        losses = policy(batch.packed, rollout, compiled.table)
        expected = -rollout.advantages.mean(-1).sum()
        torch.testing.assert_close(losses["policy"], expected, rtol=1e-3, atol=1e-4)
        assert losses["kl"].item() == pytest.approx(0, abs=1e-6)
        assert losses["clip_share"].item() == 0


@pytest.mark.parametrize("size", [0.0, 0.02])
@pytest.mark.parametrize("update", ["latent", "token"])
@pytest.mark.parametrize("template", [[], INSTRUCTION], ids=["append-only", "instruction"])
def test_losses_and_gradients_equal_the_naive_twin(template: list[str], update: str, size: float) -> None:
    policy, compiled, _ = module(f"grpo.update={update}", "grpo.sigma=2", "grpo.beta=0.1", *template)
    batch, rollout = rolled_out(policy, compiled)
    nudge(policy, size)
    losses = policy(batch.packed, rollout, compiled.table)
    losses["loss"].backward()
    shared = gradients(policy)
    policy.zero_grad()
    histories = [history_of(batch, target)[-SETTINGS["window"] :] for target in range(len(rollout.rewards))]
    naive = policy_loss(policy, batch, rollout, histories, compiled)
    naive.backward()
    torch.testing.assert_close(losses["loss"], naive, rtol=1e-4, atol=1e-4)
    assert shared
    for name, gradient in gradients(policy).items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_the_latent_loss_is_that_of_the_densities() -> None:
    policy, compiled, _ = module("grpo.beta=0.1", "grpo.sigma=3")
    batch, rollout = rolled_out(policy, compiled)
    nudge(policy, 0.02)
    losses = policy(batch.packed, rollout, compiled.table)
    thought = policy.model.reason(batch.packed, rollout.streams)
    assert thought is not None
    mask = batch.packed.target_mask
    samples = sample_thoughts(rollout.old, rollout.noise, policy.sigma)
    ratio = log_ratio(samples, thought.vectors, rollout.old, policy.sigma)[:, mask].T.exp()
    surrogate = torch.minimum(ratio * rollout.advantages, ratio.clamp(0.8, 1.2) * rollout.advantages).mean(1).sum()
    kl = divergence(thought.vectors, rollout.reference, policy.sigma)[mask].sum()
    torch.testing.assert_close(losses["loss"], -surrogate + 0.1 * kl)
    torch.testing.assert_close(losses["kl"], kl)


def test_lora_trains_the_backbone_along_and_starts_where_stage_one_ended() -> None:
    policy, compiled, _ = module("grpo.train=lora")
    batch, rollout = rolled_out(policy, compiled)
    torch.testing.assert_close(rollout.old, rollout.reference)
    policy(batch.packed, rollout, compiled.table)["loss"].backward()
    trained = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert any(".lora_" in name for name in trained)
    assert all(".lora_" in name or "reasoner" in name for name in trained)


def test_a_model_without_a_thought_has_no_policy() -> None:
    model, _, config = toy_model("reasoner.kind=none")
    with pytest.raises(ConfigError, match="'none' has no thought to optimise"):
        PolicyModule(model, config)


@pytest.mark.parametrize("reward", ["likelihood", "reciprocal_rank"])
def test_the_latent_update_finds_the_best_thought(reward: str) -> None:
    """A world of one history: the reward depends on the thought alone, and its maximum is known."""
    torch.manual_seed(0)
    best = torch.randn(1, 6)
    policy = nn.Parameter(torch.zeros(1, 6))
    sigma, optimizer = 0.3, torch.optim.Adam([policy], lr=0.05)

    def earned(thoughts: Tensor) -> Tensor:
        distance = (thoughts - best).square().sum((-2, -1))
        if reward == "likelihood":
            return (-distance).exp()
        worse = torch.linspace(0, 8, 64)
        return 1 / (1 + (worse < distance[:, None]).sum(-1))

    start = (best - policy).norm().item()
    for _ in range(300):
        old = policy.detach().clone()
        samples = sample_thoughts(old, torch.randn(15, 1, 6), sigma)
        advantages = group_advantages(earned(samples)[None])[0]
        for _ in range(2):
            value, _ = clipped_surrogate(log_ratio(samples, policy, old, sigma), advantages, 0.2, 0.2)
            optimizer.zero_grad()
            (-value.mean()).backward()
            optimizer.step()
    assert (best - policy).norm().item() < 0.15 * start
