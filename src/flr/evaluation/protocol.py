"""Evaluation of anything that can score the whole catalogue.

1. A target is a held-out row with at least one earlier row; its history is everything its user took before it.
2. Every item is a candidate: no sampled negatives. Under ``seen_items="exclude"`` the items of the whole history
   are not, so a target the user has taken before is a miss (and counted in ``n_excluded_targets``).
3. Credit goes to item ids; items that tie, as those of one title do, share it (see `flr.evaluation.metrics`).
4. Popularity is counted in context and training rows only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np
import polars as pl

from flr.arguments import check_choice
from flr.errors import ConfigError, DataError, FlrError
from flr.evaluation.metrics import (
    coverage,
    exclude,
    hit_rate,
    mean_popularity,
    ndcg,
    rank_statistics,
    reciprocal_rank,
    top_items,
    training_counts,
)
from flr.progress import SILENT, Progress
from flr.records import (
    ITEM_INDEX,
    SPLITS,
    USER_ID,
    USER_INDEX,
    BoolArray,
    FloatArray,
    Histories,
    IntArray,
    Report,
    UserSequences,
)

EvaluatedSplit = Literal["valid", "test"]
SeenItems = Literal["exclude", "include"]

#: Metric name -> its function of (n_better, n_equal, k).
PER_TARGET: Final = {"hr": hit_rate, "ndcg": ndcg, "mrr": reciprocal_rank}


class Scorer(Protocol):
    """Anything that scores the whole catalogue for given histories."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    def score(self, histories: Histories) -> FloatArray:
        """Return natural log-probabilities or other scores, higher is better, [B, N] float32 or float64.

        ``-inf`` marks an item that cannot be recommended; NaN is an error.
        """


@dataclass(frozen=True)
class _Targets:
    """The held-out rows under evaluation and where they ended up in the ranking; [B] each, `top` [B, k]."""

    users: IntArray
    rows: IntArray
    items: IntArray
    lengths: IntArray
    n_better: IntArray
    n_equal: IntArray
    repeats: BoolArray
    top: IntArray


def evaluate(
    scorer: Scorer,
    sequences: UserSequences,
    n_items: int,
    *,
    split: EvaluatedSplit = "test",
    cutoffs: Sequence[int] = (5, 10, 20),
    seen_items: SeenItems = "exclude",
    batch_size: int = 256,
    users: IntArray | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Return how well the scorer ranks the held-out item of every target over the whole catalogue.

    Args:
        scorer: What is evaluated. It is given histories of similar length together.
        sequences: All interactions, held-out ones included.
        n_items: Size of the catalogue N.
        split: Which held-out rows are the targets.
        cutoffs: Cutoffs k of the metrics.
        seen_items: Whether items of the whole history remain candidates.
        batch_size: Histories per call of the scorer; scores take ``batch_size * N`` floats, a few times over.
        users: Evaluate the targets of these users only, [any] user indices; None takes all.
        progress: Told after every batch.

    Returns:
        Metrics ``hr@k``, ``ndcg@k``, ``mrr@k``, ``coverage@k``, ``mean_popularity@k``, ``n_targets``, ``n_users`` and
        ``n_excluded_targets``; and per target, in the order of the rows: user, row, item, history length, whether the
        target repeats an item of its history (``is_repeat``), rank statistics, metrics, and the best items
        (``top_items``, as many as the largest cutoff).

    Raises:
        ConfigError: A cutoff or the batch size is below 1.
        RequestError: `split` or `seen_items` is none of its choices.
        DataError: The split has no target with an earlier row.
        FlrError: The scorer returned NaN or what is no array [B, N] of numbers.
    """
    started = time.perf_counter()
    check_choice(split, "split", get_args(EvaluatedSplit))
    check_choice(seen_items, "seen_items", get_args(SeenItems))
    if not cutoffs or min(*cutoffs, batch_size) < 1:
        raise ConfigError(f"cutoffs {tuple(cutoffs)} and batch_size {batch_size} must all be at least 1")
    selected, rows = _select_targets(sequences, split, users)
    targets = _rank(
        scorer,
        sequences,
        (selected, rows),
        n_items=n_items,
        k=max(cutoffs),
        seen_items=seen_items,
        batch_size=batch_size,
        progress=progress,
    )
    per_target = _frame(targets, sequences, cutoffs)
    return Report(
        name=scorer.name,
        split=split,
        metrics=_summarise(targets, per_target, training_counts(sequences, n_items), cutoffs, seen_items),
        per_target=per_target,
        seconds=time.perf_counter() - started,
        seen_items=seen_items,
    )


def asking_order(lengths: IntArray) -> IntArray:
    """Return the order in which `evaluate` asks about targets with histories of given lengths, longest first, [n]."""
    return np.argsort(-lengths, kind="stable")


def _select_targets(
    sequences: UserSequences, split: EvaluatedSplit, users: IntArray | None
) -> tuple[IntArray, IntArray]:
    of_rows, rows = sequences.targets(SPLITS.index(split))
    if users is not None:
        kept = np.isin(of_rows, users)
        of_rows, rows = of_rows[kept], rows[kept]
    if not len(rows):
        asked = "" if users is None else f" among the {len(users)} users asked for"
        raise DataError(
            f"nothing to evaluate: split {split!r} has no row with an earlier row of its user{asked}; "
            "choose another split, or prepare the data with one that holds rows out"
        )
    return of_rows, rows


def _rank(
    scorer: Scorer,
    sequences: UserSequences,
    targets: tuple[IntArray, IntArray],
    *,
    n_items: int,
    k: int,
    seen_items: SeenItems,
    batch_size: int,
    progress: Progress,
) -> _Targets:
    users, rows = targets
    items = sequences.item_index[rows].astype(np.int64)
    lengths = rows - sequences.offsets[users]
    n_better, n_equal, repeats = np.empty_like(items), np.empty_like(items), np.zeros(len(items), dtype=np.bool_)
    top = np.empty((len(items), k), dtype=np.int64)
    with progress.task(f"evaluate {scorer.name}", total=len(rows)) as step:
        for batch in _batches(lengths, batch_size):
            histories = Histories.before(sequences, users[batch], rows[batch])
            owners, seen = np.repeat(np.arange(len(batch)), histories.lengths), histories.item_index.copy()
            repeats[batch[owners[seen == items[batch][owners]]]] = True
            scores = _checked_scores(scorer, histories, n_items)
            if seen_items == "exclude":
                scores = exclude(scores, (owners, seen))
            n_better[batch], n_equal[batch] = rank_statistics(scores, items[batch])
            top[batch] = top_items(scores, k)
            step(len(batch))
    return _Targets(users, rows, items, lengths, n_better, n_equal, repeats, top)


def _batches(lengths: IntArray, batch_size: int) -> Iterator[IntArray]:
    """Yield places of targets, longest histories first, so that memory that suffices once suffices to the end."""
    order = asking_order(lengths)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _checked_scores(scorer: Scorer, histories: Histories, n_items: int) -> FloatArray:
    given = scorer.score(histories)
    scores: FloatArray = np.asarray(given)
    if scores.dtype.kind in "biu":
        scores = scores.astype(np.float64)  # counts are scores too; -inf must fit in
    if scores.dtype.kind != "f":
        raise FlrError(
            f"{scorer.name!r} scored by a {type(given).__name__} of {scores.dtype}, expected an array of numbers"
        )
    if scores.shape != (len(histories), n_items):
        raise FlrError(
            f"{scorer.name!r} scored {list(scores.shape)}, expected [histories, items] = {[len(histories), n_items]}; "
            "was it trained on another catalogue?"
        )
    n_broken = int(np.count_nonzero(np.isnan(scores)))
    if n_broken:
        raise FlrError(
            f"{scorer.name!r} scored {n_broken:,} of {scores.size:,} candidates as NaN, expected numbers; "
            "its training has diverged: train again with a lower training.learning_rate"
        )
    return scores


def _frame(targets: _Targets, sequences: UserSequences, cutoffs: Sequence[int]) -> pl.DataFrame:
    columns = {
        USER_INDEX: targets.users,
        USER_ID: pl.Series(sequences.user_ids[targets.users].tolist(), dtype=pl.String),
        "row": targets.rows,
        ITEM_INDEX: targets.items,
        "history_length": targets.lengths,
        "is_repeat": targets.repeats,
        "n_better": targets.n_better,
        "n_equal": targets.n_equal,
    }
    for k in cutoffs:
        for name, metric in PER_TARGET.items():
            columns[f"{name}@{k}"] = metric(targets.n_better, targets.n_equal, k)
    listed = pl.Series("top_items", targets.top).cast(pl.List(pl.Int64))
    return pl.DataFrame(columns).with_columns(listed.list.eval(pl.element().filter(pl.element() >= 0)))


def _summarise(
    targets: _Targets, per_target: pl.DataFrame, counts: IntArray, cutoffs: Sequence[int], seen_items: SeenItems
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for k in cutoffs:
        for name in PER_TARGET:
            metrics[f"{name}@{k}"] = float(np.mean(per_target[f"{name}@{k}"].to_numpy()))
        metrics[f"coverage@{k}"] = coverage(targets.top[:, :k], len(counts))
        metrics[f"mean_popularity@{k}"] = mean_popularity(targets.top[:, :k], counts)
    metrics["n_targets"] = len(targets.rows)
    metrics["n_users"] = len(np.unique(targets.users))
    metrics["n_excluded_targets"] = int(targets.repeats.sum()) if seen_items == "exclude" else 0
    return metrics
