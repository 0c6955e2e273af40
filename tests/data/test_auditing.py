"""Each finding on a small world, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.data.auditing import audit
from flr.data.findings import Audit
from flr.data.preparation import prepare
from flr.data.readers import read
from flr.data.title_auditing import title_findings, title_masks
from flr.prepare_config import PrepareConfig
from flr.records import UserSequences

ITEMS = pl.DataFrame({"item_id": list("abcd"), "title": ["Anchor", "Anchor", "Rock &amp; Roll", None]})


@pytest.fixture
def found() -> Audit:
    # u: a@1 b@2 | c@2 | a@3 d@9      v: a@5 | - | d@5      w: c@4 (context)
    # context=0 train=1 valid=2 test=3
    sequences = UserSequences(
        user_ids=np.array(["u", "v", "w"], dtype=object),
        offsets=np.array([0, 5, 7, 8]),
        item_index=np.array([0, 1, 2, 0, 3, 0, 3, 2]),
        timestamps=np.array([1, 2, 2, 3, 9, 5, 5, 4]),
        split=np.array([1, 1, 2, 3, 3, 0, 3, 0], dtype=np.int8),
    )
    return audit(sequences, ITEMS, k=3)


@pytest.mark.parametrize(
    ("name", "value", "of", "examples"),
    [
        ("missing_titles", 1, 4, ("d",)),
        ("duplicate_titles", 2, 4, ("Anchor",)),
        ("html_titles", 0, 4, ()),
        ("entity_titles", 1, 4, ("Rock &amp; Roll",)),
        ("tied_rows", 4, 8, ("u", "v")),
        ("users_with_tied_last_time", 1, 3, ("v",)),
        ("test_targets_tied_with_history", 1, 3, ("v",)),
        ("rows_against_time", 0, 8, ()),
        ("repeated_rows", 1, 8, ("a",)),
        ("test_targets_seen_before", 1, 3, ("u",)),
        ("users_below_3", 2, 3, ("v", "w")),
        ("items_below_3", 3, 4, ("b", "c", "d")),
        ("cold_test_targets", 2, 3, ("d",)),
        ("test_targets_of_new_users", 1, 3, ("v",)),
        ("test_targets_with_shared_titles", 1, 3, ("a",)),
        ("test_targets_with_html_titles", 0, 3, ()),
        ("test_targets_with_entity_titles", 0, 3, ()),
        ("test_targets_without_title", 2, 3, ("d",)),
        ("test_targets_sharing_a_user", 2, 3, ("u",)),
        ("train_targets_after_test_start", 0, 1, ()),
    ],
)
def test_findings(found: Audit, name: str, value: int, of: int, examples: tuple[str, ...]) -> None:
    finding = found[name]
    assert (finding.value, finding.share, finding.examples) == (value, value / of, examples)
    assert finding.effect.endswith(".")


def test_counts(found: Audit) -> None:
    assert found.counts == {
        "users": 3,
        "items": 4,
        "items_interacted": 4,
        "interactions": 8,
        "context_rows": 2,
        "train_rows": 2,
        "valid_rows": 1,
        "test_rows": 3,
        "train_targets": 1,
        "valid_targets": 1,
        "test_targets": 3,
        "test_users": 2,
        "most_test_targets_of_a_user": 2,
    }


def test_an_audit_is_json_and_back(found: Audit) -> None:
    assert Audit.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_shares_of_nothing_are_none() -> None:
    sequences = UserSequences(
        np.array(["u"], dtype=object), np.array([0, 1]), np.array([0]), np.array([1]), np.array([1], dtype=np.int8)
    )
    found = audit(sequences, ITEMS)
    assert found["cold_test_targets"].share is None
    assert found["test_targets_tied_with_history"].value == 0


def test_an_order_against_time_and_training_on_the_future_are_seen() -> None:
    sequences = UserSequences(
        np.array(["u", "v"], dtype=object),
        np.array([0, 3, 5]),
        np.array([0, 1, 2, 0, 1]),
        np.array([5, 3, 6, 8, 9]),
        np.array([1, 1, 3, 1, 1], dtype=np.int8),
    )
    found = audit(sequences, ITEMS)
    assert (found["rows_against_time"].value, found["rows_against_time"].examples) == (1, ("u",))
    assert (found["train_targets_after_test_start"].value, found["train_targets_after_test_start"].share) == (1, 0.5)


@pytest.mark.parametrize(
    ("title", "defect"),
    [
        ("Rock & Roll; the best", None),
        ("I <3 Music", None),
        ("1 < 2 > 0", None),
        ("Blue &Ouml;yster", "entity"),
        ("It&#39;s", "entity"),
        ("<b>Rock &amp; Roll</b>", "html"),
        ('<span class="a-size-medium', "html"),
        (".a { color: red; }", "html"),
        ("var aPageStart = (new Date())", "html"),
        (" ", "missing"),
    ],
)
def test_a_title_has_one_defect_or_none(title: str, defect: str | None) -> None:
    masks = title_masks(pl.DataFrame({"item_id": ["a"], "title": [title]}))
    assert [name for name, mask in masks.items() if mask.any()] == ([defect] if defect else [])


def test_a_blank_title_is_a_missing_one() -> None:
    found = title_findings(pl.DataFrame({"item_id": ["a", "b"], "title": ["  ", "x"]}))
    assert (found[0].name, found[0].value, found[0].examples) == ("missing_titles", 1, ("a",))


def test_real_ties(shared_data: Path) -> None:
    folder = shared_data / "cds2015"
    settings = PrepareConfig(split="given", order_column="pos")
    data = prepare(read(folder / "interactions_raw.parquet", folder / "items.parquet", settings), settings)
    found = audit(data.sequences, data.items)
    assert found["test_targets_tied_with_history"].value == 3_863
    assert found["cold_test_targets"].value == 10
    assert found["rows_against_time"].value == 0
    assert found.to_json() == data.manifest["audit"]
