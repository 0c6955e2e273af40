"""log p(item | history) of one item per history, without the rest of the catalogue."""

from __future__ import annotations

import numpy as np

from flr.catalogue.filters import AllowedItems
from flr.recommender import Recommender
from flr.records import FloatArray, Histories, IntArray
from flr.steering import FactorWeights


def score_titles(
    recommender: Recommender, histories: Histories, items: IntArray, factor_weights: FactorWeights | None = None
) -> FloatArray:
    """Return log p(item | history) of one item for each history, float64, [B].

    Where nothing but an item is allowed, its title is all that is written: that costs the few tokens of a path through
    the trie instead of all its nodes, and the figures are those of `Recommender.score`.

    Args:
        recommender: The model.
        histories: Item indices, oldest first, none empty; only the window is read.
        items: Item index for each, [B].
        factor_weights: Multipliers of the gates; see `Recommender.score`.
    """
    asked, place = np.unique(items, return_inverse=True)
    masks = np.zeros((len(asked), recommender.catalogue.n_items), dtype=np.bool_)
    masks[np.arange(len(asked)), asked] = True
    allowed = AllowedItems(masks, place)
    scores = recommender.score_best(histories, 1, exclude_seen=False, factor_weights=factor_weights, allowed=allowed)
    return scores[np.arange(len(items)), items].astype(np.float64)
