"""The public names are a promise, and importing the package costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import flr

DOCUMENTED = [
    "Between",
    "Config",
    "FLRModel",
    "FlrError",
    "Histories",
    "Interactions",
    "ItemFilter",
    "ListSettings",
    "PrepareConfig",
    "Recommendation",
    "Recommender",
    "UserSequences",
    "align_run",
    "collect_factors",
    "compare_folders",
    "evaluate",
    "evaluate_run",
    "explain",
    "load_config",
    "load_prepared",
    "load_study",
    "prepare",
    "profile_factors",
    "read",
    "read_frames",
    "register_baseline",
    "register_reasoner",
    "run_baselines",
    "run_study",
    "save_prepared",
    "save_report",
    "train_run",
    "write_lists",
]


def modules_loaded_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_public_names_are_the_documented_ones() -> None:
    assert sorted(flr.__all__) == sorted(DOCUMENTED)
    assert set(DOCUMENTED) < set(dir(flr))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_is_at_home_where_the_root_says(name: str) -> None:
    value = getattr(flr, name)
    assert getattr(importlib.import_module(value.__module__), name) is value
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Recomender'"):
        _ = flr.Recomender


@pytest.mark.parametrize("statement", ["import flr", "import flr; flr.Config()", "import flr.cli.main"])
def test_importing_loads_no_model_library(statement: str) -> None:
    assert not modules_loaded_by(statement) & {"torch", "transformers", "accelerate", "peft"}


def test_reading_prepared_data_loads_no_torch() -> None:
    assert "torch" not in modules_loaded_by("from flr import load_prepared")
