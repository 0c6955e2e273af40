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
    from flr.catalogue.filters import Between, ItemFilter
    from flr.config import Config, load_config
    from flr.data.storage import load_prepared
    from flr.errors import FlrError
    from flr.lists import Recommendation
    from flr.model import FLRModel
    from flr.recommender import Recommender

_HOMES = {
    "Between": "flr.catalogue.filters",
    "Config": "flr.config",
    "load_config": "flr.config",
    "load_prepared": "flr.data.storage",
    "FlrError": "flr.errors",
    "FLRModel": "flr.model",
    "ItemFilter": "flr.catalogue.filters",
    "Recommendation": "flr.lists",
    "Recommender": "flr.recommender",
}

__all__ = [
    "Between",
    "Config",
    "FLRModel",
    "FlrError",
    "ItemFilter",
    "Recommendation",
    "Recommender",
    "load_config",
    "load_prepared",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
