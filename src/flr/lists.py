"""Scores -> what a person is shown: items with titles and probabilities, best first or by factor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flr.catalogue.filters import AllowedItems
from flr.errors import RequestError
from flr.records import Catalogue, Histories, IntArray
from flr.scoring.ranking import top_items
from flr.snapshot import Snapshot
from flr.steering import FactorWeights, check_factor_weights, interleave


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: The item's own id.
        title: Its cleaned title.
        probability: p(item | history) over the whole catalogue, in [0, 1]; filters do not raise it.
        log_prob: Its natural logarithm.
        factor: The factor that gave the item, of a list that is diversified by factors: the probability is then that
            of the model thinking in this factor alone. None otherwise.
    """

    item_id: str
    title: str
    probability: float
    log_prob: float
    factor: int | None = None


@dataclass(frozen=True)
class Asked:
    """A request whose names have been looked up; see `flr.Recommender.recommend`.

    Attributes:
        histories: Item indices; one without any has an empty list, or that of what is popular.
        k: Items per history.
        exclude_seen: Whether items of a history are left out.
        factor_weights: Multipliers of the gates.
        allowed: What each history may be recommended; None for everything.
        diversify: Whether factors pick in turn.
        popular: Whether histories without items have the list of what is popular.
    """

    histories: Histories
    k: int
    exclude_seen: bool
    factor_weights: FactorWeights | None = None
    allowed: AllowedItems | None = None
    diversify: Literal["factors"] | None = None
    popular: bool = False


def best_lists(now: Snapshot, asked: Asked) -> list[list[Recommendation]]:
    """Return what `flr.Recommender.recommend` does, for item indices and one snapshot."""
    n, answered = len(asked.histories), np.flatnonzero(asked.histories.lengths)
    lists: list[list[Recommendation]] = [[] for _ in range(n)]
    if len(answered) < n:
        if asked.popular:
            for place, best in _popular_lists(now, asked, np.flatnonzero(asked.histories.lengths == 0)):
                lists[place] = best
        weights = check_factor_weights(asked.factor_weights, now.n_factors, n)
        asked = replace(
            asked,
            histories=asked.histories.take(answered),
            factor_weights=None if weights is None else weights[answered],
            allowed=None if asked.allowed is None else replace(asked.allowed, of_row=asked.allowed.of_row[answered]),
        )
    if len(answered):
        found = _plain_lists(now, asked) if asked.diversify is None else _lists_by_factor(now, asked)
        for row, best in zip(answered, found, strict=True):
            lists[row] = best
    return lists


def _popular_lists(now: Snapshot, asked: Asked, rows: IntArray) -> Iterator[tuple[int, list[Recommendation]]]:
    """Yield rows with the k items that were taken most often in training, of those that each may be recommended.

    Raises:
        RequestError: The model does not know: it has no memory.
    """
    shares = now.popularity
    if shares is None:
        raise RequestError("this model has no memory (reasoner.memory=none), so it does not know what is popular")
    with np.errstate(divide="ignore"):
        scores = np.log(shares)
    if asked.allowed is None:
        distinct, of_row = scores[None], np.zeros(len(rows), dtype=np.int64)
    else:
        filters, of_row = np.unique(asked.allowed.of_row[rows], return_inverse=True)
        distinct = np.where(asked.allowed.masks[filters], scores, -np.inf)
    lists = _recommendations(now.catalogue, torch.from_numpy(distinct), asked.k)
    for row, number in zip(rows, of_row, strict=True):
        yield int(row), lists[number]


def _plain_lists(now: Snapshot, asked: Asked) -> list[list[Recommendation]]:
    """Return the k most probable items for each history, best first."""
    scores = now.score_best(
        asked.histories,
        asked.k,
        exclude_seen=asked.exclude_seen,
        factor_weights=asked.factor_weights,
        allowed=asked.allowed,
    )
    return _recommendations(now.catalogue, torch.from_numpy(scores), asked.k)


def _lists_by_factor(now: Snapshot, asked: Asked) -> list[list[Recommendation]]:
    """Return k items for each history that its factors pick in turn; see `flr.steering.interleave`.

    Raises:
        RequestError: All factors of a history have the weight 0, or the model has none.
    """
    n = len(asked.histories)
    weights = check_factor_weights(asked.factor_weights, now.n_factors, n)
    if weights is not None and now.n_factors and not weights.any(1).all():
        raise RequestError(
            f"all {now.n_factors} factor weights of a history are 0, so no factor is left to pick; "
            "give one a weight above 0, or leave diversify out"
        )
    lists = now.best_by_factor(asked.histories, asked.k, exclude_seen=asked.exclude_seen, allowed=asked.allowed)
    mixed = [interleave(lists, row, asked.k, None if weights is None else weights[row]) for row in range(n)]
    return [
        [
            _recommendation(now.catalogue, int(item), float(log_prob), int(factor))
            for item, log_prob, factor in zip(one.item_index, one.log_probs, one.factors, strict=True)
        ]
        for one in mixed
    ]


def _recommendations(catalogue: Catalogue, scores: Tensor, k: int) -> list[list[Recommendation]]:
    """Return the k best items of each row of log-probabilities, [B, N], without those that cannot be recommended."""
    ranking = top_items(scores, k)
    return [
        [
            _recommendation(catalogue, int(item), float(log_prob))
            for item, log_prob in zip(items, values, strict=True)
            if item >= 0
        ]
        for items, values in zip(ranking.item_index, ranking.log_probs, strict=True)
    ]


def _recommendation(catalogue: Catalogue, item: int, log_prob: float, factor: int | None = None) -> Recommendation:
    item_id, title = str(catalogue.item_ids[item]), str(catalogue.titles[item])
    return Recommendation(item_id, title, float(np.exp(log_prob)), log_prob, factor)
