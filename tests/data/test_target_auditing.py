"""Which test targets each finding is about."""

from __future__ import annotations

import numpy as np
import polars as pl

from audited import audited_data
from flr.data.audited_rows import AuditedRows
from flr.data.auditing import audit
from flr.data.target_auditing import mark_targets
from flr.data.title_auditing import title_numbers

#: Targets in the order of their rows: a on 1, a on 14, b on 1, c on 12.
MARKED = {
    "test_targets_tied_with_history": [0],
    "test_targets_seen_before": [2],
    "test_targets_with_shared_titles": [3],
    "test_targets_with_html_titles": [1],
    "test_targets_with_entity_titles": [],
    "test_targets_without_title": [],
    "cold_test_targets": [1],
    "test_targets_of_new_users": [0, 1, 2, 3],
    "test_targets_sharing_a_user": [0, 1],
    "rows_against_time": [],
    "users_below_3": [2, 3],
    "items_below_3": [1, 3],
}


def test_marks_are_the_targets_behind_the_findings() -> None:
    data = audited_data()
    marks = mark_targets(AuditedRows(data.sequences, data.items), k=3)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in marks.items()} == MARKED
    found = audit(data.sequences, data.items, k=3)
    for name, targets in MARKED.items():
        if "target" in name:
            assert (found[name].value, found[name].share) == (len(targets), len(targets) / 4)


def test_items_without_a_title_share_it_with_nobody() -> None:
    numbers = title_numbers(pl.DataFrame({"title": ["-1", None, "Music", " ", "Music "]}))
    assert numbers.tolist() == [0, 1, 2, 3, 2]
