"""Baselines on a prepared folder: fitted, chosen on validation, tested, and written down beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from pydantic import ValidationError

from flr.baselines.assisted import AssistedTransitions
from flr.baselines.fitting import fit_baseline
from flr.baselines.language import title_embeddings
from flr.baselines.registry import baseline_names, registered
from flr.baselines.settings import BaselineName, BaselineSettings
from flr.baselines.storage import META_FILE, save_baseline
from flr.catalogue.titles import build_catalogue
from flr.config import parse_config, parse_saved
from flr.data.storage import load_prepared
from flr.errors import ArtifactError, ConfigError
from flr.evaluation.protocol import evaluate
from flr.evaluation.reports import load_report, save_report
from flr.persistence import file_sha256, read_json
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import FloatArray, PreparedData, Report
from flr.sequential.assistant import SequenceAssistant
from flr.training.finished import finished_on
from flr.training.folder import RunFolder
from flr.training.run import build_recommender

#: What needs title embeddings, hence somebody who reads titles.
READS_TITLES: BaselineName = "alpharec"


@dataclass(frozen=True)
class BaselineResult:
    """How one baseline did.

    Attributes:
        name: Which one.
        valid, test: Reports of the trial that did best on validation.
        n_trials: Trials it had.
    """

    name: str
    valid: Report
    test: Report
    n_trials: int


def run_baselines(
    data: Path | str,
    output: Path | str,
    *,
    only: Sequence[str] = (),
    titles_from: Path | str | None = None,
    assistant_from: Path | None = None,
    settings: BaselineSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[BaselineResult]:
    """Fit and evaluate baselines; what an earlier call finished on the same data with the same settings is kept.

    Args:
        data: Prepared folder.
        output: Gets a folder for each baseline: the fitted baseline, ``metrics.json`` and results per target.
        only: Names of baselines; empty takes all, alpharec only where `titles_from` is given.
        titles_from: Who reads the titles for alpharec: the backbone of a run (its folder), or a language model as it
            comes (`BackboneConfig.source`).
        assistant_from: Finished run whose assistant assisted-transitions takes, where it has one: of the same settings
            of the assistant and the same seed; None trains it, to the same.
        settings: Settings and number of trials; None takes the defaults.
        seed: Seed of every random stream.
        overwrite: Replace what other data or settings left in the folder.
        progress: Told about trials, epochs and targets.

    Raises:
        ConfigError: A name is unknown, alpharec is asked for and nobody reads titles for it, or `assistant_from` was
            trained with other settings or another seed.
        ArtifactError: The folder holds a baseline of other data, settings or titles and `overwrite` is False; or
            `titles_from` is a run that is not finished or not on this data, or names no language model.
        FetchError: The language model is neither in the cache nor reachable.
        DataError: There is nothing to train on, to validate with or to test on.
    """
    data, output = Path(data), Path(output)
    names = _chosen(only, titles_from)
    settings, prepared = settings or BaselineSettings(), load_prepared(data)
    common = {
        "seed": seed,
        "data_hash": prepared.manifest["data_hash"],
        "settings": settings.model_dump(mode="json"),
    }
    titles: FloatArray | None = None
    results = []
    for name in names:
        folder, facts = output / name, common
        if (own := registered(name)) is not None:
            facts = common | {"registered": {"settings": own.settings, "grid": own.grid}}
        if name == READS_TITLES and titles_from is not None:
            facts = common | {"titles_from": _who_reads(titles_from, prepared)}
        found = None if overwrite else _finished(folder, name, facts)
        if found is None:
            if name == READS_TITLES and titles_from is not None and titles is None:
                titles = title_embeddings(_reader(titles_from, prepared.items))
            n_items = prepared.items.height
            assistant = None
            if name == AssistedTransitions.name and assistant_from is not None:
                assistant = _assistant(assistant_from, prepared, settings, seed)
            fitted = fit_baseline(
                name,
                prepared.sequences,
                n_items,
                settings=settings,
                seed=seed,
                titles=titles,
                assistant=assistant,
                progress=progress,
            )
            save_baseline(fitted, folder, facts=facts, overwrite=True)
            for split in ("valid", "test"):
                report = evaluate(
                    fitted.scorer,
                    prepared.sequences,
                    n_items,
                    split=split,
                    seen_items=settings.seen_items,
                    progress=progress,
                )
                save_report(report, folder)
            found = _load(folder, name, len(fitted.trials))
        results.append(found)
    return results


def _assistant(run: Path, prepared: PreparedData, settings: BaselineSettings, seed: int) -> SequenceAssistant | None:
    """Return a run's assistant, None where it has none."""
    config = parse_saved(finished_on(run, prepared)["config"])
    asked = (settings.assistant, settings.assistant_window, settings.seen_items, seed)
    if (config.assistant, config.text.window, config.evaluation.seen_items, config.seed) != asked:
        raise ConfigError(
            f"the assistant of {str(run)!r} has other settings or another seed than {AssistedTransitions.name} here; "
            "leave assistant_from out, or set what the run has"
        )
    return Recommender.load(run).model.assistant


def _is_run(titles_from: Path | str) -> bool:
    return RunFolder(Path(titles_from)).facts.exists()


def _who_reads(titles_from: Path | str, prepared: PreparedData) -> str:
    """Return what tells one reader of titles from another."""
    if not _is_run(titles_from):
        return str(titles_from)
    finished_on(Path(titles_from), prepared)
    return file_sha256(RunFolder(Path(titles_from)).model / "model.safetensors")


def _reader(titles_from: Path | str, items: pl.DataFrame) -> Recommender:
    """Return the model of a run, or a pretrained one that nothing was taught about these items."""
    if _is_run(titles_from):
        return Recommender.load(titles_from)
    if titles_from == "compact":
        raise ConfigError(
            "alpharec got 'compact' to read titles, which has not learned to; name a run or a language model"
        )
    config = parse_config({"backbone": {"source": str(titles_from), "train": "frozen"}, "reasoner": {"kind": "none"}})
    return build_recommender(config, build_catalogue(items), torch.device("cpu"))


def _chosen(only: Sequence[str], titles_from: Path | str | None) -> list[str]:
    for name in only:
        registered(name)
    if READS_TITLES in only and titles_from is None:
        raise ConfigError("alpharec got nothing that reads titles for it; name a run or a language model (titles_from)")
    names = baseline_names()
    return [name for name in names if (name in only if only else name != READS_TITLES or titles_from is not None)]


def _finished(folder: Path, name: str, facts: dict[str, Any]) -> BaselineResult | None:
    """Return what is in the folder, None where nothing is or where the evaluation was interrupted."""
    if not (folder / META_FILE).exists():
        return None
    saved = read_json(folder / META_FILE, "saved baseline")
    with suppress(ValidationError):  # settings that came later are as they are when nobody sets them
        saved["settings"] = BaselineSettings.model_validate(saved.get("settings")).model_dump(mode="json")
    if different := [key for key, value in facts.items() if saved.get(key) != value]:
        raise ArtifactError(
            f"{str(folder)!r} holds a baseline of another {different[0]}; --overwrite replaces it, "
            "or name another folder"
        )
    try:
        return _load(folder, name, len(saved["trials"]))
    except ArtifactError:
        return None


def _load(folder: Path, name: str, n_trials: int) -> BaselineResult:
    return BaselineResult(name, load_report(folder, "valid"), load_report(folder, "test"), n_trials)
