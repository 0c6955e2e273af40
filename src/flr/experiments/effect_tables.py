"""What interventions, damage and the kind of target do to NDCG@10, pooled over seeds and resampled by user.

Factors have no identity across seeds, so single factors stand by their run, and only what does not name one ("any
factor") is pooled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from flr.evaluation.damage import DAMAGES
from flr.evaluation.robustness import damages_of, hardest
from flr.evaluation.significance import Interval, clustered_bootstrap, hidden_loss, percentile_interval, resampled_means
from flr.evaluation.slices import slice_masks
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.pooling import OfSeeds, cells_of, frame_of, tables_by_seed
from flr.records import USER_INDEX, FloatArray, IntArray, UserSequences
from flr.seeding import generator

#: Row of `robustness_table` that is the mean over all damages.
ALL_DAMAGES: Final = "all damages"
_NAN: Final = float("nan")
#: With fewer users who lost anything, an interval takes into account what has not been seen.
_FEW_LOSING: Final = 10


def effects_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings, labels: pl.DataFrame) -> pl.DataFrame:
    """Return what interventions change, pooled over seeds and by run, and pooled also by slice.

    Returns:
        ``model``, ``seed`` ("all" or one), ``intervention``, ``slice``, ``label``, ``change`` of NDCG@10 with ``low``
        and ``high``, ``full`` (the metric as it is), ``kept`` (share of the first five items that stay), ``targets``,
        ``users``. Where few users lost anything ``low`` is what that can hide, see `hidden_loss`.
    """
    rows = []
    for model, frames in tables_by_seed(models, "interventions", settings.interventions).items():
        rng = generator(0, f"evidence interventions {model}")
        pooled = pl.concat([_pooled(frame) for frame in frames.values()])
        rows += _changes(pooled, labels, rng, {"model": model, "seed": "all"})
        for seed, frame in frames.items():
            single = frame.select(pl.all().exclude("^(kept )?only .*$"))
            rows += _changes(single, labels.select("row", USER_INDEX), rng, {"model": model, "seed": str(seed)})
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
    frame: pl.DataFrame, labels: pl.DataFrame, rng: np.random.Generator, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return a row per intervention and slice."""
    of_rows = frame.select("row").join(labels, on="row", how="left", maintain_order="left")
    masks = slice_masks(of_rows)
    full, users = frame["none"].to_numpy(), frame[USER_INDEX].to_numpy()
    names = [name for name in frame.columns[3:] if not name.startswith("kept ")]
    cells = [(name, *mask) for name in names for mask in masks]
    changes = {name: frame[name].to_numpy() - full for name in names}
    columns = np.stack([np.where(mask[2], change, _NAN) for change in changes.values() for mask in masks], axis=1)
    found = _intervals(columns, users, rng)
    rows = []
    for (name, of_slice, label, mask), interval in zip(cells, found, strict=True):
        change, low, high = cells_of(interval)
        if low is not None:
            low = min(low, -_hidden(changes[name][mask], full[mask], users[mask]))
        rows.append(
            about
            | {"intervention": name, "slice": of_slice, "label": label, "change": change, "low": low, "high": high}
            | {"full": float(full[mask].mean()), "kept": float(frame[f"kept {name}"].to_numpy()[mask].mean())}
            | {"targets": int(mask.sum()), "users": len(np.unique(users[mask]))}
        )
    return rows


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


def robustness_table(
    models: Mapping[str, OfSeeds], settings: EvidenceSettings, reference: str, sequences: UserSequences, n_items: int
) -> pl.DataFrame:
    """Return how much of NDCG@10 every model loses, and how much more (above 0) than the reference.

    Returns:
        ``model``, ``strain``, ``strength``, ``value``, ``loss`` (relative) with ``low`` and ``high``; ``difference``,
        the model's relative loss less the reference's on the same targets and seeds, with its interval; ``targets``,
        ``seeds``. The strain `ALL_DAMAGES` is the mean over damages of all strengths.
    """
    frames = tables_by_seed(models, "robustness", settings.robustness)
    if settings.robustness is None or reference not in frames:
        return pl.DataFrame()
    strengths = settings.robustness.strengths
    damages = damages_of(strengths)
    n_damages = len(damages)
    selections = [(name, strength) for name, each in strengths.items() if name not in DAMAGES for strength in each]
    strains = [*damages, *selections]
    rows = []
    for model, of_seeds in frames.items():
        shared = sorted(of_seeds.keys() & frames[reference].keys())
        if not shared:
            continue
        ours, theirs = (
            pl.concat([by_seed[seed].sort("row") for seed in shared]) for by_seed in (frames[reference], of_seeds)
        )
        masks = {each: hardest(theirs, sequences, n_items, *each) for each in selections}
        rng = generator(0, "evidence robustness")
        means = [_strained_means(frame, strains, masks) for frame in (theirs, ours)]
        users = theirs[USER_INDEX].to_numpy()
        drawn = resampled_means(np.concatenate(means, axis=1), users, rng)
        n = len(strains) + 1
        losses, ours_lost = (_losses(part, n_damages) for part in (drawn[:, :n], drawn[:, n:]))
        exact, ours_exact = (_losses(np.nanmean(part, axis=0)[None], n_damages)[0] for part in means)
        values = np.nanmean(means[0], axis=0)
        for place, (strain, strength) in enumerate([*strains, (ALL_DAMAGES, 0.0)]):
            loss = percentile_interval(float(exact[place]), losses[:, place])
            more = percentile_interval(float(exact[place] - ours_exact[place]), (losses - ours_lost)[:, place])
            compared = None if model == reference else more
            kept = masks.get((strain, strength), np.ones(len(users), dtype=np.bool_))
            row: dict[str, Any] = {"model": model, "strain": strain, "strength": strength}
            row |= {"value": float(values[place + 1]) if place < len(strains) else _NAN}
            row |= dict(zip(("loss", "low", "high"), cells_of(loss), strict=True))
            row |= dict(zip(("difference", "difference_low", "difference_high"), cells_of(compared), strict=True))
            rows.append(row | {"targets": int(kept.sum()), "seeds": len(shared)})
    return frame_of(rows)


def _strained_means(
    frame: pl.DataFrame, strains: Sequence[tuple[str, float]], masks: Mapping[tuple[str, float], Any]
) -> FloatArray:
    """Return the metric undamaged, then under each strain, NaN at targets that a selection leaves out, [n, 1 + m]."""
    clean = frame["none"].to_numpy()
    columns = [clean]
    for each in strains:
        kept = masks.get(each)
        columns.append(frame[f"{each[0]} {each[1]:g}"].to_numpy() if kept is None else np.where(kept, clean, _NAN))
    return np.stack(columns, axis=1)


def _losses(means: FloatArray, n_damages: int) -> FloatArray:
    """Return relative losses from means [r, 1 + m]: of each strain, damages first, then their mean, [r, m + 1]."""
    clean = means[:, :1]
    losses = 1 - np.divide(means[:, 1:], clean, out=np.full_like(means[:, 1:], _NAN), where=clean > 0)
    of_damages = losses[:, :n_damages].mean(1, keepdims=True) if n_damages else np.full((len(means), 1), _NAN)
    return np.concatenate([losses, of_damages], axis=1)


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
