"""Finished runs beside each other, by user: what a study says of its models, for folders that were made one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flr.arguments import check_list
from flr.baselines.storage import META_FILE
from flr.errors import ArtifactError, DataError, RequestError, nearest
from flr.evaluation.comparison import Comparison, compare, holm
from flr.evaluation.reports import TARGETS_FILE, load_report
from flr.evaluation.significance import Spread, over_seeds
from flr.experiments.verdicts import LEVEL
from flr.persistence import read_json
from flr.records import ITEM_INDEX, USER_ID, Report
from flr.seeding import generator
from flr.training.folder import RunFolder

#: What a run says of itself, and what a baseline does.
_Facts = tuple[dict[str, Any], dict[str, Any]]
#: What makes a row the same target in two reports.
_TARGET = ("row", USER_ID, ITEM_INDEX)


@dataclass(frozen=True)
class ComparedModel:
    """One model beside the first.

    Attributes:
        name: As it was given.
        folders: One per seed.
        figure: The metric, mean and standard deviation over seeds.
        first_less_this: How much better the first model is; None for the first itself.
        corrected: The p-value of that after Holm's correction for all models that were given.
        detectable: A true difference of this size is found four times in five, whatever the other models come to.
    """

    name: str
    folders: tuple[Path, ...]
    figure: Spread
    first_less_this: Comparison | None = None
    corrected: float | None = None
    detectable: float | None = None


def compare_folders(
    models: Sequence[str | Path], *, split: str = "test", metric: str = "ndcg@10"
) -> list[ComparedModel]:
    """Return models beside the first of them, on the targets that all were evaluated on.

    Args:
        models: At least two. Each is a folder of results (a run, or one of `flr baselines`), a folder whose ``seed-*``
            are, or a pattern such as ``"runs/flr-*"`` that matches one folder per seed.
        split: ``"valid"`` or ``"test"``.
        metric: Any that targets have, for example ``"hr@20"``.

    Raises:
        RequestError: There are fewer than two models, one or a folder of it is given twice, or the metric is unknown.
        ArtifactError: A folder holds no results of the split.
        DataError: Two were not evaluated on the same targets, not with the same candidates, or are of data that differ
            elsewhere; or what is given as seeds of one model are several models.
    """
    check_list(models, "models", "a list of folders")
    names = [str(model) for model in models]
    if len(names) < 2:
        raise RequestError(f"got {len(names)} model{'s' * (len(names) != 1)}, expected at least two to compare")
    if len(set(names)) < len(names):
        raise RequestError(f"got {max(names, key=names.count)!r} more than once; every model is named once")
    folders = {name: _folders(name, split) for name in names}
    reports = {model: [load_report(folder, split) for folder in of_model] for model, of_model in folders.items()}
    facts = {folder: _facts(folder) for of_model in folders.values() for folder in of_model}
    _check_apart(folders, reports, facts)
    _check_alike(reports)
    _check_data(facts)
    first, *others = names
    for report in (report for of_model in reports.values() for report in of_model):
        if "@" not in metric or metric not in report.per_target.columns:
            known = [name for name in report.per_target.columns if "@" in name]
            raise RequestError(f"unknown metric {metric!r} of {report.name!r}: {nearest(metric, known)}")
    figures = {
        model: over_seeds([_figure(report, metric) for report in of_model]) for model, of_model in reports.items()
    }
    targets = {model: [report.per_target for report in of_model] for model, of_model in reports.items()}
    compared = [compare(targets[other], targets[first], metric, generator(0, "side by side")) for other in others]
    corrected = holm([comparison.p_value for comparison in compared])
    detectable = [comparison.minimum_detectable(LEVEL / len(compared)) for comparison in compared]
    return [
        ComparedModel(first, folders[first], figures[first]),
        *(
            ComparedModel(other, folders[other], figures[other], comparison, float(p_value), smallest)
            for other, comparison, p_value, smallest in zip(others, compared, corrected, detectable, strict=True)
        ),
    ]


def _figure(report: Report, metric: str) -> float:
    """Return a metric of all targets; one of the caller's own may be told by target alone."""
    return report.metrics[metric] if metric in report.metrics else float(report.per_target[metric].mean())  # type: ignore[arg-type]


def _folders(model: str, split: str) -> tuple[Path, ...]:
    """Return the folders with results of one model, in the order of their names."""
    file = TARGETS_FILE.format(split=split)
    path = Path(model)
    given = [path] if path.is_dir() else sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not given:
        raise ArtifactError(f"there is no folder {model!r}; name a run, or a pattern that matches one run per seed")
    if len(given) == 1 and not (given[0] / file).exists():
        given = sorted(folder.parent for folder in given[0].glob(f"seed-*/{file}")) or given
    for folder in given:
        if not (folder / file).exists():
            raise ArtifactError(
                f"{str(folder)!r} holds no results of {split!r}; make them with `flr evaluate --split {split}`"
            )
    return tuple(given)


def _check_apart(
    folders: dict[str, tuple[Path, ...]], reports: dict[str, list[Report]], facts: dict[Path, _Facts]
) -> None:
    """Refuse a model that is compared with itself, and several models as the seeds of one."""
    given: dict[Path, str] = {}
    for model, of_model in folders.items():
        for folder in of_model:
            if (before := given.setdefault(folder.resolve(), model)) != model:
                raise RequestError(f"{str(folder)!r} belongs to {before!r} and to {model!r}; give it once")
        told = [facts[folder] for folder in of_model]
        kinds = [_kind(report, *of_folder) for report, of_folder in zip(reports[model], told, strict=True)]
        for other, kind in zip(of_model, kinds, strict=True):
            if kind != kinds[0]:
                first = of_model[0]
                raise DataError(
                    f"{model!r} holds different models, such as {str(first)!r} and {str(other)!r}, no seeds of one; "
                    "give each by itself"
                )
        told_seeds = [run.get("config", {}).get("seed", baseline.get("seed")) for run, baseline in told]
        seeds = [seed for seed in told_seeds if seed is not None]
        if len(set(seeds)) < len(seeds):
            twice = max(seeds, key=seeds.count)
            raise DataError(f"{model!r} holds seed {twice} more than once; a seed twice is no second run")


def _kind(report: Report, run: dict[str, Any], baseline: dict[str, Any]) -> object:
    """Return what all seeds of a model have in common: name, a run's stage and settings, a baseline's chosen ones."""
    chosen = baseline["trials"][baseline["best"]]["settings"] if baseline else None
    return report.name, run.get("stage"), {**run.get("config", {}), "seed": None}, chosen


def _facts(folder: Path) -> _Facts:
    """Return what a run and what a baseline says of itself, nothing where a folder is neither."""
    run, baseline = (
        read_json(path, "model") if path.exists() else {} for path in (RunFolder(folder).facts, folder / META_FILE)
    )
    return run, baseline


def _check_alike(reports: dict[str, list[Report]]) -> None:
    """Refuse results that do not answer the same question."""
    (first, (reference, *_)), *_ = reports.items()
    targets = reference.per_target.select(_TARGET).sort("row")
    for model, of_model in reports.items():
        for report in of_model:
            if not report.per_target.select(_TARGET).sort("row").equals(targets):
                raise DataError(
                    f"{model!r} and {first!r} were evaluated on {report.per_target.height:,} and {targets.height:,} "
                    "targets that are not the same ones; evaluate both on one prepared folder"
                )
            if None not in (treatments := {report.seen_items, reference.seen_items}) and len(treatments) > 1:
                raise DataError(
                    f"{model!r} was evaluated with evaluation.seen_items={report.seen_items}, {first!r} with "
                    f"{reference.seen_items}; evaluate both in one way"
                )


def _check_data(facts: dict[Path, _Facts]) -> None:
    """Refuse runs and baselines of unlike data: targets may be the same, but candidates or training rows are not."""
    known: dict[str, Path] = {}
    for folder, (run, baseline) in facts.items():
        if data_hash := run.get("data_hash", baseline.get("data_hash")):
            known.setdefault(data_hash, folder)
    if len(known) > 1:
        (first, one), (second, other), *_ = known.items()
        raise DataError(
            f"{str(one)!r} is of the data {first[:12]}, {str(other)!r} of {second[:12]}, so that one may have fewer "
            "items to rank or more rows to learn from; train and evaluate both on one prepared folder"
        )
