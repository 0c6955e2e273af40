"""What is published about the CDs split of D3 and LatentR3 comes out of the audit, under one definition each."""

from __future__ import annotations

from pathlib import Path

import pytest

from flr.data.preparation import prepare
from flr.data.readers import read
from flr.experiments.data_audit import DataAudit, audit_data
from flr.prepare_config import PrepareConfig


@pytest.fixture(scope="module")
def cds(shared_data: Path) -> DataAudit:
    folder = shared_data / "cds2015"
    settings = PrepareConfig(split="given", order_column="pos", missing_title="fallback")
    return audit_data(prepare(read(folder / "interactions_raw.parquet", folder / "items.parquet", settings), settings))


def test_1723_users_in_test(cds: DataAudit) -> None:
    assert cds.audit.counts["test_users"] == 1_723
    assert cds.audit.counts["test_targets"] == 6_157


def test_627_in_a_thousand_targets_have_the_time_of_the_row_before(cds: DataAudit) -> None:
    assert cds.audit["test_targets_tied_with_history"].share == pytest.approx(0.627, abs=5e-4)


def test_137_in_a_thousand_targets_share_their_raw_title(cds: DataAudit) -> None:
    assert cds.audit["test_targets_with_shared_titles"].share == pytest.approx(0.137, abs=5e-4)


def test_29_items_and_87_test_rows_have_markup_for_a_title(cds: DataAudit) -> None:
    assert cds.audit["html_titles"].value == 29
    assert cds.audit["test_targets_with_html_titles"].value == 87


def test_popularity_reaches_0114_where_users_are_counted_and_seen_items_excluded(cds: DataAudit) -> None:
    assert cds.effects is not None
    found = {(one.recommender, one.seen_items): one.metrics["hr@10"] for one in cds.effects.scores}
    # The published .012 counts context that is newer than every training row too, which makes it .0116.
    assert found["popularity-of-users", "exclude"] == pytest.approx(0.0114, abs=5e-5)
    # Counting rows is something else: three people took one nameless record 162 times, and 54 times more in the test.
    assert found["popularity", "exclude"] == pytest.approx(0.0106, abs=5e-5)
    assert found["popularity", "include"] == pytest.approx(0.0197, abs=5e-5)


def test_the_last_item_finds_baskets_and_little_else(cds: DataAudit) -> None:
    assert cds.effects is not None
    effect = cds.effects.effect("test_targets_tied_with_history", "last-item-markov", "exclude")
    assert effect is not None
    assert (effect.hr, effect.hr_rest) == (pytest.approx(0.1639, abs=5e-5), pytest.approx(0.0161, abs=5e-5))
