"""What can be done with a finished run: find its data, evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flr.config import Config, load_config
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, ConfigError
from flr.evaluation.cold import evaluate_cold
from flr.evaluation.decoding import ranking_scorer
from flr.evaluation.protocol import evaluate
from flr.evaluation.reports import save_report
from flr.persistence import read_json, write_json
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import PreparedData, Report
from flr.training.folder import RunFolder


def evaluate_run(
    run: Path | str,
    *,
    split: str = "test",
    data: Path | str | None = None,
    overrides: Sequence[str] = (),
    output: Path | str | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Rank the whole catalogue for every target of a split, and save metrics and per-target results.

    Args:
        run: A finished run folder.
        split: ``"valid"`` or ``"test"``.
        data: Prepared folder; None takes the one the run was trained on.
        overrides: ``evaluation.key=value``, over what the run was trained with.
        output: Folder of the results; None takes the run's own, or none at all where something is overridden.
        progress: Told about targets.

    Raises:
        ArtifactError: The run or the data is missing, unfinished or not the data of the run; `output` is another run.
        ConfigError: An override is of another section, unknown or out of range.
    """
    run = Path(run)
    data, output = (None if path is None else Path(path) for path in (data, output))
    _check_output(run, output)
    prepared = finished_run_data(run, data)[0]
    recommender = Recommender.load(run)
    recommender.config = _overridden(recommender.config, overrides)
    settings = recommender.config.evaluation
    report = evaluate(
        ranking_scorer(recommender, prepared.sequences),
        prepared.sequences,
        recommender.catalogue.n_items,
        split=split,  # type: ignore[arg-type]
        cutoffs=settings.cutoffs,
        seen_items=settings.seen_items,
        progress=progress,
    )
    if output is not None or not overrides:
        save_report(report, output or run)
    return report


def evaluate_cold_run(
    run: Path | str,
    *,
    data: Path | str | None = None,
    overrides: Sequence[str] = (),
    output: Path | str | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Add the items that were withheld from training to a run's catalogue, rank all, and save what `cold_table` finds.

    The run itself is left as it is. Arguments and errors as `evaluate_run`; the results go into a folder ``cold`` of
    the output.

    Raises:
        ArtifactError: No items were withheld from the run's data.
    """
    run = Path(run)
    data, output = (None if path is None else Path(path) for path in (data, output))
    _check_output(run, output)
    prepared, folder = finished_run_data(run, data)
    if not prepared.n_cold:
        raise ArtifactError(
            f"no items were withheld from {str(folder)!r}; prepare it with `flr prepare --cold-items 0.1`, then train"
        )
    whole = load_prepared(folder, with_cold=True)
    recommender = Recommender.load(run)
    recommender.config = _overridden(recommender.config, overrides)
    recommender.add_items(whole.items[-whole.n_cold :])
    settings = recommender.config.evaluation
    report, table = evaluate_cold(
        recommender,
        whole.sequences,
        (len(whole.items) - whole.n_cold, len(whole.items)),
        cutoffs=settings.cutoffs,
        seen_items=settings.seen_items,
        progress=progress,
    )
    if output is not None or not overrides:
        save_report(report, (output or run) / "cold")
        write_json((output or run) / "cold" / "cold.json", {"rows": table.to_dicts()})
    return table


def _check_output(run: Path, output: Path | None) -> None:
    if output is not None and output.resolve() != run.resolve() and RunFolder(output).facts.exists():
        raise ArtifactError(
            f"{str(output)!r} is a run of its own, whose results those of {str(run)!r} would replace; name a new folder"
        )


def _overridden(config: Config, overrides: Sequence[str]) -> Config:
    for override in overrides:
        if not override.startswith("evaluation."):
            raise ConfigError(f"got {override!r}, expected evaluation.key=value; what a run was trained with is fixed")
    return load_config(None, overrides, config.model_dump(mode="json"))


def finished_run_data(run: Path, data: Path | None) -> tuple[PreparedData, Path]:
    """Return the data that a finished run was trained on, and its folder; `evaluate_run` lists what is raised."""
    facts = _finished_facts(run)
    folder = data or Path(facts["data"])
    if data is None and not folder.exists():
        raise ArtifactError(f"the data of {str(run)!r} is not at {str(folder)!r} any more; say where with --data")
    prepared = load_prepared(folder)
    _check_data(facts, prepared)
    return prepared, folder


def finished_on(run: Path, prepared: PreparedData) -> dict[str, Any]:
    """Return the facts of a finished run that was trained on this data.

    Raises:
        ArtifactError: The run is missing, unfinished or was trained on other data.
    """
    facts = _finished_facts(run)
    _check_data(facts, prepared)
    return facts


def _finished_facts(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = read_json(RunFolder(run).facts, "run")
    if facts.get("status") != "finished":
        raise ArtifactError(
            f"the run {str(run)!r} is {facts.get('status')!r}; finish it with `flr train --resume` first"
        )
    return facts


def _check_data(facts: dict[str, Any], prepared: PreparedData) -> None:
    if prepared.manifest["data_hash"] != facts["data_hash"]:
        raise ArtifactError(
            f"the data has hash {prepared.manifest['data_hash']}, the run was trained on {facts['data_hash']}; "
            "give the folder it was trained on with --data"
        )
