"""Transitions with the model's assistant, and without the model."""

from __future__ import annotations

import numpy as np
import pytest

from flr.baselines import assisted
from flr.baselines.assisted import AssistedTransitions
from flr.baselines.fitting import fit_baseline
from flr.baselines.settings import BaselineSettings
from flr.config import AssistantConfig
from flr.data.preparation import prepare
from flr.data.synthetic import pattern_world
from flr.errors import ConfigError
from flr.prepare_config import PrepareConfig
from flr.records import TEST, Histories, PreparedData
from flr.training.second_opinion import Say
from flr.training.second_opinion import train_assistant as train

NETWORK = AssistantConfig(max_epochs=30, width=32, batch_targets=128, networks=("gru4rec", "ease"))


@pytest.fixture(scope="module")
def world() -> PreparedData:
    """Return people whose last two items together say what comes next; votes count pairs."""
    return prepare(pattern_world(n_items=17, n_users=200, length=8, order=2).interactions, PrepareConfig())


def test_it_knows_more_than_its_votes_and_all_trials_share_one_assistant(
    world: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_items, trained = world.items.height, []
    monkeypatch.setattr(assisted, "train_assistant", lambda *of, **more: trained.append(of) or train(*of, **more))
    settings = BaselineSettings(trials=2, assistant=NETWORK)
    alone, advised = (
        fit_baseline(name, world.sequences, n_items, settings=settings)
        for name in ("transitions", "assisted-transitions")
    )
    assert advised.trials[advised.best].valid > 1.1 * alone.trials[alone.best].valid
    assert [trial.settings for trial in advised.trials] == [trial.settings for trial in alone.trials]
    assert len(trained) == 1


def test_its_scores_are_the_product_of_votes_and_opinions(world: PreparedData) -> None:
    n_items = world.items.height
    settings = BaselineSettings(trials=1, assistant=NETWORK.model_copy(update={"max_epochs": 1}))
    scorer = fit_baseline("assisted-transitions", world.sequences, n_items, settings=settings).scorer
    assert isinstance(scorer, AssistedTransitions)
    Say((0.3, 0.2), 0.1).give(scorer.assistant)
    asked = Histories.before(world.sequences, *world.sequences.targets(TEST)).take(np.arange(5))
    _, advice = scorer._asked(asked)
    logits = 0.5 * scorer.votes.score(asked) - 0.1 * advice.log_popularity.numpy()
    logits += 0.3 * advice.opinions[0].numpy() + 0.2 * advice.opinions[1].numpy()
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(scorer.score(asked), expected, atol=1e-4)


def test_without_networks_there_is_nothing_to_ask(world: PreparedData) -> None:
    settings = BaselineSettings(trials=1, assistant=AssistantConfig(networks=()))
    with pytest.raises(ConfigError, match=r"assistant.networks = \(\), expected one network or more"):
        fit_baseline("assisted-transitions", world.sequences, world.items.height, settings=settings)
