"""A run folder: opened once, continued after an interruption, closed with what was found.

```
RUN/
├── config.yaml       resolved settings
├── run.json          status, seed, versions, commit, data hash, settings, parameters, seconds
├── metrics.json      {"valid": {"ndcg@10": ...}, "test": {...}}
├── *.parquet         one row per evaluated target, for later tests
├── log.jsonl         one line per logged step
├── checkpoints/      while training: what `--resume` continues from (torch's own format: load only your own)
└── model/            the recommender: safetensors, JSON and Parquet
```
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer import TRAINER_STATE_NAME

from flr.config import Config, parse_saved
from flr.errors import ArtifactError
from flr.persistence import hold_folder, read_json, write_json, write_text
from flr.records import PreparedData
from flr.training.machine import environment, n_processes


@dataclass(frozen=True)
class RunSummary:
    """What a training run came to.

    Attributes:
        path: The run folder.
        best_step: Optimiser step whose weights were kept.
        n_steps: Optimiser steps taken.
        valid: Validation metrics of the kept weights.
        n_parameters: Weights in all, without the assistant's.
        n_trained_parameters: Weights that were trained.
        train_seconds: Wall-clock time of training: validations, an assistant and what is settled in the end included.
        stage_one: Validation metrics that stage two started from; None for a run of stage one.
    """

    path: Path
    best_step: int
    n_steps: int
    valid: dict[str, float]
    n_parameters: int
    n_trained_parameters: int
    train_seconds: float
    stage_one: dict[str, float] | None = None

    @property
    def winner(self) -> str:
        """Return the stage whose weights were kept, ``"sft"`` or ``"grpo"``."""
        return "sft" if self.stage_one is None or self.best_step == 0 else "grpo"

    def __str__(self) -> str:
        kept = f"best at step {self.best_step}"
        if self.stage_one is not None:
            found = "stage one wins" if self.winner == "sft" else f"stage two wins, {kept}"
            kept = f"{found} (stage one: valid NDCG@10 {self.stage_one['ndcg@10']:.4f})"
        return (
            f"trained {self.n_steps} steps in {self.train_seconds:.0f} s; {kept}: "
            f"valid NDCG@10 {self.valid['ndcg@10']:.4f}, HR@10 {self.valid['hr@10']:.4f} -> {self.path}"
        )


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.facts = path / "run.json"
        self.metrics = path / "metrics.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self._held: int | None = None

    def hold(self) -> None:
        """Keep other processes from training here until `release`, or until this one ends.

        Raises:
            ArtifactError: Another one trains here.
        """
        self.release()
        self._held = hold_folder(self.path, "trained")

    def release(self) -> None:
        """Let others train here again."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def check_free(self, *, overwrite: bool) -> None:
        """Check that a new run may be made here.

        Raises:
            ArtifactError: The folder holds something and `overwrite` is False, or what it holds is no run.
        """
        if not self.holds_anything():
            return
        if not overwrite:
            raise ArtifactError(
                f"{str(self.path)!r} is not empty; --resume continues a run, --overwrite replaces one, "
                "or name another folder"
            )
        if not self.facts.exists():
            raise ArtifactError(
                f"{str(self.path)!r} holds no run.json, so it is no run and is not overwritten; name another folder"
            )

    def start(
        self, config: Config, prepared: PreparedData, data: Path, *, overwrite: bool, facts: dict[str, Any]
    ) -> None:
        """Make the folder in place of what was there, with further facts; see `check_free` for what is raised."""
        self.check_free(overwrite=overwrite)
        if self.path.is_dir():
            self.hold()
            shutil.rmtree(self.path)
        settings = config.model_dump(mode="json")
        write_text(self.config, yaml.safe_dump(settings, sort_keys=False))
        about_data = {"data": str(Path(data).resolve()), "data_hash": prepared.manifest["data_hash"]}
        begun = {"status": "running", **facts, "seed": config.seed, **about_data}
        write_json(self.facts, {**begun, "processes": n_processes(), **environment(), "config": settings})
        self.hold()

    def resume(self, config: Config, prepared: PreparedData) -> str | None:
        """Return the checkpoint to continue from, None where the run got to none.

        Raises:
            ArtifactError: The run was started with other settings, other data or another number of processes, its
                files cannot be read, or another process trains it.
        """
        self._check_same(config, prepared)
        before, now = read_json(self.facts, "run").get("processes", n_processes()), n_processes()
        if before != now:  # rows would be passed over, or trained on again
            raise ArtifactError(
                f"{str(self.path)!r} was started with {before} processes, got {now}; resume with {before}"
            )
        self.hold()
        last = _last_whole_checkpoint(self.checkpoints)
        _trim_log(self.log, 0 if last is None else step_in_name(last))
        return None if last is None else str(last)

    def holds_anything(self) -> bool:
        """Return whether there is something here; an empty or missing folder holds nothing to resume."""
        return self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))

    def is_of(self, config: Config, prepared: PreparedData) -> bool:
        """Return whether a run of these settings and data is here, finished or interrupted."""
        if not self.facts.exists():
            return False
        try:
            self._check_same(config, prepared)
        except ArtifactError:
            return False
        return True

    def finished(self, config: Config, prepared: PreparedData) -> RunSummary | None:
        """Return the summary of a run that is finished, None for any other.

        Raises:
            ArtifactError: The run was started with other settings or data, or its files cannot be read.
        """
        if not self.facts.exists():
            return None
        self._check_same(config, prepared)
        saved = read_json(self.facts, "run")
        if saved["status"] != "finished":
            return None
        valid = read_json(self.metrics, "metrics")["valid"]
        names = ("best_step", "n_steps", "n_parameters", "n_trained_parameters", "train_seconds")
        known = {name: saved[name] for name in names}
        return RunSummary(path=self.path, valid=valid, stage_one=saved.get("stage_one"), **known)

    def finish(self, summary: RunSummary, facts: Mapping[str, Any] | None = None) -> None:
        """Write down what the run came to, with further facts, and drop its checkpoints."""
        write_json(self.metrics, {"valid": summary.valid})
        done = {
            **(facts or {}),
            "status": "finished",
            "best_step": summary.best_step,
            "n_steps": summary.n_steps,
            "n_parameters": summary.n_parameters,
            "n_trained_parameters": summary.n_trained_parameters,
            "train_seconds": round(summary.train_seconds, 1),
            "winner": summary.winner,
            **({} if summary.stage_one is None else {"stage_one": summary.stage_one}),
        }
        write_json(self.facts, {**read_json(self.facts, "run"), **done})
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _check_same(self, config: Config, prepared: PreparedData) -> None:
        saved = read_json(self.facts, "run")
        data_hash = prepared.manifest["data_hash"]
        if saved.get("data_hash") != data_hash:
            raise ArtifactError(
                f"{str(self.path)!r} was trained on data {saved.get('data_hash')}, got {data_hash}; "
                "give the data it was started on"
            )
        if different := differing(parse_saved(saved.get("config", {})), config):
            key, started, given = different[0]
            raise ArtifactError(
                f"{str(self.path)!r} was started with other settings than given now, such as {key} = {started!r} "
                f"(now {given!r}); resume with its config.yaml"
            )


def differing(one: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """Return the settings in which two configs differ: full name, value of the one, value of the other."""
    first, second = (named_settings(config.model_dump(mode="json")) for config in (one, other))
    return [(key, value, second.get(key)) for key, value in first.items() if value != second.get(key)]


def named_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the single settings of nested sections, each by its full name."""
    found = dict[str, Any]()
    for key, value in settings.items():
        found |= named_settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the latest checkpoint that was written to its end; later ones, which a kill cut short, go."""
    for path in sorted(folder.glob("checkpoint-*"), key=step_in_name, reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))  # the last file that is written
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return path
    return None


def step_in_name(path: Path | str) -> int:
    """Return the optimiser step that a checkpoint, or a file beside it, is named by.

    >>> step_in_name("checkpoints/checkpoint-50"), step_in_name("guard-50.json")
    (50, 50)
    """
    return int(Path(path).stem.rsplit("-", 1)[1])


def _trim_log(path: Path, last_step: int) -> None:
    """Drop log lines from after the checkpoint, which resumed training writes again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= last_step]
        write_text(path, "".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    """Return the step of a log line; one that a kill cut short counts as written after every checkpoint."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
