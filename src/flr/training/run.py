"""A run folder: from a config and prepared data to a trained model, and back from it to its evaluation.

```
RUN/
├── config.yaml       resolved settings
├── run.json          status, seed, versions, commit, data hash, parameters, seconds
├── metrics.json      {"valid": {"ndcg@10": ...}, "test": {...}}
├── *.parquet         one row per evaluated target, for later tests
├── log.jsonl         one line per logged step
├── checkpoints/      what `--resume` continues from (torch's own format: load only your own)
└── model/            the recommender: safetensors, JSON and Parquet
```
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from flr.backbone.loading import compact_backbone, pretrained_backbone, pretrained_tokenizer
from flr.catalogue.titles import build_catalogue
from flr.config import Config, parse_config
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, ConfigError, DataError, StorageError
from flr.evaluation.protocol import evaluate
from flr.evaluation.reports import save_report
from flr.model import FLRModel, build_reasoner
from flr.persistence import read_json, write_json
from flr.progress import SILENT, Progress, Step
from flr.recommender import Recommender
from flr.records import Catalogue, IntArray, PreparedData, Report
from flr.seeding import derive_seed, generator
from flr.text.tokenizer import TitleTokenizer
from flr.training.objective import Objective, TrainedModule
from flr.training.sft import PackedRows, StageOneTrainer

BEST_METRIC = "ndcg@10"
_RUN, _CONFIG, _LOG, _CHECKPOINTS, _MODEL = "run.json", "config.yaml", "log.jsonl", "checkpoints", "model"


@dataclass(frozen=True)
class RunSummary:
    """What a training run came to.

    Attributes:
        path: The run folder.
        best_step: Optimiser step whose weights were kept.
        n_steps: Optimiser steps taken.
        valid: Validation metrics of the kept weights.
        n_parameters: Weights in all, and those trained.
        seconds: Wall-clock time of training, validations included.
    """

    path: Path
    best_step: int
    n_steps: int
    valid: dict[str, float]
    n_parameters: tuple[int, int]
    seconds: float

    def __str__(self) -> str:
        return (
            f"trained {self.n_steps} steps in {self.seconds:.0f} s; best at step {self.best_step}: "
            f"valid NDCG@10 {self.valid['ndcg@10']:.4f}, HR@10 {self.valid['hr@10']:.4f} -> {self.path}"
        )


def train_run(
    config: Config,
    data: Path,
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> RunSummary:
    """Train stage one and write the run folder.

    Args:
        config: Resolved settings.
        data: Prepared folder.
        output: The run's own folder.
        resume: Continue an interrupted run; it ends with the weights of an uninterrupted one.
        overwrite: Replace a run that is already there.
        progress: Told about steps and validations.

    Raises:
        ArtifactError: The folder holds a run already, or is resumed with other settings or data.
        ConfigError: `evaluation.cutoffs` lacks the 10 that early stopping watches.
        DataError: There is nothing to train on.
    """
    if 10 not in config.evaluation.cutoffs:
        raise ConfigError(f"evaluation.cutoffs = {config.evaluation.cutoffs} must hold 10; early stopping watches NDCG@10")
    prepared = load_prepared(data)
    checkpoint = _open_run(config, prepared, data, output, resume=resume, overwrite=overwrite)
    if config.training.n_threads:
        torch.set_num_threads(config.training.n_threads)
    set_seed(derive_seed(config.seed, "weights") % 2**32)
    catalogue = build_catalogue(prepared.items)
    tokenizer, model = build_model(config, catalogue)
    started = time.perf_counter()
    with progress.task("train", config.training.max_steps) as step:
        trainer, recommender = _trainer(config, prepared, catalogue, tokenizer, model, output, (progress, step))
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except OSError as error:
            raise StorageError(f"cannot write below {str(output)!r}: {error}; free some space, then --resume") from error
    return _close_run(config, trainer, recommender, prepared, output, time.perf_counter() - started)


def build_model(config: Config, catalogue: Catalogue) -> tuple[TitleTokenizer, FLRModel]:
    """Return a tokenizer and an untrained (or pretrained) model for a catalogue; weights come from torch's generator."""
    if config.backbone.source == "compact":
        tokenizer = TitleTokenizer.train(catalogue.leaf_titles, config.text.vocabulary_size)
        backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    else:
        text = pretrained_tokenizer(config.backbone.source)
        tokenizer = TitleTokenizer.pretrained(text.tokenizer, preamble=config.text.preamble, end_id=text.end_id)
        backbone = pretrained_backbone(config.backbone)
    return tokenizer, FLRModel(backbone, build_reasoner(config.reasoner, backbone))


def _open_run(
    config: Config, prepared: PreparedData, data: Path, output: Path, *, resume: bool, overwrite: bool
) -> str | None:
    """Make the run folder, or check that it is the one to resume; return the checkpoint to start from."""
    exists = (output / _RUN).exists() or (output.exists() and any(output.iterdir()))
    if exists and not resume and not overwrite:
        raise ArtifactError(f"{str(output)!r} holds a run already; --resume continues it, --overwrite replaces it")
    facts = {"data": str(Path(data).resolve()), "data_hash": prepared.manifest["data_hash"]}
    if resume and exists:
        saved = read_json(output / _RUN, "run")
        _check_same(config, facts, saved, output)
        checkpoints = output / _CHECKPOINTS
        last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
        _trim_log(output / _LOG, int(last.rsplit("-", 1)[1]) if last else 0)
        return str(last) if last else None
    if exists:
        shutil.rmtree(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / _CONFIG).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    write_json(output / _RUN, {"status": "running", "seed": config.seed, **facts, **_environment()})
    return None


def _check_same(config: Config, facts: dict[str, str], saved: dict[str, Any], output: Path) -> None:
    if saved.get("data_hash") != facts["data_hash"]:
        raise ArtifactError(f"{str(output)!r} was trained on data {saved.get('data_hash')}, got {facts['data_hash']}")
    try:
        before = parse_config(yaml.safe_load((output / _CONFIG).read_text(encoding="utf-8")))
    except OSError as error:
        raise ArtifactError(f"{str(output / _CONFIG)!r} cannot be read ({error}); train again with --overwrite") from error
    if before != config:
        raise ArtifactError(f"{str(output)!r} was started with other settings than given now; resume with its config.yaml")


def _trim_log(path: Path, last_step: int) -> None:
    """Drop log lines from after the checkpoint, which resumed training writes again."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= last_step]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _environment() -> dict[str, Any]:
    packages = ("flr", "torch", "transformers", "accelerate", "tokenizers", "polars", "numpy")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads(), "gpus": torch.cuda.device_count()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _commit() -> str | None:
    """Return the commit of the source tree that is running, or None where it is not a checkout."""
    try:
        here = Path(__file__).parent
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _trainer(
    config: Config,
    prepared: PreparedData,
    catalogue: Catalogue,
    tokenizer: TitleTokenizer,
    model: FLRModel,
    output: Path,
    reporting: tuple[Progress, Step],
) -> tuple[StageOneTrainer, Recommender]:
    settings = config.training
    arguments = _arguments(config, output)
    recommender = Recommender(model.to(arguments.device), tokenizer, catalogue, config)
    rows = PackedRows(
        prepared.sequences,
        recommender.compiled.packer(model.n_thoughts),
        window=config.text.window,
        row_tokens=settings.row_tokens,
        batch_tokens=settings.batch_tokens,
        seed=config.seed,
    )
    n_batches = settings.max_steps * settings.gradient_accumulation_steps * arguments.world_size
    arguments.per_device_train_batch_size = rows.rows_per_batch
    trainer = StageOneTrainer(
        model=TrainedModule(model, Objective(config.objective)),
        args=arguments,
        train_dataset=rows.limit(n_batches),
        data_collator=rows.collate,
        table=recommender.compiled.table,
        regularizer_warmup_steps=config.objective.regularizer_warmup_steps,
        validate=lambda: _validate(recommender, prepared, trainer),
        callbacks=[EarlyStoppingCallback(settings.patience), _Reporter(*reporting, output / _LOG)],
    )
    return trainer, recommender


def _arguments(config: Config, output: Path) -> TrainingArguments:
    settings = config.training
    transformers_logging.set_verbosity_error()
    return TrainingArguments(
        output_dir=str(output / _CHECKPOINTS),
        max_steps=settings.max_steps,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.mixed_precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=settings.eval_steps,
        save_steps=settings.eval_steps,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{BEST_METRIC}",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,
        seed=derive_seed(config.seed, "dropout") % 2**32,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )


def _validate(recommender: Recommender, prepared: PreparedData, trainer: StageOneTrainer) -> dict[str, float]:
    """Rank this process's share of the validation users; return metrics over all processes."""
    config, accelerator = recommender.config, trainer.accelerator
    share = _validation_users(config, prepared)[accelerator.process_index :: accelerator.num_processes]
    report = evaluate(
        recommender,
        prepared.sequences,
        recommender.catalogue.n_items,
        split="valid",
        cutoffs=config.evaluation.cutoffs,
        seen_items=config.evaluation.seen_items,
        users=share,
    )
    names = [f"{metric}@{k}" for k in config.evaluation.cutoffs for metric in ("hr", "ndcg", "mrr")]
    n_targets = report.metrics["n_targets"]
    sums = torch.tensor([[n_targets, *(report.metrics[name] * n_targets for name in names)]], dtype=torch.float64)
    total = accelerator.gather(sums.to(accelerator.device)).sum(0).tolist()
    return dict(zip(names, (value / total[0] for value in total[1:]), strict=True))


def _validation_users(config: Config, prepared: PreparedData) -> IntArray:
    users = np.unique(prepared.sequences.targets(2)[0])
    if not len(users):
        raise DataError("the prepared data has no validation target; prepare it with a split that holds some out")
    n = config.training.eval_users
    if n is None or n >= len(users):
        return users
    return np.sort(generator(config.seed, "validation users").choice(users, n, replace=False))


class _Reporter(TrainerCallback):  # type: ignore[misc]
    """Writes the log file and tells the progress bar."""

    def __init__(self, progress: Progress, step: Step, log: Path) -> None:
        self.progress, self.step, self.log, self.loss = progress, step, log, ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step(1, self.loss)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.loss = f"loss {logs['loss']:.3f}"
        if f"eval_{BEST_METRIC}" in logs:
            scores = f"NDCG@10 {logs['eval_ndcg@10']:.4f}, HR@10 {logs['eval_hr@10']:.4f}"
            self.progress.message(f"step {state.global_step}: {self.loss}, valid {scores}")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


def _close_run(
    config: Config,
    trainer: StageOneTrainer,
    recommender: Recommender,
    prepared: PreparedData,
    output: Path,
    seconds: float,
) -> RunSummary:
    """Save the best weights and what is known about them."""
    parameters = list(recommender.model.parameters())
    counts = (sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad))
    best_step = trainer.state.best_global_step or trainer.state.global_step
    history = [entry for entry in trainer.state.log_history if f"eval_{BEST_METRIC}" in entry]
    best = next((entry for entry in history if entry["step"] == best_step), history[-1] if history else {})
    valid = {name.removeprefix("eval_"): value for name, value in best.items() if "@" in name}
    summary = RunSummary(output, best_step, trainer.state.global_step, valid, counts, seconds)
    if trainer.is_world_process_zero():
        recommender.save(output / _MODEL, overwrite=True)
        write_json(output / "metrics.json", {"valid": valid})
        done = {
            "status": "finished",
            "best_step": best_step,
            "n_steps": summary.n_steps,
            "n_parameters": counts[0],
            "n_trained_parameters": counts[1],
            "train_seconds": round(seconds, 1),
        }
        write_json(output / _RUN, {**read_json(output / _RUN, "run"), **done})
    return summary


def evaluate_run(run: Path, *, split: str = "test", data: Path | None = None, progress: Progress = SILENT) -> Report:
    """Rank the whole catalogue for every target of a split and write metrics and per-target results into the run.

    Args:
        run: A finished run folder.
        split: ``"valid"`` or ``"test"``.
        data: Prepared folder; None takes the one the run was trained on.
        progress: Told about targets.

    Raises:
        ArtifactError: The run or the data is missing, unfinished or not the data of the run.
    """
    facts = read_json(run / _RUN, "run")
    if facts.get("status") != "finished":
        raise ArtifactError(f"the run {str(run)!r} is {facts.get('status')!r}; finish it with `flr train --resume` first")
    prepared = load_prepared(data or Path(facts["data"]))
    if prepared.manifest["data_hash"] != facts["data_hash"]:
        raise ArtifactError(
            f"the data has hash {prepared.manifest['data_hash']}, the run was trained on {facts['data_hash']}; "
            "give the folder it was trained on with --data"
        )
    recommender = Recommender.load(run)
    settings = recommender.config.evaluation
    report = evaluate(
        recommender,
        prepared.sequences,
        recommender.catalogue.n_items,
        split=split,  # type: ignore[arg-type]
        cutoffs=settings.cutoffs,
        seen_items=settings.seen_items,
        progress=progress,
    )
    save_report(report, run)
    return report
