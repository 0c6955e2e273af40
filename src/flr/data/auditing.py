"""What in the data would mislead a metric: ties, repeats, cold items, dependent test rows, broken titles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from flr.data.findings import N_EXAMPLES, Audit, Finding, finding
from flr.data.title_auditing import title_findings
from flr.records import ITEM_ID, SPLITS, TEST, TRAIN, VALID, BoolArray, IntArray, UserSequences

#: Examples are taken from this many rows at most.
_LOOKED_AT = 100_000


def audit(sequences: UserSequences, items: pl.DataFrame, *, k: int = 5) -> Audit:
    """Return what a reader of the metrics should know about the data.

    Args:
        sequences: All rows, split.
        items: ``item_id`` and ``title`` of all items, in the order of their index.
        k: Users and items with fewer rows are counted as thin.
    """
    rows = _Rows(sequences, items)
    return Audit(
        _counts(rows),
        (
            *title_findings(items),
            *_tie_findings(rows),
            *_repeat_findings(rows),
            *_thin_findings(rows, k),
            *_novelty_findings(rows),
            *_dependence_findings(rows),
        ),
    )


@dataclass(frozen=True)
class _Rows:
    """What several findings look at, computed once."""

    sequences: UserSequences
    items: pl.DataFrame

    @cached_property
    def users(self) -> IntArray:
        return np.repeat(np.arange(self.sequences.n_users, dtype=np.int32), np.diff(self.sequences.offsets))

    @cached_property
    def follows(self) -> BoolArray:
        """True where the row before is of the same user."""
        follows = np.ones(self.sequences.n_interactions, dtype=np.bool_)
        follows[self.sequences.offsets[:-1]] = False
        return follows

    @cached_property
    def tied_with_previous(self) -> BoolArray:
        times = self.sequences.timestamps
        tied = self.follows.copy()
        tied[1:] &= times[1:] == times[:-1]
        return tied

    @cached_property
    def repeated(self) -> BoolArray:
        """True where the user took the same item before."""
        keys = self.users.astype(np.int64) * max(len(self.items), 1) + self.sequences.item_index
        return ~pl.Series(keys).is_first_distinct().to_numpy()

    def targets(self, split: int) -> IntArray:
        return np.flatnonzero((self.sequences.split == split) & self.follows)

    @cached_property
    def test(self) -> IntArray:
        return self.targets(TEST)

    def some_users(self, rows: IntArray) -> list[str]:
        return [self.sequences.user_ids[user] for user in np.unique(self.users[rows[:_LOOKED_AT]])[:N_EXAMPLES]]

    def some_items(self, index: IntArray) -> list[str]:
        return [self.items[ITEM_ID][int(item)] for item in np.unique(index[:_LOOKED_AT])[:N_EXAMPLES]]


def _counts(rows: _Rows) -> dict[str, int]:
    sequences = rows.sequences
    labels = np.bincount(sequences.split, minlength=len(SPLITS))
    return {
        "users": sequences.n_users,
        "items": len(rows.items),
        "items_interacted": int((np.bincount(sequences.item_index, minlength=1) > 0).sum()),
        "interactions": sequences.n_interactions,
        **{f"{name}_rows": int(n) for name, n in zip(SPLITS, labels, strict=True)},
        **{f"{SPLITS[code]}_targets": len(rows.targets(code)) for code in (TRAIN, VALID, TEST)},
    }


def _tie_findings(rows: _Rows) -> tuple[Finding, ...]:
    tied, times = rows.tied_with_previous, rows.sequences.timestamps
    either = tied.copy()
    either[:-1] |= tied[1:]
    last = rows.sequences.offsets[1:] - 1
    backwards = rows.follows.copy()
    backwards[1:] &= times[1:] < times[:-1]
    found, n_rows = np.flatnonzero, rows.sequences.n_interactions
    return (
        finding(
            "tied_rows",
            int(either.sum()),
            n_rows,
            rows.some_users(found(either)),
            "The order of these rows within their user is the file's, not the person's: 'next' is partly chance.",
        ),
        finding(
            "users_with_tied_last_time",
            int(tied[last].sum()),
            rows.sequences.n_users,
            rows.some_users(last[tied[last]]),
            "Which item counts as the last is arbitrary, so leave-one-out targets depend on the file's order.",
        ),
        finding(
            "test_targets_tied_with_history",
            int(tied[rows.test].sum()),
            len(rows.test),
            rows.some_users(rows.test[tied[rows.test]]),
            "The target came at the same time as its history: the task is completing a basket, not foreseeing.",
        ),
        finding(
            "rows_against_time",
            int(backwards.sum()),
            n_rows,
            rows.some_users(found(backwards)),
            "The given order contradicts the times: histories hold what came later, which flatters every model.",
        ),
    )


def _repeat_findings(rows: _Rows) -> tuple[Finding, ...]:
    repeated = np.flatnonzero(rows.repeated)
    in_test = rows.test[rows.repeated[rows.test]]
    return (
        finding(
            "repeated_rows",
            len(repeated),
            rows.sequences.n_interactions,
            rows.some_items(rows.sequences.item_index[repeated]),
            "Recommending what was taken before scores here and nowhere else.",
        ),
        finding(
            "test_targets_seen_before",
            len(in_test),
            len(rows.test),
            rows.some_users(in_test),
            "With seen items excluded these targets can never be hit: they cap every metric by their share.",
        ),
    )


def _thin_findings(rows: _Rows, k: int) -> tuple[Finding, ...]:
    per_user = np.diff(rows.sequences.offsets)
    per_item = np.bincount(rows.sequences.item_index, minlength=len(rows.items))
    users, items = np.flatnonzero(per_user < k), np.flatnonzero(per_item < k)
    return (
        finding(
            f"users_below_{k}",
            len(users),
            len(per_user),
            [rows.sequences.user_ids[user] for user in users[:N_EXAMPLES]],
            "Published figures mostly leave such users out; their short histories lower the average.",
        ),
        finding(
            f"items_below_{k}",
            len(items),
            len(per_item),
            rows.some_items(items),
            "Published figures mostly leave such items out; they enlarge the catalogue and are hard to learn.",
        ),
    )


def _novelty_findings(rows: _Rows) -> tuple[Finding, ...]:
    sequences, test = rows.sequences, rows.test
    at = np.arange(sequences.n_interactions)
    # Training reads every row up to a user's last train target: as target or as history of one.
    last_train = np.maximum.reduceat(np.where(sequences.split == TRAIN, at, -1), sequences.offsets[:-1])
    read = sequences.item_index[at <= last_train[rows.users]]
    known = np.bincount(read, minlength=len(rows.items)) > 0
    cold = test[~known[sequences.item_index[test]]]
    new_users = test[last_train[rows.users[test]] < 0]
    return (
        finding(
            "cold_test_targets",
            len(cold),
            len(test),
            rows.some_items(sequences.item_index[cold]),
            "No training row holds this item: models that learn from ids cannot hit it, those that read titles can.",
        ),
        finding(
            "test_targets_of_new_users",
            len(new_users),
            len(test),
            rows.some_users(new_users),
            "Training holds nothing of this user: only models that need no user id can serve them.",
        ),
    )


def _dependence_findings(rows: _Rows) -> tuple[Finding, ...]:
    times, test, train = rows.sequences.timestamps, rows.test, rows.targets(TRAIN)
    per_user = np.bincount(rows.users[test], minlength=rows.sequences.n_users)
    dependent = test[per_user[rows.users[test]] > 1]
    ahead = train[times[train] >= times[test].min()] if len(test) else train[:0]
    return (
        finding(
            "test_targets_sharing_a_user",
            len(dependent),
            len(test),
            rows.some_users(dependent),
            f"The test has {len(test)} targets of {int((per_user > 0).sum())} users: rows of one user are not "
            "independent, so tests must be clustered by user.",
        ),
        finding(
            "train_targets_after_test_start",
            len(ahead),
            len(train),
            rows.some_users(ahead),
            "Training sees what others took after the first test target: trends of the future leak into the model.",
        ),
    )
