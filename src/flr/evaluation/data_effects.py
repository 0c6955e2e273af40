"""What each finding of a data audit does to HR@10, measured with recommenders that need no training.

1. Every test target is ranked over the whole catalogue, as `flr.evaluation.protocol` does, by popularity, popularity of
   users and the last-item Markov chain.
2. A finding that marks targets is measured by HR@10 on them and on the rest; the rest is also HR@10 without them.
3. Shared titles are measured by HR@10 if titles were credited instead of ids, repeated rows by HR@10 if they were left
   out of everything: counts, histories and targets.
4. Dependence of one user's targets is measured by the standard error of HR@10, clustered by user over naive.
5. Where all targets would take more than `MAX_SCORES` scores per recommender, users are drawn at random, with all
   their targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from flr.baselines.neighbours import LastItemMarkov
from flr.baselines.popularity import Popularity, PopularityOfUsers
from flr.errors import DataError
from flr.evaluation.metrics import clustered_standard_error, hit_rate, ndcg
from flr.evaluation.placements import Placement, place_targets
from flr.evaluation.protocol import SeenItems
from flr.progress import SILENT, Progress, Step
from flr.records import TEST, BoolArray, FloatArray, IntArray, UserSequences
from flr.seeding import generator

REFERENCES: Final = (Popularity, PopularityOfUsers, LastItemMarkov)
CUTOFFS: Final = (5, 10)
#: Cutoff of the effects.
K: Final = 10
#: About a minute on one thread.
MAX_SCORES: Final = 2**28


@dataclass(frozen=True)
class ReferenceScore:
    """How well one reference recommender ranks the test targets.

    Attributes:
        recommender: Its name.
        seen_items: Whether items of the history were candidates.
        metrics: ``hr@5``, ``ndcg@5``, ``hr@10`` and ``ndcg@10``.
        standard_error: Of HR@10, as if targets were independent.
        clustered_error: Of HR@10, clustered by user.
        title_hr: HR@10 if titles were credited instead of ids.
        hr_without_repeats: HR@10 if rows that repeat an earlier item of their user were left out of everything; None
            where there are no such rows, or no target is left.
    """

    recommender: str
    seen_items: SeenItems
    metrics: dict[str, float]
    standard_error: float
    clustered_error: float
    title_hr: float
    hr_without_repeats: float | None = None

    @property
    def error_ratio(self) -> float:
        """Clustered over naive standard error; NaN where HR@10 does not vary."""
        return self.clustered_error / self.standard_error if self.standard_error else float("nan")


@dataclass(frozen=True)
class Effect:
    """HR@10 of one reference recommender on the targets that a finding marks, and on the others.

    Attributes:
        finding: Name of the finding.
        recommender: Name of the recommender.
        seen_items: Whether items of the history were candidates.
        n_targets: Marked targets.
        hr: HR@10 on them; None where there are none.
        hr_rest: HR@10 on the rest, that is HR@10 without them; None where there is no rest.
    """

    finding: str
    recommender: str
    seen_items: SeenItems
    n_targets: int
    hr: float | None
    hr_rest: float | None


@dataclass(frozen=True)
class DataEffects:
    """Reference scores of a data set, and what its findings do to them.

    Attributes:
        n_targets, n_users: What was ranked for.
        n_all_targets, n_all_users: What the test split has; more, where users were drawn.
        seed: Of the draw.
        scores: One per recommender and treatment of seen items.
        effects: One per finding that marks targets, recommender and treatment.
    """

    n_targets: int
    n_users: int
    n_all_targets: int
    n_all_users: int
    seed: int
    scores: tuple[ReferenceScore, ...]
    effects: tuple[Effect, ...]

    def score(self, recommender: str, seen_items: SeenItems) -> ReferenceScore:
        """Return the score of one recommender under one treatment."""
        return next(one for one in self.scores if (one.recommender, one.seen_items) == (recommender, seen_items))

    def effect(self, finding: str, recommender: str, seen_items: SeenItems) -> Effect | None:
        """Return the effect of one finding; None where it marks no targets."""
        asked = (finding, recommender, seen_items)
        found = (one for one in self.effects if (one.finding, one.recommender, one.seen_items) == asked)
        return next(found, None)


def measure_effects(
    sequences: UserSequences,
    *,
    titles: IntArray,
    marks: Mapping[str, BoolArray],
    repeated: BoolArray,
    seen_items: Sequence[SeenItems] = ("exclude", "include"),
    max_users: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> DataEffects:
    """Return reference scores on the test split and what each finding does to HR@10.

    Args:
        sequences: All rows, split.
        titles: Number of each item's title, [N]; items of one title have one number.
        marks: Name of a finding -> which test targets it is about, [B], in the order of ``sequences.targets(TEST)``.
        repeated: True at rows that repeat an earlier item of their user, [rows].
        seen_items: Treatments of seen items, as in `flr.evaluation.protocol`.
        max_users: Rank for this many test users at most, drawn at random; None: for as many as `MAX_SCORES` allows.
        seed: Of the draw.
        progress: Told after every batch.

    Raises:
        DataError: The test split has no target with an earlier row.
    """
    of_users, rows = sequences.targets(TEST)
    if not len(rows):
        raise DataError(
            "nothing to score: the test split has no row with an earlier row of its user; audit it without scores, or "
            "prepare the data with a split that holds rows out"
        )
    drawn = _draw(of_users, len(titles), max_users, seed)
    users, rows = of_users[drawn], rows[drawn]
    chosen = {name: mask[drawn] for name, mask in marks.items()}
    first_times, first_targets = _without_repeats(sequences, (users, rows), repeated)
    total = len(REFERENCES) * (len(rows) + len(first_targets[0]))
    with progress.task("reference scores", total=total) as step:
        placed = _place(sequences, (users, rows), titles, seen_items, step)
        scores = [_score(one, users) for one in placed]
        if len(first_targets[0]):
            once = _place(first_times, first_targets, titles, seen_items, step)
            scores = [
                replace(score, hr_without_repeats=float(_hits(one).mean()))
                for score, one in zip(scores, once, strict=True)
            ]
    effects = (_effect(name, mask, one) for name, mask in chosen.items() if mask.any() for one in placed)
    n_users = len(np.unique(users))
    return DataEffects(len(rows), n_users, len(of_users), len(np.unique(of_users)), seed, tuple(scores), tuple(effects))


def _draw(users: IntArray, n_items: int, max_users: int | None, seed: int) -> BoolArray:
    """Return which targets are ranked for: all of as many random users as are allowed, at least of one."""
    distinct, counts = np.unique(users, return_counts=True)
    allowed = len(distinct) if max_users is None else min(max_users, len(distinct))
    if max_users is None and len(users) * n_items <= MAX_SCORES:
        return np.ones(len(users), dtype=np.bool_)
    order = generator(seed, "audit-users").permutation(len(distinct))[:allowed]
    if max_users is None:
        order = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]) * n_items, MAX_SCORES, side="right")))]
    return np.isin(users, distinct[order])


def _place(
    sequences: UserSequences,
    targets: tuple[IntArray, IntArray],
    titles: IntArray,
    seen_items: Sequence[SeenItems],
    step: Step,
) -> list[Placement]:
    placed = []
    for reference in REFERENCES:
        scorer = reference.fit(sequences, len(titles))
        placed += place_targets(scorer, sequences, targets, titles=titles, seen_items=seen_items, k=K, step=step)
    return placed


def _score(placement: Placement, users: IntArray) -> ReferenceScore:
    ranks = placement.n_better, placement.n_equal
    metrics = {}
    for k in CUTOFFS:
        metrics[f"hr@{k}"] = float(hit_rate(*ranks, k).mean())
        metrics[f"ndcg@{k}"] = float(ndcg(*ranks, k).mean())
    hits = _hits(placement)
    return ReferenceScore(
        placement.recommender,
        placement.seen_items,
        metrics,
        standard_error=clustered_standard_error(hits, np.arange(len(hits))),
        clustered_error=clustered_standard_error(hits, users),
        title_hr=float(placement.title_hits.mean()),
    )


def _effect(finding: str, marked: BoolArray, placement: Placement) -> Effect:
    hits = _hits(placement)
    hr, hr_rest = (float(hits[part].mean()) if part.any() else None for part in (marked, ~marked))
    return Effect(finding, placement.recommender, placement.seen_items, int(marked.sum()), hr, hr_rest)


def _hits(placement: Placement) -> FloatArray:
    return hit_rate(placement.n_better, placement.n_equal, K)


def _without_repeats(
    sequences: UserSequences, targets: tuple[IntArray, IntArray], repeated: BoolArray
) -> tuple[UserSequences, tuple[IntArray, IntArray]]:
    """Return sequences and targets of a world where nobody takes an item again; no targets where nobody does anyway."""
    users, rows = targets
    if not repeated.any():
        return sequences, (users[:0], rows[:0])
    kept_before = np.concatenate([[0], np.cumsum(~repeated)])
    left = ~repeated[rows]
    return sequences.where(~repeated), (users[left], kept_before[rows[left]])
