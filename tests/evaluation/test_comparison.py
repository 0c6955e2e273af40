"""Two models on the same targets: known differences, known p-values, and power that is what it says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from flr.errors import DataError
from flr.evaluation.comparison import (
    by_run,
    compare,
    compare_values,
    holm,
    signed_rank_z,
)


def run(values: list[float], rows: list[int] | None = None) -> pl.DataFrame:
    rows = rows or list(range(len(values)))
    return pl.DataFrame(
        {"row": rows, "user_index": [row // 2 for row in rows], "ndcg@10": pl.Series(values, dtype=pl.Float64)}
    )


def test_runs_are_read_by_target_whatever_their_order() -> None:
    values, users = by_run([run([0, 1, 0.5, 0]), run([1, 0, 0, 1], [3, 2, 1, 0])], "ndcg@10")
    assert values.tolist() == [[0, 1, 0.5, 0], [1, 0, 0, 1]]
    assert users.tolist() == [0, 0, 1, 1]


def test_with_as_many_targets_each_tests_are_those_of_user_means() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(60), rng.random(60) + 0.1
    users = np.repeat(np.arange(20), 3)
    found = compare_values(first[None], second[None], users, rng, n_resamples=500)
    by_user = (second - first).reshape(20, 3).mean(1)
    assert found.difference.mean == pytest.approx(by_user.mean())
    assert found.t_p_value == pytest.approx(stats.ttest_rel(by_user, np.zeros(20)).pvalue)
    assert (found.n_users, found.n_targets) == (20, 60)


def test_the_t_test_is_about_the_difference_that_is_shown() -> None:
    users = np.repeat(np.arange(30), [20] * 10 + [1] * 20)  # those with many targets gain what the others lose
    noise = np.random.default_rng(5).normal(0, 0.1, len(users))
    differences = np.where(users < 10, 0.1, -0.05) + noise
    nothing = np.zeros((1, len(users)))
    found = compare_values(nothing, differences[None], users, np.random.default_rng(0), n_resamples=4000)
    of_users = np.array([differences[users == user].mean() for user in range(30)])
    assert stats.ttest_1samp(of_users, 0).pvalue > 0.5
    assert found.t_p_value < 0.01
    assert found.difference.low > 0


def test_the_t_test_rejects_as_often_as_it_says_whatever_users_have() -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(80), rng.integers(1, 9, 80))
    rejected = 0
    for _ in range(1000):
        values = rng.normal(0, 1, 80)[users] + rng.normal(0, 1, len(users))  # a user's targets go together
        nothing = np.zeros((1, len(users)))
        rejected += compare_values(nothing, values[None], users, rng, n_resamples=2).t_p_value < 0.05
    assert 0.03 < rejected / 1000 < 0.08


def test_a_model_does_not_differ_from_itself() -> None:
    frames = [run([0, 1, 0.5, 0.25])]
    found = compare(frames, frames, "ndcg@10", np.random.default_rng(0))
    assert (found.difference.mean, found.t_p_value, found.signed_rank_p_value) == (0, 1, 1)
    assert found.minimum_detectable(0.05) == 0


def test_a_difference_that_is_the_same_for_everyone_is_certain() -> None:
    users = np.arange(11)
    found = compare_values(np.zeros((1, 11)), np.full((1, 11), 0.5), users, np.random.default_rng(0), n_resamples=50)
    assert found.t_p_value == 0
    assert found.signed_rank == pytest.approx(11**0.5)


def test_with_one_run_and_one_target_each_signed_ranks_are_those_of_scipy() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, 50).round(1)  # with ties
    differences[:20] = 0
    known = stats.wilcoxon(differences, zero_method="pratt", method="asymptotic", correction=False).pvalue
    z = signed_rank_z(differences[None], np.arange(50))
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(known, rel=1e-9)


def test_signed_ranks_of_users_with_several_targets_and_runs_by_hand() -> None:
    differences = np.array([[0.5, -0.1, 0.0, 0.3], [0.2, 0.0, -0.4, 0.3]])  # sizes rank 8, 3, 1.5, 5.5, 4, 1.5, 7, 5.5
    users = np.array([3, 3, 9, 5])
    of_users = np.array([8 - 3 + 4, 5.5 + 5.5, -7])
    assert signed_rank_z(differences, users) == pytest.approx(of_users.sum() / np.sqrt((of_users**2).sum()))


def test_tests_that_point_in_opposite_directions_show_nothing() -> None:
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(900) < 0.12, 0.6, -0.08 * (rng.random(900) < 0.55))  # few gain much, many lose a little
    found = compare_values(np.zeros((1, 900)), gains[None], np.arange(900), rng, n_resamples=50)
    assert found.difference.mean > 0
    assert found.t_p_value < 0.01
    assert found.signed_rank < -5
    assert found.p_value == 1


def test_every_run_is_compared_with_every_run_of_the_other_in_any_order() -> None:
    rng = np.random.default_rng(4)
    first, second, users = rng.random((2, 40)), rng.random((3, 40)), np.arange(40) // 2
    found = compare_values(first, second, users, np.random.default_rng(0), n_resamples=50)
    assert found.difference.mean == pytest.approx(second.mean() - first.mean())
    turned = compare_values(first[::-1], second[[2, 0, 1]], users, np.random.default_rng(0), n_resamples=50)
    assert turned.signed_rank == pytest.approx(found.signed_rank)
    assert turned.t_p_value == pytest.approx(found.t_p_value)


def test_signed_ranks_find_nothing_in_seeds_that_agree_and_seeds_that_do_not() -> None:
    """Averaged over seeds first, equal models would be found different in nearly all of these worlds."""
    rng = np.random.default_rng(5)
    n_worlds, n_users, n_seeds, users = 400, 300, 5, np.arange(300)

    def ndcg(chance: np.ndarray, n: int) -> np.ndarray:
        hit = rng.random((n, n_users)) < chance
        return np.asarray(hit / np.log2(rng.integers(1, 11, (n, n_users)) + 1))

    rejected, of_means = 0, 0
    for _ in range(n_worlds):
        chance = rng.beta(0.5, 2, n_users)
        differences = ndcg(chance, n_seeds) - ndcg(chance, 1)
        rejected += abs(signed_rank_z(differences, users)) > stats.norm.isf(0.025)
        of_means += abs(signed_rank_z(differences.mean(0, keepdims=True), users)) > stats.norm.isf(0.025)
    assert 0.02 < rejected / n_worlds < 0.085
    assert of_means / n_worlds > 0.9


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, size=(2000, 50))
    values = stats.norm.ppf((np.arange(50) + 0.5) / 50)
    measured = compare_values(np.zeros((1, 50)), values[None], np.arange(50), rng, n_resamples=2)
    effect = measured.minimum_detectable(0.05)
    assert measured.minimum_detectable(0.01) > 1.2 * effect
    found = np.mean(stats.ttest_1samp(noise + effect, 0.0, axis=1).pvalue < 0.05)
    # 0.8 give or take three standard errors of 2000 trials and the difference of 50 quantiles' deviation from 1.
    assert 0.76 < found < 0.84


@pytest.mark.parametrize(("n_first", "n_second"), [(5, 5), (5, 3), (1, 5)])
def test_runs_that_are_lucky_for_everybody_are_no_evidence(n_first: int, n_second: int) -> None:
    """Two equal models whose runs differ by luck: an interval, and a test, that know of users alone miss it."""
    rng = np.random.default_rng(6)
    n_worlds, users = 400, np.arange(200)
    rejected, missed, by_users = 0, 0, 0
    for _ in range(n_worlds):
        of_users = rng.normal(0, 0.3, 200)
        luck = [rng.normal(0, 0.02, (n, 1)) if n > 1 else np.zeros((1, 1)) for n in (n_first, n_second)]
        first, second = (of_users + of_runs + rng.normal(0, 0.05, (len(of_runs), 200)) for of_runs in luck)
        found = compare_values(first, second, users, rng, n_resamples=200)
        rejected += found.t_p_value < 0.05
        missed += found.difference.excludes_zero
        by_users += stats.ttest_1samp(second.mean(0) - first.mean(0), 0).pvalue < 0.05
    assert by_users / n_worlds > 0.3
    assert rejected / n_worlds < 0.075
    assert missed / n_worlds < 0.08


def test_runs_that_come_in_pairs_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((4, 60)) + rng.normal(0, 0.5, (4, 1))
    found = compare_values(first, first + 0.01, np.arange(60), rng, n_resamples=50)
    assert found.difference.low == pytest.approx(found.difference.high)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_with_few_users_all_signs_are_gone_through() -> None:
    rng = np.random.default_rng(0)
    found = compare_values(np.zeros((1, 5)), np.full((1, 5), 0.1), np.arange(5), rng, n_resamples=50)
    assert found.signed_rank_p_value == 2 / 32
    values = np.array([0.4, -0.1, 0.3, 0.2, 0.6, -0.5, 0.7])
    exact = stats.wilcoxon(values, method="exact").pvalue
    assert compare_values(np.zeros((1, 7)), values[None], np.arange(7), rng).signed_rank_p_value == pytest.approx(exact)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.001, 0.02, float("nan"), 0.9]).tolist() == pytest.approx(
        [0.08, 0.004, 0.06, np.nan, 0.9], nan_ok=True
    )
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert len(holm([])) == 0


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([], [run([1.0, 0.0])], "got no run"),
        ([run([1.0, 0.0])], [run([1.0, 0.0], [0, 2])], "got 2 targets of one model and 2 others"),
        ([run([1.0, 0.0]), run([1.0, 0.0, 0.0])], [run([1.0, 0.0])], "runs on 2 and 3 targets"),
    ],
)
def test_only_the_same_targets_are_compared(first: list[pl.DataFrame], second: list[pl.DataFrame], said: str) -> None:
    with pytest.raises(DataError, match=said):
        compare(first, second, "ndcg@10", np.random.default_rng(0))
