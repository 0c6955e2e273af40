"""Evaluation on a toy world of three users and six items, where every rank is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from flr.errors import ConfigError, DataError, FlrError, RequestError
from flr.evaluation.protocol import evaluate
from flr.records import TEST, TRAIN, VALID, FloatArray, Histories, UserSequences

N_ITEMS = 6
LOO = [TRAIN, TRAIN, VALID, TEST]


def world(*users: list[int], splits: list[int] | None = None) -> UserSequences:
    """Return users who took the given items; each user's last rows are valid and test."""
    codes = [(splits or [TRAIN] * (len(items) - 2) + [VALID, TEST]) for items in users]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in users])])
    items = np.concatenate([np.array(items, dtype=np.int32) for items in users])
    return UserSequences(
        np.array([f"user-{i}" for i in range(len(users))], dtype=object),
        offsets,
        items,
        np.arange(len(items)),
        np.concatenate(codes).astype(np.int8),
    )


@dataclass
class NextNumber:
    """Knows that i + 1 follows i, and nothing else."""

    name: str = "next-number"
    batches: list[list[int]] = field(default_factory=list)

    def score(self, histories: Histories) -> FloatArray:
        self.batches.append(histories.lengths.tolist())
        scores = np.zeros((len(histories), N_ITEMS), dtype=np.float32)
        last = histories.item_index[histories.offsets[1:] - 1]
        scores[np.arange(len(histories)), (last + 1) % N_ITEMS] = 1
        return scores


@dataclass
class Fixed:
    """Scores every history alike."""

    scores: list[float]
    name: str = "fixed"

    def score(self, histories: Histories) -> FloatArray:
        return np.tile(np.array(self.scores, dtype=np.float64), (len(histories), 1))


def test_a_known_pattern_gives_known_metrics() -> None:
    sequences = world([0, 1, 2, 3], [2, 3, 4, 5], [5, 4, 0, 3])
    report = evaluate(NextNumber(), sequences, N_ITEMS, split="test", cutoffs=(1, 2))
    # The first two follow the pattern. The third is left with candidates 1 (best), 2 and 3: rank 2 or 3.
    assert report.metrics["hr@1"] == pytest.approx(2 / 3)
    assert report.metrics["hr@2"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert report.metrics["mrr@2"] == pytest.approx((1 + 1 + 1 / 4) / 3)
    assert report.metrics["ndcg@2"] == pytest.approx((1 + 1 + 1 / np.log2(3) / 2) / 3)
    assert report.metrics["coverage@1"] == 3 / N_ITEMS  # items 3, 5 and 1
    assert report.metrics["n_targets"] == report.metrics["n_users"] == 3
    assert report.metrics["n_excluded_targets"] == 0
    assert (report.name, report.split) == ("next-number", "test")


def test_history_is_every_earlier_row_of_the_user() -> None:
    scorer = NextNumber()
    evaluate(scorer, world([0, 1, 2, 3], [1, 2, 3, 4, 5]), N_ITEMS, split="test")
    evaluate(scorer, world([0, 1, 2, 3], [1, 2, 3, 4, 5]), N_ITEMS, split="valid")
    assert scorer.batches == [[4, 3], [3, 2]]


def test_batches_are_sorted_by_length_and_results_are_not() -> None:
    sequences = world([0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5], [5, 0, 2, 1, 3])
    scorer = NextNumber()
    one_by_one = evaluate(scorer, sequences, N_ITEMS, batch_size=1)
    at_once = evaluate(NextNumber(), sequences, N_ITEMS, batch_size=100)
    assert scorer.batches == [[4], [4], [3], [2]]
    assert one_by_one.per_target.equals(at_once.per_target)
    assert one_by_one.metrics == at_once.metrics
    assert at_once.per_target["user_id"].to_list() == ["user-0", "user-1", "user-2", "user-3"]
    assert at_once.per_target["row"].to_list() == [2, 7, 11, 16]
    assert at_once.per_target["history_length"].to_list() == [2, 4, 3, 4]


def test_seen_items_are_candidates_only_when_included() -> None:
    sequences = world([0, 1, 2, 3, 0])  # the target repeats the first item
    scorer = Fixed([5, 4, 3, 2, 1, 0])
    excluded = evaluate(scorer, sequences, N_ITEMS, cutoffs=(2,), seen_items="exclude")
    assert excluded.metrics["hr@2"] == 0
    assert excluded.metrics["n_excluded_targets"] == 1
    assert excluded.per_target["top_items"].to_list() == [[4, 5]]
    assert excluded.per_target["n_better"].to_list() == [N_ITEMS]
    included = evaluate(scorer, sequences, N_ITEMS, cutoffs=(2,), seen_items="include")
    assert included.metrics["hr@2"] == 1
    assert included.metrics["n_excluded_targets"] == 0
    assert included.per_target["top_items"].to_list() == [[0, 1]]
    assert included.per_target["is_repeat"].to_list() == [True]


def test_the_whole_history_is_excluded_not_a_window() -> None:
    sequences = world([0, 1, 2, 3, 4])
    report = evaluate(Fixed([9, 1, 1, 1, 1, 1]), sequences, N_ITEMS, cutoffs=(N_ITEMS,))
    assert report.per_target["top_items"].to_list() == [[4, 5]]


def test_items_that_share_a_title_share_the_credit() -> None:
    sequences = world([0, 1, 2, 3])
    report = evaluate(Fixed([0, 0, 0, 0.4, 0.4, 0.4]), sequences, N_ITEMS, cutoffs=(1, 2, 3))
    assert report.metrics["hr@1"] == pytest.approx(1 / 3)
    assert report.metrics["mrr@2"] == pytest.approx((1 + 1 / 2) / 3)
    assert report.metrics["hr@3"] == pytest.approx(1)


def test_a_subset_of_users_gives_their_rows_of_the_whole() -> None:
    sequences = world([0, 1, 2, 3], [2, 3, 4, 5], [5, 4, 0, 3])
    whole = evaluate(NextNumber(), sequences, N_ITEMS)
    some = evaluate(NextNumber(), sequences, N_ITEMS, users=np.array([2, 0]))
    assert some.per_target.equals(whole.per_target[[0, 2]])
    assert some.metrics["n_users"] == 2


def test_popularity_comes_from_training_rows_only() -> None:
    sequences = world([0, 1, 4, 5], [0, 2, 4, 5], [0, 3, 4, 5])  # 4 and 5 are held out, always
    report = evaluate(Fixed([0, 0, 0, 0, 1, 2]), sequences, N_ITEMS, cutoffs=(1,), seen_items="include")
    assert report.per_target["top_items"].to_list() == [[5]] * 3
    assert report.metrics["mean_popularity@1"] == 0


def test_temporal_splits_have_many_targets_of_one_user() -> None:
    sequences = world([0, 1, 2, 3], splits=[TRAIN, TEST, TEST, TEST])
    report = evaluate(NextNumber(), sequences, N_ITEMS, cutoffs=(1,))
    assert (report.metrics["n_targets"], report.metrics["n_users"], report.metrics["hr@1"]) == (3, 1, 1)


def test_a_split_without_targets_is_named() -> None:
    sequences = world([0, 1, 2], splits=[TRAIN, TRAIN, TEST])
    with pytest.raises(DataError, match="split 'valid' has no row"):
        evaluate(NextNumber(), sequences, N_ITEMS, split="valid")
    with pytest.raises(DataError, match="among the 1 users asked for"):
        evaluate(NextNumber(), sequences, N_ITEMS, users=np.array([7]))


@pytest.mark.parametrize(("cutoffs", "batch_size"), [((5, 0), 1), ((), 1), ((5,), 0)])
def test_cutoffs_and_batch_size_are_positive(cutoffs: tuple[int, ...], batch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size {batch_size}"):
        evaluate(NextNumber(), world([0, 1, 2, 3]), N_ITEMS, cutoffs=cutoffs, batch_size=batch_size)


def test_broken_scores_are_an_error() -> None:
    with pytest.raises(FlrError, match="scored 1 of 6 candidates as NaN"):
        evaluate(Fixed([0, 0, 0, 0, 0, np.nan]), world([0, 1, 2, 3]), N_ITEMS)
    with pytest.raises(FlrError, match=r"scored \[1, 2\], expected .* = \[1, 6\]"):
        evaluate(Fixed([0, 0]), world([0, 1, 2, 3]), N_ITEMS)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.bool_, np.float16])
def test_counts_are_scores(kind: type) -> None:
    class Counts(Fixed):
        def score(self, histories: Histories) -> FloatArray:
            return super().score(histories).astype(kind)

    sequences = world([0, 1, 2, 3], [2, 3, 4, 5])
    found = evaluate(Counts([0, 1, 0, 1, 0, 0]), sequences, N_ITEMS, cutoffs=(2,))
    assert found.metrics == evaluate(Fixed([0, 1, 0, 1, 0, 0]), sequences, N_ITEMS, cutoffs=(2,)).metrics


def test_what_is_no_array_of_numbers_is_refused() -> None:
    class Texts(Fixed):
        def score(self, histories: Histories) -> FloatArray:
            return np.full((len(histories), N_ITEMS), "good")

    with pytest.raises(FlrError, match=r"'fixed' scored by a ndarray of <U4, expected an array of numbers"):
        evaluate(Texts([0]), world([0, 1, 2, 3]), N_ITEMS)


def test_a_scorer_that_changes_what_it_reads_changes_no_candidate() -> None:
    class Careless(Fixed):
        def score(self, histories: Histories) -> FloatArray:
            histories.item_index[:] = 3
            return super().score(histories)

    report = evaluate(Careless([6, 5, 4, 3, 2, 1]), world([0, 1, 2, 3]), N_ITEMS, cutoffs=(1,))
    assert report.metrics["hr@1"] == 1


@pytest.mark.parametrize("wrong", [{"seen_items": "exlude"}, {"split": "train"}, {"split": "dev"}])
def test_a_misspelled_choice_is_no_choice(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"expected '.*' or '.*'"):
        evaluate(NextNumber(), world([0, 1, 2, 3]), N_ITEMS, **wrong)
