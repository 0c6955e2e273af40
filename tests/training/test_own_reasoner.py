"""A reasoner of one's own is trained, saved and loaded as what it is, or refused; never loaded as another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import flr
from flr import building
from flr.config import REASONER_KINDS, Config, load_config
from flr.errors import ArtifactError, ConfigError
from flr.reasoner.factors import MultiFactorAttention
from flr.records import Thought
from flr.training.finished import evaluate_run
from flr.training.run import train_run
from toy import TINY, prepared_ring


class Loudest(MultiFactorAttention):
    """Listens to the factor with the largest logit alone, and likes short factors."""

    def gates(self, factor: Tensor, state: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(factor.norm(dim=-1).argmax(-1), self.n_factors).to(factor)

    def regularizers(self, thought: Thought, n_readable: Tensor) -> dict[str, Tensor]:
        return {**super().regularizers(thought, n_readable), "length": thought.factors.square().mean((0, -1, -2))}


@pytest.fixture
def registered() -> Iterator[None]:
    flr.register_reasoner("loudest", Loudest)
    yield
    REASONER_KINDS.discard("loudest")
    building._REASONERS.pop("loudest", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


def short(*overrides: str) -> Config:
    return load_config(None, [*TINY, "training.max_steps=8", "training.eval_steps=4", *overrides])


@pytest.mark.usefixtures("registered")
def test_it_is_trained_and_comes_back_as_itself(data: Path, tmp_path: Path) -> None:
    summary = train_run(short("reasoner.kind=loudest"), str(data), str(tmp_path / "run"))
    loaded = flr.Recommender.load(tmp_path / "run")
    assert type(loaded.model.reasoner) is Loudest
    assert evaluate_run(tmp_path / "run", split="valid").metrics["ndcg@10"] == summary.valid["ndcg@10"]
    assert '"length": ' in (tmp_path / "run" / "log.jsonl").read_text()


def test_whoever_does_not_know_it_is_told(data: Path, tmp_path: Path) -> None:
    flr.register_reasoner("loudest", Loudest)
    train_run(short("reasoner.kind=loudest"), data, tmp_path / "run")
    REASONER_KINDS.discard("loudest")
    building._REASONERS.pop("loudest")
    with pytest.raises(ConfigError, match=r"kind 'loudest' is none of .*named first, by flr\.register_reasoner"):
        flr.Recommender.load(tmp_path / "run")


def test_only_reasoners_can_be_named() -> None:
    with pytest.raises(ConfigError, match="'none' is built in"):
        flr.register_reasoner("none", Loudest)
    with pytest.raises(ConfigError, match="expected a subclass of MultiFactorAttention"):
        flr.register_reasoner("linear", torch.nn.Linear)  # type: ignore[arg-type]


def test_what_would_be_loaded_as_another_is_not_saved(data: Path, tmp_path: Path) -> None:
    train_run(short(), data, tmp_path / "run")
    recommender = flr.Recommender.load(tmp_path / "run")
    assert recommender.model.reasoner is not None
    recommender.model.reasoner.n_steps = 5
    with pytest.raises(ArtifactError, match="has n_steps = 5 where 2 would be loaded"):
        recommender.save(tmp_path / "more-steps")
    recommender.model.reasoner.__class__ = Loudest
    with pytest.raises(ArtifactError, match="has a Loudest where a MultiFactorAttention would be loaded"):
        recommender.save(tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_training_leaves_the_callers_random_numbers_alone(data: Path, tmp_path: Path) -> None:
    drawn = []
    for name in ("trained", "not"):
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        if name == "trained":
            train_run(replace_threads(short()), data, tmp_path / "run")
        drawn.append((random.random(), np.random.rand(), float(torch.rand(())), torch.get_num_threads()))
    assert drawn[0] == drawn[1]


def replace_threads(config: Config) -> Config:
    training = config.training.model_copy(update={"n_threads": torch.get_num_threads() + 1})
    return config.model_copy(update={"training": training})
