"""From a config and prepared data to a run folder with a trained model, and from there to its evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from flr.backbone.loading import compact_backbone, pretrained_backbone
from flr.building import build_memory, build_reasoner, title_tokenizer
from flr.catalogue.titles import build_catalogue
from flr.config import Config, PolicyConfig, TrainingConfig
from flr.data.storage import load_prepared
from flr.data.transitions import OthersEvidence, count_transitions
from flr.errors import ConfigError, DataError, FlrError, StorageError
from flr.model import FLRModel
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import Catalogue, FloatArray, PreparedData
from flr.seeding import derive_seed
from flr.text.packing import Evidence
from flr.training.assisting import give_assistant
from flr.training.folder import RunFolder, RunSummary
from flr.training.objective import Objective, TrainedModule
from flr.training.sft import StageOneTrainer
from flr.training.trainer import PackedRows, PackedTrainer
from flr.training.trust import settle_trust
from flr.training.validation import BEST_METRIC, Reporter, Validation
from flr.transitions import Transitions

T = TypeVar("T")
#: Optimiser steps between two lines of the log, where validations do not ask for more.
_LOG_STEPS = 10


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
        resume: Continue an interrupted run; it ends with the weights of an uninterrupted one. A finished run is
            left as it is, and where there is none a new one starts.
        overwrite: Replace a run that is already there.
        progress: Told about steps and validations.

    Raises:
        ArtifactError: The folder holds something already, or is resumed with other settings or data.
        ConfigError: `evaluation.cutoffs` lacks the 10 that early stopping watches.
        DataError: There is nothing to train on, to validate with or, all titles being equal, to choose between.
        StorageError: The disk refused a write; the last checkpoint is kept.
    """
    prepared = load_prepared(data)
    journey = open_journey(config, prepared, data, output, resume=resume, overwrite=overwrite)
    if journey.summary is not None:
        return journey.summary
    set_seed(derive_seed(config.seed, "weights") % 2**32)
    catalogue = build_catalogue(prepared.items)
    if catalogue.n_leaves == 1:
        raise DataError(
            f"all {catalogue.n_items} items are called {catalogue.titles[0]!r}, so there is nothing to choose between; "
            "give an items table whose titles tell items apart"
        )
    transitions = None
    if config.reasoner.has_memory:
        transitions = count_transitions(prepared.sequences, catalogue.n_items)
    recommender = build_recommender(config, catalogue, journey.arguments.device, transitions)
    packer = recommender.compiled.packer(recommender.model.n_thoughts, _evidence(recommender, prepared))
    rows = PackedRows.of(config, prepared.sequences, packer)
    validation = Validation(recommender, prepared, progress)
    journey.begin({"stage": "sft"})
    with progress.task("train", config.training.max_steps) as step:
        reporter = Reporter(progress, step, journey.folder.log)
        trainer = _trainer(recommender, (rows, validation), journey.arguments, reporter)
        seconds = journey.train(trainer)
        summary = _summary(trainer, recommender, output, seconds)
        valid, started = summary.valid, time.perf_counter()
        say = give_assistant(recommender, validation, trainer.accelerator, progress)
        if say:
            valid = validation(trainer.accelerator)
            progress.message(f"assistant has {say}: valid NDCG@10 {valid[BEST_METRIC]:.4f}")
        moved, valid = settle_trust(recommender, validation, trainer.accelerator, valid)
        if moved:
            progress.message(f"trust in votes moved by {moved:+g}: valid NDCG@10 {valid[BEST_METRIC]:.4f}")
        seconds += time.perf_counter() - started
    return journey.finish(recommender, replace(summary, valid=valid, train_seconds=seconds))


@dataclass
class Journey:
    """One training run, from its folder's opening to its closing, whatever the stage and the number of processes.

    Attributes:
        config, prepared, data: What is trained, on what.
        folder: The run folder.
        arguments: The Trainer's; making them joined the other processes, where there are any.
        overwrite: Whether `begin` may replace what is there.
        is_new: Whether the run starts afresh.
        checkpoint: What a resumed run continues from.
        summary: What a finished run came to; None for one that is to be trained.
    """

    config: Config
    prepared: PreparedData
    data: Path
    folder: RunFolder
    arguments: TrainingArguments
    overwrite: bool
    is_new: bool = True
    checkpoint: str | None = None
    summary: RunSummary | None = None

    def begin(self, facts: dict[str, Any]) -> None:
        """Make the folder of a new run; call it only when nothing more can be refused: what is there goes."""
        if self.is_new:
            on_first_process(
                lambda: self.folder.start(self.config, self.prepared, self.data, overwrite=self.overwrite, facts=facts)
            )

    def train(self, trainer: PackedTrainer) -> float:
        """Train, and return how many seconds it took."""
        started = time.perf_counter()
        try:
            trainer.train(resume_from_checkpoint=self.checkpoint)
        except OSError as error:
            raise StorageError(
                f"cannot write below {str(self.folder.path)!r}: {error}; free some space, then --resume"
            ) from error
        return time.perf_counter() - started

    def finish(self, recommender: Recommender, summary: RunSummary) -> RunSummary:
        """Save the model and close the folder."""

        def close() -> None:
            recommender.save(self.folder.model, overwrite=True)
            self.folder.finish(summary)

        on_first_process(close)
        return summary


def open_journey(
    config: Config,
    prepared: PreparedData,
    data: Path,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    stage: TrainingConfig | PolicyConfig | None = None,
) -> Journey:
    """Look up what is in a run folder without changing it; `train_run` lists what is raised.

    Args:
        config: Resolved settings.
        prepared, data: The data and its folder.
        output: The run's own folder.
        resume: Whether to continue what is there.
        overwrite: Whether to replace what is there.
        stage: The section that sets the Trainer's steps; None takes stage one's.
    """
    if 10 not in config.evaluation.cutoffs:
        raise ConfigError(
            f"evaluation.cutoffs = {config.evaluation.cutoffs} must hold 10; early stopping watches NDCG@10"
        )
    folder = RunFolder(output)
    journey = Journey(
        config, prepared, data, folder, training_arguments(config, stage or config.training, folder), overwrite
    )

    def looked_up() -> tuple[bool, RunSummary | str | None]:
        if resume and folder.holds_anything():
            return False, folder.finished(config, prepared) or folder.resume(config, prepared)
        folder.check_free(overwrite=overwrite)
        return True, None

    journey.is_new, found = on_first_process(looked_up)
    if isinstance(found, RunSummary):
        journey.summary = found
    else:
        journey.checkpoint = found
    if config.training.n_threads:
        torch.set_num_threads(config.training.n_threads)
    return journey


def on_first_process(action: Callable[[], T]) -> T:
    """Do something once, whatever the number of processes; return its result, or raise its error, in all of them."""
    if not distributed.is_initialized():
        return action()
    outcome: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            outcome[0] = action()
        except FlrError as error:
            outcome[1] = error
    distributed.broadcast_object_list(outcome)
    result, failure = outcome
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def build_recommender(
    config: Config, catalogue: Catalogue, device: torch.device, transitions: Transitions | None = None
) -> Recommender:
    """Return an untrained (or pretrained) model with its tokenizer; new weights come from torch's generator."""
    tokenizer = title_tokenizer(config, catalogue)
    if config.backbone.source == "compact":
        backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    else:
        backbone = pretrained_backbone(config.backbone)
    model = FLRModel(
        backbone, build_reasoner(config.reasoner, backbone), build_memory(config.reasoner, backbone, transitions)
    )
    return Recommender(model.to(device), tokenizer, catalogue, config)


def _evidence(recommender: Recommender, prepared: PreparedData) -> tuple[Evidence, FloatArray] | None:
    """Return what a packer tells a model with a memory of its training targets; None for a model without one."""
    memory = recommender.model.memory
    if memory is None:
        return None
    return OthersEvidence(memory.transitions, prepared.sequences), memory.transitions.popularity


def _trainer(
    recommender: Recommender, data: tuple[PackedRows, Validation], arguments: TrainingArguments, reporter: Reporter
) -> StageOneTrainer:
    (rows, validation), config, settings = data, recommender.config, recommender.config.training
    n_batches = settings.max_steps * settings.gradient_accumulation_steps * arguments.world_size
    arguments.per_device_train_batch_size = rows.rows_per_batch
    return StageOneTrainer(
        model=TrainedModule(recommender.model, Objective(config.objective)),
        args=arguments,
        train_dataset=rows.limit(n_batches),
        data_collator=rows.collate,
        table=recommender.compiled.table,
        regularizer_warmup_steps=config.objective.regularizer_warmup_steps,
        validation=validation,
        callbacks=[EarlyStoppingCallback(settings.patience), reporter],
    )


def training_arguments(config: Config, stage: TrainingConfig | PolicyConfig, folder: RunFolder) -> TrainingArguments:
    """Return the Trainer's arguments; stage one keeps its best checkpoint, stage two leaves that to its guard."""
    settings = config.training
    transformers_logging.set_verbosity_error()
    return TrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=stage.max_steps,
        gradient_accumulation_steps=stage.gradient_accumulation_steps,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=stage.warmup_steps,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=stage.max_grad_norm,
        bf16=settings.mixed_precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=stage.eval_steps,
        save_steps=stage.eval_steps,
        save_total_limit=1,
        load_best_model_at_end=stage is settings,
        metric_for_best_model=f"eval_{BEST_METRIC}",
        greater_is_better=True,
        logging_steps=min(_LOG_STEPS, stage.eval_steps),
        logging_nan_inf_filter=False,
        seed=derive_seed(config.seed, "dropout") % 2**32,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )


def _summary(trainer: StageOneTrainer, recommender: Recommender, output: Path, seconds: float) -> RunSummary:
    n_parameters, n_trained_parameters = recommender.model.count_parameters()
    best_step = trainer.state.best_global_step or trainer.state.global_step
    history = [entry for entry in trainer.state.log_history if f"eval_{BEST_METRIC}" in entry]
    best = next((entry for entry in history if entry["step"] == best_step), history[-1])
    return RunSummary(
        path=output,
        best_step=best_step,
        n_steps=trainer.state.global_step,
        valid={name.removeprefix("eval_"): value for name, value in best.items() if "@" in name},
        n_parameters=n_parameters,
        n_trained_parameters=n_trained_parameters,
        train_seconds=seconds,
    )
