"""A study whose process is killed while a cell is training goes on there, and ends as if nobody had killed it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flr.evaluation.reports import load_report
from flr.experiments.matrix import load_study
from flr.experiments.study import run_study, study_jobs
from flr.persistence import read_json
from processes import is_gone, waited_for
from toy import TINY, prepared_ring

#: As many steps as leave time to kill a cell between its first checkpoint and its end.
STEPS = {"training.max_steps": 100, "training.eval_steps": 20, "training.n_threads": 1, "assistant.networks": []}
CELLS = ("flr/seed-0", "no-thought/seed-0", "flr/seed-1", "no-thought/seed-1")
FINISHED, KILLED = CELLS[:2], CELLS[2]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    prepared_ring(folder / "data")
    settings = dict(setting.split("=", 1) for setting in TINY)
    study: dict[str, Any] = {
        "title": "t",
        "data": {"toy": {"folder": "data"}},
        "variants": {"flr": {}, "no thought": {"settings": {"reasoner.kind": "none"}, "same_size": False}},
        "reference": "flr",
        "baselines": ["popularity"],
        "seeds": [0, 1],
        "settings": {
            **{key: yaml.safe_load(value) for key, value in settings.items()},
            **STEPS,
            "evaluation.cutoffs": [5, 10],
        },
        "evidence": dict.fromkeys(
            ("disentanglement", "mutual_information", "interventions", "robustness", "slices", "stability"), False
        ),
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def killed(file: Path) -> Path:
    """Return the folder of a study that was killed while its third cell was training."""
    output = file.parent / "killed"
    command = [sys.executable, "-m", "flr", "study", str(file), "--output", str(output), "--jobs", "1", "--quiet"]
    study = subprocess.Popen(command, start_new_session=True)
    try:
        assert waited_for(lambda: any((of(output, KILLED) / "checkpoints").glob("checkpoint-*")))
    finally:
        study.kill()
        assert study.wait() == -signal.SIGKILL
    assert waited_for(lambda: is_gone(study.pid, group=True)), "its processes go on"
    return output


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_as_an_undisturbed_one(file: Path, killed: Path) -> None:
    assert read_json(of(killed, KILLED) / "run.json", "run")["status"] == "running", "killed too late for this test"
    assert not of(killed, CELLS[3]).exists()
    before = {path: path.stat().st_mtime_ns for cell in FINISHED for path in of(killed, cell).rglob("*")}
    began = read_json(of(killed, KILLED) / "run.json", "run")["started"]

    study = load_study(file)
    report = run_study(study, killed, jobs=1)

    assert report.failed == ()
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished cell was made again"
    assert read_json(of(killed, KILLED) / "run.json", "run")["started"] == began, "it began anew"
    undisturbed = file.parent / "undisturbed"
    for job in study_jobs(study, undisturbed):
        job.do()
    for cell in CELLS:
        weights = [(of(folder, cell) / "model" / "model.safetensors").read_bytes() for folder in (killed, undisturbed)]
        assert weights[0] == weights[1], cell
        ours, theirs = (load_report(of(folder, cell), "test") for folder in (killed, undisturbed))
        assert ours.metrics == theirs.metrics
        assert ours.per_target.equals(theirs.per_target)


def of(output: Path, cell: str) -> Path:
    return output / "runs" / "toy" / cell
