"""Title embeddings: one mean of hidden states per item, whatever is read beside it."""

from __future__ import annotations

import numpy as np

from flr.baselines.language import title_embeddings
from flr.recommender import Recommender
from toy import toy_catalogue, toy_model, toy_tokenizer


def test_padding_changes_nothing_and_equal_titles_are_equal() -> None:
    model, _, config = toy_model()
    catalogue = toy_catalogue()
    recommender = Recommender(model, toy_tokenizer(catalogue, config), catalogue, config)
    together, apart = title_embeddings(recommender), title_embeddings(recommender, batch_size=1)
    assert together.shape == (catalogue.n_items, model.backbone.width)
    assert np.allclose(together, apart, atol=1e-4)
    assert np.array_equal(together[7], together[10])  # both are called Heat (1995)
    assert not np.allclose(together[0], together[1])
