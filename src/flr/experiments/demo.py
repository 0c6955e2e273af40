"""The whole road on real data: fetch, prepare, train, evaluate beside five baselines, recommend, report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flr.baselines.settings import BaselineName, BaselineSettings
from flr.config import Config
from flr.data.preparation import prepare
from flr.data.sources import read_source
from flr.data.storage import load_prepared, save_prepared
from flr.errors import ArtifactError
from flr.evaluation.reports import load_report
from flr.experiments.baselines import run_baselines
from flr.experiments.content import FactorAttention, ResultRow, RunReportContent, TrainingCurve, UserExample
from flr.experiments.report import write_run_report
from flr.persistence import read_json
from flr.prepare_config import PrepareConfig
from flr.progress import SILENT, Progress
from flr.recommender import Recommendation, Recommender
from flr.records import TEST, Histories, PreparedData, Report
from flr.seeding import generator
from flr.training.finished import evaluate_run
from flr.training.folder import RunFolder
from flr.training.run import train_run

_N_EXAMPLES = 3
_SHOWN_HISTORY = 8
#: Those that take seconds.
_BASELINES: tuple[BaselineName, ...] = ("popularity", "last-item-markov", "item-knn", "ease", "transitions")


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        reports: Test evaluations, the model first.
        examples: Three people with recommendations.
        page: The report page.
        run: The run folder, for `flr recommend` and `flr evaluate`.
        seconds: Wall-clock time.
    """

    reports: Sequence[Report]
    examples: Sequence[UserExample]
    page: Path
    run: Path
    seconds: float


def run_demo(
    output: Path, *, seed: int = 0, config: Config | None = None, source: str = "ml-100k", progress: Progress = SILENT
) -> DemoResult:
    """Train, evaluate and explain on a public data set; what an earlier call finished is not done again.

    Args:
        output: Folder for ``data/``, ``run/``, ``rivals/`` and ``report.html``.
        seed: Seed of every random stream.
        config: Settings; None means the defaults.
        source: Name of a public data set.
        progress: Told about each stage.

    Raises:
        FetchError: The data could not be fetched.
        ArtifactError: The folder holds something else.
    """
    started = time.perf_counter()
    config = (config or Config()).model_copy(update={"seed": seed})
    prepared = _prepared(output / "data", source, progress)
    run = output / "run"
    resume = RunFolder(run).is_of(config, prepared)
    train_run(config, output / "data", run, resume=resume, overwrite=True, progress=progress)
    model_report = _evaluated(run, progress)
    baselines = run_baselines(
        output / "data",
        output / "rivals",
        only=_BASELINES,
        settings=BaselineSettings(seen_items=config.evaluation.seen_items),
        overwrite=True,
        progress=progress,
    )
    reports = [model_report, *(baseline.test for baseline in baselines)]
    recommender = Recommender.load(run)
    users = _example_users(prepared, seed)
    examples = _examples(recommender, prepared, users)
    content = RunReportContent(
        dataset=source,
        n_items=len(prepared.items),
        data=_data_facts(prepared),
        settings=_settings(config, recommender),
        results=[ResultRow.of(report) for report in reports],
        curve=_curve(run),
        examples=examples,
        attention=_attention(recommender, prepared, int(users[0])),
        findings=[finding["effect"] for finding in prepared.manifest["audit"]["findings"] if finding["value"]],
        facts=_run_facts(run),
    )
    page = output / "report.html"
    write_run_report(page, content)
    return DemoResult(reports, examples, page, run, time.perf_counter() - started)


def _prepared(folder: Path, source: str, progress: Progress) -> PreparedData:
    if (folder / "manifest.json").exists():
        return load_prepared(folder)
    with progress.task(f"fetch {source}") as step:
        interactions = read_source(source)
        step()
    prepared = prepare(interactions, PrepareConfig(split="leave_one_out"), progress=progress)
    return save_prepared(prepared, folder)


def _evaluated(run: Path, progress: Progress) -> Report:
    try:
        return load_report(run, "test")
    except ArtifactError:
        return evaluate_run(run, split="test", progress=progress)


def _example_users(prepared: PreparedData, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    users = np.unique(prepared.sequences.targets(TEST)[0])
    return generator(seed, "example users").choice(users, min(_N_EXAMPLES, len(users)), replace=False)


def _history(prepared: PreparedData, user: int) -> tuple[Histories, int]:
    """Return what a user took before their test target, and that target."""
    users, rows = prepared.sequences.targets(TEST)
    place = int(np.flatnonzero(users == user)[-1])
    history = Histories.before(prepared.sequences, users[place : place + 1], rows[place : place + 1])
    return history, int(prepared.sequences.item_index[rows[place]])


def _examples(recommender: Recommender, prepared: PreparedData, users: Sequence[int] | Any) -> list[UserExample]:
    catalogue = recommender.catalogue
    found = [_history(prepared, int(user)) for user in users]
    ids = [[str(catalogue.item_ids[item]) for item in history.item_index] for history, _ in found]
    exclude_seen = recommender.config.evaluation.seen_items == "exclude"
    recommended: list[list[Recommendation]] = recommender.recommend(ids, k=5, exclude_seen=exclude_seen)
    return [
        UserExample(
            user_id=str(prepared.sequences.user_ids[int(user)]),
            history=[str(catalogue.titles[item]) for item in history.item_index[-_SHOWN_HISTORY:]],
            n_history=len(history.item_index),
            recommended=[(item.title, item.probability) for item in items],
            taken_next=str(catalogue.titles[target]),
        )
        for user, (history, target), items in zip(users, found, recommended, strict=True)
    ]


def _attention(recommender: Recommender, prepared: PreparedData, user: int) -> FactorAttention | None:
    """Return where each factor looked for one user, summed over each item's tokens."""
    history = _history(prepared, user)[0].window(recommender.config.text.window)
    thought = recommender.think(history).thought
    if thought is None:
        return None
    by_token = thought.attentions[-1, :, 0].transpose(1, 2).detach().float().cpu().numpy()  # [1, L, K]
    return FactorAttention(
        user_id=str(prepared.sequences.user_ids[user]),
        titles=[str(recommender.catalogue.titles[item]) for item in history.item_index],
        weights=recommender.compiled.template.sum_by_item(by_token, history).T,
        gates=thought.gates[-1, 0, 0].detach().float().cpu().numpy(),
    )


def _curve(run: Path) -> TrainingCurve:
    lines = [json.loads(line) for line in RunFolder(run).log.read_text(encoding="utf-8").splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    valid = [(line["step"], line["eval_ndcg@10"]) for line in lines if "eval_ndcg@10" in line]
    return TrainingCurve(
        steps=[step for step, _ in losses],
        losses=[loss for _, loss in losses],
        valid_steps=[step for step, _ in valid],
        valid_ndcg=[value for _, value in valid],
        kept_step=read_json(RunFolder(run).facts, "run").get("best_step"),
    )


def _data_facts(prepared: PreparedData) -> dict[str, str | int | float]:
    counts = prepared.manifest["counts"]
    return {
        "users": prepared.sequences.n_users,
        "items": len(prepared.items),
        "interactions": prepared.sequences.n_interactions,
        "test targets": int(counts["test_targets"]),
        "split": "leave-one-out",
    }


def _settings(config: Config, recommender: Recommender) -> dict[str, str | int | float]:
    return {
        "backbone": config.backbone.source,
        "weights": sum(parameter.numel() for parameter in recommender.model.parameters()),
        "factors K": config.reasoner.n_factors,
        "refinement steps R": config.reasoner.n_steps,
        "window": f"{config.text.window} items",
        "likelihood": config.objective.likelihood,
        "seen items": f"{config.evaluation.seen_items}d",
    }


def _run_facts(run: Path) -> dict[str, str | int | float]:
    saved = read_json(RunFolder(run).facts, "run")
    return {
        "seed": saved["seed"],
        "training": f"{saved['train_seconds']:.0f} s, {saved['n_steps']} steps",
        "data hash": saved["data_hash"][:16],
        "commit": str(saved["commit"])[:12],
        **{name: str(number) for name, number in saved["versions"].items()},
    }
