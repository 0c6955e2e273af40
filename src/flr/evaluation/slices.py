"""For whom a model is good: an evaluation cut by what is known of each target before anyone ranks.

A slice is a label per target: `slice_labels` makes four kinds, `slice_masks` tells the targets of each label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from flr.evaluation.metrics import training_counts
from flr.records import (
    ITEM_INDEX,
    USER_INDEX,
    BoolArray,
    Catalogue,
    FloatArray,
    IntArray,
    UserSequences,
)

_WORD = re.compile(r"\w+")
_TITLES: Final = ("rare words", "words in between", "common words")
_ORDER: Final = {name: place for names in (_TITLES, ("tail", "middle", "head")) for place, name in enumerate(names)}


def slice_labels(
    per_target: pl.DataFrame,
    sequences: UserSequences,
    catalogue: Catalogue,
    *,
    length_edges: Sequence[int] = (5, 10, 20, 50),
) -> pl.DataFrame:
    """Return what kind of target each row of an evaluation is.

    Args:
        per_target: `Report.per_target`.
        sequences: The data that were evaluated on.
        catalogue: Its items.
        length_edges: Upper ends of the classes of history length.

    Returns:
        One row per target, in the order given: ``row``, ``user_index``, and the labels

        - ``history_length``: items before the target;
        - ``popularity``: of the target's item in training: ``"unseen"``, or the third of all training interactions
          that it falls into when items are ordered by theirs (``"tail"``, ``"middle"``, ``"head"``);
        - ``title``: how common the words of its title are (`title_commonness`), in thirds of the targets: ``"rare
          words"``, ``"words in between"``, ``"common words"``; fewer labels where many are equally common;
        - ``activity``: the user's interactions that training reads, in thirds of the evaluated users.
    """
    counts = training_counts(sequences, catalogue.n_items)
    items, users = per_target[ITEM_INDEX].to_numpy(), per_target[USER_INDEX].to_numpy()
    lengths = per_target["history_length"].to_numpy()
    columns = {
        "history_length": _binned(lengths, length_edges),
        "popularity": popularity_classes(counts)[items],
        "title": _thirds(title_commonness(catalogue, counts)[items]),
        "activity": _activity(users, sequences),
    }
    labels = {name: pl.Series(name, values.tolist(), dtype=pl.String) for name, values in columns.items()}
    return per_target.select("row", USER_INDEX).with_columns(**labels)


def slice_masks(labels: pl.DataFrame) -> list[tuple[str, str, BoolArray]]:
    """Return every slice with each of its labels and True at its targets, [n]; all targets first.

    Args:
        labels: ``row`` and ``user_index``, then a column per slice.
    """
    found = [("all", "all", np.ones(len(labels), dtype=np.bool_))]
    for name in labels.columns[2:]:
        of_targets = labels[name].to_numpy()
        found += [(name, label, of_targets == label) for label in sorted(set(of_targets), key=_natural)]
    return found


def popularity_classes(counts: IntArray) -> npt.NDArray[np.object_]:
    """Return the class of each item, [N]: which third of all training interactions it falls into, or ``"unseen"``.

    Thirds are of interactions, not of items, so that each holds about as many training targets: the head is a few
    items. An item belongs to the third that its middle interaction is in; equally popular items share a class.

    >>> popularity_classes(np.array([4, 0, 2, 2, 1, 3])).tolist()
    ['head', 'unseen', 'tail', 'tail', 'tail', 'middle']
    """
    values, index = np.unique(counts, return_inverse=True)
    of_values = values * np.bincount(index)
    middle = np.cumsum(of_values) - of_values / 2
    third = np.minimum((3 * middle / max(of_values.sum(), 1)).astype(int), 2)
    names = np.array(["tail", "middle", "head"], dtype=object)[third]
    names[values == 0] = "unseen"
    return np.asarray(names[index], dtype=object)


def title_commonness(catalogue: Catalogue, counts: IntArray) -> FloatArray:
    """Return how common the words of each item's title are among the titles that training showed, [N].

    The mean over its different words of ``ln(1 + n)``, n the *other* items taken in training whose title has the word:
    0 where no other title has any of them, and for a title without words. Words are runs of letters and digits, case
    ignored. How often an item was taken does not matter, so this is no second measure of popularity.

    Args:
        catalogue: The items.
        counts: Training interactions of each item, [N].
    """
    words = [set(_WORD.findall(str(title).casefold())) for title in catalogue.titles]
    n_titles = Counter(word for of_title, count in zip(words, counts, strict=True) if count for word in of_title)
    found = np.zeros(len(words))
    for place, (of_title, count) in enumerate(zip(words, counts, strict=True)):
        if of_title:
            # In order, as sets have none: a third's edge would tell last bits apart.
            found[place] = np.log1p(sorted(n_titles[word] - bool(count) for word in of_title)).mean()
    return found


def _thirds(commonness: FloatArray) -> npt.NDArray[np.object_]:
    edges = np.quantile(commonness, [1 / 3, 2 / 3])
    return np.asarray(np.array(_TITLES, dtype=object)[np.searchsorted(edges, commonness)])


def _binned(values: IntArray, edges: Sequence[int]) -> npt.NDArray[np.object_]:
    names = [f"{low + 1}-{high}" for low, high in zip([0, *edges], edges, strict=False)] + [f"over {edges[-1]}"]
    return np.asarray(np.array(names, dtype=object)[np.searchsorted(edges, values)])


def _activity(users: IntArray, sequences: UserSequences) -> npt.NDArray[np.object_]:
    n_known = np.bincount(sequences.users[sequences.is_seen], minlength=sequences.n_users)
    edges = np.quantile(n_known[np.unique(users)], [1 / 3, 2 / 3])
    low, high = int(edges[0]), int(edges[1])
    names = [f"up to {low}", f"{low + 1}-{high}", f"over {high}"]
    return np.asarray(np.array(names, dtype=object)[np.searchsorted([low, high], n_known[users])])


def _natural(label: str) -> tuple[int, str]:
    """Order labels by the number they hold: 1-5, 6-10, over 10."""
    number = re.search(r"\d+", label)
    if number is None:
        return (_ORDER.get(label, -1), label)
    return (int(number[0]) + label.startswith("over"), label)
