"""What interventions and the kind of target do to NDCG@10, pooled over seeds and resampled by user.

Factors have no identity across seeds, so single factors stand by their run, and only what does not name one ("any
factor") is pooled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from flr.evaluation.significance import (
    Interval,
    clustered_bootstrap,
    hidden_loss,
    over_other_seeds,
    percentile_interval,
    resampled_means,
)
from flr.evaluation.slices import slice_masks
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.pooling import OfSeeds, cells_of, frame_of, tables_by_seed
from flr.records import USER_INDEX, FloatArray, IntArray
from flr.seeding import generator

_NAN: Final = float("nan")
#: With fewer users who lost anything, an interval takes into account what has not been seen.
_FEW_LOSING: Final = 10


def effects_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings, labels: pl.DataFrame) -> pl.DataFrame:
    """Return what interventions change, pooled over seeds and by run, and pooled also by slice.

    Returns:
        ``model``, ``seed`` ("all" or one), ``intervention``, ``slice``, ``label``, ``change`` of NDCG@10 with ``low``
        and ``high``, ``full`` (the metric as it is), ``kept`` (share of the first five items that stay), ``targets``,
        ``users``, ``seeds``. Where few users lost anything ``low`` is what that can hide, see `hidden_loss`; intervals
        of all seeds allow for others.
    """
    rows = []
    for model, frames in tables_by_seed(models, "interventions", settings.interventions).items():
        rng = generator(0, f"evidence interventions {model}")
        pooled = pl.concat([_pooled(frame) for frame in frames.values()])
        seeds = np.repeat(list(frames), [frame.height for frame in frames.values()])
        rows += _changes(pooled, labels, rng, {"model": model, "seed": "all"}, seeds)
        for seed, frame in frames.items():
            single = frame.select(pl.all().exclude("^(kept )?only .*$"))
            about = {"model": model, "seed": str(seed)}
            rows += _changes(single, labels.select("row", USER_INDEX), rng, about, np.full(single.height, seed))
    return frame_of(rows)


def _pooled(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a run's interventions without names of factors: each kind's mean over factors."""
    by_kind: dict[str, list[str]] = {}
    for name in frame.columns[3:]:
        stem, _, factor = name.rpartition(" ")
        if factor.isdigit():
            by_kind.setdefault(f"{stem} any factor", []).append(name)
    means = {name: pl.mean_horizontal(columns) for name, columns in by_kind.items() if "only" not in name}
    whole = [name for name in frame.columns[3:] if not name.rpartition(" ")[2].isdigit()]
    return frame.select("row", USER_INDEX, "none", *whole).with_columns(frame.select(**means))


def _changes(
    frame: pl.DataFrame,
    labels: pl.DataFrame,
    rng: np.random.Generator,
    about: dict[str, Any],
    seeds: IntArray,
) -> list[dict[str, Any]]:
    """Return a row per intervention and slice; `seeds` are those of the targets, [n]."""
    of_rows = frame.select("row").join(labels, on="row", how="left", maintain_order="left")
    masks = slice_masks(of_rows)
    full, users = frame["none"].to_numpy(), frame[USER_INDEX].to_numpy()
    names = [name for name in frame.columns[3:] if not name.startswith("kept ")]
    cells = [(name, *mask) for name in names for mask in masks]
    changes = {name: frame[name].to_numpy() - full for name in names}
    columns = np.stack([np.where(mask[2], change, _NAN) for change in changes.values() for mask in masks], axis=1)
    found = _intervals(columns, users, rng)
    rows = []
    for (name, of_slice, label, mask), of_users in zip(cells, found, strict=True):
        of_seeds = _by_seed(changes[name][mask], seeds[mask])
        change, low, high = cells_of(over_other_seeds(of_users, of_seeds, own_users=True))
        if low is not None:
            low = min(low, -_hidden(changes[name][mask], full[mask], users[mask]))
        rows.append(
            about
            | {"intervention": name, "slice": of_slice, "label": label, "change": change, "low": low, "high": high}
            | {"full": float(full[mask].mean()), "kept": float(frame[f"kept {name}"].to_numpy()[mask].mean())}
            | {"targets": int(mask.sum()), "users": len(np.unique(users[mask])), "seeds": len(of_seeds)}
        )
    return rows


def _by_seed(values: FloatArray, seeds: IntArray) -> FloatArray:
    """Return the mean of each seed's values, [S]."""
    _, seed = np.unique(seeds, return_inverse=True)
    means: FloatArray = np.bincount(seed, weights=values) / np.bincount(seed)
    return means


def _hidden(changes: FloatArray, full: FloatArray, users: IntArray) -> float:
    """Return the loss that these targets may have missed, where a bootstrap has too few users who lost to draw from."""
    _, user = np.unique(users, return_inverse=True)
    n_losing = int((np.bincount(user, weights=changes) < 0).sum())
    hits = full[full > 0]
    if n_losing >= _FEW_LOSING or not len(hits):
        return 0.0
    return hidden_loss(n_losing, int(user.max()) + 1, float(hits.mean()))


def _intervals(columns: FloatArray, users: IntArray, rng: np.random.Generator) -> list[Interval]:
    """Return the mean of every column over its targets (others are NaN), with its interval over users."""
    means = resampled_means(columns, users, rng)
    found = []
    for column, drawn in zip(columns.T, means.T, strict=True):
        known = ~np.isnan(column)
        one_user = len(np.unique(users[known])) < 2
        mean = float(column[known].mean())
        found.append(Interval(mean, _NAN, _NAN) if one_user else percentile_interval(mean, drawn))
    return found


def oracle_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings) -> pl.DataFrame:
    """Return what choosing the best single factor of every target, known from the answer, would be worth.

    No gate that chooses one factor for all steps can do better; one that mixes factors could. Some of the gain is luck:
    the best of K unequal rankings is better than any, even where none knows more than another.

    Returns:
        ``model``, ``full``, ``best_fixed`` (one factor alone, in each run the best on the other half of the users),
        ``oracle``, ``gain`` (oracle less full) with ``low`` and ``high``, ``seeds``; means over targets of all runs.
    """
    rows = []
    for model, frames in tables_by_seed(models, "interventions", settings.interventions).items():
        parts = []
        for frame in frames.values():
            alone = [name for name in frame.columns if name.startswith("only ")]
            best, fixed = pl.max_horizontal(alone), _cross_fitted(frame, alone)
            parts.append(frame.select(USER_INDEX, full="none", best_fixed=fixed, oracle=best))
        pooled = pl.concat(parts)
        gains, rng = (pooled["oracle"] - pooled["full"]).to_numpy(), generator(0, f"evidence oracle {model}")
        gain = clustered_bootstrap(gains, pooled[USER_INDEX].to_numpy(), rng)
        means = {name: float(np.mean(pooled[name].to_numpy())) for name in ("full", "best_fixed", "oracle")}
        rows.append(
            {"model": model, **means, "gain": gain.mean, "low": gain.low, "high": gain.high, "seeds": len(parts)}
        )
    return frame_of(rows)


def _cross_fitted(frame: pl.DataFrame, alone: Sequence[str]) -> pl.Series:
    """Return of each target the metric of the factor that is best on the half of the users without its own."""
    by_factor, users = frame.select(alone).to_numpy(), frame[USER_INDEX].to_numpy()
    drawn = generator(0, "evidence oracle halves").permutation(np.unique(users))
    is_first = np.isin(users, drawn[: len(drawn) // 2])
    of_first, of_second = (by_factor[:, by_factor[half].mean(0).argmax()] for half in (~is_first, is_first))
    return pl.Series(np.where(is_first, of_first, of_second))


def slices_table(
    models: Mapping[str, Mapping[int, pl.DataFrame]], reference: str, labels: pl.DataFrame
) -> pl.DataFrame:
    """Return NDCG@10 of every model on every kind of target, and the reference less the model.

    Args:
        models: Name -> seed -> `Report.per_target` of the test split.
        reference: Name of the reference.
        labels: From `slice_labels`, in the order of the reports' rows.
    """
    rows = []
    ours = models[reference]
    for model, of_seeds in models.items():
        shared = sorted(of_seeds.keys() & ours.keys())
        if not shared:
            continue
        means = [
            np.mean([by_seed[seed].sort("row")["ndcg@10"].to_numpy() for seed in shared], axis=0)
            for by_seed in (of_seeds, ours)
        ]
        ordered = labels.sort("row")
        users, masks = ordered[USER_INDEX].to_numpy(), slice_masks(ordered)
        columns = [np.where(mask, values, _NAN) for values in (means[0], means[1] - means[0]) for *_, mask in masks]
        found = _intervals(np.stack(columns, axis=1), users, generator(0, "evidence slices"))
        for place, (name, label, mask) in enumerate(masks):
            # On all targets models are compared by `flr.experiments.verdicts`, which has other runs in mind.
            compared = None if model == reference or name == "all" else found[len(masks) + place]
            row: dict[str, Any] = {"model": model, "slice": name, "label": label}
            row |= dict(zip(("value", "low", "high"), cells_of(found[place]), strict=True))
            row |= dict(zip(("difference", "difference_low", "difference_high"), cells_of(compared), strict=True))
            rows.append(row | {"targets": int(mask.sum()), "users": len(np.unique(users[mask])), "seeds": len(shared)})
    return frame_of(rows)
