"""One training run, from its folder's opening to its closing, whatever the stage and the number of processes."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from flr.config import Config, PolicyConfig, TrainingConfig
from flr.errors import ConfigError, FlrError, StorageError
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import PreparedData
from flr.seeding import derive_seed
from flr.training.folder import RunFolder, RunSummary, differing
from flr.training.trainer import PackedTrainer
from flr.training.validation import BEST_METRIC

T = TypeVar("T")
#: Optimiser steps between two lines of the log, where validations do not ask for more.
_LOG_STEPS = 10


class _OneDevice(TrainingArguments):  # type: ignore[misc]
    """Arguments of a process that trains on one device, however many it sees.

    A Trainer that sees several gives each a part of every batch by its first dimension; packed rows cannot be cut so.
    """

    @property
    def n_gpu(self) -> int:
        """GPUs that the Trainer uses in this process."""
        return 1 if super().n_gpu else 0


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
        if distributed.is_initialized():  # dropout is to differ from process to process
            torch.manual_seed(self.arguments.seed + distributed.get_rank())
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # by accelerate
                trainer.train(resume_from_checkpoint=self.checkpoint)
        except OSError as error:
            raise StorageError(
                f"cannot write below {str(self.folder.path)!r}: {error}; free some space, then --resume"
            ) from error
        return time.perf_counter() - started

    def finish(
        self, recommender: Recommender, summary: RunSummary, facts: Mapping[str, Any] | None = None
    ) -> RunSummary:
        """Save the model and close the folder, with further facts."""

        def close() -> None:
            recommender.save(self.folder.model, overwrite=True)
            self.folder.finish(summary, facts)

        on_first_process(close)
        return summary


@contextmanager
def kept_globals() -> Iterator[None]:
    """Leave the caller's random numbers, threads and transformers' words as they were, whatever a run does to them."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    n_threads, verbosity = torch.get_num_threads(), transformers_logging.get_verbosity()
    # A process that has not chosen its GPU yet has drawn nothing there, and must open none but its own.
    gpus = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_num_threads(n_threads)
        transformers_logging.set_verbosity(verbosity)


def open_journey(
    config: Config,
    prepared: PreparedData,
    data: Path,
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    stage: TrainingConfig | PolicyConfig | None = None,
    progress: Progress = SILENT,
) -> Journey:
    """Look up what is in a run folder without changing it; `train_run` lists what is raised.

    Args:
        config: Resolved settings.
        prepared, data: The data and its folder.
        output: The run's own folder.
        resume: Whether to continue what is there.
        overwrite: Whether to replace what is there.
        stage: The section that sets the Trainer's steps; None takes stage one's.
        progress: Told where GPUs stay idle.
    """
    if 10 not in config.evaluation.cutoffs:
        raise ConfigError(
            f"evaluation.cutoffs = {config.evaluation.cutoffs} must hold 10; early stopping watches NDCG@10"
        )
    folder = RunFolder(output)
    journey = Journey(
        config, prepared, data, folder, training_arguments(config, stage or config.training, folder), overwrite
    )

    _check_alike(config, prepared)

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
    n_gpus = 1 if distributed.is_initialized() else torch.cuda.device_count()
    if n_gpus > 1 and journey.summary is None:
        progress.message(
            f"one of {n_gpus} GPUs is used; torchrun --nproc-per-node {n_gpus} -m flr train ... uses all, and takes "
            f"the same steps with gradient_accumulation_steps divided by {n_gpus}"
        )
    return journey


def _check_alike(config: Config, prepared: PreparedData) -> None:
    """Raise, in all processes, where they were given different settings or data, as nodes without a common disk may."""
    if not distributed.is_initialized():
        return
    given: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(given, (config, prepared.manifest["data_hash"]))
    for number, (settings, data_hash) in enumerate(given):
        if data_hash != given[0][1]:
            raise ConfigError(f"process {number} was given other data than process 0; give the same on every node")
        if different := differing(given[0][0], settings):
            key, first, other = different[0]
            raise ConfigError(
                f"process {number} has {key} = {other!r}, process 0 {first!r}; give both the same settings"
            )


def share_weights(module: nn.Module) -> None:
    """Give all processes the first one's weights, where there are several."""
    if distributed.is_initialized():
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)


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
        except Exception as error:
            distributed.broadcast_object_list([None, FlrError(f"process 0 failed: {error!r}")])  # nobody waits for it
            raise
    distributed.broadcast_object_list(outcome)
    result, failure = outcome
    if failure is not None:
        raise failure
    return result  # type: ignore[no-any-return]


def training_arguments(config: Config, stage: TrainingConfig | PolicyConfig, folder: RunFolder) -> TrainingArguments:
    """Return the Trainer's arguments; stage one keeps its best checkpoint, stage two leaves that to its guard."""
    transformers_logging.set_verbosity_error()
    try:
        return _arguments(config, stage, folder)
    except ValueError as error:  # bfloat16 on a GPU that has none
        said = str(error).strip().splitlines()[0]
        raise ConfigError(f"this machine cannot train so: {said}; see training.mixed_precision") from error


def _arguments(config: Config, stage: TrainingConfig | PolicyConfig, folder: RunFolder) -> TrainingArguments:
    settings = config.training
    return _OneDevice(
        output_dir=str(folder.checkpoints),
        restore_callback_states_from_checkpoint=True,  # patience that is used up stays used up
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
        ddp_broadcast_buffers=False,  # all processes count the same tables, some of which are large
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    )
