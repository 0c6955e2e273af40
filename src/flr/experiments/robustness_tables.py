"""How much of NDCG@10 damage and unusual targets cost every model, and how much more than the reference.

Damaged histories are asked about in the evidence of each run, for some users. Unusual targets are those of its test
report: they are selected among all that were ranked anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from flr.evaluation.damage import DAMAGES
from flr.evaluation.robustness import damages_of, hardest
from flr.evaluation.significance import over_other_seeds, percentile_interval, resampled_means
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.pooling import OfSeeds, cells_of, frame_of, tables_by_seed
from flr.records import USER_INDEX, BoolArray, FloatArray, IntArray, UserSequences
from flr.seeding import generator

#: Row of the table that is the mean over all damages.
ALL_DAMAGES: Final = "all damages"
_METRIC: Final = "ndcg@10"
_NAN: Final = float("nan")

_Strain = tuple[str, float]


@dataclass(frozen=True)
class _Asked:
    """A model's metric on the targets of one seed.

    Attributes:
        values: As they are, then under each strain, NaN at targets that are not selected, [n, 1 + m].
        users: User of each target, [n].
    """

    values: FloatArray
    users: IntArray


def robustness_table(
    models: Mapping[str, OfSeeds],
    reports: Mapping[str, Mapping[int, pl.DataFrame]],
    settings: EvidenceSettings,
    reference: str,
    *,
    sequences: UserSequences,
    n_items: int,
) -> pl.DataFrame:
    """Return how much of NDCG@10 every model loses, and how much more (above 0) than the reference.

    Args:
        models: Whose evidence is read.
        reports: Model -> seed -> `Report.per_target` of the test split.
        settings: Strengths of every strain.
        reference: Name of the reference.
        sequences: The data that were evaluated on.
        n_items: Size of the catalogue N.

    Returns:
        ``model``, ``strain``, ``strength``, ``value``, ``loss`` (relative) with ``low`` and ``high``; ``difference``,
        the model's relative loss less the reference's on the same targets and seeds, with its interval, which allows
        for other seeds; ``targets``, ``seeds``. The strain `ALL_DAMAGES` is the mean over damages of all strengths.
    """
    frames = tables_by_seed(models, "robustness", settings.robustness)
    if settings.robustness is None or reference not in frames:
        return pl.DataFrame()
    strengths = settings.robustness.strengths
    damages = damages_of(strengths)
    selections = [(name, strength) for name, each in strengths.items() if name not in DAMAGES for strength in each]
    damaged = {
        model: {seed: _damaged(frame, damages) for seed, frame in of_seeds.items()}
        for model, of_seeds in frames.items()
    }
    tested = next(iter(reports[reference].values())).sort("row")  # the same targets for all
    masks = [hardest(tested, sequences, n_items, *each) for each in selections]
    selected = {model: {seed: _selected(report, masks) for seed, report in reports[model].items()} for model in frames}
    rows: list[dict[str, Any]] = []
    for model, of_seeds in frames.items():
        if of_seeds.keys() & frames[reference].keys():
            rows += _losses_of(damaged, model, reference, damages, own_users=True)
            rows += _losses_of(selected, model, reference, selections, own_users=False)
    return frame_of(rows)


def _damaged(frame: pl.DataFrame, damages: Sequence[_Strain]) -> _Asked:
    ordered = frame.sort("row")
    columns = ["none", *(f"{strain} {strength:g}" for strain, strength in damages)]
    return _Asked(ordered.select(columns).to_numpy(), ordered[USER_INDEX].to_numpy())


def _selected(report: pl.DataFrame, masks: Sequence[BoolArray]) -> _Asked:
    ordered = report.sort("row")
    values = ordered[_METRIC].to_numpy()
    kept = (np.where(mask, values, _NAN) for mask in masks)
    return _Asked(np.stack([values, *kept], axis=1), ordered[USER_INDEX].to_numpy())


def _losses_of(
    asked: Mapping[str, Mapping[int, _Asked]],
    model: str,
    reference: str,
    strains: Sequence[_Strain],
    *,
    own_users: bool,
) -> Iterator[dict[str, Any]]:
    """Yield a row per strain, and one for the mean of all where each seed has users of its own (damages).

    Args:
        asked: Model -> seed -> values.
        model: Whose losses.
        reference: Whose losses are taken off.
        strains: In the order of the columns.
        own_users: See `over_other_seeds`.
    """
    shared = sorted(asked[model].keys() & asked[reference].keys())
    both = [[asked[name][seed].values for seed in shared] for name in (model, reference)]
    users = np.concatenate([asked[model][seed].users for seed in shared])
    pooled = [np.concatenate(of_seeds) for of_seeds in both]
    means = resampled_means(np.concatenate(pooled, axis=1), users, generator(0, "evidence robustness"))
    theirs, ours = (_losses(part) for part in np.split(means, 2, axis=1))
    (exact,), (ours_exact,) = (_losses(np.nanmean(part, axis=0)[None]) for part in pooled)
    of_seeds = [np.concatenate([_losses(np.nanmean(part, axis=0)[None]) for part in parts]) for parts in both]
    n_kept = (~np.isnan(pooled[0])).sum(0)
    n_rows = len(strains) + own_users
    for place, (strain, strength) in enumerate([*strains, (ALL_DAMAGES, 0.0)][:n_rows]):
        loss = percentile_interval(float(exact[place]), theirs[:, place])
        more = percentile_interval(float(exact[place] - ours_exact[place]), (theirs - ours)[:, place])
        more = over_other_seeds(more, (of_seeds[0] - of_seeds[1])[:, place], own_users=own_users)
        is_strain = place < len(strains)
        row: dict[str, Any] = {"model": model, "strain": strain, "strength": strength}
        row |= {"value": float(np.nanmean(pooled[0][:, place + 1])) if is_strain else _NAN}
        row |= dict(zip(("loss", "low", "high"), cells_of(loss), strict=True))
        compared = cells_of(None if model == reference else more)
        row |= dict(zip(("difference", "difference_low", "difference_high"), compared, strict=True))
        yield row | {"targets": int(n_kept[place + 1 if is_strain else 0]), "seeds": len(shared)}


def _losses(means: FloatArray) -> FloatArray:
    """Return relative losses from means [r, 1 + m]: of each strain, then their mean, [r, m + 1]."""
    clean = means[:, :1]
    losses = 1 - np.divide(means[:, 1:], clean, out=np.full_like(means[:, 1:], _NAN), where=clean > 0)
    of_all = losses.mean(1, keepdims=True) if losses.shape[1] else np.full((len(means), 1), _NAN)
    return np.concatenate([losses, of_all], axis=1)
