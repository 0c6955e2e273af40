"""The page of stage two: who won, and every recorder panel with its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.errors import ArtifactError
from flr.experiments.policy_report import write_policy_report
from flr.persistence import write_json


def run_folder(path: Path, *, winner: str = "grpo", **facts: object) -> Path:
    known = {
        "status": "finished",
        "stage": "grpo",
        "from": "/runs/first",
        "stage_one": {"ndcg@10": 0.05},
        "winner": winner,
        "best_step": 20 if winner == "grpo" else 0,
        "n_steps": 20,
        "train_seconds": 12.5,
        "n_trained_parameters": 185_000,
        "seed": 3,
        "data_hash": "9f2c51e0" * 8,
        "versions": {"flr": "0.1.0"},
        "config": {"grpo": {"reward": "ndcg@10 + <b>likelihood</b>", "sigma": 0.5}},
    }
    write_json(path / "run.json", {**known, **facts})
    write_json(path / "metrics.json", {"valid": {"ndcg@10": 0.06 if winner == "grpo" else 0.05}})
    recorded = {"reward": 0.2, "reward_noised": 0.19, "reward_noiseless": 0.2, "reward_spread": 0.01, "kl": 1.5}
    recorded |= {"zero_advantage": 0.25, "clip_share": 0.0, "thought_norm": 7.25, "effective_rank": 8.5}
    lines = [{"step": 10, "learning_rate": 1e-4, **recorded}, {"step": 10, "eval_ndcg@10": 0.06}, {"step": 20}]
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_page_says_which_stage_won_and_draws_what_was_recorded(tmp_path: Path) -> None:
    page = write_policy_report(run_folder(tmp_path / "second")).read_text(encoding="utf-8")
    assert "Stage two wins: NDCG@10 on validation went from 0.0500 to 0.0600 at step 20" in page
    for shown in ("step 0: 0.0500", "step 10: 7.25", "step 10: 8.5", "step 10: 0.25", "step 10: -0.01000"):
        assert f"<title>{shown}</title>" in page
    assert "&lt;b&gt;likelihood&lt;/b&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_where_stage_one_wins_the_page_says_so(tmp_path: Path) -> None:
    page = write_policy_report(run_folder(tmp_path / "second", winner="sft")).read_text(encoding="utf-8")
    assert "Stage one wins: no step of stage two was above its NDCG@10 of 0.0500" in page


@pytest.mark.parametrize(
    ("facts", "said"), [({"stage": "sft"}, "of stage 'sft'"), ({"status": "running"}, "'running'")]
)
def test_other_runs_have_no_such_page(facts: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=said):
        write_policy_report(run_folder(tmp_path / "second", **facts))
