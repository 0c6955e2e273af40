"""Which rows are learnt from, validated on and tested on; and the proof that training sees no future.

All functions take rows grouped by user and ordered within each, as in `UserSequences`. A row is predicted from
the rows before it, so a split is free of leakage when, within a user, no train row follows a validation or test
row and no validation row a test row. Context rows are never predicted and may stand anywhere.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from flr.errors import DataError, LeakageError, nearest
from flr.records import CONTEXT, SPLITS, TEST, TRAIN, VALID, IntArray

Codes = npt.NDArray[np.int8]


def leave_one_out(offsets: IntArray) -> Codes:
    """Return codes with each user's last row for test, the one before for validation, all others for training.

    Users with fewer than three rows have no row to spare: theirs are all for training.

    Args:
        offsets: User u owns rows ``offsets[u]:offsets[u + 1]``, [U + 1].

    Raises:
        DataError: No user has three rows.

    >>> leave_one_out(np.array([0, 4, 6])).tolist()
    [1, 1, 2, 3, 1, 1]
    """
    codes = np.full(offsets[-1], TRAIN, dtype=np.int8)
    ends = offsets[1:][np.diff(offsets) >= 3]
    if not len(ends):
        raise DataError(f"none of the {len(offsets) - 1} users has three rows, which leave_one_out needs; use temporal")
    codes[ends - 1] = TEST
    codes[ends - 2] = VALID
    return codes


def temporal(
    offsets: IntArray,
    timestamps: IntArray,
    file_rows: IntArray,
    *,
    order: IntArray | None = None,
    train_fraction: float = 0.8,
    valid_fraction: float = 0.1,
    ties: Literal["file", "user", "whole"] = "file",
) -> Codes:
    """Return codes that cut all targets at two points of global time.

    Every row after a user's first is a target, and the first is context. Targets are sorted by time, those of
    equal time as `ties` says, and cut by share.

    Source: the preparation of D3 and LatentR3 (arXiv 2505.19092), 8:1:1.

    Args:
        offsets: User u owns rows ``offsets[u]:offsets[u + 1]``, [U + 1].
        timestamps: Seconds since 1970, [n].
        file_rows: Place of each row in the file, [n].
        order: Order within a user where it is not the time, [n]; None otherwise.
        train_fraction: Share of the targets before the first cut.
        valid_fraction: Share between the cuts; the rest is for test.
        ties: Targets of equal time by `order` and then by their place in the file (``file``); user by user, in the
            order of the users' first rows in the file, as D3 does (``user``); or never parted: where a cut would
            part them it moves before them (``whole``).

    Raises:
        DataError: A part would be empty though its share is not 0.
    """
    codes = np.full(len(timestamps), CONTEXT, dtype=np.int8)
    first = np.zeros(len(timestamps), dtype=np.bool_)
    first[offsets[:-1]] = True
    targets = np.flatnonzero(~first)
    if ties == "user":
        first_rows = np.repeat(np.minimum.reduceat(file_rows, offsets[:-1]), np.diff(offsets))
        keys: tuple[IntArray, ...] = (np.arange(len(timestamps)), first_rows, timestamps)
    else:
        keys = (file_rows, timestamps) if order is None else (file_rows, order, timestamps)
    targets = targets[np.lexsort(tuple(key[targets] for key in keys))]
    # Rounded first: 0.7 + 0.1 is a hair under 0.8 in binary, and a floor would lose a row to it.
    cuts = [math.floor(round(share * len(targets), 6)) for share in (train_fraction, train_fraction + valid_fraction)]
    if ties == "whole":
        in_time = timestamps[targets]
        cuts = [int(np.searchsorted(in_time, in_time[cut])) if cut < len(targets) else cut for cut in cuts]
    parts = np.split(targets, cuts)
    shares = (train_fraction, valid_fraction, 1 - train_fraction - valid_fraction)
    for code, part, share in zip((TRAIN, VALID, TEST), parts, shares, strict=True):
        if not len(part) and share > 1e-9:
            raise DataError(
                f"a temporal split of {len(targets)} targets leaves none for {SPLITS[code]} (share {share:g}); "
                "use more data or another share"
            )
        codes[part] = code
    return codes


def given(labels: pl.Series) -> Codes:
    """Return the codes of labels ``train``, ``valid``, ``test`` and ``context``.

    Raises:
        DataError: A label is missing or none of these.
    """
    codes = labels.replace_strict(list(SPLITS), list(range(len(SPLITS))), default=None, return_dtype=pl.Int8)
    if codes.null_count():
        wrong = labels.filter(codes.is_null())
        value = wrong[0]
        hint = "fill it in" if value is None else nearest(str(value), SPLITS)
        raise DataError(
            f"{len(wrong)} rows have split {value!r}; expected one of {', '.join(SPLITS)}: {hint}"
            if value is not None
            else f"{len(wrong)} rows have no split; expected one of {', '.join(SPLITS)}: {hint}"
        )
    return codes.to_numpy()


def check_leakage(codes: Codes, offsets: IntArray, user_ids: npt.NDArray[np.object_]) -> None:
    """Check that the parts of each user follow one another: train, then validation, then test.

    Args:
        codes: Code of each row, see `records.SPLITS`, [n].
        offsets: User u owns rows ``offsets[u]:offsets[u + 1]``, [U + 1].
        user_ids: The users' own ids, [U].

    Raises:
        LeakageError: A row of an earlier part follows one of a later part.
    """
    users = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    rows = np.flatnonzero(codes != CONTEXT)
    # Neighbours suffice: a sequence in which no neighbour falls never falls.
    falls = np.flatnonzero((codes[rows][1:] < codes[rows][:-1]) & (users[rows][1:] == users[rows][:-1]))
    if len(falls):
        before, after = rows[falls[0]], rows[falls[0] + 1]
        user = users[after]
        raise LeakageError(
            f"{len(np.unique(users[rows[falls]]))} users have a row of an earlier part after a later one, such as "
            f"{user_ids[user]!r}: {SPLITS[codes[before]]} at place {before - offsets[user] + 1} and then "
            f"{SPLITS[codes[after]]} at place {after - offsets[user] + 1}; the order within users and the split "
            "contradict each other: name the right order_column, or split anew"
        )


def check_time_order(codes: Codes, timestamps: IntArray) -> None:
    """Check that no target of a later part is older than one of an earlier part, over all users.

    Raises:
        LeakageError: One is.
    """
    latest, before = -math.inf, ""
    for code in (TRAIN, VALID, TEST):
        times = timestamps[codes == code]
        if len(times):
            if times.min() < latest:
                raise LeakageError(
                    f"{int((times < latest).sum())} {SPLITS[code]} rows are older than the newest {before} row "
                    f"(time {int(times.min())} < {int(latest)}); a temporal split must follow global time"
                )
            latest, before = times.max(), SPLITS[code]
