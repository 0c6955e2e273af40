"""Runs the cells of a study, several at a time, each resumed where an earlier call was stopped.

```
STUDY/
├── runs/DATA/VARIANT/seed-S/          a run folder for each cell, with its evidence/
├── baselines/DATA/seed-S/NAME/        fitted baselines with their reports, each with its evidence/
└── report.html, report.md, *.csv, *.tex
```
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flr.baselines.assisted import AssistedTransitions
from flr.baselines.settings import BaselineSettings
from flr.baselines.storage import best_settings
from flr.baselines.trials import settled
from flr.config import parse_saved
from flr.data.storage import load_prepared
from flr.errors import ArtifactError
from flr.evaluation.reports import load_report
from flr.experiments.baselines import READS_TITLES, run_baselines
from flr.experiments.evidence import gather
from flr.experiments.evidence_files import Subject
from flr.experiments.evidence_findings import evidence_on
from flr.experiments.jobs import Job, run_jobs
from flr.experiments.matching import matched_cells
from flr.experiments.matrix import Cell, Study, baseline_folders, cells
from flr.experiments.study_report import StudyReport, write_study_report
from flr.experiments.verdicts import findings_on
from flr.persistence import read_json
from flr.progress import SILENT, Progress
from flr.training.alignment import align_run
from flr.training.finished import evaluate_run
from flr.training.folder import RunFolder
from flr.training.run import train_run


def run_study(study: Study, output: Path | str, *, jobs: int | None = None, progress: Progress = SILENT) -> StudyReport:
    """Run what of a study is not done yet, gather evidence, compare what is finished, and write the report.

    Jobs run in processes of their own, which import the calling program: a script calls this below
    ``if __name__ == "__main__":``.

    Args:
        study: What is run.
        output: The study's folder.
        jobs: Processes at a time, each with its share of the processor's cores; None takes one per core, or one in
            all where there is a GPU.
        progress: Told about finished jobs.

    Raises:
        ArtifactError: A prepared folder is missing or damaged, or no run of the reference is finished.
        ConfigError: A variant that must be as large as the reference is not.
        StorageError: The disk refused a write.
    """
    output = Path(output)
    todo = list(study_jobs(study, output))
    trained = run_jobs(todo, title=f"study of {len(todo)} jobs", jobs=jobs, progress=progress)
    done = {result.job.folder for result in trained if result.error is None}
    more = [job for job in evidence_jobs(study, output) if done.issuperset(job.after)]
    title = f"evidence of {len(more)} models"
    gathered = run_jobs(more, title=title, jobs=jobs, done=done, progress=progress)
    all_cells = list(cells(study, output))
    findings = [findings_on(study, data, all_cells, output) for data in study.data]
    evidence = [evidence_on(study, data, subjects(study, output, data)) for data in study.data]
    told = [f"{result.job.name}: {result.error}" for result in (*trained, *gathered) if result.error is not None]
    return write_study_report(study, output, findings, evidence, told)


def study_jobs(study: Study, output: Path) -> Iterator[Job]:
    """Yield the jobs of a study, seed by seed."""
    all_cells = list(matched_cells(study, output))
    for cell in all_cells:
        data = study.data[cell.data].folder
        name = f"{cell.data}, {cell.variant}, seed {cell.seed}"
        yield Job(name, cell.folder, cell.after, partial(_train, cell, data))
    for cell in all_cells:
        if cell.variant == study.reference:
            yield from _baseline_jobs(study, output, cell)


def _baseline_jobs(study: Study, output: Path, reference: Cell) -> Iterator[Job]:
    """Yield the baselines of a seed; the first seed chooses the settings of them all."""
    config = reference.config
    settings = BaselineSettings(
        trials=study.trials,
        seen_items=config.evaluation.seen_items,
        assistant=config.assistant,
        assistant_window=config.text.window,
    )
    data = study.data[reference.data].folder
    for name in study.baselines:
        folders = baseline_folders(study, output, reference.data, name)
        if reference.seed not in folders:
            continue
        folder, first = folders[reference.seed], next(iter(folders.values()))
        reader = reference.folder if name == READS_TITLES and study.titles_from is None else None
        trainer = reference.folder if name == AssistedTransitions.name and config.is_assisted else None
        chooser = None if folder == first else first
        yield Job(
            f"{reference.data}, {name}, seed {reference.seed}",
            folder,
            tuple(path for path in (reader, trainer, chooser) if path is not None),
            partial(
                _fit,
                name,
                data,
                folder,
                titles_from=reader or study.titles_from,
                assistant_from=trainer,
                chooser=chooser,
                settings=settings,
                seed=reference.seed,
            ),
        )


def evidence_jobs(study: Study, output: Path) -> Iterator[Job]:
    """Yield a job per model whose evidence is gathered, seed by seed; none where the study asks for nothing."""
    settings = study.evidence
    of_factors = (settings.disentanglement, settings.profiles, settings.mutual_information, settings.interventions)
    parts = (*of_factors, settings.robustness)
    of_data = {data: subjects(study, output, data) for data in study.data}
    for seed in study.seeds:
        for data, of_models in of_data.items():
            for name, of_seeds in of_models.items():
                subject = of_seeds.get(seed)
                if subject is not None and any(parts[-1:] if subject.is_baseline else parts):
                    title = f"{data}, {name}, seed {seed}, evidence"
                    yield Job(title, subject.evidence, (subject.folder,), partial(gather, subject, settings))


def subjects(study: Study, output: Path, data: str) -> dict[str, dict[int, Subject]]:
    """Return whose evidence is gathered on a data set: name of the variant or baseline -> seed -> subject."""
    found: dict[str, dict[int, Subject]] = {name: {} for name in (*study.variants, *study.baselines)}
    of_data = [cell for cell in cells(study, output) if cell.data == data]
    reference = next(cell.config for cell in of_data if cell.variant == study.reference)
    subject = partial(
        Subject,
        data=study.data[data].folder,
        window=reference.text.window,
        seen_items=reference.evaluation.seen_items,
    )
    for cell in of_data:
        found[cell.variant][cell.seed] = subject(folder=cell.folder, is_baseline=False, seed=cell.seed)
    for name in study.baselines:
        for seed, folder in baseline_folders(study, output, data, name).items():
            found[name][seed] = subject(folder=folder, is_baseline=True, seed=seed)
    return found


def _train(cell: Cell, data: Path) -> str:
    if not is_done(cell, data):
        if cell.is_aligned and cell.source is not None:
            align_run(cell.config, cell.source, cell.folder, data=data, resume=True)
        else:
            train_run(
                cell.config,
                data,
                cell.folder,
                resume=True,
                weights_from=cell.source,
                assistant_from=cell.assistant,
            )
        evaluate_run(cell.folder)
    return f"test NDCG@10 {load_report(cell.folder, 'test').metrics['ndcg@10']:.4f}"


def _fit(
    name: str,
    data: Path,
    folder: Path,
    *,
    titles_from: Path | str | None,
    assistant_from: Path | None,
    chooser: Path | None,
    settings: BaselineSettings,
    seed: int,
) -> str:
    if chooser is not None:
        settings = settled(name, settings, best_settings(chooser))
    (result,) = run_baselines(
        data,
        folder.parent,
        only=[name],
        titles_from=titles_from,
        assistant_from=assistant_from,
        settings=settings,
        seed=seed,
    )
    return f"test NDCG@10 {result.test.metrics['ndcg@10']:.4f}"


def is_done(cell: Cell, data: Path) -> bool:
    """Return whether a cell is trained with these settings on this data and evaluated.

    Args:
        cell: Which one.
        data: The prepared folder of today.

    Raises:
        ArtifactError: Its folder holds a run of other settings or of other data.
    """
    folder = RunFolder(cell.folder)
    if not folder.facts.exists():
        return False
    saved = read_json(folder.facts, "run")
    if parse_saved(saved.get("config", {})) != cell.config:
        raise ArtifactError(
            f"{str(cell.folder)!r} was trained with other settings than the study has now; remove it, or name another "
            "--output for the changed study"
        )
    if saved.get("data_hash") != load_prepared(data).manifest["data_hash"]:
        raise ArtifactError(
            f"{str(cell.folder)!r} was trained on other data than {str(data)!r} holds now; remove it, or name another "
            "--output for the study of this data"
        )
    return saved.get("status") == "finished" and "test" in read_json(folder.metrics, "metrics")
