"""What a model reads of histories, kept while one question after another is asked about the same ones.

Most of an evaluation's time goes into reading. An intervention changes what is thought and nothing that is read, so
twenty of them need one reading of each history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flr.backbone.streams import EncodedStreams
from flr.recommender import Recommender
from flr.records import Histories, IntArray, UserSequences
from flr.sequential.assistant import Advice


@dataclass(frozen=True)
class Reading:
    """Some histories as a model has read them.

    Attributes:
        streams: What the backbone made of them.
        advice: What the assistant says to them; None without one.
    """

    streams: EncodedStreams
    advice: Advice | None

    @property
    def advised(self) -> Callable[[], Advice] | None:
        """What `FLRModel.think` asks for the advice."""
        advice = self.advice
        return None if advice is None else lambda: advice


class Readings:
    """Reads histories that come again once only.

    Args:
        recommender: Whose model reads.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._kept: dict[bytes, Reading] = {}

    def of(self, histories: Histories) -> Reading:
        """Return histories as they are read, each cut to the window."""
        key = histories.offsets.tobytes() + histories.item_index.tobytes()
        if key not in self._kept:
            model = self._recommender.model
            asked = model.ask_assistant(histories)
            streams = model.read(self._recommender.compiled.template.streams(histories))
            self._kept[key] = Reading(streams, None if asked is None else asked())
        return self._kept[key]

    def forget(self) -> None:
        """Make room for other histories."""
        self._kept.clear()


def user_blocks(sequences: UserSequences, split: int, users: IntArray | None, n_targets: int) -> Iterator[IntArray]:
    """Yield users in ascending order, so many together that their targets are at most `n_targets`, one user at least.

    Args:
        sequences: All interactions.
        split: Code of the split whose targets are counted.
        users: Those that are asked for; None takes all with a target.
        n_targets: Targets of a block.
    """
    found, counts = np.unique(sequences.targets(split)[0], return_counts=True)
    if users is not None:
        kept = np.isin(found, users)
        found, counts = found[kept], counts[kept]
    block: list[int] = []
    n = 0
    for user, count in zip(found.tolist(), counts.tolist(), strict=True):
        if block and n + count > n_targets:
            yield np.array(block)
            block, n = [], 0
        block.append(user)
        n += count
    if block:
        yield np.array(block)
