"""From a run of stage one to a run of stage two: its policy optimised, or stage one's weights kept."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments, set_seed

from flr.config import Config
from flr.errors import ArtifactError
from flr.persistence import read_json
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.seeding import derive_seed
from flr.training.finished import finished_run_data
from flr.training.folder import RunSummary, step_in_name
from flr.training.grpo import PolicyModule, PolicyTrainer
from flr.training.guard import Guard
from flr.training.journey import Journey, kept_globals, open_journey
from flr.training.reuse import about_source, check_settings
from flr.training.rewards import Reward, parse_reward
from flr.training.rollouts import Environment, PolicyRows
from flr.training.validation import Reporter, Validation

#: Sections of the settings that belong to the model and must stay as stage one left them.
_OF_THE_MODEL = ("text", "backbone", "reasoner", "objective", "assistant")


@kept_globals()
def align_run(
    config: Config,
    source: Path | str,
    output: Path | str,
    *,
    data: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> RunSummary:
    """Train stage two from a finished run of stage one and write a run folder of its own.

    The result is never below stage one on validation: where no step is better, its weights are what is saved.

    Args:
        config: Resolved settings; those of the model must be the run's.
        source: Run folder of stage one.
        output: The new run's own folder.
        data: Prepared folder; None takes the one stage one was trained on.
        resume: Continue an interrupted run to the weights of an uninterrupted one.
        overwrite: Replace a run that is already there.
        progress: Told about steps and validations.

    Raises:
        ArtifactError: The source is no finished run, the data is not its data, or the output holds something or is in
            use.
        ConfigError: Settings of the model differ from the run's, the model has no thought, or the reward is unknown.
        StorageError: The disk refused a write; the last checkpoint is kept.
    """
    source, output = Path(source), Path(output)
    reward = parse_reward(config.grpo.reward)
    prepared, data = finished_run_data(source, None if data is None else Path(data))
    check_settings(config, source, _OF_THE_MODEL, "stage two keeps the model, leave it out")
    _check_apart(source, output)
    journey = open_journey(
        config, prepared, data, output, resume=resume, overwrite=overwrite, stage=config.grpo, progress=progress
    )
    try:
        facts = {"stage": "grpo", **about_source(source)}
        _check_same_source(journey, facts["from_hash"])
        if journey.summary is not None:
            return journey.summary
        return _align(journey, source, facts, reward, progress)
    finally:
        journey.folder.release()


def _align(journey: Journey, source: Path, facts: dict[str, str], reward: Reward, progress: Progress) -> RunSummary:
    """Train what has been looked up."""
    config, prepared = journey.config, journey.prepared
    set_seed(derive_seed(config.seed, "policy weights") % 2**32)
    loaded = Recommender.load(source, device=journey.arguments.device)
    recommender = Recommender(loaded.model, loaded.tokenizer, loaded.catalogue, config)
    module, validation = PolicyModule(recommender.model, config), Validation(recommender, prepared, progress)
    rows = PolicyRows.of(config, prepared.sequences, recommender.compiled.packer(recommender.model.n_thoughts))
    journey.begin(facts)
    with progress.task("align", config.grpo.max_steps) as step:
        trainer = _trainer(recommender, module, (rows, validation), journey.arguments, reward)
        trainer.add_callback(Reporter(progress, step, journey.folder.log))
        guard, stage_one = trainer.guard, validation(trainer.accelerator)
        guard.begin(stage_one)
        progress.message(f"stage one: valid NDCG@10 {stage_one['ndcg@10']:.4f}, HR@10 {stage_one['hr@10']:.4f}")
        if journey.checkpoint is not None:
            guard.load(journey.folder.checkpoints, step_in_name(journey.checkpoint))
        seconds = journey.train(trainer)
    guard.restore()
    n_parameters, n_trained_parameters = recommender.model.count_parameters()
    summary = RunSummary(
        path=journey.folder.path,
        best_step=guard.best_step,
        n_steps=trainer.state.global_step,
        valid=guard.best_metrics,
        n_parameters=n_parameters,
        n_trained_parameters=n_trained_parameters,
        train_seconds=seconds,
        stage_one=stage_one,
    )
    return journey.finish(recommender, summary)


def _trainer(
    recommender: Recommender,
    module: PolicyModule,
    data: tuple[PolicyRows, Validation],
    arguments: TrainingArguments,
    reward: Reward,
) -> PolicyTrainer:
    (rows, validation), config = data, recommender.config
    rows.batches_per_step = config.grpo.gradient_accumulation_steps * arguments.world_size
    arguments.per_device_train_batch_size = rows.rows_per_batch
    return PolicyTrainer(
        model=module,
        args=arguments,
        train_dataset=rows.limit(config.grpo.max_steps * rows.batches_per_step),
        data_collator=rows.collate,
        validation=validation,
        environment=Environment(recommender.model, recommender.compiled, config.evaluation.seen_items == "exclude"),
        reward=reward,
        guard=Guard(module, max_drop=config.grpo.max_drop, patience=config.grpo.patience),
    )


def _check_apart(source: Path, output: Path) -> None:
    if source.resolve() == output.resolve():
        raise ArtifactError(f"--from and --output are both {str(source)!r}; stage two needs a folder of its own")


def _check_same_source(journey: Journey, from_hash: str) -> None:
    if journey.is_new:
        return
    started = read_json(journey.folder.facts, "run")
    if started.get("from_hash") != from_hash:
        came_from = f"from {started['from']!r}" if "from" in started else f"as stage {started.get('stage', 'sft')!r}"
        raise ArtifactError(
            f"{str(journey.folder.path)!r} was started {came_from}, whose weights are not those of --from now; "
            "resume with the run it was started from, or name another folder"
        )
