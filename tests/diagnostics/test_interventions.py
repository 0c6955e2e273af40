"""Interventions change what they say and nothing else; and all instruments, on a model that has learned something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from flr.backbone.streams import EncodedStreams
from flr.data.storage import load_prepared
from flr.diagnostics.disentanglement import dead_factors, disentanglement
from flr.diagnostics.factor_records import FactorRecords, collect_factors
from flr.diagnostics.interventions import (
    KINDS,
    IntervenedScorer,
    Intervention,
    all_interventions,
    factor_oracle,
    intervened_values,
    intervention_table,
    oracle_of,
    other_users,
)
from flr.diagnostics.readings import user_blocks
from flr.diagnostics.stability import match_factors
from flr.errors import ConfigError, DataError
from flr.evaluation.protocol import evaluate
from flr.evaluation.robustness import robustness_curves
from flr.evaluation.slices import slice_labels
from flr.model import FLRModel
from flr.recommender import Recommender
from flr.records import TEST, FloatArray, Histories, UserSequences
from flr.text.template import TokenStreams
from flr.training.run import train_run
from toy import TINY, prepared_ring, small_config, toy_catalogue, toy_model, toy_sequences, toy_tokenizer


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    model, compiled, config = toy_model()
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


@pytest.fixture(scope="module")
def sequences() -> UserSequences:
    world = toy_sequences([3, 9, 5, 4, 12])
    world.split[world.offsets[1:] - 1] = TEST
    return world


@pytest.fixture(scope="module")
def records(recommender: Recommender, sequences: UserSequences) -> FactorRecords:
    return collect_factors(recommender, sequences)


def histories_of(sequences: UserSequences) -> Histories:
    return Histories.before(sequences, *sequences.targets(TEST))


def scores(
    recommender: Recommender, records: FactorRecords, kind: str, factor: int | None, seed: int = 0
) -> FloatArray:
    read = Histories(records.histories.item_index, records.histories.offsets)
    return IntervenedScorer(recommender, records, Intervention(kind, factor), seed=seed).score(read)


def test_removal_is_a_weight_of_zero(
    recommender: Recommender, records: FactorRecords, sequences: UserSequences
) -> None:
    expected = recommender.score(histories_of(sequences), factor_weights=[1, 1, 0, 1])
    np.testing.assert_allclose(scores(recommender, records, "remove", 2), expected, atol=1e-5)
    expected = recommender.score(histories_of(sequences), factor_weights=[0, 0, 1, 0])
    np.testing.assert_allclose(scores(recommender, records, "only", 2), expected, atol=1e-5)


def test_swapping_with_oneself_changes_nothing(
    recommender: Recommender, records: FactorRecords, sequences: UserSequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flr.diagnostics.interventions.other_users", lambda users, _: np.arange(len(users)))
    plain = recommender.score(histories_of(sequences))
    for factor in (None, 0, 3):
        np.testing.assert_allclose(scores(recommender, records, "swap", factor), plain, atol=1e-4)


def test_a_swapped_thought_is_the_other_users(recommender: Recommender, records: FactorRecords) -> None:
    """Scored by hand: the history of one target, then the thought of another."""
    scorer = IntervenedScorer(recommender, records, Intervention("swap", None), seed=1)
    assert scorer._replacements is not None
    donor = next(n for n in range(5) if np.array_equal(scorer._replacements[0], records.vectors[n]))
    assert donor != 0
    with torch.inference_mode():
        streams = recommender.model.read(recommender.compiled.template.streams(records.histories.take(np.array([0]))))
        state = recommender.model.think(streams, vectors=torch.from_numpy(records.vectors[[donor]]))
        expected = recommender.model.score(state, recommender.compiled).numpy()
    found = scorer.score(records.histories)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)


@pytest.fixture(scope="module")
def voter() -> Recommender:
    """Return a model whose factors vote."""
    model, compiled, config = toy_model("reasoner.memory=transitions")
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


def test_a_swapped_thought_brings_its_votes_along(voter: Recommender, sequences: UserSequences) -> None:
    records = collect_factors(voter, sequences)
    scorer = IntervenedScorer(voter, records, Intervention("swap", None), seed=1)
    assert scorer._donors is not None
    with torch.inference_mode():
        found = scorer._think(records.histories, np.arange(5)).votes
        own = voter.think(records.histories).votes
    assert found is not None and own is not None
    np.testing.assert_allclose(found.probs, own.probs[scorer._donors], atol=1e-6)
    assert abs(found.probs - own.probs).max() > 1e-3


def test_a_swapped_factor_brings_its_votes_along(voter: Recommender, sequences: UserSequences) -> None:
    records = collect_factors(voter, sequences)
    scorer = IntervenedScorer(voter, records, Intervention("swap", 2), seed=1)
    assert scorer._donors is not None
    with torch.inference_mode():
        state = scorer._think(records.histories, np.arange(5))
        alone = [voter.think(records.histories, torch.eye(4)[k]).votes for k in range(4)]
    assert state.votes is not None and state.thought is not None
    gates = state.thought.gates[-1][:, 0]
    expected = sum(
        gates[:, k, None] * votes.probs[scorer._donors if k == 2 else np.arange(5)]
        for k, votes in enumerate(alone)
        if votes is not None
    )
    np.testing.assert_allclose(state.votes.probs, expected, atol=2e-3)


def test_the_best_items_alone_are_scored_as_all_are(
    voter: Recommender, recommender: Recommender, sequences: UserSequences
) -> None:
    for each in (voter, recommender):
        records = collect_factors(each, sequences)
        for change in all_interventions(4):
            exact = IntervenedScorer(each, records, change).score(records.histories)
            best = IntervenedScorer(each, records, change, n_best=3).score(records.histories)
            order = np.argsort(-exact, axis=1)[:, :3]
            np.testing.assert_allclose(
                np.take_along_axis(best, order, 1), np.take_along_axis(exact, order, 1), atol=1e-5
            )
            assert (best <= exact + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_the_scores_and_is_repeatable(
    recommender: Recommender, records: FactorRecords, sequences: UserSequences, kind: str
) -> None:
    found = scores(recommender, records, kind, 1)
    assert abs(found - recommender.score(histories_of(sequences))).max() > 1e-4
    np.testing.assert_array_equal(found, scores(recommender, records, kind, 1))
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-4)


def test_shuffled_coordinates_keep_their_length(recommender: Recommender, records: FactorRecords) -> None:
    scorer = IntervenedScorer(recommender, records, Intervention("shuffle", 1))
    assert scorer._replacements is not None
    own = records.factors[:, :, 1]
    np.testing.assert_allclose(np.linalg.norm(scorer._replacements, axis=-1), np.linalg.norm(own, axis=-1), rtol=1e-5)
    assert (scorer._replacements != own).any(-1).all()


def test_swaps_are_between_users() -> None:
    users = np.array([0, 0, 0, 0, 1, 2])
    donors = other_users(users, np.random.default_rng(0))
    assert (users[donors] != users).all()
    with pytest.raises(DataError, match="all 2 targets are of one user"):
        other_users(np.array([3, 3]), np.random.default_rng(0))


@pytest.mark.parametrize(("kind", "factor"), [("remove", 4), ("remove", None), ("burn", 0), ("swap", -1)])
def test_impossible_interventions_are_refused(
    recommender: Recommender, records: FactorRecords, kind: str, factor: int | None
) -> None:
    with pytest.raises(ConfigError, match=f"intervention '{Intervention(kind, factor)}'"):
        IntervenedScorer(recommender, records, Intervention(kind, factor))


def test_an_unknown_history_is_refused(recommender: Recommender, records: FactorRecords) -> None:
    scorer = IntervenedScorer(recommender, records, Intervention("mean", 0))
    with pytest.raises(DataError, match="a history is not in the records"):
        scorer.score(Histories(np.array([1, 1, 1, 1, 1]), np.array([0, 5])))


@pytest.mark.slow
def test_all_instruments_on_a_model_that_has_learned(tmp_path: Path) -> None:
    """Titles that see the thought alone: the ring is learned through it, so a stranger's thought undoes it."""
    data = prepared_ring(tmp_path / "data")
    runs = []
    for seed, n_steps in ((0, 120), (1, 20)):
        settings = ["reasoner.titles_see=thought", f"training.max_steps={n_steps}", f"training.eval_steps={n_steps}"]
        config = small_config(*TINY, *settings, f"seed={seed}")
        train_run(config, data, tmp_path / f"run-{seed}")
        runs.append(Recommender.load(tmp_path / f"run-{seed}"))
    world = load_prepared(data).sequences
    records = [collect_factors(run, world) for run in runs]
    options = {"seen_items": "include", "metric": "ndcg@10"}

    plain = evaluate(runs[0], world, runs[0].catalogue.n_items, seen_items="include", cutoffs=(10,))
    assert plain.metrics["ndcg@10"] > 0.8
    labels = slice_labels(plain.per_target, world, runs[0].catalogue)
    whole = [one for one in all_interventions(4) if one.factor is None]
    table = intervention_table(runs[0], records[0], world, interventions=whole, labels=labels, **options)
    overall = {row["intervention"]: row for row in table.filter(slice="all").to_dicts()}
    assert overall["swap thought"]["high"] < -0.1
    assert overall["swap thought"]["ndcg@10"] == pytest.approx(
        plain.metrics["ndcg@10"] + overall["swap thought"]["value"]
    )

    oracle = factor_oracle(runs[0], records[0], world, **options)
    assert oracle.full == pytest.approx(plain.metrics["ndcg@10"])
    assert oracle.best >= max(oracle.single)
    assert disentanglement(records[0], np.random.default_rng(0), n_resamples=10).height > 30
    assert len(dead_factors(records[0])) < 4
    assert 0 <= match_factors(*records, np.random.default_rng(0)).matched <= 1
    curves = robustness_curves(runs[0], world, runs[0].catalogue.n_items, strengths={"truncate": (1,)}, **options)
    assert curves["low"][-1] > 0


def test_values_per_target_and_what_stays_of_the_list(
    recommender: Recommender, records: FactorRecords, sequences: UserSequences
) -> None:
    chosen = [Intervention("remove", 2), Intervention("only", 0), Intervention("only", 1)]
    options = {"interventions": chosen, "metric": "ndcg@3", "seen_items": "include"}
    frame = intervened_values(recommender, records, sequences, **options)
    assert frame.columns[:3] == ["row", "user_index", "none"]
    scorer = IntervenedScorer(recommender, records, chosen[0])
    after = evaluate(scorer, sequences, 11, seen_items="include", cutoffs=(3, 5)).per_target
    before = evaluate(recommender, sequences, 11, seen_items="include", cutoffs=(3, 5)).per_target
    assert frame["remove 2"].equals(after["ndcg@3"].alias("remove 2"))
    lists = zip(before["top_items"], after["top_items"], strict=True)
    assert frame["kept remove 2"].to_list() == [len({*a} & {*b}) / 5 for a, b in lists]
    oracle = oracle_of(frame, ["only 0", "only 1"], np.random.default_rng(0))
    assert oracle.best == pytest.approx(float(np.maximum(frame["only 0"], frame["only 1"]).mean()))


def test_a_history_is_read_once_for_all_interventions_that_read_no_other(
    voter: Recommender, sequences: UserSequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading by the model as it is, one for all interventions; a swap reads somebody else's along."""
    records = collect_factors(voter, sequences)
    n_read = 0
    read = type(voter.model).read

    def counted(self: FLRModel, streams: TokenStreams, past: EncodedStreams | None = None) -> EncodedStreams:
        nonlocal n_read
        n_read += len(streams.lengths)
        return read(self, streams, past)

    monkeypatch.setattr("flr.model.FLRModel.read", counted)
    unread = [each for each in all_interventions(4) if each.kind != "swap"]
    intervened_values(voter, records, sequences, interventions=unread)
    assert n_read == 2 * len(records)
    n_read = 0
    intervened_values(voter, records, sequences)
    assert n_read == (2 + 5) * len(records)


@pytest.mark.parametrize("n_at_once", [1, 7, 1000])
def test_values_are_the_same_however_many_are_read_at_once(
    voter: Recommender, sequences: UserSequences, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    records = collect_factors(voter, sequences)
    options = {"metric": "ndcg@3", "seed": 3, "seen_items": "include"}
    monkeypatch.setattr("flr.diagnostics.interventions._N_AT_ONCE", n_at_once)
    frame = intervened_values(voter, records, sequences, **options)
    for each in all_interventions(4):
        scorer = IntervenedScorer(voter, records, each, seed=3)  # reads for itself, all at once
        alone = evaluate(scorer, sequences, 11, seen_items="include", cutoffs=(3, 5)).per_target
        assert frame["row"].equals(alone["row"])
        assert frame[str(each)].to_list() == pytest.approx(alone["ndcg@3"].to_list())
    some = intervened_values(voter, records, sequences, users=np.array([4, 1]), **options)
    assert some.equals(frame.filter(pl.col("user_index").is_in([1, 4])))
    with pytest.raises(DataError, match="has no row with an earlier row of its user among the 1 users asked for"):
        intervened_values(voter, records, sequences, users=np.array([99]), **options)


def test_blocks_hold_whole_users_in_order() -> None:
    world = toy_sequences([5, 9, 3, 7])
    for back in (1, 2):
        world.split[world.offsets[1:] - back] = TEST
    assert [block.tolist() for block in user_blocks(world, TEST, None, 4)] == [[0, 1], [2, 3]]
    assert [block.tolist() for block in user_blocks(world, TEST, None, 1)] == [[0], [1], [2], [3]]
    assert [block.tolist() for block in user_blocks(world, TEST, np.array([3, 0]), 9)] == [[0, 3]]
    assert list(user_blocks(world, TEST, np.array([8]), 9)) == []
