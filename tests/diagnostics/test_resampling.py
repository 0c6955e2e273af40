"""Headline figures agree with the pairwise instruments, and resamples of two runs are the same users."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from factor_worlds import records_of
from flr.diagnostics.disentanglement import item_overlap, pair_cosines
from flr.diagnostics.factor_records import FactorRecords
from flr.diagnostics.resampling import half_sampled_alignment, half_sampled_information, resampled_figures
from flr.diagnostics.similarity import correlation
from flr.errors import DataError
from flr.reasoner.policy import effective_rank

USERS = np.repeat(np.arange(40), 2).tolist()


def world(shared: float, seed: int = 0) -> FactorRecords:
    """Three factors of width 4 with a common part, of forty users with two targets each."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(80, 2, 1, 4)), rng.normal(size=(80, 2, 3, 4))
    attention = list(rng.dirichlet(np.ones(6), size=(80, 2, 3)).transpose(0, 3, 1, 2))
    return records_of(shared * common + (1 - shared) * own, users=USERS, item_attention=attention)


def figures(records: FactorRecords, n_resamples: int = 60) -> pl.DataFrame:
    return resampled_figures(records, np.random.default_rng(7), n_top=2, n_resamples=n_resamples)


def test_the_first_row_is_that_of_the_pairwise_instruments() -> None:
    records = world(0.5)
    found = figures(records).row(0, named=True)
    pairs = [(records.factors[:, -1, j], records.factors[:, -1, k]) for j, k in zip(*records.pairs(), strict=True)]
    assert found["correlation"] == pytest.approx(np.mean([correlation(*pair) for pair in pairs]), rel=1e-6)
    assert found["absolute_cosine"] == pytest.approx(abs(pair_cosines(records)[:, -1]).mean(), rel=1e-6)
    assert found["top_item_overlap"] == pytest.approx(item_overlap(records, 2)[:, -1].mean())
    rank = effective_rank(torch.from_numpy(records.vectors[:, 0]))
    assert found["effective_rank"] == pytest.approx(float(rank), rel=1e-4)
    assert {"distance 1", "distance 2"} <= found.keys()


def test_a_resample_is_the_figure_of_repeated_users() -> None:
    records = world(0.3)
    drawn = np.random.default_rng(7).multinomial(40, np.full(40, 1 / 40))
    rows = np.repeat(np.arange(80), drawn[np.array(USERS)])
    pairs = [
        (records.factors[rows, -1, j], records.factors[rows, -1, k]) for j, k in zip(*records.pairs(), strict=True)
    ]
    found = figures(records).row(1, named=True)
    assert found["correlation"] == pytest.approx(np.mean([correlation(*pair) for pair in pairs]), rel=1e-6)


def test_runs_see_the_same_users_so_their_difference_is_sharp() -> None:
    """The same records give the same resamples, and what is shared more is shared more in every one of them."""
    assert figures(world(0.3)).equals(figures(world(0.3)))
    shared, apart = figures(world(0.6)), figures(world(0.1))
    difference = shared["correlation"].to_numpy() - apart["correlation"].to_numpy()
    assert (difference > 0).all()


def test_one_factor_has_no_pairs() -> None:
    found = figures(records_of(np.random.default_rng(0).normal(size=(80, 1, 1, 4)), users=USERS)).row(0, named=True)
    assert np.isnan([found["correlation"], found["absolute_cosine"], found["top_item_overlap"]]).all()
    assert found["effective_rank"] > 3
    assert found["dead_factors"] == 0


def test_users_of_one_are_refused() -> None:
    with pytest.raises(DataError, match="all 3 targets are of one user"):
        figures(records_of(np.ones((3, 1, 2, 2)), users=[5, 5, 5]))


def test_halves_spread_about_the_information() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(400, 1, 1, 1)), rng.normal(size=(400, 1, 2, 1))
    records = records_of(0.9 * common + 0.4 * own)
    found = half_sampled_information(records, np.random.default_rng(1), n_components=1, n_halves=12)
    # Of a Gaussian pair: minus half the log of 1 - rho^2, rho = .81 / (.81 + .16).
    expected = -0.5 * np.log(1 - (0.81 / 0.97) ** 2)
    assert len(found) == 13
    assert found[0] == pytest.approx(expected, abs=0.12)
    assert 0 < found[1:].std() < 0.15


def test_wide_factors_are_no_more_alike_than_narrow_ones_where_all_are_independent() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(150), 4)
    for width in (2, 48):
        of_users = rng.normal(size=(150, 1, 2, width))[users]  # a user's targets are nearly the same
        records = records_of(of_users + 0.1 * rng.normal(size=of_users.shape), users=users.tolist())
        whole, *halves = half_sampled_alignment(records, np.random.default_rng(1))
        assert abs(whole) < 0.02
        assert np.std(halves) < 0.03


def test_the_alignment_of_one_factor_is_unknown() -> None:
    records = records_of(np.random.default_rng(0).normal(size=(80, 1, 1, 4)), users=USERS)
    assert np.isnan(half_sampled_alignment(records, np.random.default_rng(0))).all()
