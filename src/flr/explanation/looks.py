"""Where factors look over many targets, every user counted once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from flr.diagnostics.factor_records import FactorRecords
from flr.evaluation.significance import Interval
from flr.records import BoolArray, FloatArray, IntArray

#: Of all intervals and null ranges.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Looks:
    """Where factors look, by entry: a history item of a target. E entries, T targets, U users.

    Attributes:
        attention: Attention of each factor on each entry by the number of its user's targets, [E, K] float64.
        even: The same attention spread evenly over each history, [E, K].
        items: Item of each entry, [E].
        places: -0.5 at the oldest item of a history, 0.5 at the latest, 0 where it is the only one, [E].
        targets: Target of each entry, [E].
        users: User of each entry, 0..U-1, [E].
        lengths: Items of each target's history, [T].
        weights: 1 by the number of its user's targets, of each target, [T].
        n_users: U.
    """

    attention: FloatArray
    even: FloatArray
    items: IntArray
    places: FloatArray
    targets: IntArray
    users: IntArray
    lengths: IntArray
    weights: FloatArray
    n_users: int

    @classmethod
    def of(cls, records: FactorRecords) -> Looks:
        lengths = records.histories.lengths
        targets = np.repeat(np.arange(len(records)), lengths)
        _, users, n_targets = np.unique(records.users, return_inverse=True, return_counts=True)
        attention: FloatArray = records.item_attention[:, -1].astype(np.float64) / n_targets[users][targets][:, None]
        within = np.arange(len(targets)) - records.histories.offsets[:-1][targets]
        return cls(
            attention=attention,
            even=_evenly(attention, targets, lengths),
            items=records.histories.item_index,
            places=np.where(lengths[targets] > 1, within / np.maximum(lengths[targets] - 1, 1) - 0.5, 0.0),
            targets=targets,
            users=users[targets],
            lengths=lengths,
            weights=1 / n_targets[users],
            n_users=len(n_targets),
        )

    @property
    def of_several(self) -> BoolArray:
        """Whether each target's history has two items or more, so that there is something to choose from, [T]."""
        return self.lengths > 1

    def only(self, kept: BoolArray) -> Looks:
        """Return the same of some entries [E], as if histories held no others; places stay as they were."""
        attention, targets = self.attention[kept], self.targets[kept]
        lengths = np.bincount(targets, minlength=len(self.lengths))
        return replace(
            self,
            attention=attention,
            even=_evenly(attention, targets, lengths),
            items=self.items[kept],
            places=self.places[kept],
            targets=targets,
            users=self.users[kept],
            lengths=lengths,
        )

    def by_user(self, values: FloatArray) -> FloatArray:
        """Return sums over the entries of each user, [E] -> [U]."""
        sums = np.zeros(self.n_users)
        np.add.at(sums, self.users, values)
        return sums

    def mean(self, values: FloatArray) -> float:
        """Return the mean of what each target has, [T]."""
        return float(np.average(values, weights=self.weights))

    def mean_of_several(self, values: FloatArray) -> float:
        """Return the mean over histories of two items or more, [T]; not a number where there is none."""
        weights = self.weights * self.of_several
        return float(np.average(values, weights=weights)) if weights.any() else float("nan")

    def n_read(self, n_items: int) -> IntArray:
        """Return how many users' histories hold each item, [N]."""
        return np.bincount(np.unique(self.users * n_items + self.items) % n_items, minlength=n_items)

    def recency(self, k: int) -> Interval:
        """Return the mean place of what is read, over histories of two items or more."""
        chosen = self.attention[:, k] * self.of_several[self.targets]
        return ratio_interval(self.by_user(chosen * self.places), self.by_user(chosen))

    def popularity(self, k: int, percentiles: FloatArray) -> Interval:
        more = (self.attention[:, k] - self.even[:, k]) * percentiles[self.items]
        return ratio_interval(self.by_user(more), self.by_user(self.attention[:, k]))

    def spread(self, k: int) -> float:
        """Return the mean entropy over items by the logarithm of their number, by attention on titles.

        Histories of one item are left out; not a number where no other is read.
        """
        on_titles = self.even[:, k] * self.lengths[self.targets]
        share = np.divide(self.attention[:, k], on_titles, out=np.zeros_like(on_titles), where=on_titles > 0)
        entropy = -share * np.log(share, where=share > 0, out=np.zeros_like(share))
        several = self.of_several[self.targets]
        norms = np.log(np.maximum(self.lengths[self.targets], 2))
        # Every entry carries a share of its target's weight.
        weight = self.even[:, k][several].sum()
        return float((entropy * on_titles / norms)[several].sum() / weight) if weight > 0 else float("nan")


def _evenly(attention: FloatArray, targets: IntArray, lengths: IntArray) -> FloatArray:
    """Return attention [E, K] spread evenly over the entries of its target, [E, K]."""
    on_titles = [np.bincount(targets, weights=of_factor, minlength=len(lengths)) for of_factor in attention.T]
    even: FloatArray = (np.stack(on_titles, axis=1) / np.maximum(lengths, 1)[:, None])[targets]
    return even


def ratio_interval(above: FloatArray, below: FloatArray) -> Interval:
    """Return the ratio of two sums over users, [U] each, with its interval; not a number where nothing was read."""
    total = float(below.sum())
    if total <= 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    ratio = float(above.sum()) / total
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * float(_deviation(above - ratio * below)) / total
    return Interval(ratio, ratio - half, ratio + half)


def _deviation(of_users: FloatArray) -> FloatArray:
    """Return the standard error of a sum over users, [U, ...] -> [...]."""
    n = len(of_users)
    deviation: FloatArray = np.sqrt(n * of_users.var(axis=0, ddof=1))
    return deviation
