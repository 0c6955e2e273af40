"""Cold start: which targets are told apart, and what chance is worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.config import load_config
from flr.data.preparation import prepare
from flr.data.storage import save_prepared
from flr.errors import ArtifactError
from flr.evaluation.cold import evaluate_cold
from flr.prepare_config import PrepareConfig
from flr.recommender import Recommender
from flr.records import TEST, TRAIN, FloatArray, Histories, UserSequences
from flr.training.finished import evaluate_cold_run, evaluate_run
from flr.training.run import train_run
from toy import TINY, ring_interactions


class Knowing:
    """Scores the item after the last one highest, as the world does."""

    name = "knowing"

    def score(self, histories: Histories) -> FloatArray:
        last = histories.item_index[histories.offsets[1:] - 1]
        scores = np.zeros((len(last), 10))
        scores[np.arange(len(last)), (last + 1) % 10] = 1
        return scores


def world() -> UserSequences:
    """Four people, the items 8 and 9 are cold."""
    items = np.array([1, 2, 3, 7, 7, 8, 3, 8, 8, 4, 5, 9], dtype=np.int32)
    split = np.array([TRAIN, TRAIN, TEST] * 4, dtype=np.int8)
    users = np.array(["a", "b", "c", "d"], dtype=object)
    return UserSequences(users, np.arange(5) * 3, items, np.arange(12), split)


def test_each_kind_of_target_is_averaged_on_its_own() -> None:
    report, table = evaluate_cold(Knowing(), world(), (8, 10), cutoffs=(1, 10), seen_items="include")
    found = {(row["scorer"], row["targets"]): row for row in table.to_dicts()}
    assert report.metrics["n_targets"] == 4
    assert [found["knowing", name]["n_targets"] for name in ("all", "warm", "cold", "cold among cold")] == [4, 1, 3, 3]
    # after 2 comes 3, after 7 comes 8; after 8 and 5 come other items than 8 and 9
    assert found["knowing", "all"]["hr@1"] == pytest.approx(2 / 4)
    assert found["knowing", "warm"]["hr@1"] == 1
    assert found["knowing", "cold"]["hr@1"] == pytest.approx(1 / 3)
    # among the two cold items: 8 after 7 is best, 8 after 8 is not, 9 after 5 ties
    assert found["knowing", "cold among cold"]["hr@1"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found["random", "all"]["hr@1"] == pytest.approx(1 / 10)
    assert found["random", "cold among cold"]["hr@1"] == pytest.approx(1 / 2)
    assert found["random", "cold"]["hr@10"] == found["popularity", "cold"]["hr@10"] == 1
    assert found["popularity", "cold"]["hr@1"] == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold")
    prepared = prepare(ring_interactions(), PrepareConfig(cold_items=0.2))
    save_prepared(prepared, folder / "data")
    train_run(
        load_config(None, [*TINY, "training.max_steps=20", "training.eval_steps=20"]), folder / "data", folder / "run"
    )
    return folder / "run"


def test_a_run_never_saw_cold_items_and_ranks_them_when_they_are_added(run: Path) -> None:
    assert Recommender.load(run).catalogue.n_items == 8
    warm = evaluate_run(run)
    table = evaluate_cold_run(run)
    assert Recommender.load(run).catalogue.n_items == 8
    assert table["scorer"].unique(maintain_order=True).to_list() == ["flr", "popularity", "random"]
    groups = {row["targets"]: row for row in table.filter(pl.col("scorer") == "flr").to_dicts()}
    assert groups["all"]["n_targets"] == groups["warm"]["n_targets"] + groups["cold"]["n_targets"]
    assert groups["warm"]["n_targets"] == warm.metrics["n_targets"]
    weighted = sum(groups[name]["ndcg@10"] * groups[name]["n_targets"] for name in ("warm", "cold"))
    assert groups["all"]["ndcg@10"] == pytest.approx(weighted / groups["all"]["n_targets"])
    assert groups["cold"]["hr@10"] == 1  # ten items in all
    random = table.filter((pl.col("scorer") == "random") & (pl.col("targets") == "cold among cold"))
    assert random["hr@1"].to_list() == [0.5]
    saved = json.loads((run / "cold" / "cold.json").read_text())["rows"]
    assert saved == table.to_dicts()
    assert (run / "cold" / "targets-test.parquet").exists()


def test_overridden_settings_are_shown_only(run: Path, tmp_path: Path) -> None:
    table = evaluate_cold_run(run, overrides=["evaluation.cutoffs=[2]"], output=tmp_path)
    assert "hr@2" in table.columns
    assert (tmp_path / "cold" / "cold.json").exists()


def test_data_that_withhold_nothing_are_named(tmp_path: Path) -> None:
    save_prepared(prepare(ring_interactions()), tmp_path / "data")
    config = load_config(None, [*TINY, "training.max_steps=2", "training.eval_steps=2"])
    train_run(config, tmp_path / "data", tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"no items were withheld from .*data.*--cold-items 0.1"):
        evaluate_cold_run(tmp_path / "run")
