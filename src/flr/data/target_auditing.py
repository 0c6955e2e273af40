"""Test targets that a metric takes for what they are not: which they are, and what that does."""

from __future__ import annotations

from flr.data.audited_rows import AuditedRows
from flr.data.findings import Finding, finding
from flr.records import BoolArray

TIED, REPEATED, BACKWARDS = "test_targets_tied_with_history", "test_targets_seen_before", "rows_against_time"
SHARED, HTML, ENTITY = (f"test_targets_with_{kind}_titles" for kind in ("shared", "html", "entity"))
UNTITLED, COLD = "test_targets_without_title", "cold_test_targets"
OF_NEW_USERS, SHARING_A_USER = "test_targets_of_new_users", "test_targets_sharing_a_user"

_EFFECTS = {
    TIED: "The target came in the second of the row before it: the task is completing a basket, not foreseeing.",
    REPEATED: "With seen items excluded these targets can never be hit: they cap every metric by their share.",
    SHARED: "Other items have the target's title: crediting titles instead of ids counts hits on the wrong item.",
    HTML: "The target's title holds markup: where cleaning leaves no name, a model of titles has nothing to go by.",
    ENTITY: "The target's title has encoded characters: figures made on raw titles score another string.",
    UNTITLED: "The target has no title: a model of titles has nothing to go by.",
    COLD: "No training row holds this item: models that learn from ids cannot hit it, those that read titles can.",
    OF_NEW_USERS: "Training holds nothing of this user: only models that need no user id can serve them.",
}
_SHOWN_BY_ITEM = {SHARED, HTML, ENTITY, UNTITLED, COLD}


def mark_targets(rows: AuditedRows, *, k: int = 5) -> dict[str, BoolArray]:
    """Return the name of each finding that marks test targets -> which they are, [B], in the order of ``rows.test``.

    Findings about users, items or rows in general mark the test targets of these users, items and rows.

    Args:
        rows: All rows and items.
        k: Users and items with fewer rows are thin.
    """
    test = rows.test
    users, items = rows.sequences.users[test], rows.sequences.item_index[test]
    titles = {name: mask[items] for name, mask in rows.title_masks.items()}
    return {
        TIED: rows.tied_with_previous[test],
        REPEATED: rows.repeated[test],
        SHARED: titles["shared"],
        HTML: titles["html"],
        ENTITY: titles["entity"],
        UNTITLED: titles["missing"],
        COLD: ~rows.known_items[items],
        OF_NEW_USERS: rows.last_train[users] < 0,
        SHARING_A_USER: rows.test_per_user[users] > 1,
        BACKWARDS: rows.before_previous[test],
        f"users_below_{k}": rows.rows_per_user[users] < k,
        f"items_below_{k}": rows.rows_per_item[items] < k,
    }


def target_findings(rows: AuditedRows) -> tuple[Finding, ...]:
    """Return the findings about test targets."""
    marks, test = mark_targets(rows), rows.test
    effects = {**_EFFECTS, SHARING_A_USER: _dependence(rows)}
    found = []
    for name, effect in effects.items():
        marked = test[marks[name]]
        by_item = name in _SHOWN_BY_ITEM
        examples = rows.some_items(rows.sequences.item_index[marked]) if by_item else rows.some_users(marked)
        found.append(finding(name, len(marked), len(test), examples, effect))
    return tuple(found)


def _dependence(rows: AuditedRows) -> str:
    n_users = int((rows.test_per_user > 0).sum())
    return (
        f"The test has {len(rows.test)} targets of {n_users} users: rows of one user are not independent, so tests "
        "must be clustered by user."
    )
