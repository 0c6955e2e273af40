"""Items that nobody has taken yet -> known items that they are like, by words of titles and values of attributes.

Nobody followed a new item anywhere, so nothing votes for it. What it is like says where it belongs: the memory lends it
the mean vote of its neighbours (`flr.reasoner.memory.Votes.among`). Likeness is the cosine of sets of words and values,
each weighed by how rare it is among the known items (TF-IDF), so that a new item's neighbours do not depend on other
new ones. Attributes of numbers are left out: two prices that agree say little.

Source: ours, docs/equations.md ("borrowed votes").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from polars import selectors
from scipy import sparse

from flr.catalogue.attributes import ATTRIBUTE, VALUE, attribute_values
from flr.records import ITEM_INDEX, BoolArray, Catalogue, FloatArray, IntArray

#: Known items that lend a new one their votes.
N_NEIGHBOURS: Final = 30
#: Likenesses computed at a time.
_AT_A_TIME: Final = 2**22
#: Stands for the words of titles among the names of attributes.
_WORD: Final = "\0word"


@dataclass(frozen=True)
class Likeness:
    """Neighbours of M new items among the known ones.

    Attributes:
        items: Indices of neighbours, the most alike first, of equal ones the first, [M, n].
        weights: Their shares. They sum to 1, or to the sum of likenesses where that is less, [M, n] float32.
    """

    items: IntArray
    weights: FloatArray


def liken(catalogue: Catalogue, lends: BoolArray, before: Likeness | None = None) -> Likeness | None:
    """Return the neighbours of all items after the known ones; None where there is no such item.

    Args:
        catalogue: Items with titles and attributes; retired ones are neighbours as others are.
        lends: True at known items that somebody has taken, which may be neighbours, [known].
        before: Neighbours of the first of the new items, found earlier among the same known ones.
    """
    n_known, lenders = len(lends), np.flatnonzero(lends)
    if catalogue.n_items <= n_known or not len(lenders):
        return None
    n = min(N_NEIGHBOURS, len(lenders))
    items = [np.empty((0, n), dtype=np.int64) if before is None else before.items]
    weights = [np.empty((0, n), dtype=np.float32) if before is None else before.weights]
    start = n_known + len(items[0])
    if start < catalogue.n_items:
        features = _features(catalogue, lends)
        known = features[lenders].T.tocsr()
        n_rows = max(1, _AT_A_TIME // len(lenders))
        for row in range(start, catalogue.n_items, n_rows):
            best, alike = _most_alike((features[row : row + n_rows] @ known).toarray(), n)
            items.append(lenders[best])
            weights.append(alike / np.maximum(alike.sum(1, keepdims=True), np.float32(1)))
    return Likeness(np.concatenate(items), np.concatenate(weights))


def _most_alike(alike: FloatArray, n: int) -> tuple[IntArray, FloatArray]:
    """Return the columns of each row's n largest values, all at least 0, and these; of equal ones the first."""
    # Floats of at least 0 are ordered as their bits are; below them stands the column, so that no two keys are equal.
    last = np.int64(2**32 - 1)
    keys = alike.view(np.int32).astype(np.int64) << 32 | (last - np.arange(alike.shape[1]))
    top = -np.sort(np.partition(-keys, n - 1, axis=1)[:, :n], axis=1)
    return last - (top & last), (top >> 32).astype(np.int32).view(np.float32)


def _features(catalogue: Catalogue, lends: BoolArray) -> sparse.csr_matrix:
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
    values = attribute_values(replace(catalogue, attributes=texts), n_ruling=len(lends))
    rows = pl.concat([words, values]).drop_nulls().unique().sort(ITEM_INDEX, ATTRIBUTE, VALUE)
    feature = rows.select(pl.struct(ATTRIBUTE, VALUE).rank("dense"))[ATTRIBUTE].to_numpy().astype(np.int64) - 1
    item = rows[ITEM_INDEX].to_numpy()
    lent = np.concatenate([lends, np.zeros(catalogue.n_items - len(lends), dtype=bool)])[item]
    n_having = np.bincount(feature[lent], minlength=int(feature.max(initial=-1)) + 1)
    rarity = np.log((lends.sum() + 1) / (n_having + 1))
    weights = rarity[feature]
    norm = np.sqrt(np.bincount(item, weights=weights**2, minlength=catalogue.n_items))
    weights = (weights / np.maximum(norm[item], 1e-12)).astype(np.float32)
    return sparse.csr_matrix((weights, (item, feature)), shape=(catalogue.n_items, len(n_having)))
