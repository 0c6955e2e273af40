"""Lists of several questions at once, through a cache of what was read; and whether company changes their bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from flr.catalogue.filters import AllowedItems
from flr.lists import Asked, Recommendation, best_lists
from flr.recommender import Recommender
from flr.records import Histories, IntArray
from flr.serving.prefix_cache import PrefixCache
from flr.serving.questions import EngineCounts, EngineSettings, Lists, Question
from flr.snapshot import Snapshot

#: Histories that the check at the start computes in several companies.
_N_CHECKED = 16


class Batches:
    """Computes lists. Used by one thread only.

    Args:
        recommender: The model; questions come with the catalogue that they are about.
        settings: How much is computed together, and how much is kept of what was read.
        counts: Where batches are counted.

    Attributes:
        max_batch: Histories computed together at most.
        cache: What was read of histories.
    """

    def __init__(self, recommender: Recommender, settings: EngineSettings, counts: EngineCounts) -> None:
        self._recommender, self._counts = recommender, counts
        self.max_batch = settings.max_batch
        self.cache = PrefixCache(recommender.model.read, settings.cache_tokens)

    def lists(self, asked: Sequence[tuple[Snapshot | None, Question]], check_wanted: Callable[[], None]) -> Lists:
        """Return one list per question; those that ask alike are computed together.

        Args:
            asked: Questions, each with the catalogue that it is about.
            check_wanted: Called between batches; what it raises leaves the rest uncomputed.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, (snapshot, one) in enumerate(asked):
            kind = (id(snapshot and snapshot.live), one.k, one.exclude_seen, one.diversify, one.popular)
            groups.setdefault((*kind, one.allowed is None, one.factor_weights is None), []).append(place)
        answers: list[list[Recommendation]] = [[] for _ in asked]
        for places in groups.values():
            for start in range(0, len(places), self.max_batch):
                check_wanted()
                some = places[start : start + self.max_batch]
                snapshot = asked[some[0]][0]
                assert snapshot is not None
                for place, found in zip(some, self._together(snapshot, [asked[p][1] for p in some]), strict=True):
                    answers[place] = found
        return answers

    def are_exact(self, check_wanted: Callable[[], None]) -> bool:
        """Return whether some histories get the same lists alone, together, grown and cut short, to the bit.

        Args:
            check_wanted: Called between batches; what it raises ends the check.
        """

        def together(some: Sequence[Question]) -> Lists:
            check_wanted()
            return self._together(snapshot, some)

        snapshot, rng = self._recommender.snapshot, np.random.default_rng(0)
        window = snapshot.config.text.window
        lengths = rng.integers(1, window + 1, _N_CHECKED)
        histories = [rng.integers(0, snapshot.catalogue.n_items, length) for length in lengths]
        ask = [Question(history) for history in histories]
        plain: Lists = []
        for one in ask:
            check_wanted()
            plain += self._anew(snapshot, [one])
        self.cache.clear()
        for company in (_N_CHECKED, 5, 2):
            for start in range(0, _N_CHECKED, company):
                some = slice(start, start + company)
                # The first time nothing has been read; later all of it, or the half below.
                if together(ask[some]) != plain[some]:
                    return False
            self.cache.clear()
            together([replace(one, history=one.history[: 1 + len(one.history) // 2]) for one in ask])
        return [together([one])[0] for one in ask] == plain

    def go_alone(self) -> None:
        """Compute histories one by one from now on, and keep nothing of them."""
        self.max_batch = 1
        self.cache.max_tokens = 0

    def _together(self, snapshot: Snapshot, questions: Sequence[Question]) -> Lists:
        first = questions[0]
        self._counts.batches += 1
        self._counts.histories += len(questions)
        self._counts.batch_sizes.append(len(questions))
        masks = [one.allowed for one in questions if one.allowed is not None]
        weights = [one.factor_weights for one in questions if one.factor_weights is not None]
        asked = Asked(
            _histories([one.history for one in questions]),
            first.k,
            first.exclude_seen,
            weights or None,
            AllowedItems(np.array(masks), np.arange(len(masks))) if masks else None,
            first.diversify,
            first.popular,
        )
        return best_lists(replace(snapshot, reader=self.cache), asked)

    def _anew(self, snapshot: Snapshot, questions: Sequence[Question]) -> Lists:
        return best_lists(
            snapshot, Asked(_histories([one.history for one in questions]), questions[0].k, exclude_seen=True)
        )


def _histories(rows: Sequence[IntArray]) -> Histories:
    return Histories(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
