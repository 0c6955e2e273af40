"""Factorized Latent Reasoning: recommend by thinking in preference factors, then writing a title.

The road, left to right; each station takes the record on its left and returns the record on its right::

    raw files -> interactions -> user sequences -> token streams -> hidden states -> thought
              -> log-probabilities over the catalogue -> ranking -> report

    data/        raw files -> user sequences           reasoner/    hidden states -> thought
    catalogue/   items -> titles -> trie               scoring/     thought -> log-probabilities -> ranking
    text/        user sequences -> token streams       evaluation/  ranking -> report
    backbone/    token streams -> hidden states        training/    the other journey over the same road

`import flr` loads neither torch nor transformers; the public names below do so on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from flr.baselines.registry import register_baseline
    from flr.building import register_reasoner
    from flr.bulk import ListSettings, write_lists
    from flr.catalogue.filters import Between, ItemFilter
    from flr.config import Config, load_config
    from flr.data.preparation import prepare
    from flr.data.readers import read, read_frames
    from flr.data.storage import load_prepared, save_prepared
    from flr.diagnostics.factor_records import collect_factors
    from flr.errors import FlrError
    from flr.evaluation.protocol import evaluate
    from flr.evaluation.reports import save_report
    from flr.experiments.baselines import run_baselines
    from flr.experiments.matrix import load_study
    from flr.experiments.side_by_side import compare_folders
    from flr.experiments.study import run_study
    from flr.explanation.attribution import explain
    from flr.explanation.profiling import profile_factors
    from flr.lists import Recommendation
    from flr.model import FLRModel
    from flr.prepare_config import PrepareConfig
    from flr.recommender import Recommender
    from flr.records import Histories, Interactions, UserSequences
    from flr.training.alignment import align_run
    from flr.training.finished import evaluate_run
    from flr.training.run import train_run

_HOMES = {
    "Between": "flr.catalogue.filters",
    "Config": "flr.config",
    "FLRModel": "flr.model",
    "FlrError": "flr.errors",
    "Histories": "flr.records",
    "Interactions": "flr.records",
    "ItemFilter": "flr.catalogue.filters",
    "ListSettings": "flr.bulk",
    "PrepareConfig": "flr.prepare_config",
    "Recommendation": "flr.lists",
    "Recommender": "flr.recommender",
    "UserSequences": "flr.records",
    "align_run": "flr.training.alignment",
    "collect_factors": "flr.diagnostics.factor_records",
    "compare_folders": "flr.experiments.side_by_side",
    "evaluate": "flr.evaluation.protocol",
    "evaluate_run": "flr.training.finished",
    "explain": "flr.explanation.attribution",
    "load_config": "flr.config",
    "load_prepared": "flr.data.storage",
    "load_study": "flr.experiments.matrix",
    "prepare": "flr.data.preparation",
    "profile_factors": "flr.explanation.profiling",
    "read": "flr.data.readers",
    "read_frames": "flr.data.readers",
    "register_baseline": "flr.baselines.registry",
    "register_reasoner": "flr.building",
    "run_baselines": "flr.experiments.baselines",
    "run_study": "flr.experiments.study",
    "save_prepared": "flr.data.storage",
    "save_report": "flr.evaluation.reports",
    "train_run": "flr.training.run",
    "write_lists": "flr.bulk",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
