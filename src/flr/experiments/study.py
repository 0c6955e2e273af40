"""Runs the cells of a study, several at a time, each resumed where an earlier call was stopped.

```
STUDY/
├── runs/DATA/VARIANT/seed-S/          a run folder for each cell
├── baselines/DATA/seed-S/NAME/        fitted baselines with their reports
└── report.html, report.md, *.csv, *.tex
```
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from flr.baselines.settings import BaselineSettings
from flr.catalogue.titles import build_catalogue
from flr.config import Config
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, ConfigError, FlrError
from flr.evaluation.reports import load_report
from flr.experiments.baselines import run_baselines
from flr.experiments.matrix import MATCHED_WITHIN, Cell, Study, cells
from flr.experiments.study_report import StudyReport, write_study_report
from flr.experiments.verdicts import findings_on
from flr.persistence import read_json
from flr.progress import SILENT, Progress
from flr.records import Catalogue
from flr.training.alignment import align_run
from flr.training.estimate import n_weights
from flr.training.finished import evaluate_run
from flr.training.folder import RunFolder
from flr.training.run import train_run

#: The baseline that reads titles with a trained run of the reference.
_READS_TITLES = "alpharec"


@dataclass(frozen=True)
class Job:
    """One piece of a study that a process does.

    Attributes:
        name: What is shown of it.
        folder: Where its results go.
        after: Folders of jobs that must be done before.
        do: Does it, or finds it done; returns what is told about it.
    """

    name: str
    folder: Path
    after: tuple[Path, ...]
    do: Callable[[], str]


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: Which one.
        seconds: Spent on it by this call.
        told: What it came to.
        error: Why it failed; None where it did not.
    """

    job: Job
    seconds: float
    told: str
    error: str | None = None


def run_study(study: Study, output: Path, *, jobs: int | None = None, progress: Progress = SILENT) -> StudyReport:
    """Run what of a study is not done yet, compare what is finished, and write the report.

    Args:
        study: What is run.
        output: The study's folder.
        jobs: See `run_jobs`.
        progress: Told about finished jobs.

    Raises:
        ArtifactError: A prepared folder is missing or damaged, or no run of the reference is finished.
        ConfigError: A variant that must be as large as the reference is not.
        StorageError: The disk refused a write.
    """
    results = run_jobs(study, output, jobs=jobs, progress=progress)
    all_cells = list(cells(study, output))
    findings = [findings_on(study, data, all_cells, output) for data in study.data]
    failed = [f"{result.job.name}: {result.error}" for result in results if result.error is not None]
    return write_study_report(study, output, findings, failed)


def run_jobs(study: Study, output: Path, *, jobs: int | None = None, progress: Progress = SILENT) -> list[JobResult]:
    """Train and evaluate everything that is not done yet; what fails does not stop the rest.

    Args:
        study: What is run.
        output: The study's folder.
        jobs: Processes at a time, each with its share of the processor's cores; None takes one per core, or one in
            all where there is a GPU.
        progress: Told about finished jobs.

    Raises:
        ArtifactError: A prepared folder is missing or damaged.
        ConfigError: A variant that must be as large as the reference is not.
    """
    n_cores = os.cpu_count() or 1
    jobs = jobs or (1 if torch.cuda.is_available() else n_cores)
    todo = list(study_jobs(study, output))
    results = []
    with progress.task(f"study of {len(todo)} jobs", total=len(todo)) as step:
        for result in _finished(todo, jobs, max(1, n_cores // jobs)):
            results.append(result)
            told = result.told if result.error is None else f"failed, {result.error}"
            progress.message(f"{result.job.name}: {told} ({result.seconds:.0f} s)")
            step(1, result.job.name)
    return results


def study_jobs(study: Study, output: Path) -> Iterator[Job]:
    """Yield the jobs of a study, seed by seed."""
    all_cells = list(matched_cells(study, output))
    for cell in all_cells:
        data = study.data[cell.data].folder
        after = () if cell.source is None else (cell.source,)
        yield Job(f"{cell.data}, {cell.variant}, seed {cell.seed}", cell.folder, after, partial(_train, cell, data))
    for cell in all_cells:
        if cell.variant == study.reference:
            yield from _baseline_jobs(study, output, cell)


def _baseline_jobs(study: Study, output: Path, reference: Cell) -> Iterator[Job]:
    settings = BaselineSettings(trials=study.trials, seen_items=reference.config.evaluation.seen_items)
    data = study.data[reference.data].folder
    folder = output / "baselines" / reference.data / f"seed-{reference.seed}"
    for name in study.baselines:
        source = reference.folder if name == _READS_TITLES else None
        yield Job(
            f"{reference.data}, {name}, seed {reference.seed}",
            folder / name,
            () if source is None else (source,),
            partial(_fit, name, data, folder, source=source, settings=settings, seed=reference.seed),
        )


def _finished(todo: Sequence[Job], jobs: int, n_threads: int) -> Iterator[JobResult]:
    """Yield results as they come; a job waits for those before it, and fails with them."""
    waiting, done, failed = list(todo), set[Path](), set[Path]()
    # Forking a process in which torch's thread pools run would hang the child.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(n_threads,)
    ) as pool:
        running: dict[Future[JobResult], Job] = {}
        while waiting or running:
            for job in [job for job in waiting if failed & set(job.after)]:
                waiting.remove(job)
                failed.add(job.folder)
                yield JobResult(job, 0.0, "", "what it starts from failed")
            ready = [job for job in waiting if done >= set(job.after)]
            for job in ready[: jobs - len(running)]:
                waiting.remove(job)
                running[pool.submit(_do, job)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, result = running.pop(future), future.result()
                (done if result.error is None else failed).add(job.folder)
                yield result


def _do(job: Job) -> JobResult:
    """Do a job, in a process of its own."""
    started = time.perf_counter()
    try:
        told = job.do()
    except FlrError as error:
        return JobResult(job, time.perf_counter() - started, "", str(error))
    return JobResult(job, time.perf_counter() - started, told)


def _train(cell: Cell, data: Path) -> str:
    if not is_done(cell):
        if cell.source is None:
            train_run(cell.config, data, cell.folder, resume=True)
        else:
            align_run(cell.config, cell.source, cell.folder, data=data, resume=True)
        evaluate_run(cell.folder)
    return f"test NDCG@10 {load_report(cell.folder, 'test').metrics['ndcg@10']:.4f}"


def _fit(name: str, data: Path, folder: Path, *, source: Path | None, settings: BaselineSettings, seed: int) -> str:
    (result,) = run_baselines(data, folder, only=[name], titles_from=source, settings=settings, seed=seed)
    return f"test NDCG@10 {result.test.metrics['ndcg@10']:.4f}"


def is_done(cell: Cell) -> bool:
    """Return whether a cell is trained with these settings and evaluated.

    Raises:
        ArtifactError: Its folder holds a run of other settings.
    """
    folder = RunFolder(cell.folder)
    if not folder.facts.exists():
        return False
    saved = read_json(folder.facts, "run")
    if saved.get("config") != cell.config.model_dump(mode="json"):
        raise ArtifactError(
            f"{str(cell.folder)!r} was trained with other settings than the study has now; remove it, or name another "
            "--output for the changed study"
        )
    return saved.get("status") == "finished" and "test" in read_json(folder.metrics, "metrics")


def matched_cells(study: Study, output: Path) -> Iterator[Cell]:
    """Yield the cells with their weights matched to the reference's.

    Raises:
        ConfigError: A variant said to be as large as the reference differs by more than 1 % of its weights.
    """
    catalogues = {name: build_catalogue(load_prepared(data.folder).items) for name, data in study.data.items()}
    all_cells = list(cells(study, output))
    references = {cell.data: cell for cell in reversed(all_cells) if cell.variant == study.reference}
    wanted = {data: n_weights(cell.config, catalogues[data]) for data, cell in references.items()}
    changes: dict[tuple[str, str], dict[str, int]] = {}
    for cell in all_cells:
        key = cell.data, cell.variant
        if key not in changes:
            changes[key] = _matching(study, cell, wanted[cell.data], catalogues[cell.data])
        yield replace(cell, config=_with_backbone(cell.config, changes[key]))


def _matching(study: Study, cell: Cell, wanted: int, catalogue: Catalogue) -> dict[str, int]:
    """Return the backbone settings that make a variant as large as the reference."""
    variant, config, changes = study.variants[cell.variant], cell.config, dict[str, int]()
    n = n_weights(config, catalogue)
    if variant.match == "feed_forward":
        one_more = _with_backbone(config, {"feed_forward": config.backbone.feed_forward + 1})
        per_unit = n_weights(one_more, catalogue) - n
        changes = {"feed_forward": config.backbone.feed_forward + round((wanted - n) / per_unit)}
        n = n_weights(_with_backbone(config, changes), catalogue)
    if variant.same_size and abs(n - wanted) > MATCHED_WITHIN * wanted:
        raise ConfigError(
            f"variant {cell.variant!r} has {n:,} weights, the reference {study.reference!r} {wanted:,}; they may "
            f"differ by {MATCHED_WITHIN:.0%}: say match: feed_forward, or same_size: false to report it as unequal"
        )
    return changes


def _with_backbone(config: Config, changes: dict[str, int]) -> Config:
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=changes)})
