"""Training batches of sequential networks: windows of users' training sequences, padded at the right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.errors import DataError
from flr.records import TRAIN, Histories, IntArray, UserSequences


@dataclass(frozen=True)
class SequenceBatch:
    """What a network reads and what it should answer.

    Attributes:
        items: Items, N at padding and N + 1 at masked places, [B, T] int64.
        targets: The item that the state at each place should predict, -1 where none, [B, T] int64.
    """

    items: Tensor
    targets: Tensor


class TrainingWindows:
    """Windows over the training sequences, drawn anew for every epoch.

    A window ends at a row whose successor is a target. Sequences longer than a window are cut at a random phase into
    runs of half a window, each read with what precedes it: every training target comes once per epoch, with all its
    history or with at least half a window of it.

    Args:
        sequences: All users; only training rows with an earlier row are targets, only rows before them are read.
        n_items: Size of the catalogue N.
        window: Most history items of a target.

    Raises:
        DataError: No training row has an earlier row.
    """

    def __init__(self, sequences: UserSequences, n_items: int, window: int) -> None:
        users, rows = sequences.targets(TRAIN)
        if not len(rows):
            raise DataError(
                f"none of {sequences.n_interactions:,} rows is a training target with an earlier row, so no network "
                "can be trained; prepare the data with less held out"
            )
        self.items, self.n_items, self.window = sequences.item_index.astype(np.int64), n_items, window
        self.is_target = np.zeros(sequences.n_interactions, dtype=np.bool_)
        self.is_target[rows] = True
        self.n_targets = len(rows)
        known, last = np.unique(users[::-1], return_index=True)
        self._begins = sequences.offsets[known]
        self._ends = rows[::-1][last]  # the last target of each user: the split never falls within a user

    def draw(self, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
        """Return first row, first target row and last target row of each window of an epoch, in random order."""
        step = max(self.window // 2, 1)
        starts, firsts, lasts = [], [], []
        phases = rng.integers(1, step + 1, len(self._begins))
        for begin, end, phase in zip(self._begins.tolist(), self._ends.tolist(), phases.tolist(), strict=True):
            edges = [end] if end - begin <= self.window else [*range(begin + phase, end, step), end]
            first = begin + 1
            for last in edges:
                if self.is_target[last]:
                    starts.append(max(begin, last - self.window))
                    firsts.append(first)
                    lasts.append(last)
                first = last + 1
        order = rng.permutation(len(starts))
        return np.array(starts)[order], np.array(firsts)[order], np.array(lasts)[order]

    def epoch(
        self, rng: np.random.Generator, batch_targets: int, mask_share: float | None = None
    ) -> Iterator[SequenceBatch]:
        """Yield the batches of one epoch.

        Args:
            rng: Draws order, phases and masks.
            batch_targets: Targets of a batch, about.
            mask_share: None asks for the successor of every place. A number makes cloze batches, target row included:
                in half of the windows the last place is masked, as it is when recommending, in the other half this
                share of the places that may be targets.
        """
        starts, firsts, lasts = self.draw(rng)
        order = np.argsort(lasts - starts, kind="stable")  # similar lengths together: little padding
        numbers = np.cumsum((lasts - firsts + 1)[order]) // batch_targets
        batches = np.split(order, np.flatnonzero(np.diff(numbers)) + 1)
        for windows in (batches[number] for number in rng.permutation(len(batches))):
            rows = starts[windows, None] + np.arange((lasts - starts)[windows].max() + 1)
            real = rows <= lasts[windows, None]
            rows = np.minimum(rows, lasts[windows, None])
            items = np.where(real, self.items[rows], self.n_items)
            asked = real & self.is_target[rows]
            if mask_share is None:
                asked &= rows >= firsts[windows, None]
                targets = np.where(asked, items, -1)[:, 1:]
                inputs = np.where(rows < lasts[windows, None], items, self.n_items)[:, :-1]
            else:
                at_end = real & (rows == lasts[windows, None])
                drawn = asked & (rng.random(items.shape) < mask_share)
                only_last = (rng.random(len(windows)) < 0.5) | ~drawn.any(axis=1)
                drawn = np.where(only_last[:, None], at_end, drawn)
                targets, inputs = np.where(drawn, items, -1), np.where(drawn, self.n_items + 1, items)
            yield SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))


def padded(histories: Histories, n_items: int, *, is_cloze: bool) -> tuple[Tensor, Tensor]:
    """Return histories, none empty, as padded items [B, T], and the place of each that predicts its next item, [B].

    Args:
        histories: Known items only, already cut to the window.
        n_items: Size of the catalogue N, which is the padding too.
        is_cloze: Append a masked place, which predicts.
    """
    items, lengths = histories.padded(n_items), histories.lengths + is_cloze
    if is_cloze:
        items = np.pad(items, ((0, 0), (0, 1)), constant_values=n_items)
        items[np.arange(len(lengths)), lengths - 1] = n_items + 1
    return torch.from_numpy(items), torch.from_numpy(lengths - 1)
