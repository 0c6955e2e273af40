"""How fast is stage two beside the naive twin, in which each of the G thoughts reads its whole history anew?

    python -m benchmarks.policy                   # the default compact model on MovieLens-100K, G = 8
    python -m benchmarks.policy --quick

Both try out the same thoughts of the same targets with the likelihood reward and take the same gradients of the
``latent`` update, whose largest difference is printed: both with the advantages of the shared run, as a group of almost
equal rewards makes large advantages of rounding errors. The twin runs the G sequences of a target as one batch without
padding and keeps its graph only where gradients flow; only the sharing is missing. Then: what rewards that rank cost.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.naive import stream_tokens, title_tokens
from benchmarks.worlds import compact_on_movielens, peak_memory_mb
from flr.config import load_config
from flr.reasoner.policy import log_ratio
from flr.recommender import Recommender
from flr.records import PreparedData
from flr.scoring.likelihood import choice_log_probs
from flr.training.advantages import group_advantages
from flr.training.grpo import PolicyModule, clipped_surrogate
from flr.training.rewards import parse_reward
from flr.training.rollouts import Environment, PolicyBatch, PolicyRows, Rollout, draw_noise

_SETTINGS = ["grpo.beta=0", "grpo.sigma=2"]


def main() -> None:
    arguments = _arguments()
    recommender, prepared = compact_on_movielens(load_config(None, _SETTINGS))
    policy = PolicyModule(recommender.model, recommender.config).train()
    rate, n_targets = _rate(policy, recommender, _rows(recommender, prepared, None), "likelihood", arguments.steps)
    few = _rows(recommender, prepared, arguments.naive_targets)
    batch = PolicyBatch.of(few.collate([few[0]]))
    gradients, rollout = _shared(policy, recommender, batch, "likelihood")
    started = time.perf_counter()
    naive_gradients, naive_rewards = _naive(policy, recommender, batch, rollout.advantages)
    naive_rate = len(naive_rewards) / (time.perf_counter() - started)
    difference = _difference(gradients, naive_gradients)
    torch.testing.assert_close(naive_rewards, rollout.rewards, rtol=1e-4, atol=1e-6)
    print(f"shared: {rate:.0f} targets/s, {n_targets} targets x 8 thoughts a step")
    print(f"naive twin: {naive_rate:.2f} targets/s; ratio {rate / naive_rate:.1f}; ", end="")
    print(f"largest difference of gradients {difference:.1e} of the largest gradient")
    for reward in ("ndcg@10", "reciprocal_rank"):
        ranked, _ = _rate(policy, recommender, _rows(recommender, prepared, 8), reward, arguments.steps)
        print(f"reward {reward}: {ranked:.1f} targets/s")
    print(f"peak memory {peak_memory_mb():.0f} MB")


def _rows(recommender: Recommender, prepared: PreparedData, targets_per_row: int | None) -> PolicyRows:
    config = recommender.config
    return PolicyRows(
        prepared.sequences,
        recommender.compiled.packer(recommender.model.n_thoughts),
        window=config.text.window,
        row_tokens=None,
        batch_tokens=config.grpo.batch_tokens,
        seed=0,
        targets_per_row=targets_per_row,
        updates_per_rollout=1,
    ).limit(64)


def _rate(
    policy: PolicyModule, recommender: Recommender, rows: PolicyRows, reward: str, n_steps: int
) -> tuple[float, int]:
    """Return targets per second, rollout and update, and the targets of the last step."""
    n_targets, seconds = [0], 0.0
    for step in range(n_steps + 1):
        numbers = range(step * rows.rows_per_batch, (step + 1) * rows.rows_per_batch)
        started = time.perf_counter()
        batch = PolicyBatch.of(rows.collate([rows[number] for number in numbers]))
        _shared(policy, recommender, batch, reward)
        if step:  # the first step warms up
            seconds += time.perf_counter() - started
            n_targets.append(int(batch.packed.target_mask.sum()))
    return sum(n_targets) / seconds, n_targets[-1]


def _shared(
    policy: PolicyModule, recommender: Recommender, batch: PolicyBatch, reward: str
) -> tuple[dict[str, Tensor], Rollout]:
    """Return the gradients of one step as stage two takes it, and its rollout."""
    environment = Environment(recommender.model, recommender.compiled, excludes_seen=True)
    with torch.no_grad():
        rollout = policy.roll_out(batch, environment, parse_reward(reward))
    rollout = replace(rollout, advantages=group_advantages(rollout.rewards))
    policy(batch.packed, rollout, recommender.compiled.table)["loss"].backward()
    return _taken(policy), rollout


def _naive(
    policy: PolicyModule, recommender: Recommender, batch: PolicyBatch, advantages: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Return gradients and rewards of the same step, target by target, each thought with a history of its own."""
    model, packed, window = recommender.model, batch.packed, recommender.config.text.window
    assert model.reasoner is not None
    shape = (model.n_thoughts, model.backbone.width)
    noise = draw_noise(packed.target_mask, batch.row_seeds, policy.settings.group_size, shape)
    rows, columns = torch.nonzero(packed.target_mask, as_tuple=True)
    earned = []
    for target, (row, column) in enumerate(zip(rows, columns, strict=True)):
        n_read = int(packed.stream_positions[row, packed.target_ends[row, column]]) + 1
        history = batch.seen_items[batch.seen_targets == target].tolist()[-window:]
        tokens = torch.tensor(stream_tokens(recommender.compiled, history))
        n_preamble = recommender.compiled.template.n_preamble  # a segment starts with it, wherever it was cut
        prompt = torch.cat([tokens[:n_preamble], tokens[len(tokens) - n_read + n_preamble :]]).expand(8, -1)
        with torch.no_grad():
            embeddings = model.backbone.embed(prompt)
            hidden = _forward(recommender, embeddings)
        ends = torch.full((8, 1), n_read - 1)
        new = model.reasoner(hidden, torch.ones(8, 1, n_read, dtype=torch.bool), ends).vectors
        old = new.detach()
        samples = old.clone()
        samples[1:] += policy.sigma * noise[:, row, column][:, None]
        with torch.no_grad():
            item = int(packed.target_items[row, column])
            earned.append(_likelihoods(recommender, embeddings, samples[:, 0], item))
        ratios = torch.cat([log_ratio(samples[g : g + 1], new[g], old[g], policy.sigma) for g in range(8)])[:, 0]
        value, _ = clipped_surrogate(ratios, advantages[target], 0.2, 0.2)
        (-value.mean()).backward()
    return _taken(policy), torch.stack(earned)


def _likelihoods(recommender: Recommender, prompts: Tensor, thoughts: Tensor, item: int) -> Tensor:
    """Return exp(mean log p over the choices) of one title after each of the thoughts."""
    compiled, model = recommender.compiled, recommender.model
    leaf = int(compiled.catalogue.leaf[item])
    start, end = compiled.paths.offsets[leaf : leaf + 2]
    nodes = torch.from_numpy(compiled.paths.nodes[start:end].astype(int))
    children = torch.from_numpy(compiled.paths.children[start:end].astype(int))
    n_written = int(compiled.paths.n_written[leaf])
    written = model.backbone.embed(torch.tensor(title_tokens(compiled, leaf)[:n_written], dtype=torch.long))
    hidden = _forward(recommender, torch.cat([prompts, thoughts, written.expand(len(thoughts), -1, -1)], dim=1))
    depths = torch.from_numpy(compiled.trie.depth[nodes.numpy()].astype(int))
    at_choices = hidden[:, prompts.shape[1] + thoughts.shape[1] - 1 + depths].flatten(0, 1)
    n = len(thoughts)
    log_probs = choice_log_probs(
        at_choices, nodes.repeat(n), children.repeat(n), compiled.table, model.backbone.output_weight
    )
    return log_probs.view(n, -1).mean(1).exp()


def _forward(recommender: Recommender, embeddings: Tensor) -> Tensor:
    hidden: Tensor = recommender.model.backbone.transformer(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    return hidden


def _taken(policy: PolicyModule) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


def _difference(shared: dict[str, Tensor], naive: dict[str, Tensor]) -> float:
    largest = max(float(gradient.abs().max()) for gradient in naive.values())
    return max(float((shared[name] - gradient).abs().max()) for name, gradient in naive.items()) / largest


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed")
    parser.add_argument("--naive-targets", type=int, default=24, help="targets of the twin")
    parser.add_argument("--quick", action="store_true", help="fewer of both")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.naive_targets = 2, 6
    return arguments


if __name__ == "__main__":
    main()
