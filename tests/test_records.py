"""Flat arrays against the plain loops they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flr.records import CONTEXT, SPLITS, TEST, TRAIN, Histories, UserSequences, ragged_indices

#: Users as lists of (item, split) pairs.
People = list[list[tuple[int, int]]]
people = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=6), max_size=6)
lists = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6)


def sequences_of(users: People) -> UserSequences:
    rows = [row for user in users for row in user]
    return UserSequences(
        user_ids=np.array([f"u{number}" for number in range(len(users))], dtype=object),
        offsets=np.cumsum([0, *map(len, users)]),
        item_index=np.array([item for item, _ in rows], dtype=np.int32),
        timestamps=np.arange(len(rows)),
        split=np.array([split for _, split in rows], dtype=np.int8),
    )


def histories_of(items: list[list[int]]) -> Histories:
    flat = np.array([item for one in items for item in one], dtype=np.int64)
    return Histories(flat, np.cumsum([0, *map(len, items)]))


def lists_of(histories: Histories) -> list[list[int]]:
    ends = histories.offsets
    return [histories.item_index[ends[b] : ends[b + 1]].tolist() for b in range(len(histories))]


@given(people)
def test_targets_and_what_came_before_them(users: People) -> None:
    sequences = sequences_of(users)
    assert (sequences.n_users, sequences.n_interactions) == (len(users), sum(map(len, users)))
    for split in range(len(SPLITS)):
        expected = [
            (number, place, [item for item, _ in user[:place]])
            for number, user in enumerate(users)
            for place, (_, code) in enumerate(user)
            if code == split and place > 0
        ]
        target_users, rows = sequences.targets(split)
        assert target_users.tolist() == [number for number, _, _ in expected]
        assert (rows - sequences.offsets[target_users]).tolist() == [place for _, place, _ in expected]
        assert lists_of(Histories.before(sequences, target_users, rows)) == [past for _, _, past in expected]


@given(lists, st.integers(1, 7))
def test_window_keeps_the_last_items(items: list[list[int]], size: int) -> None:
    assert lists_of(histories_of(items).window(size)) == [one[-size:] for one in items]


@given(lists, st.data())
def test_take_follows_the_order_asked_for(items: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=8)) if items else []
    taken = histories_of(items).take(np.array(rows, dtype=np.int64))
    assert lists_of(taken) == [items[row] for row in rows]
    assert taken.lengths.tolist() == [len(items[row]) for row in rows]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_ragged_indices(runs: list[tuple[int, int]]) -> None:
    starts, lengths = (np.array(column, dtype=np.int64) for column in zip(*runs, strict=True)) if runs else ([], [])
    indices, offsets = ragged_indices(np.asarray(starts, dtype=np.int64), np.asarray(lengths, dtype=np.int64))
    assert indices.tolist() == [index for start, length in runs for index in range(start, start + length)]
    assert offsets.tolist() == np.cumsum([0, *(length for _, length in runs)]).tolist()


def test_a_first_item_is_never_a_target() -> None:
    sequences = sequences_of([[(1, 3)], [(1, 1), (2, 3)]])
    assert [part.tolist() for part in sequences.targets(3)] == [[1], [2]]


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        histories_of([[1]]).offsets = np.array([0])  # type: ignore[misc]


def test_training_sees_its_rows_and_the_context_that_they_read() -> None:
    split = np.array([CONTEXT, TRAIN, CONTEXT, TEST, CONTEXT, TEST, TRAIN], dtype=np.int8)
    ids = np.array(["a", "b", "c", "d"], dtype=object)
    sequences = UserSequences(ids, np.array([0, 4, 6, 6, 7]), np.zeros(7, np.int32), np.arange(7), split)
    assert sequences.is_seen.tolist() == [True, True, False, False, False, False, True]
    assert sequences.users.tolist() == [0, 0, 0, 0, 1, 1, 3]
