"""Whether factors differ from each other, and whether they come again from another seed, pooled over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from scipy import stats

from flr.diagnostics.stability import factor_stability
from flr.evaluation.significance import Interval, over_seeds, percentile_interval
from flr.experiments.evidence_files import load_records, load_table
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.pooling import OfSeeds, cells_of, frame_of
from flr.records import FloatArray, IntArray
from flr.seeding import generator

#: Statistics of `disentanglement` that come from nearest neighbours and from a critic.
NEIGHBOURS, CRITIC = "mutual_information", "mutual_information_critic"
#: Statistics with a null of permuted (or random) targets, by name in the pairs' table.
_WITH_NULL: Final = ("absolute_cosine", "correlation", "linear_cka", "top_item_overlap", "voted_overlap")
_NAN: Final = float("nan")


def disentanglement_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings) -> pl.DataFrame:
    """Return headline figures of the factors of each model, and how far they are from the control's.

    Returns:
        ``model``, ``statistic``, ``value`` (mean over seeds), ``low``, ``high`` (over users), ``sd`` (over seeds),
        ``seeds``, ``null``; and, where there is a control, ``difference`` (model less control) with its interval.
    """
    drawn = {name: _headlines(of_seeds, settings) for name, of_seeds in models.items()}
    control = drawn.get(settings.control or "", {})
    rows = []
    for model, figures in drawn.items():
        for statistic, found in figures.items():
            row: dict[str, Any] = {"model": model, "statistic": statistic, **found.row()}
            other = control.get(statistic)
            compared = _Headline.difference(found, other) if other is not None and model != settings.control else None
            names = ("difference", "difference_low", "difference_high")
            rows.append(row | dict(zip(names, cells_of(compared), strict=True)))
    return frame_of(rows)


class _Headline:
    """A figure of each seed, [seeds], and what resampling it gave, [seeds, resamples] or nothing."""

    def __init__(self, values: FloatArray, resamples: FloatArray | None, null: float, *, halves: bool = False) -> None:
        self.values, self.resamples, self.null, self.halves = values, resamples, null, halves

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
            reach = float(stats.t.ppf(0.975, len(resamples) - 1) * resamples.std(ddof=1))
        else:
            return percentile_interval(mean, resamples)
        return Interval(mean, mean - reach, mean + reach)

    @classmethod
    def difference(cls, first: _Headline, second: _Headline) -> Interval:
        if first.resamples is None or second.resamples is None:
            mean = float(first.values.mean() - second.values.mean())
            ours, theirs = first.interval, second.interval
            reach = float(np.hypot(ours.high - ours.mean, theirs.high - theirs.mean))
            return Interval(mean, mean - reach, mean + reach)
        values = np.array([first.values.mean() - second.values.mean()])
        return cls._interval(values, first.resamples.mean(0) - second.resamples.mean(0), first.halves)

    def row(self) -> dict[str, Any]:
        value, low, high = cells_of(self.interval)
        spread = over_seeds(self.values)
        return {"value": value, "low": low, "high": high, "sd": spread.sd, "seeds": spread.n, "null": self.null}


def _headlines(of_seeds: OfSeeds, settings: EvidenceSettings) -> dict[str, _Headline]:
    tables, pairs, information, halves = [], [], [], []
    for subject in of_seeds.values():
        figures = load_table(subject, "factors", settings.disentanglement, "figures")
        factors = load_table(subject, "factors", settings.disentanglement)
        if figures is not None and factors is not None:
            tables.append(figures)
            pairs.append(factors)
        of_pairs = load_table(subject, "information", settings.mutual_information)
        of_halves = load_table(subject, "information", settings.mutual_information, "halves")
        if of_pairs is not None and of_halves is not None:
            information.append(of_pairs)
            halves.append(of_halves["nats"].to_numpy())
    found = {}
    for name in tables[0].columns if tables else ():
        drawn = np.stack([table[name].to_numpy() for table in tables])
        if not np.isnan(drawn[:, 0]).any():
            null = _null_of_pairs(pairs, name) if name in _WITH_NULL else _NAN
            resamples = None if name == "dead_factors" else drawn[:, 1:]
            found[name] = _Headline(drawn[:, 0], resamples, null)
    if information:
        drawn = np.stack(halves)
        found[NEIGHBOURS] = _Headline(
            drawn[:, 0], drawn[:, 1:], _mean_of(information, "neighbours", "null_mean"), halves=True
        )
        of_critic = [_mean_of([table], "infonce", "nats") for table in information]
        found[CRITIC] = _Headline(np.array(of_critic), None, _mean_of(information, "infonce", "null_mean"))
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


def stability_table(models: Mapping[str, OfSeeds], settings: EvidenceSettings) -> pl.DataFrame:
    """Return whether every two seeds of a model have the same factors.

    Returns:
        ``model``, ``seeds`` ("0 and 1", or "all"), ``measure``, ``matched``, ``random`` (similarities), ``p``,
        ``agreement``, and ``identity``: (matched - random) / (1 - random), 0 for random and 1 for equal factors,
        with ``low`` and ``high`` for all seeds (jackknife over seeds, from three seeds on).
    """
    rows = []
    for model, of_seeds in models.items() if settings.stability else ():
        records = {seed: load_records(subject, settings.disentanglement) for seed, subject in of_seeds.items()}
        known = {seed: record for seed, record in records.items() if record is not None and record.n_factors > 1}
        if len(known) < 2:
            continue
        seeds = list(known)
        table = factor_stability(list(known.values()), generator(0, f"evidence stability {model}"))
        for measure in dict.fromkeys(table["measure"]):
            of_measure = table.filter(pl.col("measure") == measure)
            identity = (of_measure["matched"] - of_measure["random"]) / (1 - of_measure["random"])
            for pair, value in zip(of_measure.iter_rows(named=True), identity, strict=True):
                names = f"{seeds[pair['first']]} and {seeds[pair['second']]}"
                rows.append(_stability_row(model, names, measure, pair, Interval(value, _NAN, _NAN)))
            means = {name: of_measure[name].to_numpy().mean() for name in ("matched", "random", "agreement")}
            means["p_value"] = _NAN
            pairs = of_measure.select("first", "second").to_numpy()
            found = jackknife(identity.to_numpy(), pairs, len(seeds))
            rows.append(_stability_row(model, "all", measure, means, found))
    return frame_of(rows)


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
