"""What tables of a study's evidence are made from: the tables of single runs, by model and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from flr.evaluation.significance import Interval
from flr.experiments.evidence_files import Subject, load_table

#: Seeds of a model -> whose evidence.
OfSeeds = Mapping[int, Subject]


def tables_by_seed(models: Mapping[str, OfSeeds], instrument: str, settings: Any) -> dict[str, dict[int, pl.DataFrame]]:
    """Return a table of every run that has it, by model and seed; models without any are left out."""
    found: dict[str, dict[int, pl.DataFrame]] = {}
    for model, of_seeds in models.items():
        for seed, subject in of_seeds.items():
            table = load_table(subject, instrument, settings)
            if table is not None:
                found.setdefault(model, {})[seed] = table
    return found


def details_table(models: Mapping[str, OfSeeds], instrument: str, settings: Any) -> pl.DataFrame:
    """Return what an instrument found in each run, one below the other, with ``model`` and ``seed``."""
    parts = []
    for model, of_seeds in models.items():
        for seed, subject in of_seeds.items():
            table = load_table(subject, instrument, settings)
            if table is not None:
                parts.append(table.select(pl.lit(model).alias("model"), pl.lit(seed).alias("seed"), pl.all()))
    return pl.concat(parts) if parts else pl.DataFrame()


def cells_of(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    """Return value and ends, None where there is none."""
    if interval is None:
        return None, None, None
    found = (interval.mean, interval.low, interval.high)
    value, low, high = (None if np.isnan(each) else float(each) for each in found)
    return value, low, high


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame()
