"""What the factors do: recommend without one, with somebody else's, with somebody else's whole thought.

A factor may be different from the others and still matter to no ranking. Each intervention changes what is thought and
nothing else: the history is read as before, and titles are scored as before (so where titles see the history, a wrong
thought can be ignored).

==========  ==================================================================================================
kind        what the gate and the thought see instead of factor k, at every refinement step
==========  ==================================================================================================
remove      nothing: its gate is 0 (the others keep theirs)
only        nothing of all others, and all of factor k, as if the gate had chosen it: its gate is 1, theirs are 0
mean        the mean of factor k over all targets: no news of the person, but nothing unusual either
swap        factor k of another user's target, with another history, drawn once: the news of somebody else
shuffle     its own coordinates in another order, drawn once per target: its length without its content
==========  ==================================================================================================

Where factors vote (``reasoner.memory``), ``remove`` and ``only`` turn votes off and on along, and ``swap`` brings the
other user's votes along; ``mean`` and ``shuffle`` change what a factor says to the thought, and leave its votes, which
are for what it read. What an assistant says of the user's own history stays: no factor thinks it.

``factor`` None replaces the thought itself (kinds mean, swap, shuffle) and leaves the votes, so that it tells what the
vector is worth; the kind ``votes`` leaves the thought, and takes the votes of all factors from the other user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from flr.backbone.streams import EncodedStreams
from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.readings import Reading, Readings, user_blocks
from flr.errors import ConfigError, DataError
from flr.evaluation.decoding import BestItems
from flr.evaluation.metrics import cutoff_of
from flr.evaluation.protocol import Scorer, asking_order, evaluate
from flr.reasoner.memory import items_in_order
from flr.recommender import Recommender
from flr.records import SPLITS, USER_INDEX, FloatArray, Histories, IntArray, Thought, UserSequences
from flr.seeding import generator
from flr.thoughts import ThoughtState

#: Items at the head of a list whose staying is counted.
N_KEPT: Final = 5
#: Targets whose histories are kept as they were read, a megabyte or two each with the compact backbone.
_N_AT_ONCE: Final = 64
KINDS: Final = ("remove", "only", "mean", "swap", "shuffle")
#: Name of the intervention that leaves the thought and takes all votes from another user.
SWAPPED_VOTES: Final = "swap votes"
#: Changes of everything at once: of the thought, and of what factors vote for.
WHOLE: Final = ("mean", "swap", "shuffle", "votes")


@dataclass(frozen=True)
class Intervention:
    """A change of what is thought.

    Attributes:
        kind: See the table on top.
        factor: Which factor, 0..K-1; None for the whole thought, or for all votes.
    """

    kind: str
    factor: int | None

    def __str__(self) -> str:
        if self.factor is not None:
            return f"{self.kind} {self.factor}"
        return SWAPPED_VOTES if self.kind == "votes" else f"{self.kind} thought"


def all_interventions(n_factors: int, *, votes: bool) -> list[Intervention]:
    """Return every intervention on a model of K factors.

    Args:
        n_factors: K.
        votes: Whether factors vote.
    """
    whole = [Intervention(kind, None) for kind in WHOLE if votes or kind != "votes"]
    return whole + [Intervention(kind, k) for kind in KINDS for k in range(n_factors)]


class IntervenedScorer:
    """A recommender whose thoughts on known targets are changed.

    Targets are known by their row, as many may have equal histories; `InTurn` tells it to `evaluate`.

    Args:
        recommender: The model.
        records: What it thinks about the targets, from `collect_factors`.
        intervention: The change.
        seed: Draws the other users and orders.
        n_best: Score no more items than so many best ones, as `flr.evaluation.decoding.BestItems`; None scores all.
        exclude_seen: Whether items of the history are none of these.
        readings: Where histories that were read for another intervention are found; None reads them again.

    Raises:
        ConfigError: The model has no such factor or no votes, or the kind is unknown or needs a factor.
        DataError: There is one user only, so nobody to swap with.
    """

    def __init__(
        self,
        recommender: Recommender,
        records: FactorRecords,
        intervention: Intervention,
        *,
        seed: int = 0,
        n_best: int | None = None,
        exclude_seen: bool = False,
        readings: Readings | None = None,
    ) -> None:
        kind, factor = intervention.kind, intervention.factor
        votes = recommender.model.memory is not None
        if intervention not in all_interventions(records.n_factors, votes=votes):
            raise ConfigError(
                f"intervention {str(intervention)!r}, expected one of {KINDS} on a factor 0..{records.n_factors - 1}, "
                f"mean, swap or shuffle of the whole thought{', or swapped votes' if votes else ''}"
            )
        self.name = f"{recommender.name} ({intervention})"
        self.recommender, self.records, self.intervention = recommender, records, intervention
        self.n_best, self.exclude_seen, self._readings = n_best, exclude_seen, readings
        rng = generator(seed, "intervention", 0 if factor is None else factor + 1)
        self._donors = other_users(records, rng) if kind in ("swap", "votes") else None
        self._replacements = None if kind in ("remove", "only", "votes") else self._replaced(rng)
        self._place = {row: place for place, row in enumerate(records.rows.tolist())}

    def score(self, histories: Histories, of_rows: IntArray | None = None) -> FloatArray:
        """Return log p(item | history, changed thought) of the whole catalogue, [B, N].

        Args:
            histories: What was taken before some targets.
            of_rows: Rows of these targets, [B]; None takes all of the records, in their order.

        Raises:
            DataError: These are not the targets of the records or their histories.
        """
        places = self._places(histories, self.records.rows if of_rows is None else of_rows)

        def think(read: Histories, rows: IntArray) -> ThoughtState:
            return self._think(read, places[rows])

        if self.n_best is None:
            return self.recommender.score(histories, think=think)
        return self.recommender.score_best(histories, self.n_best, exclude_seen=self.exclude_seen, think=think)

    def _think(self, read: Histories, places: IntArray) -> ThoughtState:
        reading = (self._readings or Readings(self.recommender)).of(read)
        think = partial(self.recommender.model.think, reading.streams, advised=reading.advised)
        kind, factor = self.intervention.kind, self.intervention.factor
        if kind == "remove":
            return think(1 - self._one_hot())
        if kind == "only":
            return think(fixed_gates=self._one_hot())
        if kind == "votes":
            return self._with_swapped_votes(think(), reading, places)
        assert self._replacements is not None
        replaced = torch.from_numpy(self._replacements[places]).to(self.recommender.model.device)

        def edit(step: int, factors: Tensor) -> Tensor:
            edited = factors.clone()
            edited[:, 0, factor] = replaced[:, step].to(factors.dtype)
            return edited

        if factor is None:
            return think(vectors=replaced)
        state = think(edit=edit)
        if state.votes is None or self._donors is None:
            return state
        return self._with_swapped_votes(state, reading, places)

    def _with_swapped_votes(self, state: ThoughtState, reading: Reading, places: IntArray) -> ThoughtState:
        """Return a state with the votes of others, or with what this user's factors and one of theirs vote for."""
        assert self._donors is not None and state.thought is not None and state.votes is not None
        model, factor = self.recommender.model, self.intervention.factor
        donors = self.records.histories.take(self._donors[places])
        streams = model.read(self.recommender.compiled.template.streams(donors))
        # An assistant is heard on this user's history; nobody needs to ask it about the other's.
        theirs = model.think(streams, advised=reading.advised)
        if factor is None:
            return replace(state, votes=theirs.votes)
        assert theirs.thought is not None
        one, gates = self._one_hot(), state.thought.gates
        mine = self._votes(replace(state.thought, gates=gates * (1 - one)), reading.streams)
        other = self._votes(replace(theirs.thought, gates=one.expand_as(gates)), streams)
        gate = gates[-1][:, 0, factor, None].float()
        return replace(state, votes=replace(state.votes, probs=(1 - gate) * mine + gate * other))

    def _votes(self, thought: Thought, streams: EncodedStreams) -> Tensor:
        """Return what factors vote for that read some histories, in proportion to their last gates, [B, N]."""
        memory = self.recommender.model.memory
        assert memory is not None and streams.items is not None and streams.places is not None
        return memory.on_items(thought, items_in_order(streams.items, streams.places), streams.places).probs

    def _one_hot(self) -> Tensor:
        """Return the gates that are all on the factor, [K]."""
        gates = torch.zeros(self.records.n_factors, device=self.recommender.model.device)
        gates[self.intervention.factor] = 1
        return gates

    def _places(self, histories: Histories, rows: IntArray) -> IntArray:
        """Return the places of targets in the records, [B]."""
        places = np.array([self._place[row] for row in rows.tolist() if row in self._place], dtype=np.int64)
        recent, read = histories.window(self.recommender.config.text.window), self.records.histories.take(places)
        if not (np.array_equal(recent.offsets, read.offsets) and np.array_equal(recent.item_index, read.item_index)):
            raise DataError(
                f"got {len(histories)} histories, expected what the records read before rows {rows.tolist()[:5]} and "
                "so on; collect them on the split that is evaluated, and give the rows of its targets"
            )
        return places

    def _replaced(self, rng: np.random.Generator) -> FloatArray:
        """Return the thought [n, n_thoughts, D] or the factor [n, R, d_f] that each target gets."""
        factor = self.intervention.factor
        own = self.records.vectors if factor is None else self.records.factors[:, :, factor]
        if self.intervention.kind == "mean":
            return np.broadcast_to(own.mean(0), own.shape).copy()
        if self._donors is not None:
            return own[self._donors]
        # One order per target, the same at all steps.
        order = np.argsort(rng.random((len(own), 1, own.shape[2])), axis=2)
        return np.take_along_axis(own, np.broadcast_to(order, own.shape), axis=2)


class InTurn:
    """A scorer for `evaluate`, which says nothing of rows but asks about them in a known order (`asking_order`).

    Args:
        scorer: Scores; it refuses histories that are not those of their rows.
        sequences: All interactions.
        rows: Those of the targets that are evaluated, in the order of `UserSequences.targets`.
    """

    def __init__(self, scorer: IntervenedScorer, sequences: UserSequences, rows: IntArray) -> None:
        self.name, self._scorer = scorer.name, scorer
        starts = sequences.offsets[np.searchsorted(sequences.offsets, rows, side="right") - 1]
        self._left = rows[asking_order(rows - starts)]

    def score(self, histories: Histories) -> FloatArray:
        """Return what the scorer does for the next rows, [B, N]."""
        rows, self._left = np.split(self._left, [len(histories)])
        return self._scorer.score(histories, rows)


def other_users(records: FactorRecords, rng: np.random.Generator) -> IntArray:
    """Return for each target the place of a random target of another user, [n].

    It has another history than the target, where another user has one: what is thought of equal ones is the same.

    Raises:
        DataError: All targets are of one user.
    """
    users, n = records.users.astype(np.int64), len(records)
    if len(np.unique(users)) < 2:
        raise DataError(f"all {n} targets are of one user, so there is nobody to swap with")
    alike = np.unique(records.histories.padded(-1), axis=0, return_inverse=True)[1].reshape(n)
    has_other = _sizes(users) + _sizes(alike) - _sizes(users * n + alike) < n
    donors = rng.permutation(n)
    while (unfit := (users[donors] == users) | (has_other & (alike[donors] == alike))).any():
        donors[unfit] = rng.integers(0, n, int(unfit.sum()))
    return donors


def _sizes(groups: IntArray) -> IntArray:
    """Return how many are in the group of each, [n]."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return counts[inverse]


def intervened_values(
    recommender: Recommender,
    records: FactorRecords,
    sequences: UserSequences,
    *,
    interventions: Sequence[Intervention] | None = None,
    metric: str = "ndcg@10",
    seed: int = 0,
    **options: Any,
) -> pl.DataFrame:
    """Return a metric of every target under each intervention, and how much of its list stays.

    Args:
        recommender: The model.
        records: What it thinks about the targets that are evaluated.
        sequences: All interactions.
        interventions: Changes to try; None tries all.
        metric: Of `evaluate`, with its cutoff.
        seed: Of the interventions.
        **options: Passed to `evaluate`: ``split``, ``seen_items``, ``users``, ``batch_size``, ``progress``.

    Returns:
        ``row``, ``user_index``, the metric of the model as it is as ``none``, and for each intervention a column of its
        name (``remove 0``, ``swap thought``) and one such as ``kept remove 0``: the share of its `N_KEPT` best items
        that are still among the best so many.
    """
    k, split, users = cutoff_of(metric), SPLITS.index(options.get("split", "test")), options.pop("users", None)
    options |= {"cutoffs": (k, N_KEPT)}
    n_best, exclude_seen = max(k, N_KEPT), options.get("seen_items", "exclude") == "exclude"
    votes = recommender.model.memory is not None
    chosen = all_interventions(records.n_factors, votes=votes) if interventions is None else interventions
    readings = Readings(recommender)
    given = {"seed": seed, "n_best": n_best, "exclude_seen": exclude_seen, "readings": readings}
    scorers = {str(each): IntervenedScorer(recommender, records, each, **given) for each in chosen}
    users_of, rows = sequences.targets(split)
    parts = []
    for block in list(user_blocks(sequences, split, users, _N_AT_ONCE)) or [users]:  # nobody is refused by `evaluate`
        asked = rows[np.isin(users_of, block)]
        in_turn = (InTurn(scorer, sequences, asked) for scorer in scorers.values())
        everybody: list[Scorer] = [BestItems(recommender, n_best, exclude_seen), *in_turn]
        results = [
            evaluate(scorer, sequences, recommender.catalogue.n_items, users=block, **options).per_target
            for scorer in everybody
        ]
        parts.append(_values(metric, results[0], dict(zip(scorers, results[1:], strict=True))))
        readings.forget()
    return pl.concat(parts)


def _values(metric: str, plain: pl.DataFrame, changed: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return `intervened_values` from results per target."""
    best = plain["top_items"].list.head(N_KEPT)
    columns = {"none": plain[metric]}
    for name, results in changed.items():
        columns[name] = results[metric]
        shared = best.list.set_intersection(results["top_items"].list.head(N_KEPT)).list.len()
        columns[f"kept {name}"] = shared / best.list.len()
    return plain.select("row", USER_INDEX).with_columns(**columns)
