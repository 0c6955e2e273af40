"""`flr train`: settings from file, options and an interrupted run reach the training; the summary comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flr.config import Config, describe_settings
from flr.errors import ArtifactError

from .conftest import Run


@dataclass
class Summary:
    path: Path
    valid: dict[str, float]

    def __str__(self) -> str:
        return f"trained -> {self.path}"


@pytest.fixture
def calls(stand_in: Callable[..., None]) -> list[tuple[Config, dict[str, Any]]]:
    """What training was asked for."""
    asked: list[tuple[Config, dict[str, Any]]] = []

    def train_run(config: Config, data: Path, output: Path, **options: Any) -> Summary:
        if data.name == "broken":
            raise ArtifactError(f"{str(data)!r} has no manifest; prepare it again")
        options.pop("progress").message("step 10")
        asked.append((config, {"data": data, "output": output, **options}))
        return Summary(output, {"ndcg@10": 0.064})

    stand_in("flr.training.run", train_run=train_run)
    return asked


def test_settings_come_from_file_then_set_then_seed(run: Run, calls: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("seed: 3\nreasoner: {n_factors: 2, n_steps: 3}\n", encoding="utf-8")
    result = run(
        *("train", "--data", "d", "--output", tmp_path / "r", "--config", path),
        *("--set", "reasoner.n_factors=1", "--set", "seed=4", "--seed", 5),
    )
    assert (result.exit_code, result.stdout) == (0, f"trained -> {tmp_path / 'r'}\n")
    assert result.stderr == "step 10\n"
    config, options = calls[0]
    assert (config.seed, config.reasoner.n_factors, config.reasoner.n_steps) == (5, 1, 3)
    taken = {"weights_from": None, "assistant_from": None}
    assert options == {"data": Path("d"), "output": tmp_path / "r", "resume": False, "overwrite": False, **taken}


def test_a_run_whose_weights_are_taken_gives_its_settings_and_its_data(
    run: Run, calls: list[Any], tmp_path: Path
) -> None:
    facts = {"config": {"seed": 7, "reasoner": {"n_factors": 2}}, "data": "its data"}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    taken = ("--weights-from", tmp_path, "--assistant-from", "other", "--set", "assistant.networks=[sasrec]")
    assert run("train", "--output", "r", *taken).exit_code == 0
    assert run("train", "--output", "r", "--data", "d", *taken).exit_code == 0
    (config, options), (_, with_data) = calls
    assert (config.seed, config.reasoner.n_factors, config.assistant.networks) == (7, 2, ("sasrec",))
    assert (options["data"], with_data["data"]) == (Path("its data"), Path("d"))
    assert (options["weights_from"], options["assistant_from"]) == (tmp_path, Path("other"))


def test_resume_takes_the_settings_of_the_run(run: Run, calls: list[Any], tmp_path: Path) -> None:
    settings = {"seed": 7, "training": {"max_steps": 9}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert run("train", "--data", "d", "--output", tmp_path, "--resume").exit_code == 0
    config, options = calls[0]
    assert (config.seed, config.training.max_steps, options["resume"]) == (7, 9, True)
    (tmp_path / "run.json").write_text(json.dumps({"data": "its data"}))
    assert run("train", "--output", tmp_path, "--resume").exit_code == 0
    assert calls[1][1]["data"] == Path("its data")


def test_stage_two_starts_from_the_settings_of_its_run(run: Run, stand_in: Callable[..., None], tmp_path: Path) -> None:
    asked: list[Any] = []

    def align_run(config: Config, source: Path, output: Path, **options: Any) -> Summary:
        asked.append((config, source, output, options["data"]))
        return Summary(output, {"ndcg@10": 0.07})

    stand_in("flr.training.alignment", align_run=align_run)
    stand_in("flr.training.journey", on_first_process=lambda action: action())
    stand_in("flr.experiments.policy_report", write_policy_report=asked.append)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"seed": 7, "reasoner": {"n_factors": 2}}}))
    arguments = ("--stage", "grpo", "--from", tmp_path, "--output", "r", "--set", "grpo.reward=ndcg@5")
    assert run("train", *arguments).exit_code == 0
    config, source, output, data = asked[0]
    assert (config.seed, config.reasoner.n_factors, config.grpo.reward) == (7, 2, "ndcg@5")
    assert (source, output, data, asked[1]) == (tmp_path, Path("r"), None, Path("r"))


@pytest.fixture
def estimates(stand_in: Callable[..., None]) -> list[Any]:
    """What was to be estimated."""
    asked: list[Any] = []

    @dataclass
    class Costs:
        total_flops: float = 3e15
        peak_bytes: float = 32e9
        n_steps: int = 1155
        hours: float | None = 0.284

    def estimate_run(config: Config, prepared: Any, stage: str, **device: float) -> Costs:
        asked.append((config, prepared, stage, device))
        return Costs()

    stand_in("flr.data.storage", load_prepared=lambda path: f"rows of {path}")
    stand_in("flr.training.estimate", estimate_run=estimate_run)
    return asked


def test_an_estimate_needs_no_output_and_trains_nothing(run: Run, calls: list[Any], estimates: list[Any]) -> None:
    result = run("train", "--estimate", "--data", "d", "--set", "seed=3", "--device-tflops", 312)
    assert result.exit_code == 0, result.stderr
    ((config, prepared, stage, device),) = estimates
    assert (config.seed, prepared, stage) == (3, "rows of d", "sft")
    assert device == {"device_tflops": 312, "utilisation": 0.35}
    for shown in ("3,000.000 TFLOP", "32.000 GB", "1,155", "0.28"):
        assert shown in result.stdout
    assert not calls


def test_an_estimate_as_json_of_stage_two_takes_the_settings_of_its_run(
    run: Run, estimates: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"config": {"seed": 7}, "data": "d"}))
    result = run("train", "--estimate", "--stage", "grpo", "--from", tmp_path, "--json")
    assert json.loads(result.stdout)["n_steps"] == 1155
    assert (estimates[0][0].seed, estimates[0][2]) == (7, "grpo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--estimate",), "--estimate got no --data"), (("--data", "d"), "got no --output; name the run's own folder")],
)
def test_what_an_estimate_and_a_run_need(run: Run, calls: list[Any], arguments: tuple[str, ...], message: str) -> None:
    result = run("train", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stage", "grpo"), "--stage grpo got no --from"),
        (("--stage", "grpo", "--from", "no-such-run"), "there is no run 'no-such-run/run.json'"),
        ((), "--stage sft got no --data"),
        (("--data", "d", "--from", "r1"), "--stage sft got --from 'r1'"),
        (("--stage", "grpo", "--from", "r", "--weights-from", "q"), "--stage grpo keeps the model of --from"),
        (("--weights-from", "no-such-run"), "there is no run 'no-such-run/run.json'"),
    ],
)
def test_stages_say_what_they_need(run: Run, calls: list[Any], arguments: tuple[str, ...], message: str) -> None:
    result = run("train", "--output", "r", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not calls


def test_of_several_processes_the_first_tells_the_result(
    run: Run, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("train", "--data", "d", "--output", "o")
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        said.append(run(*arguments).stdout)
    assert "-> o" in said[0]
    assert said[1] == ""
    assert len(calls) == 2


def test_json_and_quiet(run: Run, calls: list[Any]) -> None:
    result = run("train", "--data", "d", "--output", "r", "--json", "--quiet")
    assert json.loads(result.stdout) == {"path": "r", "valid": {"ndcg@10": 0.064}}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "training.max_step=1"), "did you mean 'max_steps'?"),
        (("--set", "training.max_steps=0"), "training.max_steps = 0"),
        (("--config", "no-such.yaml"), "no-such.yaml"),
        (
            ("--set", "grpo.updates_per_rollout=3"),
            "grpo.eval_steps 20 must be a multiple of grpo.updates_per_rollout 3",
        ),
    ],
)
def test_wrong_settings_stop_before_anything_is_loaded(
    run: Run, calls: list[Any], arguments: tuple[str, ...], message: str
) -> None:
    result = run("train", "--data", "d", "--output", "r", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not calls


def test_an_unusable_folder_is_one_line(run: Run, calls: list[Any]) -> None:
    result = run("train", "--data", "broken", "--output", "r")
    assert (result.exit_code, result.stderr) == (2, "error: 'broken' has no manifest; prepare it again\n")


def test_all_settings_are_listed(run: Run) -> None:
    result = run("train", "--list-settings")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == [key for key, _, _ in describe_settings()]
