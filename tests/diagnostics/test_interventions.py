"""Interventions change what they say and nothing else; and all instruments, on a model that has learned something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from factor_worlds import records_of
from flr.backbone.streams import EncodedStreams
from flr.data.storage import load_prepared
from flr.diagnostics.disentanglement import dead_factors, disentanglement
from flr.diagnostics.factor_records import FactorRecords, collect_factors
from flr.diagnostics.interventions import (
    KINDS,
    IntervenedScorer,
    Intervention,
    InTurn,
    all_interventions,
    intervened_values,
    other_users,
)
from flr.diagnostics.readings import user_blocks
from flr.diagnostics.stability import match_factors
from flr.errors import ConfigError, DataError
from flr.evaluation.protocol import evaluate
from flr.evaluation.robustness import strained_values
from flr.evaluation.significance import clustered_bootstrap
from flr.model import FLRModel
from flr.reasoner.memory import items_in_order
from flr.recommender import Recommender
from flr.records import TEST, FloatArray, Histories, UserSequences
from flr.text.template import TokenStreams
from flr.training.run import train_run
from toy import TINY, prepared_ring, small_config, toy_catalogue, toy_model, toy_sequences, toy_tokenizer


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return recommender_of()


@pytest.fixture(scope="module")
def sequences() -> UserSequences:
    world = toy_sequences([3, 9, 5, 4, 12])
    world.split[world.offsets[1:] - 1] = TEST
    return world


@pytest.fixture(scope="module")
def records(recommender: Recommender, sequences: UserSequences) -> FactorRecords:
    return collect_factors(recommender, sequences)


def recommender_of(*settings: str) -> Recommender:
    model, compiled, config = toy_model(*settings)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


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


@pytest.mark.parametrize("memory", ["none", "transitions"])
def test_one_factor_only_is_a_gate_that_has_chosen_it(
    sequences: UserSequences, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    """At every step its gate is 1, so that K f_k enters the thought: not what the gate happened to leave it."""
    recommender = recommender_of(f"reasoner.memory={memory}", "reasoner.n_steps=3")
    records = collect_factors(recommender, sequences)
    found = [scores(recommender, records, "only", k) for k in range(4)]
    for k in range(4):
        monkeypatch.setattr(
            "flr.reasoner.factors.MultiFactorAttention.gates",
            lambda self, factor, state, k=k: torch.eye(4)[k].expand(factor.shape[:-1]),
        )
        expected = recommender.score(histories_of(sequences))
        np.testing.assert_allclose(found[k], expected, atol=1e-5)
        monkeypatch.undo()
    assert abs(found[0] - recommender.score(histories_of(sequences), factor_weights=[1, 0, 0, 0])).max() > 1e-2


def test_the_only_factor_alone_is_the_model_as_it_is(sequences: UserSequences) -> None:
    recommender = recommender_of("reasoner.memory=transitions", "reasoner.n_factors=1")
    records = collect_factors(recommender, sequences)
    np.testing.assert_allclose(
        scores(recommender, records, "only", 0), recommender.score(histories_of(sequences)), atol=1e-5
    )


@pytest.mark.parametrize("reads", ["tokens", "items"])
@pytest.mark.parametrize("n_steps", [2, 3])
@pytest.mark.parametrize("memory", ["none", "transitions"])
def test_swapping_with_oneself_changes_nothing(
    sequences: UserSequences, monkeypatch: pytest.MonkeyPatch, memory: str, n_steps: int, reads: str
) -> None:
    recommender = recommender_of(
        f"reasoner.memory={memory}", f"reasoner.n_steps={n_steps}", f"reasoner.reads={reads}", "reasoner.reads_age=true"
    )
    assert recommender.model.reasoner is not None
    torch.nn.init.normal_(recommender.model.reasoner.query.weight, std=0.6)  # factors that read, and vote, differently
    records = collect_factors(recommender, sequences)
    monkeypatch.setattr("flr.diagnostics.interventions.other_users", lambda records, _: np.arange(len(records)))
    plain = recommender.score(histories_of(sequences))
    for factor in (None, 0, 3):
        assert abs(scores(recommender, records, "swap", factor) - plain).max() < 1e-5


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
    return recommender_of("reasoner.memory=transitions")


@pytest.mark.parametrize("kind", ["swap", "votes"])
def test_a_thought_and_what_is_voted_for_are_swapped_one_without_the_other(
    voter: Recommender, sequences: UserSequences, kind: str
) -> None:
    records = collect_factors(voter, sequences)
    scorer = IntervenedScorer(voter, records, Intervention(kind, None), seed=1)
    assert scorer._donors is not None
    with torch.inference_mode():
        found = scorer._think(records.histories, np.arange(5))
        own = voter.snapshot.think(records.histories)
    assert found.votes is not None and own.votes is not None
    changes = [abs(found.votes.probs - own.votes.probs).max(), abs(found.root_hidden - own.root_hidden).max()]
    assert [change > 1e-3 for change in changes] == [kind == "votes", kind == "swap"]
    if kind == "votes":
        np.testing.assert_allclose(found.votes.probs, own.votes.probs[scorer._donors], atol=1e-6)


def test_only_factors_that_vote_have_votes_to_swap(recommender: Recommender, records: FactorRecords) -> None:
    assert Intervention("votes", None) not in all_interventions(4, votes=False)
    with pytest.raises(ConfigError, match="'swap votes', expected one of"):
        IntervenedScorer(recommender, records, Intervention("votes", None))


def test_a_swapped_factor_brings_its_votes_along(voter: Recommender, sequences: UserSequences) -> None:
    records = collect_factors(voter, sequences)
    scorer = IntervenedScorer(voter, records, Intervention("swap", 2), seed=1)
    assert scorer._donors is not None
    memory = voter.model.memory
    assert memory is not None
    with torch.inference_mode():
        state = scorer._think(records.histories, np.arange(5))
        streams = voter.snapshot.read(records.histories)
        thought = voter.model.think(streams).thought
        assert state.votes is not None and state.thought is not None and thought is not None
        assert streams.items is not None and streams.places is not None
        places = items_in_order(streams.items, streams.places), streams.places
        mine, theirs = memory.of_each(state.thought, *places), memory.of_each(thought, *places)[scorer._donors]
    gates = state.thought.gates[-1][:, 0, :, None]
    expected = (gates * mine).sum(1) + gates[:, 2] * (theirs - mine)[:, 2]
    np.testing.assert_allclose(state.votes.probs, expected, atol=1e-6)
    assert abs(theirs - mine)[:, 2].max() > 1e-3


def test_the_best_items_alone_are_scored_as_all_are(
    voter: Recommender, recommender: Recommender, sequences: UserSequences
) -> None:
    for each in (voter, recommender):
        records = collect_factors(each, sequences)
        for change in all_interventions(4, votes=each is voter):
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
    records = records_of(np.zeros((6, 1, 2, 2)), users=[0, 0, 0, 0, 1, 2])
    donors = other_users(records, np.random.default_rng(0))
    assert (records.users[donors] != records.users).all()
    with pytest.raises(DataError, match="all 2 targets are of one user"):
        other_users(records.take(np.array([0, 1])), np.random.default_rng(0))


def test_nobody_is_swapped_with_an_equal_history_where_there_is_another() -> None:
    read = [[1, 2]] * 6 + [[2, 1], [1]]
    items, offsets = np.concatenate(read), np.cumsum([0, *map(len, read)])
    records = replace(records_of(np.zeros((8, 1, 2, 2))), histories=Histories(items, offsets))
    for seed in range(20):
        donors = other_users(records, np.random.default_rng(seed))
        assert all(read[donor] != own for donor, own in zip(donors, read, strict=True))
    alike = records.take(np.arange(6))  # there is no other: still somebody else
    assert (other_users(alike, np.random.default_rng(0)) != np.arange(6)).all()
    # All but one's own are of equal histories.
    mine = replace(records.take(np.array([0, 1, 6])), users=np.array([0, 1, 1]))
    assert other_users(mine, np.random.default_rng(0))[:2].tolist() == [2, 0]


@pytest.fixture(scope="module")
def alike() -> UserSequences:
    """Return six users with one window of history, one of them with an item before it, and two others."""
    world = toy_sequences([3, 3, 7, 3, 3, 3, 9, 5])
    world.split[world.offsets[1:] - 1] = TEST
    for user in range(6):
        end = world.offsets[user + 1] - 1
        world.item_index[end - 2 : end] = [1, 2]
    return world


@pytest.mark.parametrize("n_at_once", [1, 3, 1000])
def test_users_of_equal_histories_have_each_their_own_change(
    alike: UserSequences, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    recommender = recommender_of("reasoner.memory=transitions", "text.window=2")
    records = collect_factors(recommender, alike)
    plain = recommender.score(records.histories)
    np.testing.assert_allclose(plain[:6], plain[[0] * 6], atol=1e-5)  # they are as one
    monkeypatch.setattr("flr.diagnostics.interventions._N_AT_ONCE", n_at_once)
    chosen = [Intervention("swap", None), Intervention("shuffle", None), Intervention("swap", 1)]
    frame = intervened_values(
        recommender, records, alike, interventions=chosen, metric="ndcg@20", seed=1, seen_items="include"
    )
    for each in chosen:
        scorer = IntervenedScorer(recommender, records, each, seed=1)
        changed = scorer.score(records.histories)
        assert (abs(changed - plain).max(1) > 1e-5).all()
        assert len(np.unique(changed[:6].round(4), axis=0)) > 1
        for place in range(len(records)):
            alone = scorer.score(records.histories.take(np.array([place])), records.rows[[place]])
            np.testing.assert_allclose(alone[0], changed[place], atol=1e-5)
        better = (changed > np.take_along_axis(changed, records.items[:, None], 1)).sum(1)
        assert frame[str(each)].to_list() == pytest.approx((1 / np.log2(better + 2)).tolist())


@pytest.mark.parametrize(("kind", "factor"), [("remove", 4), ("remove", None), ("burn", 0), ("swap", -1)])
def test_impossible_interventions_are_refused(
    recommender: Recommender, records: FactorRecords, kind: str, factor: int | None
) -> None:
    with pytest.raises(ConfigError, match=f"intervention '{Intervention(kind, factor)}'"):
        IntervenedScorer(recommender, records, Intervention(kind, factor))


def test_an_unknown_history_is_refused(recommender: Recommender, records: FactorRecords) -> None:
    scorer = IntervenedScorer(recommender, records, Intervention("mean", 0))
    for read, rows in (
        (Histories(np.array([1, 1, 1, 1, 1]), np.array([0, 5])), records.rows[:1]),
        (records.histories.take(np.array([0])), records.rows[1:2]),
        (records.histories.take(np.array([0])), records.rows[:1] + 1),
        (records.histories.take(np.array([0])), None),
    ):
        with pytest.raises(DataError, match=r"got 1 histories, expected what the records read before rows \["):
            scorer.score(read, rows)


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
    whole = [one for one in all_interventions(4, votes=False) if one.factor is None]
    frame = intervened_values(runs[0], records[0], world, interventions=whole, **options)
    assert frame["none"].to_numpy().mean() == pytest.approx(plain.metrics["ndcg@10"])
    losses = (frame["none"] - frame["swap thought"]).to_numpy()
    assert clustered_bootstrap(losses, frame["user_index"].to_numpy(), np.random.default_rng(0)).low > 0.1

    assert disentanglement(records[0], np.random.default_rng(0), n_resamples=10).height > 30
    assert len(dead_factors(records[0])) < 4
    assert 0 <= match_factors(*records, np.random.default_rng(0)).matched <= 1
    strained = strained_values(runs[0], world, runs[0].catalogue.n_items, strengths={"truncate": (1,)}, **options)
    assert strained["truncate 1"].to_numpy().mean() < strained["none"].to_numpy().mean()


def test_values_per_target_and_what_stays_of_the_list(
    recommender: Recommender, records: FactorRecords, sequences: UserSequences
) -> None:
    chosen = [Intervention("remove", 2)]
    options = {"interventions": chosen, "metric": "ndcg@3", "seen_items": "include"}
    frame = intervened_values(recommender, records, sequences, **options)
    assert frame.columns[:3] == ["row", "user_index", "none"]
    scorer = IntervenedScorer(recommender, records, chosen[0])
    after = evaluate(
        InTurn(scorer, sequences, records.rows), sequences, 11, seen_items="include", cutoffs=(3, 5)
    ).per_target
    before = evaluate(recommender, sequences, 11, seen_items="include", cutoffs=(3, 5)).per_target
    assert frame["remove 2"].equals(after["ndcg@3"].alias("remove 2"))
    lists = zip(before["top_items"], after["top_items"], strict=True)
    assert frame["kept remove 2"].to_list() == [len({*a} & {*b}) / 5 for a, b in lists]


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
    possible = all_interventions(4, votes=True)
    unread = [each for each in possible if each.kind not in ("swap", "votes") or str(each) == "swap thought"]
    intervened_values(voter, records, sequences, interventions=unread)
    assert n_read == 2 * len(records)
    n_read = 0
    intervened_values(voter, records, sequences, interventions=possible)
    assert n_read == (2 + 5) * len(records)


@pytest.mark.parametrize("n_at_once", [1, 7, 1000])
def test_values_are_the_same_however_many_are_read_at_once(
    voter: Recommender, sequences: UserSequences, monkeypatch: pytest.MonkeyPatch, n_at_once: int
) -> None:
    records = collect_factors(voter, sequences)
    options = {"metric": "ndcg@3", "seed": 3, "seen_items": "include"}
    monkeypatch.setattr("flr.diagnostics.interventions._N_AT_ONCE", n_at_once)
    frame = intervened_values(voter, records, sequences, **options)
    for each in all_interventions(4, votes=True):
        scorer = IntervenedScorer(voter, records, each, seed=3)  # reads for itself, all at once
        alone = evaluate(
            InTurn(scorer, sequences, records.rows), sequences, 11, seen_items="include", cutoffs=(3, 5)
        ).per_target
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
