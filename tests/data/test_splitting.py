"""No split lets training see the future of a test target."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from flr.data.splitting import check_leakage, check_time_order, given, leave_one_out, temporal
from flr.errors import DataError, LeakageError
from flr.records import CONTEXT, TEST, TRAIN, VALID, IntArray

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=12)


def offsets_of(lengths: list[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(lengths)])


def user_ids(offsets: IntArray) -> np.ndarray:
    return np.array([f"u{user}" for user in range(len(offsets) - 1)], dtype=object)


@examples(LENGTHS)
def test_leave_one_out_takes_the_last_two_of_everyone_with_three(lengths: list[int]) -> None:
    offsets = offsets_of(lengths)
    if max(lengths) < 3:
        with pytest.raises(DataError, match=f"none of the {len(lengths)} users has three rows"):
            leave_one_out(offsets)
        return
    codes = leave_one_out(offsets)
    for start, end in itertools.pairwise(offsets):
        mine = codes[start:end].tolist()
        assert mine == ([TRAIN] * (len(mine) - 2) + [VALID, TEST] if len(mine) >= 3 else [TRAIN] * len(mine))
    check_leakage(codes, offsets, user_ids(offsets))


@examples(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=20, max_size=120))
def test_temporal_cuts_all_targets_by_time_and_file_order(rows: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(rows, ["user", "time"], orient="row").with_row_index("row").sort("user", "time", "row")
    offsets = offsets_of(frame.group_by("user", maintain_order=True).len()["len"].to_list())
    times, file_rows = frame["time"].to_numpy(), frame["row"].to_numpy()
    codes = temporal(offsets, times, file_rows)
    n_targets = len(rows) - (len(offsets) - 1)
    assert (codes[offsets[:-1]] == CONTEXT).all()
    n_train, n_before_test = 8 * n_targets // 10, 9 * n_targets // 10
    assert np.bincount(codes, minlength=4).tolist() == [
        len(offsets) - 1,
        n_train,
        n_before_test - n_train,
        n_targets - n_before_test,
    ]
    targets = np.flatnonzero(codes != CONTEXT)
    in_time = targets[np.lexsort((file_rows[targets], times[targets]))]
    assert (np.diff(codes[in_time]) >= 0).all()
    check_leakage(codes, offsets, user_ids(offsets))
    check_time_order(codes, times)


def test_temporal_by_hand() -> None:
    # Two users, rows in file order a0 b0 a1 b1 a2 b2 ...; all times equal, so the file decides.
    offsets, times = np.array([0, 6, 12]), np.zeros(12, dtype=np.int64)
    file_rows = np.array([0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11])
    codes = temporal(offsets, times, file_rows)
    assert codes[:6].tolist() == [CONTEXT, TRAIN, TRAIN, TRAIN, TRAIN, VALID]
    assert codes[6:].tolist() == [CONTEXT, TRAIN, TRAIN, TRAIN, TRAIN, TEST]


@examples(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), min_size=30, max_size=120),
    st.sampled_from(["file", "user", "whole"]),
    st.randoms(use_true_random=False),
)
def test_no_rule_for_ties_leaks_and_each_keeps_its_word(
    rows: list[tuple[int, int]], ties: str, shuffle: Random
) -> None:
    def cut(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, IntArray]:
        frame = pl.DataFrame(rows, ["user", "time"], orient="row").with_row_index("row").sort("user", "time", "row")
        offsets = offsets_of(frame.group_by("user", maintain_order=True).len()["len"].to_list())
        codes = temporal(offsets, frame["time"].to_numpy(), frame["row"].to_numpy(), ties=ties)  # type: ignore[arg-type]
        return codes, frame["time"].to_numpy(), offsets

    try:
        codes, times, offsets = cut(rows)
    except DataError as error:
        assert "leaves none for" in str(error)
        return
    check_leakage(codes, offsets, user_ids(offsets))
    check_time_order(codes, times)
    assert np.array_equal(cut(rows)[0], codes)
    n_targets = len(rows) - len(offsets) + 1
    n_train, n_later = (int((codes == TRAIN).sum()), int((codes >= VALID).sum()))
    assert n_train + n_later == n_targets
    if ties == "whole":
        assert n_train <= 8 * n_targets // 10
        # A time is in one part, so that the order of the file decides nothing (a user's first row is context).
        assert all(len(set(codes[(times == time) & (codes != CONTEXT)].tolist())) <= 1 for time in times)
        shuffle.shuffle(rows)
        assert np.array_equal(cut(rows)[0], codes)
    else:
        assert n_train == 8 * n_targets // 10


def test_ties_user_by_user_by_hand() -> None:
    # Users u and v with six rows of one time; in the file v comes first, so that v's targets are cut first.
    codes = temporal(np.array([0, 6, 12]), np.zeros(12), np.array([1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11]), ties="user")
    assert codes[:6].tolist() == [CONTEXT, TRAIN, TRAIN, TRAIN, VALID, TEST]
    assert codes[6:].tolist() == [CONTEXT, TRAIN, TRAIN, TRAIN, TRAIN, TRAIN]


def test_shares_are_exact_where_binary_numbers_are_not() -> None:
    codes = temporal(np.array([0, 11]), np.arange(11), np.arange(11), train_fraction=0.7, valid_fraction=0.1)
    assert np.bincount(codes).tolist() == [1, 7, 1, 2]


def test_a_part_that_would_be_empty_is_an_error() -> None:
    with pytest.raises(DataError, match=r"split of 3 targets leaves none for valid \(share 0.1\)"):
        temporal(np.array([0, 4]), np.arange(4), np.arange(4))


def test_an_order_against_time_leaks_and_is_found() -> None:
    offsets, times = np.array([0, 11]), np.arange(11)[::-1].copy()
    codes = temporal(offsets, times, np.arange(11), order=np.arange(11))
    with pytest.raises(LeakageError, match=r"1 users have .* 'u0': test at place 2 and then valid at place 3"):
        check_leakage(codes, offsets, user_ids(offsets))


def test_given_labels_become_codes() -> None:
    labels = pl.Series(["context", "train", "valid", "test"])
    assert given(labels).tolist() == [CONTEXT, TRAIN, VALID, TEST]
    with pytest.raises(DataError, match=r"2 rows have split 'trian'; .* did you mean 'train'"):
        given(pl.Series(["train", "trian", "trian"]))
    with pytest.raises(DataError, match="1 rows have no split"):
        given(pl.Series(["train", None]))


def test_context_may_stand_anywhere() -> None:
    codes = np.array([CONTEXT, TRAIN, CONTEXT, TRAIN, VALID, CONTEXT, TEST, CONTEXT], dtype=np.int8)
    check_leakage(codes, np.array([0, 8]), np.array(["u"], dtype=object))


@pytest.mark.parametrize(
    ("codes", "sentence"),
    [
        ([TRAIN, TEST, TRAIN], r"'b': test at place 2 and then train at place 3"),
        ([TEST, CONTEXT, TRAIN], r"'b': test at place 1 and then train at place 3"),
        ([TRAIN, TEST, VALID], r"'b': test at place 2 and then valid at place 3"),
        ([VALID, TRAIN, TEST], r"'b': valid at place 1 and then train at place 2"),
    ],
)
def test_a_part_that_falls_back_is_found(codes: list[int], sentence: str) -> None:
    offsets = np.array([0, 3, 6])
    with pytest.raises(LeakageError, match=f"^1 users .*{sentence}"):
        check_leakage(
            np.array([TRAIN, VALID, TEST, *codes], dtype=np.int8), offsets, np.array(["a", "b"], dtype=object)
        )


def test_users_do_not_leak_into_each_other() -> None:
    check_leakage(np.array([TEST, TRAIN], dtype=np.int8), np.array([0, 1, 2]), np.array(["a", "b"], dtype=object))


def test_time_must_not_fall_from_part_to_part() -> None:
    codes = np.array([TRAIN, TEST, TRAIN, VALID], dtype=np.int8)
    check_time_order(codes, np.array([1, 5, 3, 3]))
    with pytest.raises(LeakageError, match=r"1 valid rows are older than the newest train row \(time 2 < 3\)"):
        check_time_order(codes, np.array([1, 5, 3, 2]))
