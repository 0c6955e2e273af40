"""Slices of a toy world, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from flr.errors import DataError
from flr.evaluation.slices import change_table, popularity_classes, slice_labels, slice_table, title_novelty
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
    assert labels["title"].to_list() == ["some new words", "new words only", "some new words"]
    assert labels["activity"].to_list() == ["over 2", "2-2", "up to 1"]
    assert labels["row"].to_list() == [3, 6, 8]


def test_words_of_seen_titles_are_known_whatever_their_case() -> None:
    found = title_novelty(catalogue(), np.array([1, 0, 0, 1, 0]))
    assert found.tolist() == ["known words", "some new words", "some new words", "known words", "known words"]


def test_thirds_are_of_interactions() -> None:
    counts = np.array([60, 20, 10, 10, 0])
    assert popularity_classes(counts).tolist() == ["head", "tail", "tail", "tail", "unseen"]
    assert popularity_classes(np.zeros(2, dtype=int)).tolist() == ["unseen", "unseen"]


def test_a_table_has_the_mean_of_each_label_and_of_all() -> None:
    labels = pl.DataFrame({"row": range(5), "user_index": [0, 0, 1, 2, 2], "kind": ["b", "a", "a", "b", "b"]})
    table = slice_table(np.array([1.0, 0, 1, 0, 0]), labels, np.random.default_rng(0))
    assert table["label"].to_list() == ["all", "a", "b"]
    assert table["value"].to_list() == pytest.approx([0.4, 0.5, 1 / 3])
    assert table["n_targets"].to_list() == [5, 2, 3]
    assert table["n_users"].to_list() == [3, 2, 2]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_a_label_of_one_user_has_no_interval() -> None:
    labels = pl.DataFrame({"row": [0, 1], "user_index": [0, 1], "length": ["6-10", "1-5"]})
    table = slice_table(np.array([1.0, 0.0]), labels, np.random.default_rng(0))
    assert table["label"].to_list() == ["all", "1-5", "6-10"]
    assert np.isnan(table["low"].to_numpy()).tolist() == [False, True, True]


def test_changes_are_paired() -> None:
    labels = slice_labels(per_target([0, 0, 0]), sequences(), catalogue())
    before, after = per_target([0.5, 0.5, 0.1]), per_target([0.5, 0.2, 0.1])
    table = change_table(before, after, "ndcg@10", labels, np.random.default_rng(0))
    assert table["value"][0] == pytest.approx(-0.1)
    with pytest.raises(DataError, match="got evaluations of 3 and 2 targets"):
        change_table(before, after[:2], "ndcg@10", labels, np.random.default_rng(0))
    with pytest.raises(DataError, match="got 2 values for 3 labelled"):
        slice_table(np.zeros(2), labels, np.random.default_rng(0))
