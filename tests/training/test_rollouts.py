"""Rollouts against the plain way of doing the same: every thought ranks the whole catalogue on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr.compiled import CompiledCatalogue
from flr.evaluation.metrics import exclude, rank_statistics
from flr.model import FLRModel
from flr.records import Histories, UserSequences
from flr.training.rollouts import Environment, PolicyBatch, PolicyRows, draw_noise
from toy import toy_model, toy_sequences

SETTINGS = {"window": 6, "row_tokens": None, "batch_tokens": 300, "seed": 0}


def policy_rows(
    sequences: UserSequences, compiled: CompiledCatalogue, *, n: int | None = None, updates: int = 1
) -> PolicyRows:
    return PolicyRows(sequences, compiled.packer(1), targets_per_row=n, updates_per_rollout=updates, **SETTINGS)


def batch_of(rows: PolicyRows, *numbers: int) -> PolicyBatch:
    return PolicyBatch.of(rows.collate([rows[number] for number in numbers]))


def history_of(batch: PolicyBatch, target: int) -> list[int]:
    return batch.seen_items[batch.seen_targets == target].tolist()


def test_noise_and_targets_of_a_row_do_not_depend_on_its_neighbours() -> None:
    rows = policy_rows(toy_sequences([9, 15, 31, 12]), toy_model()[1], n=3)
    together, alone = batch_of(rows, 0, 1), batch_of(rows, 1)
    mask = together.packed.target_mask
    assert mask.sum(1).tolist() == [3, 3]
    assert together.packed.target_items[1].tolist() == alone.packed.target_items[0].tolist()
    noise = draw_noise(mask, together.row_seeds, 4, (1, 8))
    assert noise.shape == (3, 2, 3, 1, 8)
    other = draw_noise(alone.packed.target_mask, alone.row_seeds, 4, (1, 8))
    assert torch.equal(noise[:, 1], other[:, 0])
    assert abs(float(noise.mean())) < 0.5
    assert float((noise[:, 0] - noise[:, 1]).abs().min()) > 0


def test_several_updates_see_the_same_rows() -> None:
    rows = policy_rows(toy_sequences([9, 15, 31, 12]), toy_model()[1], updates=2)
    per_step = rows.rows_per_batch
    numbers = [rows[place].number for place in range(4 * per_step)]
    first = list(range(per_step))
    assert numbers == [*first, *first, *(n + per_step for n in first), *(n + per_step for n in first)]


def test_what_was_seen_is_the_whole_history_and_not_the_window() -> None:
    sequences = toy_sequences([31])
    batch = batch_of(policy_rows(sequences, toy_model()[1]), 0)
    for target, item in enumerate(batch.packed.target_items[batch.packed.target_mask].tolist()):
        seen = history_of(batch, target)
        assert seen == sequences.item_index[: len(seen)].tolist()
        assert sequences.item_index[len(seen)] == item


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("excludes_seen", [True, False])
@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
def test_ranks_and_likelihoods_equal_those_of_scoring_everything(
    limit: int | None, excludes_seen: bool, likelihood: str
) -> None:
    model, compiled, _ = toy_model(f"objective.likelihood={likelihood}")
    batch = batch_of(policy_rows(toy_sequences([4, 5, 3, 2]), compiled), 0)
    mask = batch.packed.target_mask
    with torch.no_grad():
        streams = model.encode(batch.packed)
        thought = model.reason(batch.packed, streams)
        assert thought is not None
        thoughts = torch.stack([thought.vectors, thought.vectors + 2 * torch.randn(thought.vectors.shape)])
        _, outcome = Environment(model, compiled, excludes_seen).try_out(batch, streams, thoughts)
        n_better, n_equal = outcome.ranks(limit)
        for number, vectors in enumerate(thoughts):
            for target, item in enumerate(outcome.items.tolist()):
                history = history_of(batch, target)
                scores = everything(model, compiled, history[-6:], vectors[mask][target])
                assert outcome.log_probs[target, number].item() == pytest.approx(
                    scores[0, item] + np.log(compiled.n_sharing[compiled.leaf[item]].item()), abs=1e-3
                )
                if excludes_seen:
                    scores = exclude(scores, (np.zeros(len(history), dtype=int), np.array(history)))
                better, equal = rank_statistics(scores.round(4), np.array([item]))
                if limit is None or better[0] < limit:
                    assert (n_better[target, number], n_equal[target, number]) == (better[0], equal[0])
                else:
                    assert n_better[target, number] >= limit


def everything(model: FLRModel, compiled: CompiledCatalogue, history: list[int], vectors: torch.Tensor) -> np.ndarray:
    """Return log p of every item after one given thought, by scoring the catalogue."""
    histories = Histories(np.array(history), np.array([0, len(history)]))
    streams = model.read(compiled.template.streams(histories))
    changed = model.think(streams, vectors=vectors[None])
    scores: np.ndarray = model.score(changed, compiled).numpy()
    return scores
