"""The same computations, written the obvious slow way: what tests compare with and benchmarks measure against.

One example at a time, one title at a time, plain causal forwards without caches, dictionaries for tries.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from flr.compiled import CompiledCatalogue
from flr.model import FLRModel
from flr.records import Histories, Thought
from flr.training.grpo import PolicyModule
from flr.training.rollouts import PolicyBatch, Rollout, target_of_choice

DictTrie = dict[int, "DictTrie"]


def title_tokens(compiled: CompiledCatalogue, leaf: int) -> list[int]:
    """Return the tokens of a title, the end-of-item token included."""
    titles = compiled.template.titles
    return titles.ids[titles.offsets[leaf] : titles.offsets[leaf + 1]].tolist()


def stream_tokens(compiled: CompiledCatalogue, items: list[int]) -> list[int]:
    """Return the tokens of a history."""
    empty = Histories(torch.tensor([]).numpy().astype(int), torch.tensor([0, 0]).numpy())
    around = compiled.template.streams(empty).ids.tolist()
    n = compiled.template.n_preamble
    titles = [title_tokens(compiled, int(compiled.catalogue.leaf[item])) for item in items]
    return [*around[:n], *itertools.chain(*titles), *around[n:]]


def dict_trie(compiled: CompiledCatalogue) -> DictTrie:
    """Return the catalogue's trie as nested dictionaries."""
    root: DictTrie = {}
    for leaf in range(compiled.catalogue.n_leaves):
        node = root
        for token in title_tokens(compiled, leaf):
            node = node.setdefault(token, {})
    return root


def plain_forward(model: FLRModel, embeddings: Tensor) -> Tensor:
    """Return hidden states of one causal sequence, [L, D], by a forward without mask or cache."""
    out = model.backbone.transformer(inputs_embeds=embeddings[None], use_cache=False)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def think_once(model: FLRModel, items: list[int], compiled: CompiledCatalogue) -> tuple[Tensor, Thought | None]:
    """Return the input embeddings that titles see, a history with its thoughts [L + n_thoughts, D], and the thought."""
    embeddings = model.backbone.embed(torch.tensor(stream_tokens(compiled, items)))
    if model.reasoner is None:
        return embeddings, None
    hidden = plain_forward(model, embeddings)
    n = len(hidden)
    thought = model.reasoner(hidden[None], torch.ones(1, 1, n, dtype=torch.bool), torch.tensor([[n - 1]]))
    if model.is_bottleneck:
        return thought.vectors[0, 0], thought
    return torch.cat([embeddings, thought.vectors[0, 0]]), thought


def title_log_prob(
    model: FLRModel, prompt: Tensor, tokens: list[int], trie: DictTrie, *, likelihood: str = "catalogue"
) -> Tensor:
    """Return log p(title) after a prompt of input embeddings, by one forward for this title alone."""
    embeddings = torch.cat([prompt, model.backbone.embed(torch.tensor(tokens))])
    hidden = plain_forward(model, embeddings)[len(prompt) - 1 :]
    node, total = trie, torch.zeros(())
    for place, token in enumerate(tokens):
        logits = model.backbone.output_weight @ hidden[place]
        if likelihood == "vocabulary":
            total = total + torch.log_softmax(logits, 0)[token]
        elif len(node) > 1:
            allowed = list(node)
            total = total + torch.log_softmax(logits[allowed], 0)[allowed.index(token)]
        node = node[token]
    return total


def score_titles(
    model: FLRModel, items: list[int], compiled: CompiledCatalogue, *, likelihood: str = "catalogue"
) -> Tensor:
    """Return log p of every distinct title, [n_leaves], each by its own forward."""
    trie = dict_trie(compiled)
    prompt, _ = think_once(model, items, compiled)
    scores = [
        title_log_prob(model, prompt, title_tokens(compiled, leaf), trie, likelihood=likelihood)
        for leaf in range(compiled.catalogue.n_leaves)
    ]
    return torch.stack(scores)


def beam_search(
    model: FLRModel,
    items: list[int],
    compiled: CompiledCatalogue,
    trie: DictTrie,
    *,
    width: int,
    likelihood: str = "catalogue",
) -> list[tuple[float, tuple[int, ...]]]:
    """Return the best titles by beam search over a dictionary trie, as (log p, tokens), best first.

    Every step runs the whole prompt again for the whole beam, as a decoder without a cache does. A finished title
    stays in the beam as long as fewer than `width` others are better.
    """
    prompt, _ = think_once(model, items, compiled)
    beam: list[tuple[float, tuple[int, ...], DictTrie]] = [(0.0, (), trie)]
    while open_ends := [state for state in beam if state[2]]:
        tokens = torch.tensor([list(written) for _, written, _ in open_ends], dtype=torch.long)
        n = len(open_ends)
        written = model.backbone.embed(tokens) if tokens.shape[1] else prompt.new_zeros(n, 0, prompt.shape[-1])
        embeddings = torch.cat([prompt.expand(n, -1, -1), written], dim=1)
        hidden = model.backbone.transformer(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
        candidates = [state for state in beam if not state[2]]
        for state, (score, path, node) in zip(hidden, open_ends, strict=True):
            allowed = list(node)
            gains = _token_log_probs(model.backbone.output_weight, state, allowed, likelihood)
            candidates += [(score + gain, (*path, token), node[token]) for gain, token in gains]
        beam = sorted(candidates, key=lambda candidate: -candidate[0])[:width]
    return [(score, path) for score, path, _ in beam]


def _token_log_probs(output: Tensor, state: Tensor, allowed: list[int], likelihood: str) -> list[tuple[float, int]]:
    if likelihood == "vocabulary":
        log_probs = torch.log_softmax(output @ state, 0)[allowed]
    else:
        log_probs = torch.log_softmax(output[allowed] @ state, 0)
    return list(zip(log_probs.tolist(), allowed, strict=True))


def policy_loss(
    policy: PolicyModule, batch: PolicyBatch, rollout: Rollout, histories: list[list[int]], compiled: CompiledCatalogue
) -> Tensor:
    """Return the stage-two loss of a batch, summed over its targets; every thought reads its whole history anew.

    Args:
        policy: Thinks.
        batch: Whose targets are written.
        rollout: The noise of the thoughts, what they earned and what was thought and written before.
        histories: Items that each target is thought about, oldest first.
        compiled: The catalogue.
    """
    settings, trie, total = policy.settings, dict_trie(compiled), torch.zeros(())
    rows, columns = torch.nonzero(batch.packed.target_mask, as_tuple=True)
    owners = target_of_choice(batch.packed)
    for target, (row, column, history) in enumerate(zip(rows, columns, histories, strict=True)):
        old, reference = rollout.old[row, column], rollout.reference[row, column]
        advantages = rollout.advantages[target]
        leaf = int(compiled.catalogue.leaf[batch.packed.target_items[row, column]])
        tokens = title_tokens(compiled, leaf)
        for number in range(settings.group_size):
            prompt, thought = think_once(policy.model, history, compiled)
            assert thought is not None
            new, prompt = thought.vectors[0, 0], prompt[: -policy.model.n_thoughts]
            noise = rollout.noise[number - 1, row, column] * policy.sigma if number else torch.zeros_like(new)
            if settings.update == "latent":
                sample = old + noise
                log_ratio = ((sample - old).square().sum() - (sample - new).square().sum()) / (2 * policy.sigma**2)
                value = _clipped(log_ratio, advantages[number], settings.clip_low, settings.clip_high)
                kl = (new - reference).square().sum() / (2 * policy.sigma**2)
            else:
                gains = _choices(policy.model, torch.cat([prompt, new + noise]), tokens, trie)
                assert rollout.reference_log_probs is not None
                before, stage_one = (
                    values[number, owners == target]
                    for values in (rollout.choice_log_probs, rollout.reference_log_probs)
                )
                ratios = [
                    _clipped(gain, advantages[number], settings.clip_low, settings.clip_high) for gain in gains - before
                ]
                value = torch.stack(ratios).mean()
                kl = (torch.exp(stage_one - gains) - (stage_one - gains) - 1).mean()
            total = total + (settings.beta * kl - value) / settings.group_size
    return total


def _clipped(log_ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def _choices(model: FLRModel, prompt: Tensor, tokens: list[int], trie: DictTrie) -> Tensor:
    """Return the log-probability of each choice that writing a title takes, under the catalogue likelihood."""
    embeddings = torch.cat([prompt, model.backbone.embed(torch.tensor(tokens))])
    hidden = plain_forward(model, embeddings)[len(prompt) - 1 :]
    node, found = trie, []
    for place, token in enumerate(tokens):
        if len(node) > 1:
            allowed = list(node)
            logits = (model.backbone.output_weight @ hidden[place])[allowed]
            found.append(torch.log_softmax(logits, 0)[allowed.index(token)])
        node = node[token]
    return torch.stack(found)
