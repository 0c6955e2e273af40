"""Why an item is recommended: what each factor, each source and each item of the history does to it.

1. Everything is measured by leaving out: an influence is the log-probability of the item as it is, less that without
   one purchase, one factor or one source. Attention is shown beside it, as what a factor reads, not as what it does:
   `fidelity` tells whether the two agree.
2. Leaving out a factor sets its gate to 0 at every refinement step; the others keep theirs. Votes of a memory are an
   average by gates, so a contribution is against the other factors' average vote: by its votes, a factor that votes as
   the others do has none, whatever its gate. Leaving out a source of probabilities, titles or votes, leaves the say to
   the other, and an assistant that is left out is not heard. The history is read once, and all these thoughts are rows
   of one forward.
3. Leaving out a purchase takes it from the window that was read; nothing older moves in, so what is older than the
   window has no influence. All these histories are rows of one batch.
4. The candidates stay the same throughout: a purchase that is left out is still not recommended where seen items are
   excluded, so that lists can be compared.
5. All of it is of the catalogue at the start, whatever is edited meanwhile.
6. What is steered is explained as it is steered: weights of factors hold for every change, so a factor that is turned
   off contributes nothing, and filters say what lists are made of. A list that is diversified is made of one model per
   factor, and none of these is the model that is explained here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from flr.arguments import check_choice, check_k, check_list
from flr.catalogue.filters import ItemFilter
from flr.errors import RequestError
from flr.explanation.profiles import FactorProfiles
from flr.explanation.results import (
    Change,
    Explanation,
    FactorInfluence,
    HistoryInfluence,
    RankedItem,
    Source,
    SourceInfluence,
)
from flr.recommender import Recommender
from flr.records import BoolArray, FloatArray, Histories, IntArray, Thought
from flr.scoring.ranking import top_items
from flr.sequential.assistant import LEAST
from flr.steering import check_factor_weights
from flr.thoughts import ThoughtState

#: Sum of gates below which all factors are off.
_OFF: Final = 1e-12


def explain(
    recommender: Recommender,
    history: Sequence[int] | IntArray,
    item_index: int | None = None,
    *,
    k: int = 10,
    exclude_seen: bool = True,
    factor_weights: Sequence[float] | FloatArray | None = None,
    filters: ItemFilter | None = None,
    unknown: Literal["error", "skip"] = "error",
    profiles: FactorProfiles | None = None,
) -> Explanation:
    """Return why an item is recommended after a history, or where it stands if it is not.

    Args:
        recommender: The model; one without a thought is explained by purchases alone.
        history: Item indices, oldest first, at least one; see `Recommender.resolve`.
        item_index: The item to explain; None takes the best recommendation.
        k: Length of the lists.
        exclude_seen: Whether items of the (whole) history are no candidates, but for the explained item itself.
        factor_weights: Multiplier of each factor's gate, as the list was steered; see `Recommender.recommend`.
        filters: What may be recommended: other items are no candidates.
        unknown: What to do with ids and values in filters that no item has, as in `Recommender.recommend`.
        profiles: Names of the factors, from `load_profiles`; None leaves them without.

    Raises:
        RequestError: The history is empty or holds no indices, k is below 1, an index is not in the catalogue, no
            item is left to recommend, the item is one that the model gives -inf, there is not one weight per factor,
            one is negative or not finite, or filters name an unknown attribute or value.
        UnknownItemError: Filters name an unknown item and `unknown` is ``"error"``.
    """
    check_choice(unknown, "unknown", ("error", "skip"))
    recommender = recommender.frozen()
    now = recommender.snapshot
    weights = check_factor_weights(factor_weights, now.n_factors, 1)
    allowed = now.live.allowed(filters, 1, unknown=unknown)
    taken = _checked(recommender, history, item_index, k)
    histories = Histories(taken, np.array([0, len(taken)]))
    read = histories.window(recommender.config.text.window)
    parts = score_without_parts(recommender, read, weights)
    as_it_is, thought = parts.scores[0], parts.state.thought
    candidates = np.ones(recommender.catalogue.n_items, dtype=np.bool_) if allowed is None else allowed.masks[0].copy()
    if exclude_seen:
        candidates[taken] = False
    if item_index is None:
        item_index = _best(as_it_is, candidates)
    if np.isneginf(as_it_is[item_index]):
        item_id = str(recommender.catalogue.item_ids[item_index])
        raise RequestError(f"item {item_id!r} is never recommended, so there is nothing to explain; name another one")
    lists = _Lists(recommender, candidates, item_index, k, weights=weights)
    before = lists.change(as_it_is)
    lists.before = before.items
    attention = None if thought is None else _reads(recommender, read, thought)
    gates = None if thought is None else thought.gates[-1, 0, 0].float().cpu().numpy()
    return Explanation(
        item=lists.ranked(item_index, before.rank, as_it_is),
        is_seen=bool((taken == item_index).any()),
        is_allowed=allowed is None or bool(allowed.masks[0, item_index]),
        n_sharing=int(recommender.compiled.n_sharing[recommender.compiled.leaf[item_index]]),
        items=before.items,
        history=_of_history(lists, read, before.log_prob, len(taken), attention=attention, gates=gates),
        n_unread=len(taken) - len(read.item_index),
        factors=() if attention is None or gates is None else _of_factors(lists, parts, attention, gates, profiles),
        sources=_of_sources(lists, parts),
    )


@dataclass(frozen=True)
class WithoutParts:
    """Scores of one history as it is, and without each part.

    Attributes:
        scores: As it is, without each of the K factors, without each source, [1 + K + S, N].
        n_factors: K; 0 for a model without a thought.
        sources: Which sources there are, S.
        state: What was thought as it is, in the first row.
    """

    scores: FloatArray
    n_factors: int
    sources: tuple[Source, ...]
    state: ThoughtState

    def of_factors(self) -> FloatArray:
        return self.scores[1 : 1 + self.n_factors]

    def of_sources(self) -> FloatArray:
        return self.scores[1 + self.n_factors :]


def score_without_parts(
    recommender: Recommender, read: Histories, factor_weights: FloatArray | None = None
) -> WithoutParts:
    """Return scores of one history as it is, without each factor, and without each source of its probabilities.

    Args:
        recommender: The model.
        read: One history.
        factor_weights: Multipliers of its gates, which hold for every row, [1, K]; None leaves them as they are.
    """
    model = recommender.model
    n_factors = 0 if model.reasoner is None else model.reasoner.n_factors
    sources: tuple[Source, ...] = ()
    if model.memory is not None:
        sources = ("titles", "votes") if model.assistant is None else ("titles", "votes", "assistant")
    n_rows = 1 + n_factors + len(sources)
    weights = torch.ones(n_rows, 1, n_factors, device=model.device)
    if factor_weights is not None:
        weights *= torch.tensor(factor_weights, device=model.device)
    weights[torch.arange(1, n_factors + 1), 0, torch.arange(n_factors)] = 0
    states: list[ThoughtState] = []
    with torch.inference_mode():
        streams = model.read(recommender.compiled.template.streams(read))

    def think(_: Histories, rows: IntArray) -> ThoughtState:
        same = streams.rows(torch.zeros(len(rows), dtype=torch.long, device=model.device))
        state = model.think(same, weights[torch.from_numpy(rows)] if n_factors else None)
        for number, source in enumerate(sources):
            left_out = torch.from_numpy(rows == 1 + n_factors + number).to(model.device)
            state = _without_source(state, source, left_out)
        states.append(state)
        return state

    scores = recommender.score(read.take(np.zeros(n_rows, dtype=np.int64)), think=think)
    return WithoutParts(scores, n_factors, sources, states[0])


def _without_source(state: ThoughtState, source: Source, rows: Tensor) -> ThoughtState:
    """Return the same without a source of probabilities in some rows, True in [B]."""
    votes, advice = state.votes, state.advice
    assert votes is not None
    if source == "assistant":
        assert advice is not None
        weights, discount = advice.weights.masked_fill(rows[:, None], 0.0), advice.discount.masked_fill(rows, 0.0)
        return replace(state, advice=replace(advice, weights=weights, discount=discount))
    # Not nothing: an item without votes would have no probability left.
    little, rest = math.log(LEAST), math.log1p(-LEAST)
    trust, distrust = (little, rest) if source == "votes" else (rest, little)
    log_trust, log_distrust = votes.log_trust.masked_fill(rows, trust), votes.log_distrust.masked_fill(rows, distrust)
    return replace(state, votes=replace(votes, log_trust=log_trust, log_distrust=log_distrust))


def without_each(read: Histories) -> Histories:
    """Return one history of n items as n histories of n - 1 items; number i lacks item i.

    >>> without_each(Histories(np.array([4, 5, 6]), np.array([0, 3]))).item_index.tolist()
    [5, 6, 4, 6, 4, 5]
    """
    n = len(read.item_index)
    kept = np.broadcast_to(read.item_index, (n, n))[~np.eye(n, dtype=np.bool_)]
    return Histories(kept, np.arange(n + 1) * (n - 1))


def _checked(recommender: Recommender, history: Sequence[int] | IntArray, item_index: int | None, k: int) -> IntArray:
    check_list(history, "history", "a list of item indices; Recommender.resolve makes them of ids")
    if texts := [item for item in history if isinstance(item, str)]:
        raise RequestError(f"history: got the text {texts[0]!r}, expected item indices; see Recommender.resolve")
    taken, n_items = np.asarray(history, dtype=np.int64), recommender.catalogue.n_items
    check_k(k)
    if not len(taken):
        raise RequestError("the history is empty; give at least one known item")
    asked = taken if item_index is None else np.append(taken, item_index)
    if (outside := asked[(asked < 0) | (asked >= n_items)]).size:
        raise RequestError(f"there is no item with index {outside[0]}, expected 0..{n_items - 1}")
    return taken


def _best(scores: FloatArray, candidates: BoolArray) -> int:
    left = np.where(candidates, scores, -np.inf)
    if np.isneginf(left).all():
        raise RequestError(
            f"the history or the filters rule out all {len(candidates)} items, so none is left to recommend; "
            "name the item to explain, include seen items, or loosen the filters"
        )
    return int(np.argmax(left))


class _Lists:
    """Makes lists of scores: always the same candidates, the same explained item and the same length."""

    def __init__(
        self, recommender: Recommender, candidates: BoolArray, item_index: int, k: int, *, weights: FloatArray | None
    ) -> None:
        self.recommender, self.candidates, self.item_index, self.k = recommender, candidates, item_index, k
        self.weights = weights
        self.before: tuple[RankedItem, ...] = ()

    def change(self, scores: FloatArray) -> Change:
        """Return what the list of scores [N] is, beside the list before."""
        masked = torch.from_numpy(np.where(self.candidates, scores, -np.inf))
        best = top_items(masked[None], self.k).item_index[0]
        best = best[best >= 0]
        ranks = self._ranks(np.append(best, self.item_index), scores)
        items = tuple(self.ranked(int(item), int(rank), scores) for item, rank in zip(best, ranks[:-1], strict=True))
        now, old = ({item.item_index for item in items}, {item.item_index for item in self.before})
        return Change(
            log_prob=float(scores[self.item_index]),
            rank=int(ranks[-1]),
            items=items,
            entered=tuple(item.item_id for item in items if item.item_index not in old),
            left=tuple(item.item_id for item in self.before if item.item_index not in now),
        )

    def ranked(self, item: int, rank: int, scores: FloatArray) -> RankedItem:
        catalogue = self.recommender.catalogue
        return RankedItem(
            item_index=item,
            item_id=str(catalogue.item_ids[item]),
            title=str(catalogue.titles[item]),
            rank=rank,
            probability=float(np.exp(scores[item])),
            log_prob=float(scores[item]),
        )

    def _ranks(self, items: IntArray, scores: FloatArray) -> IntArray:
        """Return one more than the number of candidates above each item."""
        ordered = np.sort(scores[self.candidates])
        return 1 + len(ordered) - np.searchsorted(ordered, scores[items], side="right")


def _reads(recommender: Recommender, read: Histories, thought: Thought) -> FloatArray:
    """Return what each factor reads in the last refinement step of the first row, [n, K]."""
    by_token = thought.attentions[-1, :1, 0].transpose(1, 2).float().cpu().numpy()  # [1, L, K]
    return recommender.compiled.template.sum_by_item(by_token, read)


def _of_history(
    lists: _Lists,
    read: Histories,
    log_prob: float,
    n_taken: int,
    *,
    attention: FloatArray | None,
    gates: FloatArray | None,
) -> tuple[HistoryInfluence, ...]:
    n, catalogue = len(read.item_index), lists.recommender.catalogue
    without: list[Change | None] = [None]
    if n > 1:
        weights = None if lists.weights is None else lists.weights[0]
        scores_without = lists.recommender.score(without_each(read), factor_weights=weights)
        without = [lists.change(scores) for scores in scores_without]
    weighted = None if attention is None or gates is None else attention @ (gates / max(float(gates.sum()), _OFF))
    return tuple(
        HistoryInfluence(
            position=n_taken - n + place,
            item_index=int(item),
            item_id=str(catalogue.item_ids[item]),
            title=str(catalogue.titles[item]),
            attention=None if weighted is None else float(weighted[place]),
            influence=None if change is None else log_prob - change.log_prob,
            without=change,
        )
        for place, (item, change) in enumerate(zip(read.item_index, without, strict=True))
    )


def _of_factors(
    lists: _Lists,
    parts: WithoutParts,
    attention: FloatArray,
    gates: FloatArray,
    profiles: FactorProfiles | None,
) -> tuple[FactorInfluence, ...]:
    changes = [lists.change(scores) for scores in parts.of_factors()]
    log_prob = float(parts.scores[0, lists.item_index])
    return tuple(
        FactorInfluence(
            factor=factor,
            name=None if profiles is None else profiles.factors[factor].name,
            gate=float(gates[factor]),
            contribution=log_prob - change.log_prob,
            reads=tuple(float(share) for share in attention[:, factor]),
            elsewhere=max(0.0, 1.0 - float(attention[:, factor].sum())),
            without=change,
        )
        for factor, change in enumerate(changes)
    )


def _of_sources(lists: _Lists, parts: WithoutParts) -> tuple[SourceInfluence, ...]:
    votes, advice = parts.state.votes, parts.state.advice
    if votes is None:
        return ()
    trust = float(votes.log_trust[0].exp())
    say = 0.0 if advice is None else float(advice.say[0])
    weights = {"titles": 1 - trust, "votes": trust * (1 - say), "assistant": trust * say}
    log_prob = float(parts.scores[0, lists.item_index])
    changes = [lists.change(scores) for scores in parts.of_sources()]
    return tuple(
        SourceInfluence(source, weights[source], log_prob - change.log_prob, change)
        for source, change in zip(parts.sources, changes, strict=True)
    )
