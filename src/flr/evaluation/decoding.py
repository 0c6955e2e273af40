"""How a trained model ranks when it is evaluated: exactly, or by what a beam search finds, guided or not.

BIGRec and D3 are settings here, not copies of a model: BIGRec's beams compare the mean log-probability per token, D3's
the whole, to which it adds the opinion of a small recommender. Validation during training is always exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flr.baselines.neighbours import LastItemMarkov
from flr.evaluation.protocol import Scorer
from flr.recommender import Recommender
from flr.records import FloatArray, Histories, UserSequences


@dataclass(frozen=True)
class BestItems:
    """A scorer of no more items than the metrics look at, exactly; the others are -inf, hence misses.

    Attributes:
        recommender: Scores.
        k: Largest cutoff.
        exclude_seen: Whether items of the history are no candidates.
    """

    name: ClassVar[str] = "flr"

    recommender: Recommender
    k: int
    exclude_seen: bool

    def score(self, histories: Histories) -> FloatArray:
        """Return log-probabilities, [B, N]."""
        return self.recommender.score_best(histories, self.k, exclude_seen=self.exclude_seen)


@dataclass(frozen=True)
class BeamRanking:
    """A scorer of what a beam search finds; the others are -inf, hence misses, never lucky ties.

    Attributes:
        recommender: Searches with its own `config.evaluation`.
        guide: The recommender whose opinion is added; None for none.
    """

    name: ClassVar[str] = "flr"

    recommender: Recommender
    guide: Scorer | None

    def score(self, histories: Histories) -> FloatArray:
        """Return what the search orders items by, -inf where it did not find one, [B, N]."""
        return self.recommender.score_beam(
            histories,
            exclude_seen=self.recommender.config.evaluation.seen_items == "exclude",
            guide=None if self.guide is None else self.guide.score,
        )


def ranking_scorer(recommender: Recommender, sequences: UserSequences) -> Scorer:
    """Return what ranks as `evaluation.ranking` says.

    Args:
        recommender: The trained model.
        sequences: All interactions; a guide counts those of context and training rows.
    """
    settings = recommender.config.evaluation
    if settings.ranking == "exact":
        return recommender
    if settings.ranking == "best":
        return BestItems(recommender, max(settings.cutoffs), settings.seen_items == "exclude")
    guided = settings.guide == "last_item_markov"
    return BeamRanking(recommender, LastItemMarkov.fit(sequences, recommender.catalogue.n_items) if guided else None)
