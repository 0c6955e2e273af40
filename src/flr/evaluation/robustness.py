"""How much a model loses when what it is told about a person is damaged, or when it is asked about harder targets.

Two kinds of strain, each at several strengths:

==========  ==========================================================  =====================================
histories   what happens to each                                        strength
==========  ==========================================================  =====================================
insert      random items of the catalogue are inserted at random        share of the length, 0.1 = one in ten
drop        random items are left out (one stays)                       share of the length
shuffle     random items change places with each other                  share of the length
truncate    the last items are left out (one stays)                     number of items
targets     which are kept; scores are those of whole histories
shifted     users whose histories are least popular, by mean log count  share of users that is left out
cold        items that were taken least in training                     share of targets that is left out
==========  ==========================================================  =====================================

Damage depends on the seed and the history alone, not on batches. Candidates stay what they were: an inserted item is
not excluded from the ranking, a dropped one still is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from flr.errors import ConfigError
from flr.evaluation.metrics import training_counts
from flr.evaluation.protocol import Scorer, evaluate
from flr.evaluation.significance import Interval, clustered_bootstrap
from flr.records import ITEM_INDEX, USER_INDEX, BoolArray, FloatArray, Histories, IntArray, UserSequences
from flr.seeding import generator

DAMAGES: Final = ("insert", "drop", "shuffle", "truncate")
SELECTIONS: Final = ("shifted", "cold")
#: Strengths that `robustness_curves` tries.
STRENGTHS: Final[Mapping[str, Sequence[float]]] = {
    "insert": (0.1, 0.3, 0.5),
    "drop": (0.1, 0.3, 0.5),
    "shuffle": (0.25, 0.5, 1.0),
    "truncate": (1, 2, 5),
    "shifted": (0.5, 0.75, 0.9),
    "cold": (0.5, 0.75, 0.9),
}
#: Columns of `robustness_curves`.
SCHEMA: Final = {
    "strain": pl.String,
    "strength": pl.Float64,
    "value": pl.Float64,
    "relative_loss": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_targets": pl.Int64,
}


def damage(histories: Histories, kind: str, strength: float, *, n_items: int, seed: int) -> Histories:
    """Return damaged histories, none of them empty.

    Args:
        histories: What each person took, oldest first, none empty.
        kind: One of `DAMAGES`.
        strength: See the table on top; 0 changes nothing.
        n_items: Size of the catalogue that inserted items come from.
        seed: With a history's items, all that its damage depends on.

    Raises:
        ConfigError: The kind is unknown, or the strength is negative or, being a share, above 1.
    """
    if kind not in DAMAGES or strength < 0 or (strength > 1 and kind != "truncate"):
        raise ConfigError(
            f"damage {kind!r} of strength {strength}, expected one of {DAMAGES} and a share 0..1 or a number"
        )
    rows = []
    for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        items = histories.item_index[start:end]
        rng = generator(seed, f"damage {kind}", zlib.crc32(np.ascontiguousarray(items, dtype=np.int64).tobytes()))
        rows.append(_damaged(items, kind, strength, n_items, rng))
    offsets = np.cumsum([0, *map(len, rows)])
    return Histories(np.concatenate(rows) if rows else histories.item_index, offsets)


def _damaged(items: IntArray, kind: str, strength: float, n_items: int, rng: np.random.Generator) -> IntArray:
    if kind == "truncate":
        return items[: max(1, len(items) - int(strength))]
    n = round(strength * len(items))
    if kind == "insert":
        places = np.sort(rng.integers(0, len(items) + 1, n))
        return np.insert(items, places, rng.integers(0, n_items, n))
    chosen = np.sort(rng.permutation(len(items))[: min(n, len(items) - (kind == "drop"))])
    if kind == "drop":
        return np.delete(items, chosen)
    shuffled = items.copy()
    shuffled[chosen] = items[rng.permutation(chosen)]
    return shuffled


@dataclass(frozen=True)
class DamagedScorer:
    """A scorer that is told damaged histories.

    Attributes:
        scorer: Who is told.
        kind, strength, seed: See `damage`.
        n_items: Size of the catalogue.
        window: Only the last items are damaged, and told; None damages and tells whole histories. A model that reads
            a window of its own should be given it, or most of the damage falls where it does not look.
    """

    scorer: Scorer
    kind: str
    strength: float
    n_items: int
    seed: int = 0
    window: int | None = None

    @property
    def name(self) -> str:
        return f"{self.scorer.name} ({self.kind} {self.strength:g})"

    def score(self, histories: Histories) -> FloatArray:
        """Return the scores of the damaged histories, [B, N]."""
        told = histories if self.window is None else histories.window(self.window)
        return self.scorer.score(damage(told, self.kind, self.strength, n_items=self.n_items, seed=self.seed))


def robustness_curves(
    scorer: Scorer,
    sequences: UserSequences,
    n_items: int,
    *,
    strengths: Mapping[str, Sequence[float]] = STRENGTHS,
    metric: str = "ndcg@10",
    window: int | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    **options: Any,
) -> pl.DataFrame:
    """Return how much of a metric is lost under each strain, strength by strength.

    Args:
        scorer: Anything that scores the whole catalogue.
        sequences: All interactions.
        n_items: Size of the catalogue N.
        strengths: Strengths of each strain.
        metric: Of `evaluate`, with its cutoff.
        window: Last items that are damaged, see `DamagedScorer`; None: whole histories.
        seed: Of the damage and the resamples.
        n_resamples: Bootstrap resamples.
        **options: Passed to `evaluate`: ``split``, ``seen_items``, ``users``, ``batch_size``, ``progress``.

    Returns:
        Columns as `SCHEMA` has them; the first row, ``none``, is the undamaged evaluation. ``relative_loss`` is
        ``1 - value / undamaged value``, below 0 for a gain. The interval of damage is that of the paired differences,
        that of a selection the one of the mean of the targets that are left; both are taken relative to the undamaged
        value, which counts as given.

    Raises:
        ConfigError: A strain is unknown or a strength out of range.
    """
    if unknown := set(strengths) - {*DAMAGES, *SELECTIONS}:
        raise ConfigError(f"unknown strains {sorted(unknown)}, expected some of {(*DAMAGES, *SELECTIONS)}")
    options |= {"cutoffs": (int(metric.rpartition("@")[2]),)}
    plain = evaluate(scorer, sequences, n_items, **options).per_target
    values, users = plain[metric].to_numpy(), plain[USER_INDEX].to_numpy()
    clean, rng = float(values.mean()), generator(seed, "robustness")
    rows = [("none", 0.0, clean, 0.0, 0.0, 0.0, len(values))]
    for strain, each in strengths.items():
        for strength in each:
            if strain in DAMAGES:
                damaged = DamagedScorer(scorer, strain, strength, n_items, seed, window)
                after = evaluate(damaged, sequences, n_items, **options).per_target[metric].to_numpy()
                loss = clustered_bootstrap(values - after, users, rng, n_resamples=n_resamples)
                value, n = float(after.mean()), len(after)
            else:
                kept = hardest(plain, sequences, n_items, strain, strength)
                left = clustered_bootstrap(values[kept], users[kept], rng, n_resamples=n_resamples)
                loss = Interval(clean - left.mean, clean - left.high, clean - left.low)
                value, n = left.mean, int(kept.sum())
            scale = 1 / clean if clean else float("nan")
            rows.append((strain, float(strength), value, loss.mean * scale, loss.low * scale, loss.high * scale, n))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def hardest(per_target: pl.DataFrame, sequences: UserSequences, n_items: int, kind: str, strength: float) -> BoolArray:
    """Return True at the targets that a selection keeps, [n].

    Args:
        per_target: `Report.per_target`.
        sequences: The data that were evaluated on.
        n_items: Size of the catalogue N.
        kind: ``"shifted"``: targets of the users with the least popular training histories; ``"cold"``: targets
            with the least popular items. Those as popular as the last that is kept are kept too.
        strength: Share of users or targets that is left out, 0..1 (1 keeps the extreme ones).
    """
    counts = training_counts(sequences, n_items)
    users = per_target[USER_INDEX].to_numpy()
    if kind == "cold":
        of_targets = counts[per_target[ITEM_INDEX].to_numpy()].astype(np.float64)
        return np.asarray(of_targets <= np.quantile(of_targets, 1 - strength, method="higher"))
    owners = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    known = sequences.split <= 1
    logs = np.bincount(owners[known], np.log1p(counts[sequences.item_index[known]]), minlength=sequences.n_users)
    means = logs / np.maximum(np.bincount(owners[known], minlength=sequences.n_users), 1)
    return np.asarray(means[users] <= np.quantile(means[np.unique(users)], 1 - strength, method="higher"))
