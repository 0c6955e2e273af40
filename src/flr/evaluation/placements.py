"""Where reference recommenders place the test targets: the ranks, and what they were worth if titles were credited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flr.evaluation.metrics import exclude, hit_rate, rank_statistics
from flr.evaluation.protocol import Scorer, SeenItems
from flr.progress import Step
from flr.records import FloatArray, Histories, IntArray, UserSequences, ragged_indices

#: Scores held at a time.
_AT_ONCE = 2**20
_Ranks = tuple[IntArray, IntArray, FloatArray]


@dataclass(frozen=True)
class Placement:
    """Where one recommender places the targets; [B] each.

    Attributes:
        recommender: Its name.
        seen_items: Whether items of the history were candidates.
        n_better, n_equal: Rank statistics of each target, see `flr.evaluation.metrics`.
        title_hits: HR@k if any item with the target's title counted as a hit.
    """

    recommender: str
    seen_items: SeenItems
    n_better: IntArray
    n_equal: IntArray
    title_hits: FloatArray


def place_targets(
    scorer: Scorer,
    sequences: UserSequences,
    targets: tuple[IntArray, IntArray],
    *,
    titles: IntArray,
    seen_items: Sequence[SeenItems],
    k: int = 10,
    step: Step,
) -> list[Placement]:
    """Return where `scorer` places the targets, once for each treatment of seen items.

    Args:
        scorer: Scores the whole catalogue; every history is scored once.
        sequences: All interactions.
        targets: User and row of each target, [B] each.
        titles: Number of each item's title, [N]; items of one title have one number.
        seen_items: Treatments, as in `flr.evaluation.protocol`.
        k: Cutoff of the credit by titles.
        step: Told after every batch.
    """
    users, rows = targets
    parts: dict[SeenItems, list[_Ranks]] = {treatment: [] for treatment in seen_items}
    for batch in _batches(len(rows), max(1, _AT_ONCE // len(titles))):
        histories = Histories.before(sequences, users[batch], rows[batch])
        items = sequences.item_index[rows[batch]].astype(np.int64)
        owners = np.repeat(np.arange(len(items)), histories.lengths)
        scores = scorer.score(histories)
        for treatment, found in parts.items():
            left = exclude(scores, (owners, histories.item_index)) if treatment == "exclude" else scores
            ranks = rank_statistics(left, items)
            found.append((*ranks, title_hit_rate(left, items, titles, k, ranks=ranks)))
        step(len(items), note=scorer.name)
    joined = {key: [np.concatenate(column) for column in zip(*found, strict=True)] for key, found in parts.items()}
    return [Placement(scorer.name, key, better, equal, hits) for key, (better, equal, hits) in joined.items()]


def title_hit_rate(
    scores: FloatArray, targets: IntArray, titles: IntArray, k: int, *, ranks: tuple[IntArray, IntArray]
) -> FloatArray:
    """Return the probability that an item with the target's title is among the first k, ties broken at random.

    With b candidates better than the best item of the title and e equal to it, g of them of the title, k - b places are
    drawn out of e: ``1 - C(e - g, k - b) / C(e, k - b)``.

    Items 0 and 1 share a title, and all four tie for two places, so the title misses only where 2 and 3 take both:

    >>> scores, titles = np.zeros((1, 4)), np.array([0, 0, 1, 2])
    >>> title_hit_rate(scores, np.array([0]), titles, 2, ranks=(np.array([0]), np.array([4])))
    array([0.83333333])

    Args:
        scores: Higher is better, ``-inf`` cannot be recommended, [B, N].
        targets: Item index of each target, [B].
        titles: Number of each item's title, [N].
        k: Cutoff, at least 1.
        ranks: Rank statistics of the targets themselves, [B] each; they are final for titles of one item.
    """
    hits = hit_rate(*ranks, k)
    n_sharing = np.bincount(titles)
    shared = np.flatnonzero(n_sharing[titles[targets]] > 1)
    if not len(shared):
        return hits
    by_title = np.argsort(titles, kind="stable")
    starts = np.cumsum(n_sharing) - n_sharing
    group = titles[targets[shared]]
    places, offsets = ragged_indices(starts[group], n_sharing[group])
    owners = np.repeat(np.arange(len(shared)), np.diff(offsets))
    of_group = scores[shared[owners], by_title[places]]
    best = np.maximum.reduceat(of_group, offsets[:-1])
    of_title = np.bincount(owners[of_group == best[owners]], minlength=len(shared))
    n_better = np.count_nonzero(scores[shared] > best[:, None], axis=1)
    n_equal = np.count_nonzero(scores[shared] == best[:, None], axis=1)
    missed = _all_drawn_from_others(n_equal, of_title, np.clip(k - n_better, 0, n_equal))
    hits[shared] = np.where(np.isneginf(best), 0.0, 1 - missed)
    return hits


def _all_drawn_from_others(n: IntArray, n_marked: IntArray, n_drawn: IntArray) -> FloatArray:
    """Return the probability that none of the marked is among those drawn from n without replacement."""
    missed = np.ones(len(n))
    for drawn in range(int(n_drawn.max(initial=0))):
        factor = np.clip(n - n_marked - drawn, 0, None) / np.maximum(n - drawn, 1)
        missed *= np.where(drawn < n_drawn, factor, 1.0)
    return missed


def _batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)
