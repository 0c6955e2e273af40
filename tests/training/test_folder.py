"""What a run folder refuses, forgets and remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.config import Config
from flr.data.storage import load_prepared
from flr.errors import ArtifactError
from flr.records import PreparedData
from flr.training.folder import RunFolder, RunSummary
from toy import prepared_ring


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return load_prepared(prepared_ring(tmp_path_factory.mktemp("ring") / "data"))


def started(path: Path, prepared: PreparedData) -> RunFolder:
    folder = RunFolder(path)
    folder.start(Config(), prepared, Path("data"), overwrite=False, facts={"stage": "sft"})
    return folder


def test_an_empty_folder_is_started_and_nothing_is_resumed(prepared: PreparedData, tmp_path: Path) -> None:
    assert not RunFolder(tmp_path).holds_anything()
    folder = started(tmp_path, prepared)
    assert folder.holds_anything()
    assert folder.finished(Config(), prepared) is None
    assert folder.resume(Config(), prepared) is None


def test_other_settings_or_data_are_refused(prepared: PreparedData, tmp_path: Path) -> None:
    folder = started(tmp_path / "run", prepared)
    with pytest.raises(ArtifactError, match=r"other settings.*seed = 0 \(now 1\); resume with its config\.yaml"):
        folder.resume(Config(seed=1), prepared)
    assert folder.is_of(Config(), prepared)
    assert not folder.is_of(Config(seed=1), prepared)
    other = load_prepared(prepared_ring(tmp_path / "data", n_users=9))
    with pytest.raises(ArtifactError, match=other.manifest["data_hash"]):
        folder.resume(Config(), other)


def test_log_lines_after_the_checkpoint_and_cut_ones_are_dropped(prepared: PreparedData, tmp_path: Path) -> None:
    folder = started(tmp_path / "run", prepared)
    checkpoint(folder, 20)
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (10, 20, 30)]
    folder.log.write_text("\n".join([*lines, '{"step": 40, "lo']), encoding="utf-8")
    assert folder.resume(Config(), prepared) == str(folder.checkpoints / "checkpoint-20")
    assert folder.log.read_text(encoding="utf-8").splitlines() == lines[:2]


def checkpoint(folder: RunFolder, step: int, state: str | None = "{}") -> Path:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if state is not None:
        (path / "trainer_state.json").write_text(state, encoding="utf-8")
    return path


def test_checkpoints_that_a_kill_cut_short_are_passed_over(prepared: PreparedData, tmp_path: Path) -> None:
    folder = started(tmp_path / "run", prepared)
    whole = checkpoint(folder, 900)
    cut = [checkpoint(folder, 1000, None), checkpoint(folder, 1100, '{"epoch": ')]
    assert folder.resume(Config(), prepared) == str(whole)
    assert not any(path.exists() for path in cut)
    (whole / "trainer_state.json").unlink()
    assert folder.resume(Config(), prepared) is None


def test_another_number_of_processes_is_refused(prepared: PreparedData, tmp_path: Path) -> None:
    folder = started(tmp_path / "run", prepared)
    facts = json.loads(folder.facts.read_text())
    folder.facts.write_text(json.dumps({**facts, "processes": 2}))
    with pytest.raises(ArtifactError, match="was started with 2 processes, got 1; resume with 2"):
        folder.resume(Config(), prepared)


def test_what_was_finished_is_read_back(prepared: PreparedData, tmp_path: Path) -> None:
    folder = started(tmp_path / "run", prepared)
    (folder.checkpoints / "checkpoint-20").mkdir(parents=True)
    summary = RunSummary(tmp_path / "run", 20, 30, {"ndcg@10": 0.5, "hr@10": 0.6}, 1000, 10, 12.3)
    folder.finish(summary)
    assert folder.finished(Config(), prepared) == summary
    assert not folder.checkpoints.exists()
    assert "best at step 20: valid NDCG@10 0.5000, HR@10 0.6000" in str(summary)


def test_a_file_in_the_way_is_named(prepared: PreparedData, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(ArtifactError, match="not empty"):
        RunFolder(tmp_path / "run").start(Config(), prepared, Path("data"), overwrite=False, facts={"stage": "sft"})
    with pytest.raises(ArtifactError, match=r"no run\.json"):
        RunFolder(tmp_path / "run").start(Config(), prepared, Path("data"), overwrite=True, facts={"stage": "sft"})
