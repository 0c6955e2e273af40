"""Items that nobody has taken yet -> known items that they are like, by words of titles and values of attributes.

Nobody followed a new item anywhere, so nothing votes for it. What it is like says where it belongs: the memory lends it
the mean vote of its neighbours (`flr.reasoner.memory.Votes.among`). Likeness is the cosine of sets of words and values,
each weighed by how rare it is (TF-IDF). Numbers are left out: two prices that agree say little.

Source: METHOD 5 and 8 (ours).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from polars import selectors
from scipy import sparse

from flr.catalogue.attributes import ATTRIBUTE, VALUE, attribute_values
from flr.records import ITEM_INDEX, Catalogue, FloatArray, IntArray

#: Known items that lend a new one their votes.
N_NEIGHBOURS: Final = 30
#: Likenesses computed at a time.
_AT_A_TIME: Final = 2**24
#: Stands for the words of titles among the names of attributes.
_WORD: Final = "\0word"


@dataclass(frozen=True)
class Likeness:
    """Neighbours of M new items among the known ones.

    Attributes:
        items: Indices of neighbours, [M, n].
        weights: Their shares, which sum to 1, or to 0 where nothing is alike, [M, n] float32.
    """

    items: IntArray
    weights: FloatArray


def liken(catalogue: Catalogue, n_known: int, before: Likeness | None = None) -> Likeness | None:
    """Return the neighbours of all items from `n_known` on; None where there is no such item.

    Args:
        catalogue: Items with titles and attributes; retired ones are neighbours as others are.
        n_known: Items that are known, those with the smallest indices.
        before: Neighbours of the first of the others, found earlier.
    """
    if catalogue.n_items <= n_known:
        return None
    n = min(N_NEIGHBOURS, n_known)
    items = [np.empty((0, n), dtype=np.int64) if before is None else before.items]
    weights = [np.empty((0, n), dtype=np.float32) if before is None else before.weights]
    features = _features(catalogue)
    known = features[:n_known].T.tocsc()
    n_rows = max(1, _AT_A_TIME // n_known)
    for start in range(n_known + len(items[0]), catalogue.n_items, n_rows):
        alike = (features[start : start + n_rows] @ known).toarray()
        best = np.argpartition(-alike, n - 1, axis=1)[:, :n]
        shares = np.take_along_axis(alike, best, axis=1)
        items.append(best)
        weights.append(shares / np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float32).tiny))
    return Likeness(np.concatenate(items), np.concatenate(weights))


def _features(catalogue: Catalogue) -> sparse.csr_matrix:
    """Return weighted words and values of items, rows of length 1 or 0, [N, features] float32."""
    titles = pl.DataFrame({VALUE: pl.Series(catalogue.titles.tolist(), dtype=pl.String)})
    words = (
        titles.with_row_index(ITEM_INDEX)
        .select(
            pl.col(ITEM_INDEX).cast(pl.Int64),
            pl.lit(_WORD).alias(ATTRIBUTE),
            pl.col(VALUE).str.to_lowercase().str.extract_all(r"\w+"),
        )
        .explode(VALUE)
    )
    attributes = catalogue.attributes
    texts = None if attributes is None else attributes.select(~(selectors.numeric() | selectors.boolean()))
    values = attribute_values(replace(catalogue, attributes=texts))
    rows = pl.concat([words, values]).drop_nulls().unique(maintain_order=True)
    feature = rows.select(pl.struct(ATTRIBUTE, VALUE).rank("dense"))[ATTRIBUTE].to_numpy().astype(np.int64) - 1
    item = rows[ITEM_INDEX].to_numpy()
    n_having = np.bincount(feature)
    rarity = np.log((catalogue.n_items + 1) / (n_having + 1)).astype(np.float32)
    weights = rarity[feature]
    norm = np.sqrt(np.bincount(item, weights=weights.astype(np.float64) ** 2, minlength=catalogue.n_items))
    weights = (weights / np.maximum(norm[item], 1e-12)).astype(np.float32)
    return sparse.csr_matrix((weights, (item, feature)), shape=(catalogue.n_items, len(n_having)))
