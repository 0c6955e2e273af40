"""Is factor k the same factor after training from another seed?

Numbers and bases of factors are arbitrary, so factors of two runs are matched one to one by what does not depend on
either: the items they attend to for the same targets, and the alignment of their outputs over targets. A best match is
always better than a random one, so the match is made on half of the users and judged on the other half: only an
identity that is really there carries over. The null is all (or many) random matches, judged on the same half.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import factorial
from typing import Final

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.similarity import linear_cka
from flr.errors import DataError
from flr.records import FloatArray, IntArray

_MAX_MATCHES = 5040
_MEASURES: Final = ("attention", "output")
#: Columns of `factor_stability`.
SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "first": pl.Int64,
    "second": pl.Int64,
    "measure": pl.String,
    "match": pl.List(pl.Int64),
    "matched": pl.Float64,
    "random": pl.Float64,
    "p_value": pl.Float64,
    "agreement": pl.Float64,
}


@dataclass(frozen=True)
class Match:
    """Which factor of a second run is which of a first.

    Attributes:
        partner: Factor k of the first run is ``partner[k]`` of the second, [K].
        matched: Mean similarity of the matched factors on users the match was not made on.
        random: The mean of random matches there.
        p_value: Share of random matches that are at least as similar there; with K factors no less than 1 / K!.
        agreement: Share of factors that the two halves of the users match alike.
    """

    partner: IntArray
    matched: float
    random: float
    p_value: float
    agreement: float


def attention_similarity(first: FactorRecords, second: FactorRecords) -> FloatArray:
    """Return how much of their attention on items two runs' factors share, mean over targets, [K, K'], in 0..1.

    ``sum_i min(a_j[i], b_k[i])`` over the items i of a history, both normalised to sum to 1 over them; last step.

    Args:
        first, second: Thoughts of two runs on the same targets.
    """
    a, b = (_normalised(records) for records in (first, second))
    starts = first.histories.offsets[:-1]
    shared = [
        [np.add.reduceat(np.minimum(a[:, j], b[:, k]), starts).mean() for k in range(b.shape[1])]
        for j in range(a.shape[1])
    ]
    return np.array(shared)


def output_similarity(first: FactorRecords, second: FactorRecords) -> FloatArray:
    """Return the linear CKA of two runs' factors over targets at the last step, [K, K']; 0 for a constant factor."""
    pairs = [
        [linear_cka(first.factors[:, -1, j], second.factors[:, -1, k]) for k in range(second.n_factors)]
        for j in range(first.n_factors)
    ]
    found: FloatArray = np.nan_to_num(np.array(pairs))
    return found


def best_match(similarity: FloatArray) -> IntArray:
    """Return the partner of each factor in the one-to-one match with the largest total similarity, [K].

    >>> best_match(np.array([[0.9, 0.8], [0.7, 0.1]])).tolist()
    [1, 0]

    Args:
        similarity: [K, K'], K' at least K.
    """
    return np.asarray(linear_sum_assignment(similarity, maximize=True)[1])


def match_factors(
    first: FactorRecords, second: FactorRecords, rng: np.random.Generator, *, measure: str = "attention"
) -> Match:
    """Return how far two runs found the same factors.

    Args:
        first, second: Thoughts of two runs on the same targets.
        rng: Draws the halves of the users, and random matches where there are too many to try all.
        measure: ``"attention"`` (`attention_similarity`) or ``"output"`` (`output_similarity`).

    Raises:
        DataError: The runs were asked about other targets, read other histories or have other numbers of factors.
    """
    first, second = _aligned(first, second)
    similarity = attention_similarity if measure == "attention" else output_similarity
    users = rng.permutation(np.unique(first.users))
    in_half = np.isin(first.users, users[: len(users) // 2])
    halves = [np.flatnonzero(in_half), np.flatnonzero(~in_half)]
    tables = [similarity(first.take(half), second.take(half)) for half in halves]
    partners = [best_match(table) for table in tables]
    # Either half makes the match that the other judges.
    judges = tables[::-1]
    others = _random_matches(first.n_factors, rng)
    random = [_mean_of(judge, others) for judge in judges]
    matched = [_mean_of(judge, [partner])[0] for judge, partner in zip(judges, partners, strict=True)]
    p_values = [float(np.mean(null >= value - 1e-12)) for null, value in zip(random, matched, strict=True)]
    return Match(
        partner=best_match(similarity(first, second)),
        matched=float(np.mean(matched)),
        random=float(np.mean([null.mean() for null in random])),
        p_value=max(p_values),
        agreement=float(np.mean(partners[0] == partners[1])),
    )


def factor_stability(runs: list[FactorRecords], rng: np.random.Generator) -> pl.DataFrame:
    """Return `Match` of every pair of runs by both measures, in the columns of `SCHEMA`.

    Args:
        runs: Thoughts on the same targets, one record per seed.
        rng: Draws halves and random matches.

    Raises:
        DataError: See `match_factors`.
    """
    rows = []
    for (i, first), (j, second) in itertools.combinations(enumerate(runs), 2):
        for measure in _MEASURES:
            found = match_factors(first, second, rng, measure=measure)
            rows.append(
                (i, j, measure, found.partner.tolist(), found.matched, found.random, found.p_value, found.agreement)
            )
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _normalised(records: FactorRecords) -> FloatArray:
    """Return the last step's attention on items, summing to 1 over each history, [entries, K]."""
    attention = records.item_attention[:, -1].astype(np.float64)
    totals = np.add.reduceat(attention, records.histories.offsets[:-1])
    shares: FloatArray = attention / np.repeat(np.maximum(totals, 1e-12), records.histories.lengths, axis=0)
    return shares


def _aligned(first: FactorRecords, second: FactorRecords) -> tuple[FactorRecords, FactorRecords]:
    one, other = (records.take(np.argsort(records.rows, kind="stable")) for records in (first, second))
    if not np.array_equal(one.rows, other.rows):
        raise DataError(
            f"got {len(one)} and {len(other)} targets that are not the same ones; collect both runs on one split"
        )
    if one.n_factors != other.n_factors:
        raise DataError(f"got runs of {one.n_factors} and {other.n_factors} factors, expected equally many")
    if not np.array_equal(one.histories.item_index, other.histories.item_index):
        raise DataError("the runs read different histories; compare runs with one text.window")
    return one, other


def _random_matches(n: int, rng: np.random.Generator) -> list[IntArray]:
    """Return all one-to-one matches of n factors, or many random ones where there are too many."""
    if factorial(n) <= _MAX_MATCHES:
        return [np.array(match) for match in itertools.permutations(range(n))]
    return [rng.permutation(n) for _ in range(_MAX_MATCHES)]


def _mean_of(similarity: FloatArray, matches: list[IntArray]) -> FloatArray:
    """Return the mean similarity of each match, [matches]."""
    return np.array([similarity[np.arange(len(match)), match].mean() for match in matches])
