"""Validation while training: the same figures as an evaluation, on the users asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from flr.config import Config, load_config
from flr.data.storage import load_prepared
from flr.errors import DataError
from flr.evaluation.protocol import evaluate
from flr.progress import Silent, Step
from flr.recommender import Recommender
from flr.records import TRAIN, VALID, PreparedData
from flr.text.tokenizer import TitleTokenizer
from flr.training.validation import Reporter, Validation
from toy import TINY, prepared_ring, toy_model


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return load_prepared(prepared_ring(tmp_path_factory.mktemp("ring") / "data"))


def recommender(prepared: PreparedData, *overrides: str) -> Recommender:
    config: Config = load_config(None, [*TINY, *overrides])
    model, compiled, _ = toy_model(titles=prepared.items["title"].to_list())
    tokenizer = TitleTokenizer.train(compiled.catalogue.leaf_titles, config.text.vocabulary_size)
    return Recommender(model, tokenizer, compiled.catalogue, config)


def test_it_equals_an_evaluation(prepared: PreparedData) -> None:
    model = recommender(prepared)
    expected = evaluate(model, prepared.sequences, 10, split="valid", cutoffs=(1, 10), seen_items="include").metrics
    found = Validation(model, prepared)(Accelerator(cpu=True))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)
    assert set(found) == {f"{metric}@{k}" for metric in ("hr", "ndcg", "mrr") for k in (1, 10)}


def test_it_tells_how_many_targets_it_has_ranked(prepared: PreparedData) -> None:
    ranked: list[int] = []

    class Listening(Silent):
        @contextmanager
        def task(self, name: str, total: int | None = None) -> Iterator[Step]:
            ranked.append(-(total or 0))
            yield lambda n=1, note="": ranked.append(n)

    validation = Validation(recommender(prepared), prepared, Listening())
    validation(Accelerator(cpu=True))
    assert ranked[0] == -len(prepared.sequences.targets(VALID)[0])
    assert sum(ranked) == 0


def test_fewer_users_are_the_same_ones_every_time(prepared: PreparedData) -> None:
    few = Validation(recommender(prepared, "training.eval_users=7"), prepared)
    again = Validation(recommender(prepared, "training.eval_users=7"), prepared)
    assert len(few.users) == 7
    assert few.users.tolist() == again.users.tolist()


def test_without_validation_targets_there_is_nothing_to_stop_by(prepared: PreparedData) -> None:
    sequences = replace(prepared.sequences, split=prepared.sequences.split.clip(max=TRAIN))
    with pytest.raises(DataError, match="no validation target"):
        Validation(recommender(prepared), PreparedData(sequences, prepared.items, prepared.manifest))


def test_the_reporter_logs_and_speaks(tmp_path: Path) -> None:
    said, steps = [], []
    progress = SimpleNamespace(**{"message": said.append, "task": Silent().task})
    reporter = Reporter(progress, lambda n=1, note="": steps.append((n, note)), tmp_path / "log.jsonl")
    state = SimpleNamespace(global_step=10, is_world_process_zero=True)
    reporter.on_log(None, state, None, logs={"loss": 6.5})
    reporter.on_step_end(None, state, None)
    reporter.on_log(None, state, None, logs={"eval_ndcg@10": 0.07, "eval_hr@10": 0.14})
    reporter.on_log(None, SimpleNamespace(global_step=10, is_world_process_zero=False), None, logs={"loss": 1.0})
    assert said == ["step 10: loss 6.500, valid NDCG@10 0.0700, HR@10 0.1400"]
    assert steps == [(1, "loss 6.500")]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        {"step": 10, "loss": 6.5},
        {"step": 10, "eval_ndcg@10": 0.07, "eval_hr@10": 0.14},
    ]
