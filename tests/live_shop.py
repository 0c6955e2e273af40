"""A small recommender whose items have attributes, for tests of edits, filters and steering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from flr.catalogue.titles import catalogue_of
from flr.recommender import Recommender
from flr.records import FloatArray
from toy import TITLES, toy_catalogue, toy_model, toy_tokenizer

#: Of the items i0, i1, ... of `toy.TITLES`; "Heat (1995)" is i7 and i10.
GENRES = ["Drama", "Drama;War", "Drama", "Crime;Drama", None, "Animation;Family", "Animation", "Crime", "Sci-Fi Horror"]
ATTRIBUTES = pl.DataFrame(
    {
        "genre": [*GENRES, "Sci-Fi Action", "Crime"],
        "year": [1990, 1990, 1991, 1986, 1993, 1995, 1999, 1995, 1979, 1986, 1995],
        "tags": [["a", "b"], ["b"], [], ["c"], ["a c"], ["b"], None, ["a"], ["d"], ["b", "d"], ["a"]],
    }
)


def shop(*overrides: str) -> Recommender:
    """Return an untrained recommender of eleven films."""
    model, compiled, config = toy_model(*overrides)
    catalogue = replace(toy_catalogue(), attributes=ATTRIBUTES)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), catalogue, config)


def rebuilt(edited: Recommender) -> Recommender:
    """Return a recommender made from scratch of the items that are left."""
    catalogue = edited.catalogue
    kept = np.ones(catalogue.n_items, dtype=bool) if catalogue.retired is None else ~catalogue.retired
    fresh = catalogue_of(list(catalogue.item_ids[kept]), list(catalogue.titles[kept]), None, None)
    return Recommender(edited.model, edited.tokenizer, fresh, edited.config)


def log_probs(recommender: Recommender, history: list[str]) -> dict[str, float]:
    """Return the log-probability of every item that can be recommended."""
    (scores,) = recommender.score(recommender.resolve([history]))
    found = zip(recommender.catalogue.item_ids, scores, strict=True)
    return {str(item_id): float(score) for item_id, score in found if score > -np.inf}


def probabilities(recommender: Recommender, history: list[str]) -> FloatArray:
    """Return the probability of every item, [N]."""
    found: FloatArray = np.exp(recommender.score(recommender.resolve([history]))[0])
    return found


N_TITLES = len(TITLES)
