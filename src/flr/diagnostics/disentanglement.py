"""Are the factors different from each other on held-out users? Every answer with an interval over users.

What is compared between two factors has a null beside it: the same figure when one factor is another user's (or, for
attended items, when they are chosen at random). A cosine or an alignment is only evidence beyond that. Linear CKA is
debiased and takes one target of each user: plain CKA is larger for wider factors and fewer targets.

Source: METHOD 9. Compare with a model trained without the three regularisers; a figure alone says little.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import polars as pl
import torch
from scipy import stats

from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.mutual_information import one_per_user
from flr.diagnostics.similarity import correlation, cosines, debiased_cka
from flr.evaluation.significance import (
    Interval,
    bootstrap_statistic,
    clustered_bootstrap,
    half_interval,
    half_sampled,
)
from flr.reasoner.policy import effective_rank
from flr.reasoner.regularizers import step_distances
from flr.records import FloatArray, IntArray

#: Columns of `disentanglement`.
SCHEMA: Final = {
    "statistic": pl.String,
    "step": pl.Int64,
    "part": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "null": pl.Float64,
}
_N_PERMUTATIONS = 5


def pair_cosines(records: FactorRecords) -> FloatArray:
    """Return the cosine of every factor pair j < k, [n, R, pairs], in -1..1."""
    first, second = records.pairs()
    return cosines(records.factors[:, :, first], records.factors[:, :, second])


def item_overlap(records: FactorRecords, n_top: int) -> FloatArray:
    """Return the Jaccard index of the items that each factor pair attends to most, [n, R, pairs].

    ``|A and B| / |A or B|`` of the `n_top` places of the history with most attention, ties broken at random. Histories
    with no more than `n_top` items give NaN: there all factors hold all items.

    Args:
        records: What was thought.
        n_top: Items of each factor.
    """
    chosen = np.zeros((len(records), records.histories.lengths.max(), records.n_steps, records.n_factors), dtype=bool)
    owner = np.repeat(np.arange(len(records)), records.histories.lengths)
    place = np.arange(len(owner)) - records.histories.offsets[owner]
    attention = np.full(chosen.shape, -1.0, dtype=np.float32)
    attention[owner, place] = records.item_attention
    # Of equal ones any: many places have no attention at all, and the oldest of them would be all factors' choice.
    drawn = np.random.default_rng(0).random(attention.shape).argsort(axis=1)
    ranked = np.argsort(-np.take_along_axis(attention, drawn, axis=1), axis=1, kind="stable")[:, :n_top]
    best = np.take_along_axis(drawn, ranked, axis=1)
    np.put_along_axis(chosen, best, True, axis=1)
    first, second = records.pairs()
    shared = (chosen[..., first] & chosen[..., second]).sum(1)
    overlap: FloatArray = shared / np.maximum(2 * n_top - shared, 1).astype(np.float64)
    overlap[records.histories.lengths <= n_top] = np.nan
    return overlap


def voted_overlap(records: FactorRecords, other: IntArray | None = None) -> FloatArray:
    """Return the Jaccard index of the items that each factor pair votes for most, [n, pairs]; NaN without votes.

    Args:
        records: What was thought.
        other: The target that the second factor of each pair is taken from, [n]; None takes the same.
    """
    first, second = records.pairs()
    n_voted = records.voted.shape[-1]
    if not n_voted:
        return np.full((len(records), len(first)), np.nan)
    others = records.voted if other is None else records.voted[other]
    shared = (records.voted[:, first, :, None] == others[:, second, None, :]).sum((2, 3))
    overlap: FloatArray = shared / (2 * n_voted - shared).astype(np.float64)
    return overlap


def chance_overlap(lengths: IntArray, n_top: int) -> FloatArray:
    """Return the expected Jaccard index of two random choices of `n_top` items from histories of given lengths, [n].

    >>> chance_overlap(np.array([2, 4]), 1).tolist()
    [0.5, 0.25]
    """
    shared = np.arange(n_top + 1)
    found = np.full(len(lengths), np.nan)
    for length in np.unique(lengths[lengths >= n_top]):
        probabilities = stats.hypergeom.pmf(shared, length, n_top, n_top)
        found[lengths == length] = float((probabilities * shared / (2 * n_top - shared)).sum())
    return found


def gate_entropy(records: FactorRecords) -> FloatArray:
    """Return the entropy of each gate by log K, [n, R]: 1 where all factors weigh the same, 0 where one takes all."""
    gates = records.gates.astype(np.float64)
    logs = np.log(gates, where=gates > 0, out=np.zeros_like(gates))
    entropy: FloatArray = -(gates * logs).sum(-1) / np.log(max(records.n_factors, 2))
    return entropy


def factor_distances(records: FactorRecords) -> FloatArray:
    """Return D(r), the mean distance of unit factors at each step, [n, R]; see `step_distances`."""
    by_step = torch.from_numpy(np.moveaxis(records.factors, 1, 0))[:, None]
    return step_distances(by_step)[:, 0].numpy().T


def dead_factors(records: FactorRecords, threshold: float = 0.25) -> IntArray:
    """Return the factors that hardly take part at the last step.

    A factor is dead when its mean gate or its mean share in what is added to the thought is below `threshold / K`:
    by default, below a quarter of an equal share.

    Args:
        records: What was thought.
        threshold: In units of an equal share, 0..1.
    """
    shares = np.minimum(records.gates[:, -1].mean(0), records.contributions[:, -1].mean(0))
    return np.flatnonzero(shares < threshold / records.n_factors)


def disentanglement(
    records: FactorRecords, rng: np.random.Generator, *, n_top: int = 3, n_resamples: int = 200
) -> pl.DataFrame:
    """Return how different the factors are from each other, statistic by statistic.

    Args:
        records: Thoughts on held-out targets.
        rng: Draws resamples and permutations.
        n_top: Items per factor of which `top_item_overlap` is made.
        n_resamples: Bootstrap resamples over users.

    Returns:
        Columns as `SCHEMA` has them. `step` counts from 1; `part` is ``"all"``, a factor ``"2"`` or a pair ``"0-1"``.
        ``cosine`` and ``absolute_cosine``, ``correlation``, ``linear_cka``, ``top_item_overlap`` and, with a memory,
        ``voted_overlap`` (at step 1, for votes are cast once) compare pairs;
        ``attention_entropy``, ``gate``, ``contribution`` are of factors; ``gate_entropy`` and ``distance`` (D(r)) of
        steps; ``effective_rank`` of factors and of whole thoughts.
    """
    table = _Table(records, rng, n_resamples)
    factors = [str(k) for k in range(records.n_factors)]
    pairs = [f"{j}-{k}" for j, k in zip(*records.pairs(), strict=True)]
    signed = pair_cosines(records)
    permuted = np.stack([permuted_cosines(records, rng) for _ in range(_N_PERMUTATIONS)])
    table.add("cosine", signed, pairs, permuted.mean((0, 1)))
    table.add("absolute_cosine", abs(signed), pairs, abs(permuted).mean((0, 1)))
    overlap = item_overlap(records, n_top)
    has_choice = records.histories.lengths > n_top
    if has_choice.any():
        chance = chance_overlap(records.histories.lengths[has_choice], n_top).mean()
        table.add("top_item_overlap", overlap, pairs, np.full(overlap.shape[1:], chance))
    if records.voted.shape[-1] and pairs:
        permuted = np.stack(
            [voted_overlap(records, permuted_users(records.users, rng)) for _ in range(_N_PERMUTATIONS)]
        )
        # Votes are cast once, after the last step.
        table.add("voted_overlap", voted_overlap(records)[:, None], pairs, permuted.mean((0, 1))[None])
    table.add("attention_entropy", records.token_entropy, factors)
    table.add("gate", records.gates, factors)
    table.add("contribution", records.contributions, factors)
    table.add("gate_entropy", gate_entropy(records)[..., None], ["all"])
    table.add("distance", factor_distances(records)[..., None], ["all"])
    _add_alignments(table, records, rng)
    vectors = {"all": records.vectors.reshape(len(records), -1)}
    vectors |= {name: records.factors[:, -1, k] for k, name in enumerate(factors)}
    for part, of_targets in vectors.items():
        table.add_whole("effective_rank", part, partial(_effective_rank, of_targets))
    return pl.DataFrame(table.rows, schema=SCHEMA, orient="row")


class _Table:
    """Collects rows of `SCHEMA`, each with its bootstrap interval over the users of the records."""

    def __init__(self, records: FactorRecords, rng: np.random.Generator, n_resamples: int) -> None:
        self.users, self.n_steps, self.rng, self.n_resamples = records.users, records.n_steps, rng, n_resamples
        self.rows: list[tuple[str, int, str, float, float, float, float]] = []

    def add(self, name: str, values: FloatArray, parts: list[str], null: FloatArray | None = None) -> None:
        """Add parts, and their mean, of values [n, R, parts] whose null is [R, parts]; targets with NaN stay out."""
        kept = ~np.isnan(values).any((1, 2))
        if not parts or len(np.unique(self.users[kept])) < 2:
            return
        null = np.full(values.shape[1:], np.nan) if null is None else null
        if len(parts) > 1:
            parts = ["all", *parts]
            values = np.concatenate([values.mean(-1, keepdims=True), values], axis=-1)
            null = np.concatenate([null.mean(-1, keepdims=True), null], axis=-1)
        for step, part in np.ndindex(null.shape):
            of_part = values[kept, step, part].astype(np.float64)
            found = clustered_bootstrap(of_part, self.users[kept], self.rng, n_resamples=10 * self.n_resamples)
            self._row(name, step + 1, parts[part], found, float(null[step, part]))

    def add_whole(
        self, name: str, part: str, statistic: Callable[[IntArray], float], null: float = float("nan")
    ) -> None:
        """Add a statistic of all targets at once, at the last step."""
        found = bootstrap_statistic(statistic, self.users, self.rng, n_resamples=self.n_resamples)
        self._row(name, self.n_steps, part, found, null)

    def add_halved(self, name: str, part: str, statistic: Callable[[IntArray], float], n: int, null: float) -> None:
        """Add a statistic of n targets of as many users, at the last step, with an interval by halves of them."""
        whole, *halves = half_sampled(statistic, n, self.rng)
        self._row(name, self.n_steps, part, half_interval(whole, np.array(halves)), null)

    def _row(self, name: str, step: int, part: str, found: Interval, null: float) -> None:
        self.rows.append((name, step, part, found.mean, found.low, found.high, null))


def _add_alignments(table: _Table, records: FactorRecords, rng: np.random.Generator) -> None:
    """Add what compares the clouds of two factors: of all targets, or where that would not be fair of one per user."""
    last = records.factors[:, -1]
    alone = last[one_per_user(records.users, rng)]
    for j, k in zip(*records.pairs(), strict=True):
        others = [permuted_users(records.users, rng) for _ in range(_N_PERMUTATIONS)]
        null = float(np.mean([correlation(last[:, j], last[other, k]) for other in others]))
        table.add_whole("correlation", f"{j}-{k}", partial(_of_rows, correlation, last[:, j], last[:, k]), null)
        first, second = alone[:, j], alone[:, k]
        null = float(
            np.mean([debiased_cka(first, second[rng.permutation(len(alone))]) for _ in range(_N_PERMUTATIONS)])
        )
        table.add_halved("linear_cka", f"{j}-{k}", partial(_of_rows, debiased_cka, first, second), len(alone), null)


def _of_rows(
    measure: Callable[[FloatArray, FloatArray], float], first: FloatArray, second: FloatArray, rows: IntArray
) -> float:
    return measure(first[rows], second[rows])


def _effective_rank(vectors: FloatArray, rows: IntArray) -> float:
    return float(effective_rank(torch.from_numpy(vectors[rows])))


def permuted_cosines(records: FactorRecords, rng: np.random.Generator) -> FloatArray:
    """Return `pair_cosines` when the second factor of each pair is another user's, [n, R, pairs]."""
    first, second = records.pairs()
    other = permuted_users(records.users, rng)
    return cosines(records.factors[:, :, first], records.factors[other][:, :, second])


def permuted_users(users: IntArray, rng: np.random.Generator) -> IntArray:
    """Return a target of another user for each, [n]: users change places as a whole, so that what is stable within a
    user stays so.

    >>> permuted_users(np.array([7, 7, 7, 9]), np.random.default_rng(1)).tolist()
    [3, 3, 3, 0]

    Args:
        users: User index of each target, [n].
        rng: Draws whose place each user takes; all move on by one in a random order.
    """
    _, user, counts = np.unique(users, return_inverse=True, return_counts=True)
    order = np.argsort(user, kind="stable")
    starts = np.cumsum(counts) - counts
    number = np.empty(len(users), dtype=np.int64)
    number[order] = np.arange(len(users)) - np.repeat(starts, counts)  # which of its user's targets each is
    drawn = rng.permutation(len(counts))
    partner = np.empty_like(drawn)
    partner[drawn] = np.roll(drawn, 1)
    of_partner = partner[user]
    return order[starts[of_partner] + number % counts[of_partner]]
