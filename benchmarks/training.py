"""How fast is shared-prefix training beside the naive twin, which encodes every history anew for every target?

    python -m benchmarks.training                 # the default compact model on MovieLens-100K
    python -m benchmarks.training --quick

Both train the same targets of the same windows with the same model, forward and backward. The twin is batched
(eight examples of similar length at a time, padded), as an ordinary trainer would; only the sharing is missing.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.naive import stream_tokens, title_tokens
from benchmarks.worlds import compact_on_movielens, peak_memory_mb
from flr.recommender import Recommender
from flr.records import PackedBatch, UserSequences
from flr.scoring.likelihood import choice_log_probs
from flr.text.packing import Windows
from flr.training.trainer import PackedRows


def main() -> None:
    arguments = _arguments()
    recommender, prepared = compact_on_movielens()
    config, model = recommender.config, recommender.model.train()
    rows = PackedRows(
        prepared.sequences,
        recommender.compiled.packer(model.n_thoughts),
        window=config.text.window,
        row_tokens=None,
        batch_tokens=config.training.batch_tokens,
        seed=0,
    ).limit(64)
    batches = [
        [rows[step * rows.rows_per_batch + place] for place in range(rows.rows_per_batch)]
        for step in range(arguments.steps)
    ]
    padding = float(np.mean([1 - _real_share(rows.collate(batch)["stream_segments"]) for batch in batches]))
    shared_rate, n_targets = _shared(recommender, rows, batches)
    shared_peak = peak_memory_mb()
    naive_rate = _naive(recommender, prepared.sequences, batches[0], arguments.naive_targets)
    print(f"shared prefixes: {shared_rate:.0f} targets/s ({n_targets:.0f} targets a step, padding {padding:.1%})")
    print(f"naive twin:      {naive_rate:.1f} targets/s")
    print(f"ratio {shared_rate / naive_rate:.1f}", end="; ")
    print(f"peak memory {shared_peak:.0f} MB with shared prefixes, {peak_memory_mb():.0f} MB after the twin")


def _real_share(segments: Tensor) -> float:
    return float((segments >= 0).float().mean())


def _shared(recommender: Recommender, rows: PackedRows, batches: list[list[Windows]]) -> tuple[float, float]:
    n_targets, seconds = 0.0, 0.0
    for number, windows in enumerate(batches):
        started = time.perf_counter()
        batch = PackedBatch.of(rows.collate(windows))
        losses = recommender.model(batch, recommender.compiled.table)
        sum(losses.values()).backward()
        recommender.model.zero_grad()
        if number:  # the first step warms up
            seconds += time.perf_counter() - started
            n_targets += float(batch.target_mask.sum())
    return n_targets / seconds, n_targets / (len(batches) - 1)


def _naive(recommender: Recommender, sequences: UserSequences, windows: list[Windows], n_targets: int) -> float:
    """Return targets per second, each a sequence of its own: prompt, thought, title."""
    examples = [
        (sequences.item_index[start:row].tolist(), int(sequences.item_index[row]))
        for row_windows in windows
        for start, end in zip(row_windows.starts, row_windows.ends, strict=True)
        for row in range(start + 1, end)
    ]
    chosen = np.random.default_rng(0).permutation(len(examples))[:n_targets]
    examples = sorted((examples[i] for i in chosen), key=lambda example: len(example[0]))
    started = time.perf_counter()
    for place in range(0, len(examples), 8):
        loss = _naive_batch(recommender, examples[place : place + 8])
        loss.backward()
        recommender.model.zero_grad()
    return len(examples) / (time.perf_counter() - started)


def _naive_batch(recommender: Recommender, examples: list[tuple[list[int], int]]) -> Tensor:
    """Return the summed loss of a padded batch: one forward to think, another with the thought to write."""
    model, compiled = recommender.model, recommender.compiled
    prompts = [stream_tokens(compiled, history) for history, _ in examples]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
    ends = torch.tensor([len(prompt) - 1 for prompt in prompts])
    real = torch.arange(ids.shape[1]) <= ends[:, None]
    embeddings = model.backbone.embed(ids)
    hidden = _forward(model, embeddings, real)
    thought = model.reasoner(hidden, real[:, None], ends[:, None])
    leaves = [int(compiled.catalogue.leaf[item]) for _, item in examples]
    written = [torch.tensor(title_tokens(compiled, leaf)) for leaf in leaves]
    rows = [
        torch.cat([embeddings[row, : ends[row] + 1], thought.vectors[row, 0], model.backbone.embed(tokens)])
        for row, tokens in enumerate(written)
    ]
    whole = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    hidden = _forward(model, whole, torch.arange(whole.shape[1]) < lengths[:, None])
    total = torch.zeros(())
    for row, leaf in enumerate(leaves):
        start, end = compiled.paths.offsets[leaf : leaf + 2]
        nodes = compiled.paths.nodes[start:end].astype(np.int64)
        children = torch.from_numpy(compiled.paths.children[start:end].astype(np.int64))
        columns = ends[row] + 1 + torch.from_numpy(compiled.trie.depth[nodes].astype(np.int64))
        states = hidden[row, columns]
        total = total - _sum_of_choices(recommender, states, nodes, children)
    return total


def _sum_of_choices(recommender: Recommender, states: Tensor, nodes: np.ndarray, children: Tensor) -> Tensor:
    output = recommender.model.backbone.output_weight
    return choice_log_probs(states, torch.from_numpy(nodes), children, recommender.compiled.table, output).sum()


def _forward(model: torch.nn.Module, embeddings: Tensor, real: Tensor) -> Tensor:
    out = model.backbone.transformer(inputs_embeds=embeddings, attention_mask=real.long(), use_cache=False)
    hidden: Tensor = out.last_hidden_state
    return hidden


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="shared-prefix batches")
    parser.add_argument("--naive-targets", type=int, default=256, help="targets of the twin")
    parser.add_argument("--quick", action="store_true", help="fewer of both")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.naive_targets = 4, 64
    return arguments


if __name__ == "__main__":
    main()
