"""Training windows: every target once per epoch with enough history, nothing held out, padding where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from flr.errors import DataError
from flr.records import TEST, Histories
from flr.sequential.windows import TrainingWindows, padded
from toy import toy_sequences

N = 11


def test_every_target_comes_once_per_epoch_with_at_least_half_a_window() -> None:
    sequences = toy_sequences([30, 2, 9, 1])
    windows = TrainingWindows(sequences, N, 6)
    assert windows.n_targets == 29 + 1 + 8
    for epoch in range(5):
        starts, firsts, lasts = windows.draw(np.random.default_rng(epoch))
        asked = np.concatenate([np.arange(a, b + 1) for a, b in zip(firsts, lasts, strict=True)])
        assert sorted(asked) == sorted(set(asked)) == np.flatnonzero(windows.is_target).tolist()
        assert (lasts - starts <= 6).all()
        begins = sequences.offsets[np.searchsorted(sequences.offsets, starts, side="right") - 1]
        assert ((firsts - starts >= 3) | (starts == begins)).all()


def test_targets_are_successors_and_held_out_rows_are_never_read() -> None:
    sequences = toy_sequences([8, 5])
    sequences.split[[7, 12]] = TEST
    sequences.item_index[[7, 12]] = 10
    sequences.item_index[:7] = np.arange(7)
    sequences.item_index[8:12] = np.arange(4)
    pairs = []
    for batch in TrainingWindows(sequences, N, 20).epoch(np.random.default_rng(0), 4):
        assert batch.items.shape == batch.targets.shape
        known = batch.targets >= 0
        assert (batch.items[known] + 1 == batch.targets[known]).all()
        assert not (batch.items == 10).any()
        assert (batch.targets[batch.items == N] == -1).all()
        pairs += batch.targets[known].tolist()
    assert sorted(pairs) == sorted([*range(1, 7), *range(1, 4)])


def test_cloze_asks_for_masked_places_only() -> None:
    windows = TrainingWindows(toy_sequences([12] * 20), N, 5)
    at_end = 0
    for batch in windows.epoch(np.random.default_rng(1), 30, mask_share=0.4):
        masked = batch.items == N + 1
        assert (masked == (batch.targets >= 0)).all()
        assert masked.any(1).all()
        lengths = (batch.items != N).sum(1)
        at_end += int(masked[np.arange(len(lengths)), lengths - 1].sum())
    assert at_end > 20


def test_no_training_target_is_an_error() -> None:
    with pytest.raises(DataError, match="none of 3 rows is a training target"):
        TrainingWindows(toy_sequences([1, 1, 1]), N, 5)


def test_padded_histories_and_the_place_that_predicts() -> None:
    histories = Histories(np.array([4, 5, 6, 7]), np.array([0, 3, 4]))
    items, places = padded(histories, N, is_cloze=False)
    assert items.tolist() == [[4, 5, 6], [7, N, N]]
    assert places.tolist() == [2, 0]
    items, places = padded(histories, N, is_cloze=True)
    assert items.tolist() == [[4, 5, 6, N + 1], [7, N + 1, N, N]]
    assert places.tolist() == [3, 1]
