"""Thoughts tried out: each history is read once, and only [thought, title] runs for each of its G thoughts.

Legend: S real targets of a batch in row order, G thoughts of a target, the first without noise.

Source: METHOD 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from flr.backbone.streams import EncodedStreams
from flr.compiled import CompiledCatalogue
from flr.config import Config
from flr.model import FLRModel
from flr.records import Histories, IntArray, PackedBatch, UserSequences
from flr.seeding import derive_seed, generator
from flr.text.packing import Packer, Windows
from flr.training.rewards import Outcome
from flr.training.trainer import PackedRows

#: How far log p of a title may differ between two ways of computing it; a floor lies this far below a target.
_SLACK = 1e-2
#: Scores of items held at a time while targets are ranked.
_MAX_SCORES = 2**23


@dataclass(frozen=True)
class NumberedRow:
    """A packed row and its number, from which all its random draws derive."""

    number: int
    windows: Windows


@dataclass(frozen=True)
class PolicyBatch:
    """Targets to think about.

    Attributes:
        packed: Histories and titles.
        row_seeds: Seed of the noise of each row, [B].
        seen_targets, seen_items: What may not be recommended: (place of the target, item index) pairs.
    """

    packed: PackedBatch
    row_seeds: Tensor
    seen_targets: Tensor
    seen_items: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> PolicyBatch:
        """Return the batch that `PolicyRows.collate` built, wherever its tensors are by now."""
        own = {name: tensors[name] for name in ("row_seeds", "seen_targets", "seen_items")}
        return cls(PackedBatch.of(tensors), **own)


class PolicyRows(PackedRows):
    """Packed rows for stage two: a few targets of each, the seed of its noise, and what may not be recommended.

    Args:
        targets_per_row: Targets drawn from each row; None takes all.
        updates_per_rollout: Optimiser steps that see the same rows.
        arguments: As for `PackedRows`.
    """

    def __init__(self, *arguments: Any, targets_per_row: int | None, updates_per_rollout: int, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.targets_per_row, self.updates_per_rollout = targets_per_row, updates_per_rollout
        self.batches_per_step = 1

    @classmethod
    def of(cls, config: Config, sequences: UserSequences, packer: Packer) -> Self:
        """Return the rows that stage two is trained on; arguments as for stage one."""
        return cls(
            sequences,
            packer,
            batch_tokens=config.grpo.batch_tokens,
            targets_per_row=config.grpo.targets_per_row,
            updates_per_rollout=config.grpo.updates_per_rollout,
            **cls._of_windows(config),
        )

    def __getitem__(self, index: int) -> NumberedRow:  # type: ignore[override]
        step, place = divmod(index, self.rows_per_batch * self.batches_per_step)
        number = step // self.updates_per_rollout * self.rows_per_batch * self.batches_per_step + place
        return NumberedRow(number, super().__getitem__(number))

    def collate(self, rows: Sequence[NumberedRow]) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the fields of a `PolicyBatch`, those of its `PackedBatch` among them."""
        windows = Windows(
            np.concatenate([row.windows.starts for row in rows]), np.concatenate([row.windows.ends for row in rows])
        )
        row_of_window = np.repeat(np.arange(len(rows)), [len(row.windows) for row in rows])
        owners, target_rows = self.packer.target_rows(windows, self.sequences)
        asked = self._asked(row_of_window[owners], [row.number for row in rows])
        batch = self.packer.collate(windows, row_of_window, self.sequences, asked)
        seen_targets, seen_items = self._seen(target_rows[asked])
        seeds = [derive_seed(self.seed, "policy noise", row.number) for row in rows]
        return {
            **batch.tensors(),
            "row_seeds": torch.tensor(seeds),
            "seen_targets": torch.from_numpy(seen_targets),
            "seen_items": torch.from_numpy(seen_items),
        }

    def _asked(self, rows: IntArray, numbers: Sequence[int]) -> IntArray:
        """Return the places of the targets that are drawn, ascending; the draw of a row depends on its number only."""
        places = np.arange(len(rows))
        if self.targets_per_row is None:
            return places
        drawn = []
        for row, number in enumerate(numbers):
            of_row = places[rows == row]
            n = min(self.targets_per_row, len(of_row))
            drawn.append(generator(self.seed, "policy targets", number).choice(of_row, n, replace=False))
        return np.sort(np.concatenate(drawn))

    def _seen(self, target_rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return what the user of each target had taken before it, as (place of the target, item) pairs."""
        users = np.searchsorted(self.sequences.offsets, target_rows, side="right") - 1
        histories = Histories.before(self.sequences, users, target_rows)
        return np.repeat(np.arange(len(target_rows)), histories.lengths), histories.item_index.astype(np.int64)


def draw_noise(mask: Tensor, row_seeds: Tensor, group_size: int, shape: tuple[int, int]) -> Tensor:
    """Return standard normal noise of all but the first thought, float32, [G - 1, B, P, n_thoughts, D].

    Each row draws from its own seed, on the CPU, so the noise does not depend on how rows are batched.

    Args:
        mask: True at real targets, which come first in each row, [B, P].
        row_seeds: [B].
        group_size: Thoughts per target G.
        shape: (n_thoughts, D).
    """
    noise = torch.zeros(*mask.shape, group_size - 1, *shape)
    for row, (seed, n) in enumerate(zip(row_seeds.tolist(), mask.sum(1).tolist(), strict=True)):
        drawn = torch.randn(n, group_size - 1, *shape, generator=torch.Generator().manual_seed(seed))
        noise[row, :n] = drawn
    return noise.permute(2, 0, 1, 3, 4).to(mask.device)


def target_of_choice(batch: PackedBatch) -> Tensor:
    """Return the place among the S real targets that each choice of a batch belongs to, [C]."""
    numbers = batch.target_mask.flatten().cumsum(0) - 1
    return numbers.view(batch.target_mask.shape)[batch.score_rows, batch.score_targets]


def per_target(batch: PackedBatch, choice_values: Tensor) -> Tensor:
    """Return the sums over each target's choices, [G, C] -> [S, G]."""
    n_targets = int(batch.target_mask.sum())
    sums = choice_values.new_zeros(n_targets, len(choice_values))
    return sums.index_add(0, target_of_choice(batch), choice_values.T)


@dataclass(frozen=True)
class Environment:
    """What answers a thought: the model that writes titles, the catalogue, and what may not be recommended.

    Attributes:
        model: Its weights stand still while thoughts are tried out.
        compiled: The catalogue, on the model's device.
        excludes_seen: Whether items of the user's history are no candidates of the ranking.
    """

    model: FLRModel
    compiled: CompiledCatalogue
    excludes_seen: bool

    def try_out(self, batch: PolicyBatch, streams: EncodedStreams, thoughts: Tensor) -> tuple[Tensor, Outcome]:
        """Return the log-probability of each choice [G, C], and how the items did.

        Args:
            batch: Whose targets are written.
            streams: Its histories, encoded.
            thoughts: [G, B, P, n_thoughts, D].
        """
        packed, mask = batch.packed, batch.packed.target_mask
        written, after_thoughts = [], []
        for vectors in thoughts:
            titles = self.model.write(packed, streams, vectors, self.compiled.table)
            assert titles.branch_hidden is not None  # every branch holds its thought
            written.append(titles.log_probs)
            after_thoughts.append(self.model.root_hidden(packed, titles.branch_hidden))
        choices, roots = torch.stack(written), torch.stack(after_thoughts)
        log_probs = per_target(packed, choices)
        tried = _Tried(thoughts[:, mask], roots, log_probs)

        def ranks(limit: int | None) -> tuple[IntArray, IntArray]:
            n_thoughts = max(1, _MAX_SCORES // (len(log_probs) * self.compiled.catalogue.n_items))
            found = [
                self._ranks(batch, streams, tried.some(slice(start, start + n_thoughts)), limit)
                for start in range(0, len(thoughts), n_thoughts)
            ]
            n_better, n_equal = (torch.cat(part).T.cpu().numpy() for part in zip(*found, strict=True))
            return n_better, n_equal

        n_choices = torch.bincount(target_of_choice(packed), minlength=len(log_probs))
        return choices, Outcome(log_probs, n_choices, packed.target_items[mask], ranks)

    def _ranks(
        self, batch: PolicyBatch, streams: EncodedStreams, tried: _Tried, limit: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return (n_better, n_equal) of each target under each thought, [G, S] each; see `flr.evaluation.metrics`."""
        compiled, items = self.compiled, batch.packed.target_items[batch.packed.target_mask]
        own = (tried.log_probs.T - compiled.n_sharing[compiled.leaf[items]].log()).flatten()
        target = torch.arange(len(own), device=items.device) % len(items)
        banned = torch.zeros(len(items), compiled.catalogue.n_items, dtype=torch.bool, device=items.device)
        if self.excludes_seen:
            banned[batch.seen_targets, batch.seen_items] = True
        is_lost = banned[target, items[target]]

        def candidates(found: Tensor, rows: Tensor) -> Tensor:
            scores = compiled.by_item(found)
            return scores.masked_fill_(banned[target[rows]], -torch.inf)

        def floor(found: Tensor, rows: Tensor) -> Tensor:
            hopeless = is_lost[rows]
            if limit is not None:
                better = candidates(found, rows) > (own[rows] + _SLACK)[:, None]
                hopeless = hopeless | (better.sum(1) >= limit)
            return torch.where(hopeless, torch.inf, own[rows] - _SLACK)

        found = self.model.score_targets_above(
            batch.packed, streams, tried.thoughts, tried.root_hidden, compiled=compiled, floor=floor
        )
        scores = candidates(found, torch.arange(len(own), device=items.device))
        of_target = scores.gather(1, items[target][:, None])
        # A target that nobody read on for is beyond the limit, whatever stands for its score.
        of_target = torch.where(of_target.isneginf(), own[:, None], of_target)
        n_better, n_equal = (scores > of_target).sum(1), (scores == of_target).sum(1).clamp(min=1)
        n_better, n_equal = torch.where(is_lost, scores.shape[1], n_better), torch.where(is_lost, 0, n_equal)
        return n_better.view(-1, len(items)), n_equal.view(-1, len(items))


@dataclass(frozen=True)
class _Tried:
    """Thoughts [G, S, n_thoughts, D], hidden states after them [G, S, D], and log p of the titles [S, G]."""

    thoughts: Tensor
    root_hidden: Tensor
    log_probs: Tensor

    def some(self, chosen: slice) -> _Tried:
        return _Tried(self.thoughts[chosen], self.root_hidden[chosen], self.log_probs[:, chosen])


@dataclass(frozen=True)
class Rollout:
    """A group of thoughts for every target of a batch, and what they earned; nothing in it carries gradients.

    Attributes:
        streams: The histories, encoded.
        noise: [G - 1, B, P, n_thoughts, D].
        old, reference: Thoughts of the policy that drew the samples and of stage one, [B, P, n_thoughts, D].
        choice_log_probs: Log-probability of each choice under each thought, [G, C].
        reference_log_probs: The same with the noise around the stage-one thoughts; None where nobody asks.
        rewards: [S, G].
        advantages: [S, G]; empty until the rewards of the whole optimiser batch are known.
    """

    streams: EncodedStreams
    noise: Tensor
    old: Tensor
    reference: Tensor
    choice_log_probs: Tensor
    reference_log_probs: Tensor | None
    rewards: Tensor
    advantages: Tensor
