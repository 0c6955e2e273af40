"""What a study found: figures over seeds, two models against each other, and a verdict per claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from flr.baselines.storage import META_FILE
from flr.errors import ArtifactError
from flr.evaluation.comparison import Comparison, compare, holm
from flr.evaluation.reports import load_report
from flr.evaluation.significance import Spread, over_seeds
from flr.experiments.matrix import CUTOFFS, Cell, Study, baseline_folders
from flr.experiments.weight_counts import assistant_weights, baseline_weights
from flr.persistence import read_json
from flr.records import Report
from flr.seeding import generator
from flr.training.folder import RunFolder

#: What is compared; everything else is shown only.
METRIC = "ndcg@10"
#: Chance of a false verdict by p-values among all comparisons on one data set. That a gain is too small to matter is
#: told by its own 95 % interval, which nothing corrects.
LEVEL = 0.05
#: Share of the metric below which a difference does not matter.
MARGIN = 0.01
_SHOWN = tuple(f"{metric}@{cutoff}" for cutoff in CUTOFFS for metric in ("hr", "ndcg"))

Verdict = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class ModelFigures:
    """One model on one data set.

    Attributes:
        name: Of the variant or the baseline.
        is_baseline: Which of the two.
        figures: Metric on test -> mean and standard deviation over seeds.
        n_weights: Weights without an assistant's: those that variants are matched by; None for a baseline that counts.
        n_with_assistant: The same with the assistant's; None where nobody can tell.
        hours: Training time of all seeds, a baseline's trials included.
        reports: Test reports, one per seed.
    """

    name: str
    is_baseline: bool
    figures: dict[str, Spread]
    n_weights: int | None
    n_with_assistant: int | None
    hours: float
    reports: tuple[Report, ...]


@dataclass(frozen=True)
class Claim:
    """A model is better than another.

    Attributes:
        data: On which data set.
        model: What is said to be better: the reference, or what the study compares the rival with.
        rival: The other model.
        value: Mean of the model.
        comparison: Model less rival.
        n_seeds: Seeds that it rests on: those that both have.
        corrected: Its p-value after Holm's correction for all claims on the data set.
        detectable: A true difference of this size is found four times in five, whatever the other claims come to.
    """

    data: str
    model: str
    rival: str
    value: float
    comparison: Comparison
    n_seeds: int
    corrected: float
    detectable: float

    @property
    def verdict(self) -> Verdict:
        """By the corrected p-value; a gain that is shown to be too small to matter does not hold, sure as it is."""
        difference = self.comparison.difference
        if difference.high < MARGIN * self.value:
            return by_seeds("does not hold", self.n_seeds)
        return by_seeds("holds" if self.corrected < LEVEL and difference.mean > 0 else "undecided", self.n_seeds)


@dataclass(frozen=True)
class DataFindings:
    """What was found on one data set.

    Attributes:
        data: Its name.
        data_hash: Of the prepared folder.
        n_targets, n_users: Of the test split.
        models: The reference first, then the other variants, then baselines.
        claims: One per other model.
        missing: Models without a finished run, or without one of a seed that what they are compared with has too.
    """

    data: str
    data_hash: str
    n_targets: int
    n_users: int
    models: tuple[ModelFigures, ...]
    claims: tuple[Claim, ...]
    missing: tuple[str, ...]


def told_seeds(n: int) -> str:
    """Return what a comparison rests on, in words.

    >>> told_seeds(1), told_seeds(5)
    ('1 seed that both have (which says nothing of others)', '5 seeds that both have')
    """
    return f"{shown_seeds(n)} that both have{' (which says nothing of others)' if n == 1 else ''}"


def by_seeds(verdict: Verdict, n: int) -> Verdict:
    """Return a verdict on two models that were compared on n seeds: one alone decides nothing."""
    return verdict if n > 1 else "undecided"


def shown_seeds(n: int) -> str:
    return f"{n} {'seed' if n == 1 else 'seeds'}"


def findings_on(study: Study, data: str, all_cells: list[Cell], output: Path) -> DataFindings:
    """Return what was found on one data set from the runs that are finished.

    A rival is compared on the seeds that it shares with its opponent; one that shares none is missing.

    Args:
        study: What was run.
        data: Name of the data set.
        all_cells: The study's cells.
        output: The study's folder.

    Raises:
        ArtifactError: The reference has no finished run on this data.
    """
    found = dict(_reports(study, data, all_cells, output))
    reference = found.get(study.reference, {})
    if not reference:
        raise ArtifactError(
            f"no run of {study.reference!r} is finished on {data!r}, and nothing can be compared without it; "
            "look at what failed above"
        )
    others = [name for name in found if name != study.reference]
    rivals = [name for name in others if found[study.compared_with(name)].keys() & found[name].keys()]

    def figures(name: str) -> ModelFigures:
        cells = [cell for cell in all_cells if (cell.data, cell.variant) == (data, name)]
        fits = {} if cells else baseline_folders(study, output, data, name)
        return _figures(name, found[name], cells, [fits[seed] for seed in found[name].keys() & fits.keys()])

    first = next(iter(reference.values()))
    runs = {cell.variant: cell for cell in reversed(all_cells) if cell.data == data}
    facts = read_json(RunFolder(runs[study.reference].folder).facts, "run")
    return DataFindings(
        data=data,
        data_hash=facts["data_hash"],
        n_targets=int(first.metrics["n_targets"]),
        n_users=int(first.metrics["n_users"]),
        models=tuple(figures(name) for name in [study.reference, *rivals]),
        claims=tuple(_claims(study, data, found, rivals)),
        missing=tuple(name for name in others if name not in rivals),
    )


def _reports(study: Study, data: str, all_cells: list[Cell], output: Path) -> Iterator[tuple[str, dict[int, Report]]]:
    """Yield each model's test reports by seed."""
    for variant in study.variants:
        of_variant = [cell for cell in all_cells if (cell.data, cell.variant) == (data, variant)]
        yield variant, {cell.seed: report for cell in of_variant if (report := _report(cell.folder)) is not None}
    for name in study.baselines:
        folders = baseline_folders(study, output, data, name)
        yield name, {seed: report for seed, folder in folders.items() if (report := _report(folder)) is not None}


def _report(folder: Path) -> Report | None:
    try:
        return load_report(folder, "test")
    except ArtifactError:
        return None


def _claims(
    study: Study, data: str, found: Mapping[str, Mapping[int, Report]], rivals: Sequence[str]
) -> Iterator[Claim]:
    """Yield a claim per rival; all of a data set are corrected as one family, whatever each is compared with."""
    models = [study.compared_with(rival) for rival in rivals]
    comparisons = [_compare(found[model], found[rival], rival) for model, rival in zip(models, rivals, strict=True)]
    corrected = holm([comparison.p_value for comparison in comparisons])
    for model, rival, comparison, p_value in zip(models, rivals, comparisons, corrected, strict=True):
        value = float(np.mean([report.metrics[METRIC] for report in found[model].values()]))
        n_seeds = len(found[model].keys() & found[rival].keys())
        detectable = comparison.minimum_detectable(LEVEL / len(comparisons))
        yield Claim(data, model, rival, value, comparison, n_seeds, float(p_value), detectable)


def _compare(ours: Mapping[int, Report], theirs: Mapping[int, Report], name: str) -> Comparison:
    seeds = sorted(ours.keys() & theirs.keys())
    first, second = ([reports[seed].per_target for seed in seeds] for reports in (theirs, ours))
    return compare(first, second, METRIC, generator(0, f"versus {name}"))


def _figures(name: str, reports: dict[int, Report], cells: list[Cell], fits: list[Path]) -> ModelFigures:
    """Return a model's figures from its test reports, and the runs or the baseline's folders that these came from."""
    runs = [read_json(RunFolder(cell.folder).facts, "run") for cell in cells if cell.seed in reports]
    trials = [trial for folder in fits for trial in read_json(folder / META_FILE, "baseline")["trials"]]
    n_weights = int(runs[0]["n_parameters"]) if cells else baseline_weights(fits[0], name)
    # A seed whose validation loses by its assistant has none.
    of_assistants = [assistant_weights(cell.folder) for cell in cells if cell.seed in reports]
    of_assistant = None if None in of_assistants else max((n for n in of_assistants if n is not None), default=0)
    seconds = [run["train_seconds"] for run in runs] + [trial["seconds"] for trial in trials]
    return ModelFigures(
        name=name,
        is_baseline=not cells,
        figures={metric: over_seeds([report.metrics[metric] for report in reports.values()]) for metric in _SHOWN},
        n_weights=n_weights,
        n_with_assistant=None if n_weights is None or of_assistant is None else n_weights + of_assistant,
        hours=sum(seconds) / 3600,
        reports=tuple(reports.values()),
    )
