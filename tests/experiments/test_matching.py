"""Variants of equal cost, for every shipped ablation and by operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flr.catalogue.titles import build_catalogue
from flr.data.storage import load_prepared
from flr.errors import ConfigError
from flr.experiments.matching import matched_cells
from flr.experiments.matrix import MATCHED_WITHIN, Study, load_study
from flr.training.estimate import estimate_run, n_weights
from toy import prepared_ring

ABLATIONS = Path(__file__).parents[2] / "configs" / "studies" / "ablations.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data")


@pytest.fixture(scope="module")
def ablations(data: Path) -> Study:
    study = load_study(ABLATIONS)
    (name,) = study.data
    return study.model_copy(update={"data": {name: study.data[name].model_copy(update={"folder": data})}})


def test_every_ablation_is_there_and_as_large_as_it_says(ablations: Study, data: Path, tmp_path: Path) -> None:
    """A dry run: settings are checked, weights counted, nothing trained."""
    found = {cell.variant: cell.config for cell in matched_cells(ablations, tmp_path) if cell.seed == 0}
    assert {config.reasoner.n_factors for config in found.values()} == {1, 2, 3, 4, 6, 8}
    assert {config.reasoner.n_steps for config in found.values()} == {1, 2, 3}
    assert found["shuffled factors"].reasoner.shuffle_factors
    assert found["wide single vector"].reasoner.factor_width == 4 * found["flr"].backbone.width
    for name in ("orth", "div", "sparse"):
        zeros = [variant for variant, config in found.items() if getattr(config.objective, f"lambda_{name}") == 0]
        assert len(zeros) == 2  # without this one, and without any
    catalogue = build_catalogue(load_prepared(data).items)
    counts = {variant: n_weights(config, catalogue) for variant, config in found.items()}
    by_operations = {name for name, variant in ablations.variants.items() if variant.match == "operations"}
    for variant, n in counts.items():
        if variant not in by_operations:
            assert abs(n - counts["flr"]) <= MATCHED_WITHIN * counts["flr"], variant
    assert by_operations == {"no thought, equal operations"}


def test_equal_operations_are_of_a_training_step_per_target(ablations: Study, data: Path, tmp_path: Path) -> None:
    found = {cell.variant: cell.config for cell in matched_cells(ablations, tmp_path) if cell.seed == 0}

    def operations(variant: str) -> float:
        estimate = estimate_run(found[variant], load_prepared(data), device_tflops=None, utilisation=1.0)
        return (estimate.forward_flops + estimate.backward_flops) / estimate.targets_per_step

    assert operations("no thought, equal operations") == pytest.approx(operations("flr"), rel=MATCHED_WITHIN)
    assert operations("no thought") < 0.95 * operations("flr")
    assert found["no thought, equal operations"].backbone.feed_forward > found["no thought"].backbone.feed_forward


def test_operations_that_cannot_be_matched_are_refused(data: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "title": "t",
        "data": {"toy": {"folder": data}},
        "variants": {
            "flr": {},
            "deep": {"settings": {"backbone.n_layers": 9}, "match": "operations"},
        },
        "reference": "flr",
        "seeds": [0, 1],
    }
    with pytest.raises(
        ConfigError, match=r"variant 'deep' has [\d,]+ operations per target, the reference 'flr' [\d,]+"
    ):
        list(matched_cells(Study.model_validate(given), tmp_path))
