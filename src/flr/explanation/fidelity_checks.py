"""Fidelity over many users: which measures of importance can be trusted, with intervals.

See `flr.explanation.fidelity` for the measures and for what is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from flr.errors import DataError
from flr.evaluation.significance import Interval, clustered_bootstrap
from flr.explanation.fidelity import N_RANDOM, Fidelity, fidelity
from flr.progress import SILENT, Progress
from flr.recommender import Recommender
from flr.records import SPLITS, Histories, UserSequences
from flr.seeding import derive_seed, generator

#: Users whose histories are scored together.
_USERS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class FidelityCheck:
    """Scores of one measure over many users.

    Attributes:
        measure: See the table of `flr.explanation.fidelity`.
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


def check_fidelity(
    recommender: Recommender,
    sequences: UserSequences,
    *,
    n_users: int = 100,
    split: Literal["train", "valid", "test"] = "test",
    n_random: int = N_RANDOM,
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
