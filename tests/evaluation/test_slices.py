"""Slices of a toy world, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from flr.evaluation.slices import popularity_classes, slice_labels, slice_masks, title_commonness
from flr.records import CONTEXT, TEST, TRAIN, Catalogue, UserSequences

TITLES = ["Red House", "red car", "Blue House", "Green!", "Red Green"]


def catalogue() -> Catalogue:
    ids = np.array([f"i{n}" for n in range(5)], dtype=object)
    titles = np.array(TITLES, dtype=object)
    return Catalogue(ids, titles, np.arange(5, dtype=np.int32), titles)


def sequences() -> UserSequences:
    """Three users who took 3, 2 and 1 known items before their one or two targets."""
    return UserSequences(
        np.array(["a", "b", "c"], dtype=object),
        np.array([0, 4, 7, 9]),
        np.array([0, 1, 0, 2, 1, 0, 3, 0, 4], dtype=np.int32),
        np.arange(9),
        np.array([CONTEXT, TRAIN, TRAIN, TEST, CONTEXT, TRAIN, TEST, CONTEXT, TEST], dtype=np.int8),
    )


def per_target(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_index": [0, 1, 2],
            "row": [3, 6, 8],
            "item_index": [2, 3, 4],
            "history_length": [3, 2, 1],
            "ndcg@10": values,
        }
    )


def test_labels_by_hand() -> None:
    labels = slice_labels(per_target([0, 0, 0]), sequences(), catalogue(), length_edges=(1, 2))
    assert labels["history_length"].to_list() == ["over 2", "2-2", "1-1"]
    assert labels["popularity"].to_list() == ["unseen"] * 3
    assert labels["title"].to_list() == ["words in between", "rare words", "common words"]
    assert labels["activity"].to_list() == ["over 2", "2-2", "up to 1"]
    assert labels["row"].to_list() == [3, 6, 8]


def test_activity_is_what_training_reads() -> None:
    unread = sequences()
    unread.split[4:7] = CONTEXT, CONTEXT, TEST  # no training row of the second user reads them
    labels = slice_labels(per_target([0, 0, 0]), unread, catalogue())
    assert labels["activity"].to_list() == ["over 0", "up to 0", "up to 0"]


def test_words_are_as_common_as_the_other_titles_that_training_showed() -> None:
    found = title_commonness(catalogue(), np.array([1, 7, 0, 1, 0]))  # red house, red car, -, green, -
    one, two = np.log(2), np.log(3)
    assert found.tolist() == pytest.approx([one / 2, one / 2, one / 2, 0, (two + one) / 2])
    assert title_commonness(catalogue(), np.zeros(5, dtype=int)).tolist() == [0] * 5


def test_titles_without_words_are_rare_and_equal_ones_share_a_label() -> None:
    ids, titles = np.array(["a", "b"], dtype=object), np.array(["!?", "..."], dtype=object)
    wordless = Catalogue(ids, titles, np.arange(2, dtype=np.int32), titles)
    assert title_commonness(wordless, np.array([1, 1])).tolist() == [0, 0]
    frame = per_target([0, 0, 0]).with_columns(item_index=pl.lit(4))
    assert set(slice_labels(frame, sequences(), catalogue())["title"]) == {"rare words"}


def test_thirds_of_titles_hold_as_many_targets_each_and_come_in_order() -> None:
    titles = np.array(["the " * (n > 5) + f"word{n // 2}" + " of" * (n > 8) for n in range(12)], dtype=object)
    twelve = Catalogue(titles, titles, np.arange(12, dtype=np.int32), titles)
    world = UserSequences(
        np.array(["a"], dtype=object),
        np.array([0, 24]),
        np.tile(np.arange(12, dtype=np.int32), 2),
        np.arange(24),
        np.array([TRAIN] * 12 + [TEST] * 12, dtype=np.int8),
    )
    frame = pl.DataFrame({"user_index": 0, "row": range(12, 24), "item_index": range(12), "history_length": 12})
    labels = slice_labels(frame, world, twelve)
    masks = slice_masks(labels.select("row", "user_index", "title"))
    assert [label for _, label, _ in masks] == ["all", "rare words", "words in between", "common words"]
    assert [int(mask.sum()) for _, _, mask in masks] == [12, 6, 3, 3]  # the first six are equally rare


def test_thirds_are_of_interactions() -> None:
    counts = np.array([60, 20, 10, 10, 0])
    assert popularity_classes(counts).tolist() == ["head", "tail", "tail", "tail", "unseen"]
    assert popularity_classes(np.zeros(2, dtype=int)).tolist() == ["unseen", "unseen"]


def test_masks_tell_the_targets_of_all_and_of_each_label() -> None:
    labels = pl.DataFrame({"row": range(5), "user_index": [0, 0, 1, 2, 2], "kind": ["b", "a", "a", "b", "b"]})
    masks = [(name, label, mask.tolist()) for name, label, mask in slice_masks(labels)]
    assert masks == [
        ("all", "all", [True] * 5),
        ("kind", "a", [False, True, True, False, False]),
        ("kind", "b", [True, False, False, True, True]),
    ]


def test_labels_that_hold_numbers_come_in_their_order() -> None:
    labels = pl.DataFrame({"row": [0, 1, 2], "user_index": [0, 1, 2], "length": ["11-20", "6-10", "1-5"]})
    assert [label for _, label, _ in slice_masks(labels)] == ["all", "1-5", "6-10", "11-20"]
