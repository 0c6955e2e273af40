"""Training an assistant beside the model, and settling on validation how much it gets to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from flr.catalogue.titles import build_catalogue
from flr.config import load_config
from flr.data.preparation import prepare
from flr.data.storage import load_prepared, save_prepared
from flr.data.synthetic import pattern_world
from flr.data.transitions import count_transitions
from flr.evaluation.metrics import ndcg, rank_statistics
from flr.prepare_config import PrepareConfig
from flr.progress import SILENT
from flr.recommender import Recommender
from flr.training import assisting, second_opinion
from flr.training.assisting import give_assistant
from flr.training.run import build_recommender, train_run
from flr.training.second_opinion import DISCOUNTS, MOST_SAY, WEIGHTS, Say
from flr.training.validation import Validation
from toy import TINY, small_config

#: Votes count pairs, and in this world only the last two items together say what comes next.
ASSISTED = [
    *TINY,
    "reasoner.memory=transitions",
    "assistant.max_epochs=30",
    "assistant.width=32",
    "assistant.batch_targets=128",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    interactions = pattern_world(n_items=17, n_users=200, length=8, order=2).interactions
    save_prepared(prepare(interactions, PrepareConfig()), folder)
    return folder


def untrained(world: Path, *overrides: str) -> tuple[Recommender, Validation]:
    config, prepared = small_config(*ASSISTED, *overrides), load_prepared(world)
    torch.manual_seed(0)
    counted = count_transitions(prepared.sequences, prepared.items.height) if config.reasoner.has_memory else None
    recommender = build_recommender(config, build_catalogue(prepared.items), torch.device("cpu"), counted)
    return recommender, Validation(recommender, prepared)


def test_an_assistant_that_knows_what_pairs_cannot_say_is_listened_to(world: Path) -> None:
    recommender, validation = untrained(world)
    recommender.model.eval()
    assert recommender.model.memory is not None
    recommender.model.memory.trust.bias.data.fill_(8.0)  # random titles say nothing
    before = validation(Accelerator(cpu=True))
    say = give_assistant(recommender, validation, Accelerator(cpu=True))
    assert say.weights[0] > 0, "the networks know"
    assert all(0 <= weight <= max(WEIGHTS) for weight in say.weights)
    assert sum(say.weights) <= MOST_SAY + 0.05
    assert 0 <= say.discount <= max(DISCOUNTS)
    assert recommender.model.assistant is not None
    assert recommender.model.assistant.weights.tolist() == pytest.approx(say.weights)
    assert float(recommender.model.assistant.discount) == pytest.approx(say.discount)
    assert float(recommender.model.assistant.log_popularity.exp().sum()) == pytest.approx(1)
    assert not any(parameter.requires_grad for parameter in recommender.model.assistant.parameters())
    after = validation(Accelerator(cpu=True))
    assert after["ndcg@10"] > 1.1 * before["ndcg@10"]


def test_what_is_best_by_luck_counts_for_little() -> None:
    points = [Say((weight,), 0.0) for weight in (0.0, 0.1, 0.2, 0.3, 0.6)]
    gains = np.tile([0.2, 0.3, 0.31, 0.3, 0.1], (100, 1)) + np.random.default_rng(0).normal(0, 0.2, (100, 1))
    gains[7] += [0, 0, 0, 0, 24.0]  # one person makes the last point the best, by much
    assert gains.mean(0).argmax() == 4
    chosen = second_opinion._mean_of_best(points, gains, np.random.default_rng(1))
    assert chosen.weights[0] == pytest.approx(0.45, abs=0.06)  # without that person, .2 is best
    assert second_opinion._mean_of_best(points, np.delete(gains, 7, 0), np.random.default_rng(1)) == Say((0.2,), 0.0)


@pytest.mark.parametrize("n_opinions", [1, 2])
def test_gains_are_those_of_ranking_everything_at_every_point(n_opinions: int) -> None:
    points = second_opinion._points(n_opinions)
    exponents, corners = (second_opinion._exponents(says) for says in (points, second_opinion._corners(points)))
    random = torch.Generator().manual_seed(n_opinions)
    of_user = 2 * torch.randn(2 + n_opinions, 400, generator=random)
    of_user[:, 300:] = of_user[:, 300:301]  # a hundred items that nothing tells apart
    of_user[0, :20] = -torch.inf  # taken
    order = of_user[:-1].sum(0).argsort(descending=True)
    for target in [*order[:30:3].tolist(), *order[30:200:40].tolist(), 300, 5]:
        scores = (exponents.double() @ of_user.double()).numpy()
        expected = ndcg(*rank_statistics(scores, np.full(len(points), target)), 10)
        assert second_opinion._gains(of_user, target, exponents, corners).tolist() == expected.tolist()


def test_one_that_is_wrong_is_sent_away(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, validation = untrained(world, "assistant.networks=[sasrec]")
    wrong = assisting._trained(recommender, validation, validation.users, SILENT)
    assert wrong is not None
    wrong.networks[0].bias.normal_(std=500)
    monkeypatch.setattr(assisting, "train_assistant", lambda *_, **__: wrong)
    monkeypatch.setattr(second_opinion, "DISCOUNTS", (0.0,))
    assert not give_assistant(recommender, validation, Accelerator(cpu=True))
    assert recommender.model.assistant is None


@pytest.mark.parametrize("override", ["assistant.networks=[]", "reasoner.memory=none"])
def test_a_model_that_cannot_or_shall_not_have_one_is_left_alone(world: Path, override: str) -> None:
    recommender, validation = untrained(world, override)
    assert give_assistant(recommender, validation, Accelerator(cpu=True)) == Say()
    assert recommender.model.assistant is None


def test_it_is_part_of_the_run_and_comes_out_the_same_twice(world: Path, tmp_path: Path) -> None:
    config = load_config(None, [*ASSISTED, "training.max_steps=8", "training.eval_steps=4"])
    first, second = (train_run(config, world, tmp_path / name) for name in ("first", "second"))
    one, other = (load_file(run.path / "model" / "model.safetensors") for run in (first, second))
    assert any(name.startswith("assistant.") for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.n_parameters == sum(
        tensor.numel() for name, tensor in one.items() if not name.startswith(("assistant.", "memory.relation"))
    )
    loaded = Recommender.load(first.path)
    assert loaded.model.assistant is not None
    validation = Validation(loaded, load_prepared(world))
    assert validation(Accelerator(cpu=True))["ndcg@10"] == pytest.approx(first.valid["ndcg@10"], abs=1e-9)


def test_an_assistant_that_validation_loses_by_is_left_out(world: Path, tmp_path: Path, monkeypatch: Any) -> None:
    settings = [*ASSISTED, "assistant.max_epochs=1", "training.max_steps=8", "training.eval_steps=4"]
    alone = train_run(load_config(None, [*settings, "assistant.networks=[]"]), world, tmp_path / "alone")
    monkeypatch.setattr(
        assisting, "settle", lambda *_, **__: Say((0.0, 0.0), 5.0)
    )  # what is popular is said to be wrong
    advised = train_run(load_config(None, settings), world, tmp_path / "advised")
    assert advised.valid == alone.valid
    assert Recommender.load(tmp_path / "advised").model.assistant is None
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("alone", "advised")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
