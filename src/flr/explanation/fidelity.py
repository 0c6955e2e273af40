"""Whether an explanation is true: does the item suffer when what is called important is taken away?

Items of the history are ordered by a measure of importance. The deletion curve is log p(item) while the most important
are taken away first, the insertion curve while they are given first; both stop at a history of one item, for a model
is never asked about nobody. The area under a curve is its mean height (trapezoids). A measure's gain is by how much
deletion lies below, and insertion above, what random orders of the same items give: above 0 is better than chance,
and an importance that gains nothing explains nothing.

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch

from flr.errors import DataError, RequestError
from flr.evaluation.significance import Interval, clustered_bootstrap
from flr.explanation.attribution import without_each
from flr.explanation.title_scores import score_titles
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import SPLITS, BoolArray, FloatArray, Histories, IntArray, UserSequences
from flr.seeding import derive_seed, generator

MEASURES: Final = ("attention", "gated", "leave-one-out", "latest")
#: Points of a curve: longer histories are taken in larger steps.
MAX_POINTS: Final = 10
#: Users whose histories are scored together.
_USERS_AT_ONCE: Final = 8


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


@dataclass(frozen=True)
class FidelityCheck:
    """Scores of one measure over many users.

    Attributes:
        measure: See the table on top.
        score, deletion_gain, insertion_gain: Means over users with 95 % bootstrap intervals, in nats.
        n_users: Users, each with one target.
    """

    measure: str
    score: Interval
    deletion_gain: Interval
    insertion_gain: Interval
    n_users: int

    @property
    def verdict(self) -> Literal["better than random", "no better than random", "worse than random"]:
        """What the interval of the score allows to say."""
        if self.score.low > 0:
            return "better than random"
        return "worse than random" if self.score.high < 0 else "no better than random"


def fidelity(
    recommender: Recommender, histories: Histories, items: IntArray, *, n_random: int = 10, seed: int = 0
) -> list[tuple[Fidelity, ...]]:
    """Return for each history how well each measure of importance explains its item.

    Args:
        recommender: The model; one without a thought has no attention, so only the other measures.
        histories: Item indices, oldest first; only the window is read, and it must hold two items at least.
        items: The explained item of each history, [B].
        n_random: Random orders of each history.
        seed: Draws them.

    Raises:
        RequestError: A history has fewer than two items, or `n_random` is below 1.
    """
    read = histories.window(recommender.config.text.window)
    if n_random < 1 or (read.lengths < 2).any():
        raise RequestError(
            f"got {n_random} random orders and {np.count_nonzero(read.lengths < 2)} histories of fewer than two items; "
            "expected one or more, and none: there is nothing to order"
        )
    importances = _importances(recommender, read, items)
    masks, kept = [], []
    for row, importance in enumerate(importances):
        n = int(read.lengths[row])
        rng = generator(seed, "random orders", row)
        orders = [np.argsort(-values, kind="stable") for values in importance.values()]
        orders += [rng.permutation(n) for _ in range(n_random)]
        kept.append(np.unique(np.linspace(1, n, min(n, MAX_POINTS)).round().astype(np.int64)))
        masks.append(_subsets(np.array(orders), kept[-1]))
    heights = _heights(recommender, read, items, masks)
    return [
        tuple(
            _fidelity(measure, values, n_kept, curves[place], curves[len(importance) :])
            for place, (measure, values) in enumerate(importance.items())
        )
        for importance, n_kept, curves in zip(importances, kept, heights, strict=True)
    ]


def check_fidelity(
    recommender: Recommender,
    sequences: UserSequences,
    *,
    n_users: int = 100,
    split: Literal["train", "valid", "test"] = "test",
    n_random: int = 10,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[FidelityCheck]:
    """Return how well each measure explains the first recommendation to held-out users.

    Args:
        recommender: The model.
        sequences: All interactions.
        n_users: Users drawn; fewer where the split has fewer. Of each the last target's history is taken.
        split: Whose targets.
        n_random: Random orders of each history.
        seed: Draws users and orders.
        progress: Told about users.

    Raises:
        DataError: Fewer than two users of the split have a target after two items or more.
    """
    users, rows = sequences.targets(SPLITS.index(split))
    long_enough = rows - sequences.offsets[users] >= 2
    last = dict(zip(users[long_enough].tolist(), rows[long_enough].tolist(), strict=True))
    if min(len(last), n_users) < 2:
        raise DataError(
            f"{len(last)} users of the split {split!r} have a target after two items or more and {n_users} were asked "
            "for; expected two or more, or there is no interval"
        )
    drawn = generator(seed, "checked users").permutation(np.array(list(last)))[:n_users]
    histories = Histories.before(sequences, drawn, np.array([last[user] for user in drawn.tolist()]))
    exclude_seen = recommender.config.evaluation.seen_items == "exclude"
    items = recommender.score_best(histories, 1, exclude_seen=exclude_seen).argmax(1)
    order = np.argsort(histories.lengths, kind="stable")
    found: list[tuple[Fidelity, ...]] = []
    with progress.task("check explanations", total=len(drawn)) as step:
        for start in range(0, len(drawn), _USERS_AT_ONCE):
            chosen = order[start : start + _USERS_AT_ONCE]
            found += fidelity(
                recommender,
                histories.take(chosen),
                items[chosen],
                n_random=n_random,
                seed=derive_seed(seed, "checked", start),
            )
            step(len(chosen))
    return [_check([each[place] for each in found], seed) for place in range(len(found[0]))]


def _check(found: Sequence[Fidelity], seed: int) -> FidelityCheck:
    def interval(name: str) -> Interval:
        values = np.array([getattr(one, name) for one in found])
        return clustered_bootstrap(values, np.arange(len(found)), generator(seed, f"interval of {name}"))

    names = ("score", "deletion_gain", "insertion_gain")
    return FidelityCheck(found[0].measure, n_users=len(found), **{name: interval(name) for name in names})


def _importances(recommender: Recommender, read: Histories, items: IntArray) -> list[dict[str, FloatArray]]:
    """Return measure -> importance of each item [n], for each history."""
    flat: dict[str, FloatArray] = {}
    if recommender.model.reasoner is not None:
        flat["attention"], flat["gated"] = _attention(recommender, read)
    flat["leave-one-out"] = _leave_one_out(recommender, read, items)
    flat["latest"] = np.concatenate([np.arange(length, dtype=np.float64) for length in read.lengths])
    cut = read.offsets[1:-1]
    split = {measure: np.split(values, cut) for measure, values in flat.items()}
    return [{measure: values[row] for measure, values in split.items()} for row in range(len(read))]


def _attention(recommender: Recommender, read: Histories) -> tuple[FloatArray, FloatArray]:
    """Return attention on each item, mean over factors and weighted by gates, [sum of lengths] each."""
    with torch.inference_mode():
        thought = recommender.think(read).thought
    assert thought is not None
    by_token = thought.attentions[-1, :, 0].transpose(1, 2).float().cpu().numpy()  # [B, L, K]
    by_item = recommender.compiled.template.sum_by_item(by_token, read)
    gates = np.repeat(thought.gates[-1, :, 0].float().cpu().numpy(), read.lengths, axis=0)
    return by_item.mean(1), (by_item * gates).sum(1)


def _leave_one_out(recommender: Recommender, read: Histories, items: IntArray) -> FloatArray:
    parts = [without_each(read.take(np.array([row]))) for row in range(len(read))]
    lengths = np.concatenate([part.lengths for part in parts])
    flat = np.concatenate([part.item_index for part in parts])
    without = Histories(flat, np.concatenate([[0], np.cumsum(lengths)]))
    whole = score_titles(recommender, read, items)
    return np.repeat(whole, read.lengths) - score_titles(recommender, without, np.repeat(items, read.lengths))


def _subsets(orders: IntArray, n_kept: IntArray) -> BoolArray:
    """Return who is kept while the first of each order are deleted, or inserted, [n_orders, 2, points, n]."""
    place = np.argsort(orders, axis=1)[:, None]  # of each item in the order, [n_orders, 1, n]
    deletion = place >= orders.shape[1] - n_kept[:, None]
    insertion = place < n_kept[:, None]
    return np.stack([deletion, insertion], axis=1)


def _heights(recommender: Recommender, read: Histories, items: IntArray, masks: list[BoolArray]) -> list[FloatArray]:
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
    scores = score_titles(recommender, subsets, np.repeat(items, n_subsets))
    parts = np.split(scores, np.cumsum(n_subsets)[:-1])
    return [part[back].reshape(mask.shape[:-1]) for part, back, mask in zip(parts, backs, masks, strict=True)]


def _fidelity(
    measure: str, importance: FloatArray, n_kept: IntArray, curves: FloatArray, randoms: FloatArray
) -> Fidelity:
    """Return the fidelity of a measure of curves [2, points] beside those of random orders [n_random, 2, points]."""
    deletion, insertion = curves
    # Deleting at random and inserting at random is the same.
    random = randoms.mean((0, 1))
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
