"""From a config and prepared data to a run folder with a trained model, and from there to its evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed

from flr.backbone.loading import compact_backbone, pretrained_backbone
from flr.building import build_memory, build_reasoner, title_tokenizer
from flr.catalogue.titles import build_catalogue
from flr.config import Config
from flr.data.storage import load_prepared
from flr.data.transitions import OthersEvidence, count_transitions
from flr.devices import own_random_numbers
from flr.errors import ConfigError, DataError
from flr.model import FLRModel
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import Catalogue, FloatArray, PreparedData
from flr.seeding import derive_seed
from flr.sequential.assistant import SequenceAssistant
from flr.text.packing import Evidence
from flr.training.assisting import give_assistant
from flr.training.folder import RunSummary
from flr.training.journey import Journey, kept_globals, open_journey, share_weights
from flr.training.objective import Objective, TrainedModule
from flr.training.reuse import LEARNT_TRUST, take_assistant, take_weights
from flr.training.sft import StageOneTrainer
from flr.training.trainer import PackedRows
from flr.training.trust import settle_trust
from flr.training.validation import BEST_METRIC, Reporter, Validation
from flr.transitions import Transitions


@kept_globals()
def train_run(
    config: Config,
    data: Path | str,
    output: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    weights_from: Path | str | None = None,
    assistant_from: Path | str | None = None,
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
        weights_from: A finished run whose trained weights are taken over; only settings of the assistant and of the
            evaluation may differ, and only the assistant is trained.
        assistant_from: A finished run whose assistant is taken over where it has one; see `flr.training.reuse`.
        progress: Told about steps and validations.

    Raises:
        ArtifactError: The folder holds something already, is resumed with other settings or data, or another process
            trains there; or a run that something is taken from is not finished or not on this data.
        ConfigError: `evaluation.cutoffs` lacks the 10 that early stopping watches, or a run that something is taken
            from was trained with other settings.
        DataError: There is nothing to train on, to validate with or, all titles being equal, to choose between.
        StorageError: The disk refused a write; the last checkpoint is kept.
    """
    data, output = Path(data), Path(output)
    prepared = load_prepared(data)
    journey = open_journey(config, prepared, data, output, resume=resume, overwrite=overwrite, progress=progress)
    if journey.summary is not None:
        return journey.summary
    try:
        assistant = None
        if assistant_from is not None:
            assistant = take_assistant(Path(assistant_from), config, prepared, journey.arguments.device)
        learnt = (
            _learn(journey, progress) if weights_from is None else _take_over(journey, Path(weights_from), progress)
        )
        return _advise(journey, learnt, assistant, progress)
    finally:
        journey.folder.release()


@dataclass(frozen=True)
class _Learnt:
    """A trained model to be advised, who validates it, what joins the processes, and what training came to."""

    recommender: Recommender
    validation: Validation
    accelerator: Accelerator
    summary: RunSummary


def _learn(journey: Journey, progress: Progress) -> _Learnt:
    """Train a new model."""
    config, prepared = journey.config, journey.prepared
    if config.backbone.train == "frozen" and config.reasoner.kind == "none":
        raise ConfigError("backbone.train = 'frozen' leaves nothing to train where reasoner.kind = 'none'")
    set_seed(_seed_of_weights(config))
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
        share_weights(recommender.model)  # the best ones are read from a disk that nodes may not have in common
    summary = _summary(trainer, recommender, journey.folder.path, seconds)
    return _Learnt(recommender, validation, trainer.accelerator, summary)


def _take_over(journey: Journey, run: Path, progress: Progress) -> _Learnt:
    """Take the model of another run as training left it."""
    device = journey.arguments.device
    recommender, summary, about = take_weights(run, journey.config, journey.prepared, device)
    validation = Validation(recommender, journey.prepared, progress)
    journey.begin({"stage": "sft", **about})
    accelerator = Accelerator(cpu=device.type == "cpu")
    started = time.perf_counter()
    valid = validation(accelerator)
    seconds = time.perf_counter() - started
    summary = replace(summary, path=journey.folder.path, valid=valid, train_seconds=seconds)
    return _Learnt(recommender, validation, accelerator, summary)


def _advise(journey: Journey, learnt: _Learnt, assistant: SequenceAssistant | None, progress: Progress) -> RunSummary:
    """Give a trained model an assistant, trained already or not, settle how far votes are trusted, and save it."""
    recommender, validation, accelerator = learnt.recommender, learnt.validation, learnt.accelerator
    alone, started, memory = learnt.summary.valid, time.perf_counter(), recommender.model.memory
    facts = {} if memory is None else {LEARNT_TRUST: float(memory.trust.bias.detach())}
    say, valid = give_assistant(recommender, validation, accelerator, progress, trained=assistant), alone
    if say:
        progress.message(f"assistant has {say}")
    moved = settle_trust(recommender, validation, accelerator)
    if say or moved:
        valid = validation(accelerator)
    if say and memory is not None and valid[BEST_METRIC] < alone[BEST_METRIC]:
        progress.message(f"with the assistant valid NDCG@10 is {valid[BEST_METRIC]:.4f}, without it more: left out")
        recommender.model.assistant = None
        with torch.no_grad():
            memory.trust.bias.fill_(facts[LEARNT_TRUST])
        moved = settle_trust(recommender, validation, accelerator)
        valid = validation(accelerator) if moved else alone
    if memory is not None:
        progress.message(f"trust in votes moved by {moved:+g}: valid NDCG@10 {valid[BEST_METRIC]:.4f}")
    seconds = learnt.summary.train_seconds + time.perf_counter() - started
    return journey.finish(recommender, replace(learnt.summary, valid=valid, train_seconds=seconds), facts)


def build_recommender(
    config: Config, catalogue: Catalogue, device: torch.device, transitions: Transitions | None = None
) -> Recommender:
    """Return an untrained (or pretrained) model with its tokenizer; new weights come from torch's generator."""
    tokenizer = title_tokenizer(config, catalogue)
    if config.backbone.source == "compact":
        backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    else:
        backbone = pretrained_backbone(config.backbone)
        n_known = backbone.embedding.num_embeddings
        if tokenizer.vocabulary_size > n_known:
            raise ConfigError(
                f"the tokenizer of {config.backbone.source!r} has {tokenizer.vocabulary_size:,} tokens, its model "
                f"embeds {n_known:,}; give a source whose two fit together"
            )
    model = FLRModel(
        backbone, build_reasoner(config.reasoner, backbone), build_memory(config.reasoner, backbone, transitions)
    )
    return Recommender(model.to(device), tokenizer, catalogue, config)


def untrained(recommender: Recommender) -> Recommender:
    """Return a trained model as it was before its first step: of the same settings, seed, catalogue and counts."""
    memory, config = recommender.model.memory, recommender.config
    device = recommender.model.device
    with own_random_numbers(_seed_of_weights(config), device):
        catalogue, transitions = recommender.catalogue, None if memory is None else memory.transitions
        return build_recommender(config, catalogue, device, transitions)


def _seed_of_weights(config: Config) -> int:
    return derive_seed(config.seed, "weights") % 2**32


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
    objective = Objective(config.objective, is_regularized=recommender.model.reasoner is not None)
    return StageOneTrainer(
        model=TrainedModule(recommender.model, objective),
        args=arguments,
        train_dataset=rows.limit(n_batches),
        data_collator=rows.collate,
        table=recommender.compiled.table,
        regularizer_warmup_steps=config.objective.regularizer_warmup_steps,
        validation=validation,
        callbacks=[EarlyStoppingCallback(settings.patience), reporter],
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
