"""Rivals of one's own have the same trials, rows and folders as the built-in baselines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch

import flr
from flr.baselines.fitting import fit_baseline
from flr.baselines.registry import _REGISTERED, Rival
from flr.baselines.settings import BaselineSettings
from flr.baselines.storage import load_baseline
from flr.baselines.trials import settled, trial_settings
from flr.errors import ArtifactError, ConfigError
from flr.experiments.matrix import Study
from flr.experiments.weight_counts import baseline_weights
from flr.records import TEST, FloatArray, Histories, UserSequences
from toy import prepared_ring

GIVEN: list[UserSequences] = []


@dataclass
class NextPlace:
    """Recommends the item `stride` places on, as far as it is told the right stride; item numbers are their places."""

    n_items: int
    stride: int
    noise: float
    seed: int

    name = "next-place"
    n_weights = 7

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int, *, seed: int, stride: int, places: list[int]) -> Self:
        assert isinstance(places, list)
        GIVEN.append(sequences)
        return cls(n_items, stride, float(torch.rand(())), seed)

    def score(self, histories: Histories) -> FloatArray:
        last = histories.item_index[histories.offsets[1:] - 1]
        return np.eye(self.n_items)[(last + self.stride) % self.n_items]

    def save(self, folder: Path) -> None:
        (folder / "mine.json").write_text(json.dumps([self.n_items, self.stride, self.noise, self.seed]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(*json.loads((folder / "mine.json").read_text()))


@pytest.fixture
def registered() -> Iterator[None]:
    GIVEN.clear()
    first = {"stride": 2, "places": (1, 2)}
    flr.register_baseline("next-place", NextPlace, settings=first, grid={"stride": (1, 2, 3)})
    yield
    del _REGISTERED["next-place"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return prepared_ring(tmp_path / "data")


@pytest.mark.usefixtures("registered")
def test_it_has_trials_reports_and_a_folder_as_others_have(data: Path, tmp_path: Path) -> None:
    settings, output = BaselineSettings(trials=3), tmp_path / "out"
    markov, own = flr.run_baselines(data, output, only=["next-place", "last-item-markov"], settings=settings)
    assert (own.name, own.n_trials) == ("next-place", 3)
    assert own.test.metrics["ndcg@10"] == markov.test.metrics["ndcg@10"]  # stride 1, chosen on validation
    loaded = load_baseline(output / "next-place")
    assert isinstance(loaded.scorer, NextPlace)
    assert (loaded.scorer.stride, loaded.trials[0].settings) == (1, {"stride": 2, "places": [1, 2]})
    assert {trial.settings["stride"] for trial in loaded.trials} == {1, 2, 3}
    assert baseline_weights(output / "next-place", "next-place") == 7
    assert all((sequences.split != TEST).all() for sequences in GIVEN)

    n_fits = len(GIVEN)
    (again,) = flr.run_baselines(data, output, only=["next-place"], settings=settings)
    assert (len(GIVEN), again.test.metrics) == (n_fits, own.test.metrics)
    flr.register_baseline("next-place", NextPlace, settings={"stride": 1, "places": []})
    with pytest.raises(ArtifactError, match="holds a baseline of another registered"):
        flr.run_baselines(data, output, only=["next-place"], settings=settings)


@pytest.mark.usefixtures("registered")
def test_seeds_decide_what_is_drawn_and_leave_the_caller_alone(data: Path) -> None:
    sequences = flr.load_prepared(data).sequences

    def fitted(seed: int) -> tuple[float, int]:
        scorer = fit_baseline("next-place", sequences, 11, settings=BaselineSettings(trials=1), seed=seed).scorer
        assert isinstance(scorer, NextPlace)
        return scorer.noise, scorer.seed

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert fitted(0) == fitted(0) != fitted(1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("registered")
def test_what_one_seed_chose_is_what_others_take() -> None:
    settings = settled("next-place", BaselineSettings(trials=3), {"stride": 3, "places": []})
    assert trial_settings("next-place", settings) == [{"stride": 3, "places": []}]
    assert trial_settings("item-knn", settings)[0] == BaselineSettings().neighbours.model_dump()


@pytest.mark.usefixtures("registered")
def test_studies_name_it(data: Path) -> None:
    about = {"title": "Rings", "data": {"ring": {"folder": data}}, "variants": {"flr": {}}, "reference": "flr"}
    assert Study.model_validate({**about, "baselines": ["next-place"]}).baselines == ("next-place",)
    said = r"no baseline 'next-plate'; did you mean 'next-place'\? .*register_baseline first"
    with pytest.raises(ValueError, match=said):
        Study.model_validate({**about, "baselines": ["next-plate"]})


def test_whoever_does_not_know_it_is_told(data: Path, tmp_path: Path) -> None:
    flr.register_baseline("forgotten", NextPlace, settings={"stride": 1, "places": []})
    flr.run_baselines(data, tmp_path / "out", only=["forgotten"])
    del _REGISTERED["forgotten"]
    with pytest.raises(ConfigError, match=r"no baseline 'forgotten'; .*flr\.register_baseline first"):
        load_baseline(tmp_path / "out" / "forgotten")


class Unkept:
    """Has no `save`."""

    name, fit, load, score = "unkept", NextPlace.fit, NextPlace.load, NextPlace.score


@pytest.mark.parametrize(
    ("name", "cls", "options", "said"),
    [
        ("sasrec", NextPlace, {}, "'sasrec' is built in; choose another name"),
        ("../x", NextPlace, {}, r"got the name '../x', expected letters"),
        ("unkept", Unkept, {}, r"which has no save\(\)"),
        ("x", NextPlace, {"grid": {"stride": [1]}}, r"grid of 'x' has 'stride', expected settings of its first trial"),
        ("x", NextPlace, {"settings": {"stride": 1}, "grid": {"stride": []}}, "no values of 'stride'; leave it out"),
        ("x", NextPlace, {"settings": {"stride": np.arange(2)}}, r"settings of 'x' cannot be written as JSON"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: str, cls: type[Rival], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        flr.register_baseline(name, cls, **options)
    assert name not in _REGISTERED
