from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.records import CONTEXT, TEST, TRAIN, VALID, UserSequences
from flr.seeding import generator
from flr.text.packing import Windows, pack_rows, training_windows
from toy import INSTRUCTION, toy_model, toy_sequences


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 9), st.integers(0, 5))
def test_every_training_target_falls_into_exactly_one_window(lengths: list[int], window: int, seed: int) -> None:
    sequences = toy_sequences(lengths)
    windows = training_windows(sequences, window, generator(seed, "windows"))
    targets = [row for a, b in zip(windows.starts, windows.ends, strict=True) for row in range(a + 1, b)]
    expected = [row for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False) for row in range(a + 1, b)]
    assert sorted(targets) == expected
    assert all(2 <= b - a <= window + 1 for a, b in zip(windows.starts, windows.ends, strict=True))
    owner = np.searchsorted(sequences.offsets, windows.starts, side="right")
    assert (windows.ends <= sequences.offsets[owner]).all()


def test_windows_stop_before_held_out_rows_and_their_phase_moves() -> None:
    split = np.array([CONTEXT, TRAIN, TRAIN, VALID, TEST, CONTEXT, VALID, TEST], dtype=np.int8)
    sequences = UserSequences(
        np.array(["a", "b"], dtype=object), np.array([0, 5, 8]), np.arange(8), np.arange(8), split
    )
    windows = training_windows(sequences, 10, rng())
    assert (windows.starts.tolist(), windows.ends.tolist()) == ([0], [3])
    cuts = {
        tuple(training_windows(toy_sequences([30]), 7, generator(0, "windows", epoch)).starts) for epoch in range(9)
    }
    assert len(cuts) > 3


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200))
def test_rows_hold_every_segment_once_within_capacity(lengths: list[int]) -> None:
    rows = pack_rows(np.array(lengths), 50, rng())
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[segment] for segment in row) <= 50 for row in rows)


def test_packing_leaves_little_room() -> None:
    lengths = rng().integers(5, 60, 3000)
    rows = pack_rows(lengths, 180, rng())
    assert lengths.sum() / (180 * len(rows)) > 0.97


def test_with_a_suffix_every_target_has_a_window_of_the_items_before_it() -> None:
    split = np.array([CONTEXT, TRAIN, TRAIN, TRAIN, VALID, TEST, CONTEXT, VALID, CONTEXT, TRAIN], dtype=np.int8)
    users = np.array(["a", "b", "c"], dtype=object)
    sequences = UserSequences(users, np.array([0, 6, 8, 10]), np.arange(10), np.arange(10), split)
    _, compiled, _ = toy_model(*INSTRUCTION)
    packer = compiled.packer(1)
    windows = packer.windows(sequences, 2, rng())
    assert (windows.starts.tolist(), windows.ends.tolist()) == ([0, 0, 1, 8], [2, 3, 4, 10])
    owners, rows = packer.target_rows(windows, sequences)
    assert (owners.tolist(), rows.tolist()) == ([0, 1, 2, 3], [1, 2, 3, 9])
    batch = packer.collate(windows, np.array([0, 0, 0, 1]), sequences)
    assert batch.target_items.tolist() == [[1, 2, 3], [9, -1, -1]]
    histories = [[0], [0, 1], [1, 2], [8]]
    found = [_stream_of(batch, *place) for place in ((0, 0), (0, 1), (0, 2), (1, 0))]
    assert found == [compiled.template.streams(_one(history)).ids.tolist() for history in histories]
    assert packer.lengths(windows, sequences).tolist() == [len(tokens) for tokens in found]


@pytest.mark.parametrize("settings", [[], ["reasoner.kind=none"], ["objective.likelihood=vocabulary"]])
def test_a_batch_says_what_a_loop_over_targets_says(settings: list[str]) -> None:
    model, compiled, _ = toy_model(*settings)
    sequences = toy_sequences([5, 3, 4])
    windows = Windows(sequences.offsets[:-1].copy(), sequences.offsets[1:].copy())
    batch = compiled.packer(model.n_thoughts).collate(windows, np.array([0, 0, 1]), sequences)
    seen = 0
    for user, row in ((0, 0), (1, 0), (2, 1)):
        first = int(sequences.offsets[user])
        for target_row in range(first + 1, int(sequences.offsets[user + 1])):
            mine = (batch.target_items[row] == int(sequences.item_index[target_row])).nonzero()[:, 0].tolist()
            history = [int(item) for item in sequences.item_index[first:target_row]]
            tokens = list(compiled.template.streams(_one(history)).ids)
            matching = [p for p in mine if _stream_of(batch, row, p) == tokens]
            assert matching, (user, target_row)
            seen += 1
            leaf = int(compiled.catalogue.leaf[sequences.item_index[target_row]])
            written = int(compiled.paths.n_written[leaf])
            start = compiled.template.titles.offsets[leaf]
            branch = batch.branch_ids[row][batch.branch_targets[row] == matching[0]].tolist()
            expected = compiled.template.titles.ids[start : start + written].tolist()
            assert branch == [0] * model.n_thoughts + expected
    assert seen == int(batch.target_mask.sum()) == 4 + 2 + 3


def _one(history: list[int]):  # type: ignore[no-untyped-def]
    from flr.records import Histories

    return Histories(np.array(history), np.array([0, len(history)]))


def _stream_of(batch, row: int, target: int) -> list[int]:  # type: ignore[no-untyped-def]
    start, end = int(batch.target_starts[row, target]), int(batch.target_ends[row, target])
    return batch.stream_ids[row, start : end + 1].tolist()


def test_windows_of_context_alone_are_left_out() -> None:
    of_user = np.repeat([CONTEXT, TRAIN], [60, 2]).astype(np.int8)
    sequences = UserSequences(
        np.array(["a", "b"], dtype=object), np.array([0, 62, 124]), np.arange(124), np.arange(124), np.tile(of_user, 2)
    )
    for epoch in range(5):
        windows = training_windows(sequences, 6, generator(0, "windows", epoch))
        asked = [sequences.split[a + 1 : b] for a, b in zip(windows.starts, windows.ends, strict=True)]
        assert all((codes == TRAIN).any() for codes in asked)
        assert sum((codes == TRAIN).sum() for codes in asked) == 4
