"""What in the data would mislead a metric: ties, repeats, cold items, dependent test rows, broken titles."""

from __future__ import annotations

import numpy as np
import polars as pl

from flr.data.audited_rows import AuditedRows
from flr.data.findings import N_EXAMPLES, Audit, Finding, finding
from flr.data.target_auditing import target_findings
from flr.data.title_auditing import title_findings
from flr.records import SPLITS, TEST, TRAIN, VALID, UserSequences


def audit(sequences: UserSequences, items: pl.DataFrame, *, k: int = 5) -> Audit:
    """Return what a reader of the metrics should know about the data.

    Args:
        sequences: All rows, split.
        items: ``item_id`` and ``title`` of all items, in the order of their index.
        k: Users and items with fewer rows are counted as thin.
    """
    rows = AuditedRows(sequences, items)
    return Audit(
        _counts(rows),
        (
            *title_findings(items),
            *_tie_findings(rows),
            *_repeat_findings(rows),
            *_thin_findings(rows, k),
            *target_findings(rows),
            *_future_findings(rows),
        ),
    )


def _counts(rows: AuditedRows) -> dict[str, int]:
    sequences = rows.sequences
    labels = np.bincount(sequences.split, minlength=len(SPLITS))
    return {
        "users": sequences.n_users,
        "items": len(rows.items),
        "items_interacted": int((rows.rows_per_item > 0).sum()),
        "interactions": sequences.n_interactions,
        **{f"{name}_rows": int(n) for name, n in zip(SPLITS, labels, strict=True)},
        **{f"{SPLITS[code]}_targets": len(rows.targets(code)) for code in (TRAIN, VALID, TEST)},
        "test_users": int((rows.test_per_user > 0).sum()),
        "most_test_targets_of_a_user": int(rows.test_per_user.max(initial=0)),
    }


def _tie_findings(rows: AuditedRows) -> tuple[Finding, ...]:
    tied, backwards = rows.tied_with_previous, rows.before_previous
    either = tied.copy()
    either[:-1] |= tied[1:]
    last = rows.sequences.offsets[1:] - 1
    found, n_rows = np.flatnonzero, rows.sequences.n_interactions
    return (
        finding(
            "tied_rows",
            int(either.sum()),
            n_rows,
            rows.some_users(found(either)),
            "These rows share a second with another: unless the file had finer times, their order is the file's, not "
            "the person's, and 'next' is partly chance.",
        ),
        finding(
            "users_with_tied_last_time",
            int(tied[last].sum()),
            rows.sequences.n_users,
            rows.some_users(last[tied[last]]),
            "The last two rows share a second: unless the file had finer times, which is the last is arbitrary, and "
            "leave-one-out targets depend on the file's order.",
        ),
        finding(
            "rows_against_time",
            int(backwards.sum()),
            n_rows,
            rows.some_users(found(backwards)),
            "The given order contradicts the times: histories hold what came later, which flatters every model.",
        ),
    )


def _repeat_findings(rows: AuditedRows) -> tuple[Finding, ...]:
    repeated = np.flatnonzero(rows.repeated)
    return (
        finding(
            "repeated_rows",
            len(repeated),
            rows.sequences.n_interactions,
            rows.some_items(rows.sequences.item_index[repeated]),
            "Items that a few people took over and over look popular, and recommending what was taken before scores.",
        ),
    )


def _thin_findings(rows: AuditedRows, k: int) -> tuple[Finding, ...]:
    per_user, per_item = rows.rows_per_user, rows.rows_per_item
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


def _future_findings(rows: AuditedRows) -> tuple[Finding, ...]:
    times, test, train = rows.sequences.timestamps, rows.test, rows.targets(TRAIN)
    ahead = train[times[train] >= times[test].min()] if len(test) else train[:0]
    return (
        finding(
            "train_targets_after_test_start",
            len(ahead),
            len(train),
            rows.some_users(ahead),
            "Training sees what others took after the first test target: trends of the future leak into the model.",
        ),
    )
