"""Data and models that several benchmarks measure on."""

from __future__ import annotations

import resource

import torch

from flr.catalogue.titles import build_catalogue
from flr.config import Config
from flr.data.preparation import prepare
from flr.data.sources import read_source
from flr.recommender import Recommender
from flr.records import PreparedData
from flr.training.run import build_recommender


def movielens() -> PreparedData:
    """Return MovieLens-100K, leave-one-out."""
    return prepare(read_source("ml-100k"))


def compact_on_movielens(config: Config | None = None) -> tuple[Recommender, PreparedData]:
    """Return an untrained model of the default settings on MovieLens-100K, leave-one-out."""
    prepared = movielens()
    torch.manual_seed(0)
    recommender = build_recommender(config or Config(), build_catalogue(prepared.items), torch.device("cpu"))
    return recommender, prepared


def peak_memory_mb() -> float:
    """Return the most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
