"""Cold start: how well items are ranked that nobody had taken when the model was trained.

Four kinds of targets are told apart:

==================  =====================================================================================
all                 every target, over the whole catalogue
warm                targets that were there in training; cold items compete with them
cold                targets that were not, against the whole catalogue
cold among cold     the same targets against cold items only: whether they are told apart, however rarely
                    a cold item beats a known one
==================  =====================================================================================

Popularity knows nothing of cold items and ties them all; the random order ties everything. Ties share their places
(`flr.evaluation.metrics`), so both rows are exact expectations, not draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from flr.baselines.popularity import Popularity
from flr.evaluation.protocol import PER_TARGET, Scorer, SeenItems, evaluate
from flr.progress import SILENT, Progress
from flr.records import ITEM_INDEX, USER_INDEX, FloatArray, Histories, Report, UserSequences


@dataclass(frozen=True)
class RandomOrder:
    """Scores all items alike: the expectation of an order drawn anew for every history.

    Attributes:
        n_items: Size of the catalogue N.
    """

    n_items: int
    name: str = "random"

    def score(self, histories: Histories) -> FloatArray:
        """Return log 1/N, [B, N]."""
        return np.full((len(histories), self.n_items), -np.log(self.n_items))


@dataclass(frozen=True)
class AmongCold:
    """Another scorer whose candidates are cold items only.

    Attributes:
        scorer: The other.
        n_warm: Items before the first cold one.
    """

    scorer: Scorer
    n_warm: int

    @property
    def name(self) -> str:
        return f"{self.scorer.name} among cold items"

    def score(self, histories: Histories) -> FloatArray:
        """Return the other's scores, -inf at warm items, [B, N]."""
        scores = np.array(self.scorer.score(histories))
        scores[:, : self.n_warm] = -np.inf
        return scores


def evaluate_cold(
    scorer: Scorer,
    sequences: UserSequences,
    n_items: tuple[int, int],
    *,
    cutoffs: Sequence[int] = (5, 10, 20),
    seen_items: SeenItems = "exclude",
    batch_size: int = 256,
    progress: Progress = SILENT,
) -> tuple[Report, pl.DataFrame]:
    """Return a scorer's report on the test split, and what it, popularity and chance reach on each kind of target.

    Args:
        scorer: Scores warm and cold items.
        sequences: All interactions, those with cold items included.
        n_items: Numbers of warm items and of all; cold ones come last.
        cutoffs, seen_items, batch_size, progress: As in `flr.evaluation.protocol.evaluate`.

    Returns:
        The report on all targets, and a table with the columns ``scorer``, ``targets``, ``n_targets`` and the metrics.
    """
    n_warm, n_all = n_items
    rows, reports = [], []
    for each in (scorer, Popularity.fit(sequences, n_all), RandomOrder(n_all)):

        def ranked(scorer: Scorer, users: pl.Series | None = None) -> Report:
            return evaluate(
                scorer,
                sequences,
                n_all,
                cutoffs=cutoffs,
                seen_items=seen_items,
                batch_size=batch_size,
                users=None if users is None else users.to_numpy(),
                progress=progress,
            )

        reports.append(ranked(each))
        whole, is_cold = reports[-1].per_target, pl.col(ITEM_INDEX) >= n_warm
        groups = {"all": whole, "warm": whole.filter(~is_cold), "cold": whole.filter(is_cold)}
        among = ranked(AmongCold(each, n_warm), groups["cold"][USER_INDEX].unique())
        groups["cold among cold"] = among.per_target.filter(is_cold)
        rows += [{"scorer": each.name, "targets": name, **_means(group, cutoffs)} for name, group in groups.items()]
    return reports[0], pl.DataFrame(rows)


def _means(per_target: pl.DataFrame, cutoffs: Sequence[int]) -> dict[str, float | int]:
    names = [f"{metric}@{k}" for k in cutoffs for metric in PER_TARGET]
    return {"n_targets": len(per_target), **{name: float(np.mean(per_target[name].to_numpy())) for name in names}}
