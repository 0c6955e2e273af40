"""How much a model loses when what it is told about a person is damaged, or when it is asked about harder targets.

Two kinds of strain, each at several strengths:

==========  ==========================================================  =====================================
histories   what happens to each                                        strength
==========  ==========================================================  =====================================
insert      random items of the catalogue are inserted at random        share of the length, 0.1 = one in ten
drop        random items are left out (one stays)                       share of the length
shuffle     random items change places with each other                  share of the length
truncate    the last items are left out (one stays)                     number of items
targets     which are kept; scores are those of whole histories
shifted     users whose histories are least popular, by mean log count  share of users that is left out
cold        items that were taken least in training                     share of targets that is left out
==========  ==========================================================  =====================================

Damage depends on the seed and the history alone, not on batches. Candidates stay what they were: an inserted item is
not excluded from the ranking, a dropped one still is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from flr.errors import ConfigError
from flr.evaluation.damage import DAMAGES, DamagedScorer
from flr.evaluation.metrics import cutoff_of, training_counts
from flr.evaluation.protocol import Scorer, evaluate
from flr.records import ITEM_INDEX, TRAIN, USER_INDEX, BoolArray, UserSequences

SELECTIONS: Final = ("shifted", "cold")
#: Strengths that `strained_values` tries.
STRENGTHS: Final[Mapping[str, Sequence[float]]] = {
    "insert": (0.1, 0.3, 0.5),
    "drop": (0.1, 0.3, 0.5),
    "shuffle": (0.25, 0.5, 1.0),
    "truncate": (1, 2, 5),
    "shifted": (0.5, 0.75, 0.9),
    "cold": (0.5, 0.75, 0.9),
}


def strained_values(
    scorer: Scorer,
    sequences: UserSequences,
    n_items: int,
    *,
    strengths: Mapping[str, Sequence[float]] = STRENGTHS,
    metric: str = "ndcg@10",
    window: int | None = None,
    keeps_older: bool = False,
    seed: int = 0,
    **options: Any,
) -> pl.DataFrame:
    """Return a metric of every target after each damage.

    Args:
        scorer: Anything that scores the whole catalogue.
        sequences: All interactions.
        n_items: Size of the catalogue N.
        strengths: Strengths of each strain; selections of targets need no scores of their own, see `hardest`.
        metric: Of `evaluate`, with its cutoff.
        window: Last items that are damaged, see `DamagedScorer`; None: whole histories.
        seed: Of the damage.
        **options: Passed to `evaluate`: ``split``, ``seen_items``, ``users``, ``batch_size``, ``progress``.
        keeps_older: See `DamagedScorer`.

    Returns:
        ``row``, ``user_index``, ``item_index``, the undamaged metric as ``none``, and one column per damage and
        strength, such as ``insert 0.1``.

    Raises:
        ConfigError: A strain is unknown or a strength out of range.
    """
    _check_strains(strengths)
    options |= {"cutoffs": (cutoff_of(metric),)}
    plain = evaluate(scorer, sequences, n_items, **options).per_target
    columns = {"none": plain[metric]}
    for strain, strength in damages_of(strengths):
        damaged = DamagedScorer(scorer, strain, strength, n_items, seed, window, keeps_older)
        columns[f"{strain} {strength:g}"] = evaluate(damaged, sequences, n_items, **options).per_target[metric]
    return plain.select("row", USER_INDEX, ITEM_INDEX).with_columns(**columns)


def _check_strains(strengths: Mapping[str, Sequence[float]]) -> None:
    if unknown := set(strengths) - {*DAMAGES, *SELECTIONS}:
        raise ConfigError(f"unknown strains {sorted(unknown)}, expected some of {(*DAMAGES, *SELECTIONS)}")


def damages_of(strengths: Mapping[str, Sequence[float]]) -> list[tuple[str, float]]:
    """Return each damage among strains with each of its strengths."""
    return [(strain, strength) for strain, each in strengths.items() if strain in DAMAGES for strength in each]


def hardest(per_target: pl.DataFrame, sequences: UserSequences, n_items: int, kind: str, strength: float) -> BoolArray:
    """Return True at the targets that a selection keeps, [n].

    Args:
        per_target: `Report.per_target`.
        sequences: The data that were evaluated on.
        n_items: Size of the catalogue N.
        kind: ``"shifted"``: targets of the users whose context and training rows are least popular, also where only
            held-out rows read them; ``"cold"``: targets with the least popular items. Those as popular as the last that
            is kept are kept too.
        strength: Share of users or targets that is left out, 0..1 (1 keeps the extreme ones).
    """
    counts = training_counts(sequences, n_items)
    users = per_target[USER_INDEX].to_numpy()
    if kind == "cold":
        of_targets = counts[per_target[ITEM_INDEX].to_numpy()].astype(np.float64)
        return np.asarray(of_targets <= np.quantile(of_targets, 1 - strength, method="higher"))
    known = sequences.split <= TRAIN
    owners = sequences.users[known]
    logs = np.bincount(owners, np.log1p(counts[sequences.item_index[known]]), minlength=sequences.n_users)
    means = logs / np.maximum(np.bincount(owners, minlength=sequences.n_users), 1)
    return np.asarray(means[users] <= np.quantile(means[np.unique(users)], 1 - strength, method="higher"))
