"""Whether an explanation is true: does the item suffer when what is called important is taken away?

Items of the history are ordered by a measure of importance. The deletion curve is log p(item) while the most important
are taken away first, the insertion curve while they are given first; both stop at a history of one item, for a model
is never asked about nobody. The area under a curve is its mean height (trapezoids). A measure's gain is by how much
deletion lies below, and insertion above, what random orders of the same items give: above 0 is better than chance,
and an importance that gains nothing explains nothing. Items of one importance come in a random order, so that their
places say nothing; an importance that is the same for all orders nothing, so its curves are those of random orders.

==============  =====================================================================================================
measure         importance of a history item
==============  =====================================================================================================
attention       attention on its title in the last refinement step, mean over factors
gated           the same, factors weighted by their gates
leave-one-out   log p(item) less that without this one item
latest          its place: no explanation at all, but what any explanation of a sequence has to beat
==============  =====================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flr.errors import RequestError
from flr.explanation.attribution import without_each
from flr.explanation.title_scores import score_titles
from flr.recommender import Recommender
from flr.records import BoolArray, FloatArray, Histories, IntArray, Thought
from flr.seeding import generator
from flr.steering import check_factor_weights

MEASURES: Final = ("attention", "gated", "leave-one-out", "latest")
#: Points of a curve: longer histories are taken in larger steps.
MAX_POINTS: Final = 10
#: Random orders of a history that a measure is compared with.
N_RANDOM: Final = 10
#: Differences in importance, in nats or shares of attention, that are rounding.
_RESOLUTION: Final = 1e-5


@dataclass(frozen=True)
class Fidelity:
    """How well one measure of importance orders the items of one history. Log-probabilities are natural.

    Attributes:
        measure: See the table on top.
        importance: Of each item that is read, oldest first, [n].
        n_kept: Items of the history that are left at each point, ascending from 1 to n.
        deletion: log p(item) with the n_kept least important items.
        insertion: log p(item) with the n_kept most important items.
        random: log p(item) with n_kept random items, mean over random orders.
        deletion_gain: Area under `random` less that under `deletion`, in nats.
        insertion_gain: Area under `insertion` less that under `random`, in nats.
        score: Mean of the two gains.
    """

    measure: str
    importance: tuple[float, ...]
    n_kept: tuple[int, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    random: tuple[float, ...]
    deletion_gain: float
    insertion_gain: float
    score: float


def fidelity(
    recommender: Recommender,
    histories: Histories,
    items: IntArray,
    *,
    factor_weights: Sequence[float] | None = None,
    n_random: int = N_RANDOM,
    seed: int = 0,
) -> list[tuple[Fidelity, ...]]:
    """Return for each history how well each measure of importance explains its item.

    Args:
        recommender: The model; one without a thought has no attention, so only the other measures.
        histories: Item indices, oldest first; only the window is read, and it must hold two items at least. All of them
            are read together: give a few at a time.
        items: The explained item of each history, [B].
        factor_weights: Multiplier of each factor's gate, as the lists were steered; None leaves them as they are.
        n_random: Random orders of each history.
        seed: Draws them.

    Raises:
        RequestError: A history has fewer than two items that are read, `n_random` is below 1, there is not one weight
            per factor, or one is negative or not finite.
    """
    recommender = recommender.frozen()
    read = histories.window(recommender.config.text.window)
    _check(int(read.lengths.min()), n_random)
    scorer = _Scorer(recommender, factor_weights)
    importances = _importances(scorer, read, items)
    masks, kept = [], []
    for row, importance in enumerate(importances):
        n = int(read.lengths[row])
        rng = generator(seed, "random orders", row)
        random = [rng.permutation(n) for _ in range(n_random)]
        tied = rng.permutation(n)
        orders = [tied[np.argsort(-_levels(values)[tied], kind="stable")] for values in importance.values()] + random
        kept.append(_points(n))
        masks.append(_subsets(np.array(orders), kept[-1]))
    heights = _heights(scorer, read, items, masks)
    return [
        tuple(
            _fidelity(measure, values, n_kept, curves[place], curves[len(importance) :])
            for place, (measure, values) in enumerate(importance.items())
        )
        for importance, n_kept, curves in zip(importances, kept, heights, strict=True)
    ]


def fidelity_cost(n_items: int, n_random: int = N_RANDOM) -> int:
    """Return how many histories of n items a fidelity takes as long to score as, at most.

    Equal subsets are scored once, and one of half the items takes half as long.

    >>> fidelity_cost(2), fidelity_cost(5), fidelity_cost(20)
    (5, 22, 141)

    Args:
        n_items: Items that are read.
        n_random: Random orders.

    Raises:
        RequestError: There are fewer than two items, or `n_random` is below 1.
    """
    _check(n_items, n_random)
    n_curves = 2 * (len(MEASURES) + n_random)
    subsets = sum(int(n) * min(math.comb(n_items, int(n)), n_curves) for n in _points(n_items))
    return 1 + n_items + math.ceil(subsets / n_items)


def _check(n_items: int, n_random: int) -> None:
    if n_items < 2:
        raise RequestError(
            f"fidelity orders what is read of a history, got {n_items} item; expected two or more, so leave it out here"
        )
    if n_random < 1:
        raise RequestError(f"got {n_random} random orders, expected one or more")


class _Scorer:
    """Thinks and scores as lists were steered; `factor_weights` as for `fidelity`."""

    def __init__(self, recommender: Recommender, factor_weights: Sequence[float] | None) -> None:
        self.recommender = recommender
        self.weights = check_factor_weights(factor_weights, recommender.snapshot.n_factors, 1)

    def scores(self, histories: Histories, items: IntArray) -> FloatArray:
        """Return log p(item | history), [B]."""
        weights = None if self.weights is None else self.weights[0]
        return score_titles(self.recommender, histories, items, weights)

    def thought(self, read: Histories) -> Thought | None:
        """Return what is thought of histories."""
        return self.recommender.think(read, None if self.weights is None else self.weights[0]).thought


def _points(n_items: int) -> IntArray:
    """Return how many of n items are left at each point of a curve, ascending from 1 to n."""
    return np.unique(np.linspace(1, n_items, min(n_items, MAX_POINTS)).round().astype(np.int64))


def _levels(importance: FloatArray) -> FloatArray:
    """Return importance in steps above the least, so that what differs by rounding only is the same, [n]."""
    levels: FloatArray = np.round((importance - importance.min()) / _RESOLUTION)
    return levels


def _importances(scorer: _Scorer, read: Histories, items: IntArray) -> list[dict[str, FloatArray]]:
    """Return measure -> importance of each item [n], for each history."""
    flat: dict[str, FloatArray] = {}
    if (thought := scorer.thought(read)) is not None:
        flat["attention"], flat["gated"] = _attention(scorer.recommender, read, thought)
    flat["leave-one-out"] = _leave_one_out(scorer, read, items)
    flat["latest"] = np.concatenate([np.arange(length, dtype=np.float64) for length in read.lengths])
    cut = read.offsets[1:-1]
    split = {measure: np.split(values, cut) for measure, values in flat.items()}
    return [{measure: values[row] for measure, values in split.items()} for row in range(len(read))]


def _attention(recommender: Recommender, read: Histories, thought: Thought) -> tuple[FloatArray, FloatArray]:
    """Return attention on each item, mean over factors and weighted by gates, [sum of lengths] each."""
    by_token = thought.attentions[-1, :, 0].transpose(1, 2).float().cpu().numpy()  # [B, L, K]
    by_item = recommender.compiled.template.sum_by_item(by_token, read)
    gates = np.repeat(thought.gates[-1, :, 0].float().cpu().numpy(), read.lengths, axis=0)
    return by_item.mean(1), (by_item * gates).sum(1)


def _leave_one_out(scorer: _Scorer, read: Histories, items: IntArray) -> FloatArray:
    parts = [without_each(read.take(np.array([row]))) for row in range(len(read))]
    lengths = np.concatenate([part.lengths for part in parts])
    flat = np.concatenate([part.item_index for part in parts])
    without = Histories(flat, np.concatenate([[0], np.cumsum(lengths)]))
    whole = scorer.scores(read, items)
    return np.repeat(whole, read.lengths) - scorer.scores(without, np.repeat(items, read.lengths))


def _subsets(orders: IntArray, n_kept: IntArray) -> BoolArray:
    """Return who is kept while the first of each order are deleted, or inserted, [n_orders, 2, points, n]."""
    place = np.argsort(orders, axis=1)[:, None]  # of each item in the order, [n_orders, 1, n]
    deletion = place >= orders.shape[1] - n_kept[:, None]
    insertion = place < n_kept[:, None]
    return np.stack([deletion, insertion], axis=1)


def _heights(scorer: _Scorer, read: Histories, items: IntArray, masks: list[BoolArray]) -> list[FloatArray]:
    """Return log p(item) of every subset of each history, [n_orders, 2, points] each; equal subsets are scored once."""
    distinct, backs, shown = [], [], []
    for row, mask in enumerate(masks):
        unique, back = np.unique(mask.reshape(-1, mask.shape[-1]), axis=0, return_inverse=True)
        own = read.item_index[read.offsets[row] : read.offsets[row + 1]]
        distinct.append(unique)
        backs.append(back)
        shown.append(np.broadcast_to(own, unique.shape)[unique])
    lengths = np.concatenate([unique.sum(1) for unique in distinct])
    subsets = Histories(np.concatenate(shown), np.concatenate([[0], np.cumsum(lengths)]))
    n_subsets = [len(unique) for unique in distinct]
    scores = scorer.scores(subsets, np.repeat(items, n_subsets))
    parts = np.split(scores, np.cumsum(n_subsets)[:-1])
    return [part[back].reshape(mask.shape[:-1]) for part, back, mask in zip(parts, backs, masks, strict=True)]


def _fidelity(
    measure: str, importance: FloatArray, n_kept: IntArray, curves: FloatArray, randoms: FloatArray
) -> Fidelity:
    """Return the fidelity of a measure of curves [2, points] beside those of random orders [n_random, 2, points]."""
    # Deleting at random and inserting at random is the same.
    random = randoms.mean((0, 1))
    deletion, insertion = curves if _levels(importance).any() else (random, random)
    below, above = _area(random - deletion, n_kept), _area(insertion - random, n_kept)
    return Fidelity(
        measure=measure,
        importance=tuple(importance.tolist()),
        n_kept=tuple(n_kept.tolist()),
        deletion=tuple(deletion.tolist()),
        insertion=tuple(insertion.tolist()),
        random=tuple(random.tolist()),
        deletion_gain=below,
        insertion_gain=above,
        score=(below + above) / 2,
    )


def _area(heights: FloatArray, n_kept: IntArray) -> float:
    """Return the mean height of a curve."""
    return float(np.trapezoid(heights, n_kept) / (n_kept[-1] - n_kept[0]))
