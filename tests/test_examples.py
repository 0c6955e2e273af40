"""The examples run, and do what they say."""

from __future__ import annotations

from pathlib import Path

import own_baseline
import own_model
import own_reasoner
import own_reward
import own_rows
import polars as pl
import pytest
import torch

from flr.training.rewards import Outcome, parse_reward


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("own-rows")
    own_rows.main(["--output", str(output), "--steps", "30"])
    return output


def test_rows_in_memory_are_trained_on_and_recommended(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_rows.show("again", own_rows.flr.Recommender.load(trained / "run").recommend([["godfather-1", "toys-1"]], k=2))
    told = capsys.readouterr().out
    assert "The Godfather Part II (1974)" in told
    assert "Toy Story 2 (1999)" in told


def test_a_model_of_ones_own_is_evaluated_and_compared(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--run", str(trained / "run"), "--data", str(trained / "data"), "--output", str(tmp_path / "own"))
    own_model.main(where)
    told = capsys.readouterr().out
    assert "NDCG@10" in told and "p = " in told
    results = pl.read_parquet(tmp_path / "own" / "targets-test.parquet")
    assert results["hr@10"].mean() > 0.9  # the world is simple enough for it


def test_a_reasoner_of_ones_own_is_trained_and_loaded(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--run", str(trained / "run"), "--data", str(trained / "data"), "--output", str(tmp_path / "own"))
    own_reasoner.main(where)
    told = capsys.readouterr().out
    assert "NDCG@10" in told and "gates of the last step" in told
    assert '"evenness": ' in (tmp_path / "own" / "log.jsonl").read_text()


def test_a_baseline_of_ones_own_is_fitted_and_compared(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--run", str(trained / "run"), "--data", str(trained / "data"), "--output", str(tmp_path / "rivals"))
    own_baseline.main(where)
    told = capsys.readouterr().out
    assert "item-vectors: NDCG@10 0." in told and "best of 3 trials" in told
    assert told.count("the run is better by") == 2


def test_a_reward_of_ones_own_is_found_by_name() -> None:
    log_probs = torch.tensor([[0.01, 0.02, 0.05, 0.5]]).log()
    outcome = Outcome(log_probs, torch.tensor([3]), torch.tensor([0]), ranks=lambda limit: pytest.fail("not asked"))
    reward = parse_reward("0.5 * own_reward:likely_enough")
    assert reward(outcome).tolist()[0] == pytest.approx([0.1, 0.2, 0.5, 0.5])
    assert own_reward.ENOUGH == 0.05
