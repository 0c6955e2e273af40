"""Whether factors differ from each other, and whether they come again from another seed, pooled over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import stats

from flr.diagnostics.stability import factor_stability
from flr.evaluation.significance import Interval, half_interval, over_other_seeds, over_seeds, percentile_interval
from flr.experiments.evidence_files import load_records, load_table
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.pooling import OfSeeds, cells_of, frame_of
from flr.explanation.profiles import FactorProfiles
from flr.records import FloatArray, IntArray
from flr.seeding import generator

#: Statistics of `disentanglement` that come from nearest neighbours and from a critic.
NEIGHBOURS, CRITIC = "mutual_information", "mutual_information_critic"
#: Statistics with a null of permuted (or random) targets, by name in the pairs' table.
_WITH_NULL: Final = ("absolute_cosine", "correlation", "linear_cka", "top_item_overlap", "voted_overlap")
_NAN: Final = float("nan")
#: Typical items told of each factor.
_N_ITEMS: Final = 4


def disentanglement_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings) -> pl.DataFrame:
    """Return headline figures of the factors of each model, and how far they are from the control's.

    Returns:
        ``model``, ``statistic``, ``value`` (mean over seeds), ``low``, ``high`` (over users), ``sd`` (over seeds),
        ``seeds``, ``null``; and, where there is a control, ``difference`` (model less control, on the seeds that both
        have) with its interval, which allows for other seeds, and ``seeds_compared``.
    """
    drawn = {name: _headlines(of_seeds, settings) for name, of_seeds in models.items()}
    control = drawn.get(settings.control or "", {})
    rows = []
    for model, figures in drawn.items():
        for statistic, found in figures.items():
            row: dict[str, Any] = {"model": model, "statistic": statistic, **found.row()}
            other = control.get(statistic)
            shared = found.seeds & other.seeds if other is not None and model != settings.control else None
            compared = found.of(shared).less(other.of(shared)) if other is not None and shared else None
            names = ("difference", "difference_low", "difference_high")
            row |= dict(zip(names, cells_of(compared), strict=True))
            rows.append(row | {"seeds_compared": len(shared) if shared else None})
    return frame_of(rows)


class _Headline:
    """A figure of each seed, and what resampling it gave.

    Args:
        drawn: Seed -> the figure, then what each resample gave, [1 + resamples].
        null: The figure where there is nothing to find.
        resampled: Whether there are resamples; without them seeds are what is left to judge by.
        halves: Whether these are random halves of users, and no bootstrap.
    """

    def __init__(
        self, drawn: Mapping[int, FloatArray], null: float, *, resampled: bool = True, halves: bool = False
    ) -> None:
        self.drawn, self.null, self.resampled, self.halves = drawn, null, resampled, halves

    @property
    def seeds(self) -> Set[int]:
        return self.drawn.keys()

    @property
    def values(self) -> FloatArray:
        return np.array([drawn[0] for drawn in self.drawn.values()])

    @property
    def resamples(self) -> FloatArray | None:
        return np.stack([drawn[1:] for drawn in self.drawn.values()]) if self.resampled else None

    def of(self, seeds: Set[int]) -> _Headline:
        """Return the same figure of some of the seeds."""
        kept = {seed: self.drawn[seed] for seed in sorted(seeds)}
        return _Headline(kept, self.null, resampled=self.resampled, halves=self.halves)

    @property
    def interval(self) -> Interval:
        resamples = None if self.resamples is None else self.resamples.mean(0)
        return self._interval(self.values, resamples, self.halves)

    @staticmethod
    def _interval(values: FloatArray, resamples: FloatArray | None, halves: bool) -> Interval:
        mean = float(values.mean())
        if resamples is None:
            # Seeds are what is left to judge by.
            error = _NAN if len(values) < 3 else float(values.std(ddof=1) / np.sqrt(len(values)))
            reach = float(stats.t.ppf(0.975, max(len(values) - 1, 1))) * error
        elif halves:
            return half_interval(mean, resamples)
        else:
            return percentile_interval(mean, resamples)
        return Interval(mean, mean - reach, mean + reach)

    def less(self, other: _Headline) -> Interval:
        """Return this figure less another's, other seeds allowed for; both must be of the same seeds in order."""
        by_seed = self.values - other.values
        mean = float(by_seed.mean())
        if self.resamples is None or other.resamples is None:
            ours, theirs = self.interval, other.interval
            reach = float(np.hypot(ours.high - ours.mean, theirs.high - theirs.mean))
            return Interval(mean, mean - reach, mean + reach)
        of_users = self._interval(np.array([mean]), self.resamples.mean(0) - other.resamples.mean(0), self.halves)
        return over_other_seeds(of_users, by_seed, own_users=False)

    def row(self) -> dict[str, Any]:
        value, low, high = cells_of(self.interval)
        spread = over_seeds(self.values)
        return {"value": value, "low": low, "high": high, "sd": spread.sd, "seeds": spread.n, "null": self.null}


def _headlines(of_seeds: OfSeeds, settings: EvidenceSettings) -> dict[str, _Headline]:
    tables, pairs, alignment, information, halves = {}, [], {}, {}, {}
    for seed, subject in of_seeds.items():
        figures = load_table(subject, "factors", settings.disentanglement, "figures")
        factors = load_table(subject, "factors", settings.disentanglement)
        if figures is not None and factors is not None:
            tables[seed] = figures
            pairs.append(factors)
        of_alignment = load_table(subject, "factors", settings.disentanglement, "alignment")
        if of_alignment is not None:
            alignment[seed] = of_alignment["linear_cka"].to_numpy()
        of_pairs = load_table(subject, "information", settings.mutual_information)
        of_halves = load_table(subject, "information", settings.mutual_information, "halves")
        if of_pairs is not None and of_halves is not None:
            information[seed] = of_pairs
            halves[seed] = of_halves["nats"].to_numpy()
    found = {}
    for name in next(iter(tables.values())).columns if tables else ():
        drawn = {seed: table[name].to_numpy() for seed, table in tables.items()}
        if not any(np.isnan(each[0]) for each in drawn.values()):
            null = _null_of_pairs(pairs, name) if name in _WITH_NULL else _NAN
            found[name] = _Headline(drawn, null, resampled=name != "dead_factors")
    alignment = {seed: drawn for seed, drawn in alignment.items() if not np.isnan(drawn).any()}
    if alignment:
        found["linear_cka"] = _Headline(alignment, _null_of_pairs(pairs, "linear_cka"), halves=True)
    if information:
        found[NEIGHBOURS] = _Headline(
            halves, _mean_of(list(information.values()), "neighbours", "null_mean"), halves=True
        )
        judged = {seed: table for seed, table in information.items() if "infonce" in table["estimator"]}
        if judged:
            of_critic = {seed: np.array([_mean_of([table], "infonce", "nats")]) for seed, table in judged.items()}
            null = _mean_of(list(judged.values()), "infonce", "null_mean")
            found[CRITIC] = _Headline(of_critic, null, resampled=False)
    return found


def _null_of_pairs(pairs: Sequence[pl.DataFrame], statistic: str) -> float:
    nulls = []
    for table in pairs:
        last = table.filter((pl.col("statistic") == statistic) & pl.col("part").str.contains("-", literal=True))
        nulls.append(last.filter(pl.col("step") == pl.col("step").max())["null"].to_numpy().mean())
    return float(np.mean(nulls))


def _mean_of(tables: Sequence[pl.DataFrame], estimator: str, column: str) -> float:
    means = [table.filter(pl.col("estimator") == estimator)[column].to_numpy().mean() for table in tables]
    return float(np.mean(means))


def profile_table(found: FactorProfiles) -> pl.DataFrame:
    """Return what each factor of a run stands for.

    Returns:
        ``factor`` (from 0), ``name``, ``votes_for`` (a relation, or empty), ``gate``, ``recency`` and ``popularity``
        with ends, ``spread``, ``reads_more`` and ``reads_less`` (values of attributes whose lift is beyond chance) and
        ``items`` (typical ones, by title); see `flr.explanation.profiles.FactorProfile`.
    """
    rows: list[dict[str, Any]] = []
    for one in found.factors:
        row: dict[str, Any] = {"factor": one.factor, "name": one.name, "votes_for": one.relation, "gate": one.gate}
        for name, interval in (("recency", one.recency), ("popularity", one.popularity)):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), cells_of(interval), strict=True))
        sure = [lift for lift in one.attributes if lift.is_sure]
        told = [(lift.lift > 1, f"{lift.attribute} {lift.value} x{lift.lift:.2f}") for lift in sure]
        row |= {"spread": one.spread, "reads_more": "; ".join(text for is_more, text in told if is_more)}
        row |= {"reads_less": "; ".join(text for is_more, text in told if not is_more)}
        rows.append(row | {"items": "; ".join(item.title for item in one.items[:_N_ITEMS] if item.lift > 1)})
    return frame_of(rows)


def stability_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings) -> pl.DataFrame:
    """Return whether every two seeds of a model have the same factors.

    Returns:
        ``model``, ``seeds`` ("0 and 1", or "all"), ``measure``, ``matched``, ``random`` (similarities), ``p``,
        ``agreement``, and ``identity``: (matched - random) / (1 - random), 0 for random and 1 for equal factors,
        with ``low`` and ``high`` for all seeds (jackknife over seeds, from three seeds on), and ``untrained``, the same
        before training: factors that are made to differ from the start are the same across seeds without having learnt
        anything.
    """
    rows = []
    for model, of_seeds in models.items() if settings.stability else ():
        records = {seed: load_records(subject, settings.disentanglement) for seed, subject in of_seeds.items()}
        known = {seed: record for seed, record in records.items() if record is not None and record.n_factors > 1}
        if len(known) < 2:
            continue
        seeds = list(known)
        table = factor_stability(list(known.values()), generator(0, f"evidence stability {model}"))
        first = [load_records(of_seeds[seed], settings.disentanglement, "untrained") for seed in seeds]
        begun = factor_stability([of for of in first if of is not None], generator(0, f"evidence untrained {model}"))
        for measure in dict.fromkeys(table["measure"]):
            of_measure = table.filter(pl.col("measure") == measure)
            identity, at_first = (_identity(of.filter(pl.col("measure") == measure)) for of in (table, begun))
            pairs = zip(of_measure.iter_rows(named=True), identity, at_first, strict=True)
            for pair, value, before in pairs:
                names = f"{seeds[pair['first']]} and {seeds[pair['second']]}"
                rows.append(
                    _stability_row(model, names, measure, pair | {"untrained": before}, Interval(value, _NAN, _NAN))
                )
            means = {name: of_measure[name].to_numpy().mean() for name in ("matched", "random", "agreement")}
            means |= {"p_value": _NAN, "untrained": at_first.mean()}
            found = jackknife(identity, of_measure.select("first", "second").to_numpy(), len(seeds))
            rows.append(_stability_row(model, "all", measure, means, found))
    return frame_of(rows)


def _identity(of_measure: pl.DataFrame) -> FloatArray:
    """Return how far each pair of runs is from random factors to the same; NaN where even random ones are equal."""
    matched, random = (of_measure[name].to_numpy() for name in ("matched", "random"))
    left = 1 - random  # 0 where all read histories of one item
    found: FloatArray = np.divide(matched - random, left, out=np.full(len(left), _NAN), where=left > 1e-9)
    return found


def _stability_row(model: str, seeds: str, measure: str, pair: Mapping[str, Any], identity: Interval) -> dict[str, Any]:
    value, low, high = cells_of(identity)
    return {
        "model": model,
        "seeds": seeds,
        "measure": measure,
        **{name: float(pair[name]) for name in ("matched", "random")},
        "p": None if np.isnan(pair["p_value"]) else float(pair["p_value"]),
        "agreement": float(pair["agreement"]),
        "identity": value,
        "low": low,
        "high": high,
        "untrained": None if np.isnan(pair["untrained"]) else float(pair["untrained"]),
    }


def jackknife(values: FloatArray, pairs: IntArray, n: int) -> Interval:
    """Return the mean of a figure of pairs of runs, with an interval from leaving out one run at a time.

    Args:
        values: One per pair, [m].
        pairs: Numbers of its two runs, 0..n-1, [m, 2].
        n: Runs; with two there is no interval (NaN).
    """
    mean = float(values.mean())
    if n < 3:
        return Interval(mean, _NAN, _NAN)
    without = np.array([values[(pairs != run).all(1)].mean() for run in range(n)])
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return Interval(mean, mean - reach, mean + reach)
