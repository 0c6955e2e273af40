"""A verdict per claim about factors, each from rows of the tables that lie beside the report.

============  ==========================================================================================================
verdict       when
============  ==========================================================================================================
holds         the interval lies on the side of the claim; where several figures are asked for, that of every one
does not      one figure's interval lies on the other side (of single factors, more of them than chance makes in one
hold          study of twenty); or the effect is shown to be too small to matter: its interval lies within 1 % of
              NDCG@10 (`MARGIN`)
undecided     everything else: these targets and seeds cannot tell; two models compared on one seed
============  ==========================================================================================================

Small cosines and little shared attention decide nothing: attention to single tokens satisfies the regularisers
trivially. What is asked is whether factors share less than the control's, by two measures that do not depend on their
bases (linear CKA, mutual information), and whether they matter: removing each must cost something. How much is still
shared stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from scipy import stats

from flr.diagnostics.interventions import SWAPPED_VOTES
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.factor_tables import NEIGHBOURS
from flr.experiments.robustness_tables import ALL_DAMAGES
from flr.experiments.verdicts import MARGIN, Verdict, by_seeds, shown_seeds, told_seeds

#: Identity (0 random, 1 the same) above which factors of two seeds are called the same.
SAME: Final = 0.5

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class EvidenceClaim:
    """One claim about the reference on one data set.

    Attributes:
        data: On which data set.
        claim: In words.
        verdict: See the table on top.
        told: The figures it rests on, in words.
        value, low, high: The main one of them; None where it has none.
        source: Name of the table that holds them.
    """

    data: str
    claim: str
    verdict: Verdict
    told: str
    value: float | None
    low: float | None
    high: float | None
    source: str


def evidence_claims(data: str, tables: Tables, reference: str, settings: EvidenceSettings) -> list[EvidenceClaim]:
    """Return every claim that the tables can speak to; a table that is missing or empty makes no claim.

    Args:
        data: Name of the data set.
        tables: By name, see `flr.experiments.evidence_findings`.
        reference: Name of the reference.
        settings: Names of the variants that are compared.
    """
    found = [_depends(data, tables, reference, intervention) for intervention in _SWAPPED]
    found.append(_each_matters(data, tables, reference))
    found.append(_disentangled(data, tables, reference, settings.control))
    found.append(_robust(data, tables, reference, settings.single_vector))
    found.append(_same_factors(data, tables, reference))
    return [claim for claim in found if claim is not None]


def toward(low: float | None, high: float | None, threshold: float = 0.0) -> Verdict:
    """Return whether a figure is above a threshold, by its interval.

    >>> toward(0.1, 0.2), toward(-0.2, -0.1), toward(-0.1, 0.1), toward(None, None)
    ('holds', 'does not hold', 'undecided', 'undecided')
    """
    if low is None or high is None:
        return "undecided"
    return "holds" if low > threshold else "does not hold" if high < threshold else "undecided"


def costs(row: Mapping[str, Any]) -> Verdict:
    """Return whether an intervention costs NDCG@10: its whole interval above a loss of `MARGIN`, or below 0."""
    if row["low"] is None or row["high"] is None:
        return "undecided"
    if row["low"] > -MARGIN * row["full"]:
        return "does not hold"
    return "holds" if row["high"] < 0 else "undecided"


#: Interventions that tell what lists depend on -> what that is called, and what takes its place.
_SWAPPED: Final = {
    "swap thought": ("the thought, fed as a vector", "thought and their own votes"),
    SWAPPED_VOTES: ("what its factors read and vote for", "votes and their own thought"),
}


def _depends(data: str, tables: Tables, reference: str, intervention: str) -> EvidenceClaim | None:
    rows = _rows(tables, "interventions", model=reference, seed="all", intervention=intervention, slice="all")
    if not rows:
        return None
    (row,) = rows
    called, instead = _SWAPPED[intervention]
    told = (
        f"with another user's {instead} NDCG@10 changes by {_interval(row)} from {row['full']:.4f}, and "
        f"{row['kept']:.0%} of the first five items stay ({row['targets']:,} targets, {shown_seeds(row['seeds'])})"
    )
    claim = f"The list of {reference} depends on {called}"
    return _claim(data, claim, costs(row), told, row=row, source="interventions", value="change")


def _each_matters(data: str, tables: Tables, reference: str) -> EvidenceClaim | None:
    rows = [
        row
        for row in _rows(tables, "interventions", model=reference, slice="all")
        if row["intervention"].startswith("remove ")
    ]
    single = [row for row in rows if row["seed"] != "all"]
    pooled = [row for row in rows if row["seed"] == "all"]
    if not single or not pooled:
        return None
    verdicts = [costs(row) for row in single]
    n_costless = verdicts.count("does not hold")
    told = (
        f"removal costs more than its interval for {verdicts.count('holds')} of {len(single)} factors of all seeds and "
        f"is shown to cost less than {MARGIN:.0%} for {n_costless}; removing any one changes NDCG@10 by "
        f"{_interval(pooled[0])} on average"
    )
    claim = f"Each factor of {reference} matters"
    # Each end of an interval is missed by one in forty: so many of all factors may seem to cost nothing by chance.
    by_chance = int(stats.binom.ppf(0.95, len(verdicts), 0.025))
    verdict: Verdict = "does not hold" if n_costless > by_chance else "undecided" if n_costless else _all_of(verdicts)
    return _claim(data, claim, verdict, told, row=pooled[0], source="interventions", value="change")


def _disentangled(data: str, tables: Tables, reference: str, control: str | None) -> EvidenceClaim | None:
    rows = {row["statistic"]: row for row in _rows(tables, "disentanglement", model=reference)}
    known = {name: row for name, row in rows.items() if row.get("difference") is not None}
    asked = [known[name] for name in ("linear_cka", NEIGHBOURS) if name in known]
    matters = _each_matters(data, tables, reference)
    if not rows or matters is None:
        return None
    if control is None or not asked:
        claim = f"Factors of {reference} share less than those of {control or 'a control'}, and each matters"
        return _unasked(data, claim, control, "evidence.control", "disentanglement")
    ends = [(_negated(row["difference_low"], row["difference_high"]), row["seeds_compared"]) for row in asked]
    verdicts = [by_seeds(toward(*negated), n) for negated, n in ends]
    if len(asked) < 2:
        verdicts.append("undecided")
    figures = [
        f"{_NAMES[row['statistic']]} {row['value']:.3f} (null {row['null']:z.3f}), less that of {control} "
        f"{row['difference']:+.3f} [{_signed(row['difference_low'], 3)}, {_signed(row['difference_high'], 3)}] on the "
        f"{told_seeds(row['seeds_compared'])}"
        for row in asked
    ]
    told = "; ".join([*figures, f"each factor matters: {matters.verdict}"])
    claim = f"Factors of {reference} share less than those of {control} on held-out users, and each matters"
    verdict = _all_of([*verdicts, matters.verdict])
    deciding = asked[_deciding(verdicts[: len(asked)])]
    main = {
        "difference": deciding["difference"],
        "low": deciding["difference_low"],
        "high": deciding["difference_high"],
    }
    return _claim(data, claim, verdict, told, row=main, source="disentanglement", value="difference")


def _robust(data: str, tables: Tables, reference: str, single: str | None) -> EvidenceClaim | None:
    rows = _rows(tables, "robustness", model=single, strain=ALL_DAMAGES) if single is not None else []
    ours = _rows(tables, "robustness", model=reference, strain=ALL_DAMAGES)
    if not ours:
        return None
    if not rows or rows[0]["difference"] is None:
        claim = f"{reference} is more robust than {single or 'a single vector'}"
        return _unasked(data, claim, single, "evidence.single_vector", "robustness")
    low, high = rows[0]["difference_low"], rows[0]["difference_high"]
    both = told_seeds(rows[0]["seeds"])
    alone = (f"{row['model']} loses {row['loss']:.1%} on all of its {row['seeds']}" for row in (ours[0], rows[0]))
    told = (
        f"over all damages {single} loses {100 * rows[0]['difference']:+.1f} points more of its NDCG@10 "
        f"[{_signed(low, 1, 100)}, {_signed(high, 1, 100)}] on the {both} ({', '.join(alone)})"
    )
    claim = f"{reference} is more robust than {single}"
    main = {"difference": rows[0]["difference"], "low": low, "high": high}
    verdict = by_seeds(toward(low, high), rows[0]["seeds"])
    return _claim(data, claim, verdict, told, row=main, source="robustness", value="difference")


def _same_factors(data: str, tables: Tables, reference: str) -> EvidenceClaim | None:
    rows = _rows(tables, "stability", model=reference, seeds="all")
    if not rows:
        return None
    figures = [
        f"{row['measure']}: matched {row['matched']:.2f}, random {row['random']:.2f}, so "
        f"{_signed(row['identity'], 2)} on the way from random to the same{_bracket(row)}, before training "
        f"{_signed(row['untrained'], 2)}"
        for row in rows
    ]
    verdicts = [toward(row["low"], row["high"], max(SAME, row["untrained"] or 0.0)) for row in rows]
    claim = f"Factors of {reference} are the same across seeds, and more so than before training"
    row = rows[_deciding(verdicts)]
    return _claim(data, claim, _all_of(verdicts), "; ".join(figures), row=row, source="stability", value="identity")


def _unasked(data: str, claim: str, rival: str | None, key: str, source: str) -> EvidenceClaim:
    """Return a claim that nothing could be compared for."""
    told = f"Nobody is named to compare with: set {key}" if rival is None else f"No run of {rival} shares a seed"
    return EvidenceClaim(data, claim, "undecided", told, None, None, None, source)


#: What statistics are called in sentences.
_NAMES: Final = {"linear_cka": "linear CKA", NEIGHBOURS: "mutual information (nats)"}


def _rows(tables: Tables, name: str, **equal: Any) -> list[dict[str, Any]]:
    table = tables.get(name, pl.DataFrame())
    if table.is_empty():
        return []
    return table.filter([pl.col(column) == value for column, value in equal.items()]).to_dicts()


def _deciding(verdicts: Sequence[Verdict]) -> int:
    """Return the place of the first that makes the verdict of all what it is."""
    return verdicts.index(_all_of(verdicts))


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    if "does not hold" in verdicts:
        return "does not hold"
    return "undecided" if "undecided" in verdicts else "holds"


def _claim(
    data: str, claim: str, verdict: Verdict, told: str, *, row: Mapping[str, Any], source: str, value: str
) -> EvidenceClaim:
    return EvidenceClaim(data, claim, verdict, told[:1].upper() + told[1:], row[value], row["low"], row["high"], source)


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['change']:+.4f}{_bracket(row, 4)}"


def _bracket(row: Mapping[str, Any], digits: int = 2) -> str:
    if row["low"] is None:
        return " (no interval: too few seeds or users)"
    return f" [{_signed(row['low'], digits)}, {_signed(row['high'], digits)}]"


def _signed(value: float | None, digits: int, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:+.{digits}f}"


def _negated(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (None if high is None else -high, None if low is None else -low)
