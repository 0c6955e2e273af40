"""What every baseline must satisfy. A new one joins by its name in `flr.baselines.settings.NAMES`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from flr.baselines.assisted import AssistedTransitions
from flr.baselines.fitting import FittedBaseline, fit_baseline
from flr.baselines.settings import NAMES, BaselineName, BaselineSettings, NetworkSettings
from flr.baselines.storage import load_baseline, save_baseline
from flr.config import AssistantConfig
from flr.evaluation.protocol import Scorer, evaluate
from flr.records import CONTEXT, TEST, TRAIN, VALID, Histories, UserSequences
from flr.training.second_opinion import Say

N_ITEMS = 7
TITLES = np.random.default_rng(0).normal(size=(N_ITEMS, 12)).astype(np.float32)
SMALL = NetworkSettings(window=3, width=8, learning_rate=0.01, batch_targets=4, max_epochs=3)
ASSISTANT = AssistantConfig(width=8, batch_targets=4, max_epochs=3)
Fit = Callable[..., FittedBaseline]


def sequences(held_out: tuple[int, int] = (4, 5)) -> UserSequences:
    """Return users who took 0 1 2 3 and then the held-out items, one with a context row; item 6 is never taken."""
    users = [[0, 1, 2, 3, *held_out], [0, 1, 0, 1, *held_out], [2, 1, 2, *held_out]]
    splits = [[CONTEXT, TRAIN, TRAIN, TRAIN], [TRAIN] * 4, [TRAIN] * 3]
    return UserSequences(
        np.array(["a", "b", "c"], dtype=object),
        np.concatenate([[0], np.cumsum([len(user) for user in users])]),
        np.concatenate(users).astype(np.int32),
        np.arange(17),
        np.concatenate([[*split, VALID, TEST] for split in splits]).astype(np.int8),
    )


def histories(*items: list[int]) -> Histories:
    lengths = [len(history) for history in items]
    flat = np.array([item for history in items for item in history], dtype=np.int64)
    return Histories(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


ASKED = histories([0, 1], [], [6], [3, 2, 1, 0])


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> BaselineName:
    return request.param


def small(**training: object) -> BaselineSettings:
    """Return settings of one small trial."""
    network, assistant = (of.model_copy(update=training) for of in (SMALL, ASSISTANT))
    return BaselineSettings(trials=1, network=network, assistant=assistant, assistant_window=3)


@pytest.fixture
def fit(name: BaselineName) -> Fit:
    """Fit to the sequences given, with small settings; further arguments go to `fit_baseline`."""

    def fitted(data: UserSequences, **options: object) -> FittedBaseline:
        options = {"settings": small(), **options}
        return fit_baseline(name, data, N_ITEMS, titles=TITLES, **options)

    return fitted


@pytest.fixture
def scorer(fit: Fit) -> Scorer:
    return fit(sequences()).scorer


def test_scores_cover_the_catalogue(scorer: Scorer) -> None:
    scores = scorer.score(ASKED)
    assert scores.shape == (4, N_ITEMS)
    assert scores.dtype in (np.float32, np.float64)
    assert np.isfinite(scores).all()


def test_probabilities_sum_to_one(scorer: Scorer) -> None:
    assert np.exp(scorer.score(ASKED)).sum(axis=1) == pytest.approx(np.ones(4), abs=1e-5)


def test_a_batch_equals_its_rows(scorer: Scorer) -> None:
    rows = [scorer.score(ASKED.take(np.array([b])))[0] for b in range(4)]
    assert np.allclose(scorer.score(ASKED), np.stack(rows), atol=1e-5)


def test_an_empty_history_and_unknown_items_get_the_popular_ones(scorer: Scorer) -> None:
    popular = fit_baseline("popularity", sequences(), N_ITEMS).scorer.score(histories([]))
    assert scorer.score(histories([], [-1, N_ITEMS])) == pytest.approx(np.repeat(popular, 2, axis=0), abs=1e-6)


def test_no_histories_no_scores(scorer: Scorer) -> None:
    assert scorer.score(histories()).shape == (0, N_ITEMS)


def test_one_seed_one_result(fit: Fit) -> None:
    one, other = fit(sequences(), seed=5).scorer, fit(sequences(), seed=5).scorer
    assert np.array_equal(one.score(ASKED), other.score(ASKED))


def test_torchs_generator_is_left_alone(fit: Fit) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fit(sequences())
    assert torch.rand(1) == expected


def test_held_out_rows_teach_nothing(fit: Fit) -> None:
    # One epoch: validation rows choose how many there are, and nothing else.
    one, other = (fit(sequences(held_out), settings=small(max_epochs=1)).scorer for held_out in ((4, 5), (5, 6)))
    for each in (one, other):
        if isinstance(each, AssistedTransitions):  # they settle how much the assistant says, too
            Say((0.3, 0.3), 0.1).give(each.assistant)
    assert np.array_equal(one.score(ASKED), other.score(ASKED))


def test_test_rows_choose_nothing(fit: Fit) -> None:
    settings = small().model_copy(update={"trials": 2})
    one, other = (fit(sequences(held_out), settings=settings) for held_out in ((4, 5), (4, 6)))
    assert [trial.valid for trial in one.trials] == pytest.approx([trial.valid for trial in other.trials], nan_ok=True)
    assert np.array_equal(one.scorer.score(ASKED), other.scorer.score(ASKED))


def test_scoring_leaves_the_histories_alone(scorer: Scorer) -> None:
    asked = histories([0, 1], [2])
    scorer.score(asked)
    assert asked.item_index.tolist() == [0, 1, 2]


def test_it_can_be_evaluated(scorer: Scorer, name: BaselineName) -> None:
    report = evaluate(scorer, sequences(), N_ITEMS, cutoffs=(5,))
    assert report.name == scorer.name == name
    assert report.metrics["n_targets"] == 3
    assert 0 <= report.metrics["ndcg@5"] <= report.metrics["hr@5"] <= 1


def test_it_comes_back_from_disk(fit: Fit, tmp_path: Path) -> None:
    fitted = fit(sequences())
    save_baseline(fitted, tmp_path / "saved", facts={"seed": 0})
    assert sorted(path.suffix for path in (tmp_path / "saved").iterdir()) == [".json", ".safetensors"]
    loaded = load_baseline(tmp_path / "saved")
    assert (loaded.name, loaded.best, len(loaded.trials)) == (fitted.name, fitted.best, len(fitted.trials))
    assert np.array_equal(loaded.scorer.score(ASKED), fitted.scorer.score(ASKED))


def test_it_learns_what_follows_what(fit: Fit, name: BaselineName) -> None:
    # A ring: item i is followed by i + 1, and every item is as popular as any other.
    n, users = N_ITEMS, [[(start + step) % N_ITEMS for step in range(5)] for start in range(N_ITEMS)] * 3
    ring = UserSequences(
        np.array([str(u) for u in range(len(users))], dtype=object),
        np.arange(len(users) + 1) * 5,
        np.concatenate(users).astype(np.int32),
        np.arange(len(users) * 5),
        np.tile(np.array([TRAIN, TRAIN, TRAIN, TRAIN, VALID], dtype=np.int8), len(users)),
    )
    settings = small(width=32, dropout=0.1, learning_rate=0.01, batch_targets=32, max_epochs=90, patience=90)
    report = evaluate(fit(ring, settings=settings).scorer, ring, n, split="valid", cutoffs=(1, 3))
    if name == "popularity":  # all of the three unseen items are alike
        assert report.metrics["hr@1"] == pytest.approx(1 / 3)
    else:
        # AlphaRec has no weights of an item's own, only a network over titles, which are random here.
        assert report.metrics["hr@1"] > (0.7 if name == "alpharec" else 0.9)
