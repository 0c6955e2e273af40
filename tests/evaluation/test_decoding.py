"""Evaluation by beam: exact where it is wide, misses where it is narrow, guided where it is told to be."""

from __future__ import annotations

import numpy as np
import pytest

from flr.config import load_config
from flr.errors import ConfigError
from flr.evaluation.decoding import BeamRanking, ranking_scorer
from flr.evaluation.protocol import evaluate
from flr.recommender import Recommender
from flr.records import TEST, Histories, Report, UserSequences
from toy import TITLES, toy_catalogue, toy_model, toy_sequences, toy_tokenizer

BEAM = ("evaluation.ranking=beam", "evaluation.cutoffs=[1, 3]")
SEEN = pytest.mark.parametrize("seen_items", ["exclude", "include"])


def make(*overrides: str) -> Recommender:
    model, compiled, config = toy_model(*overrides)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


def sequences() -> UserSequences:
    """Return users whose last row is held out."""
    given = toy_sequences([5] * 12)
    given.split[given.offsets[1:] - 1] = TEST
    return given


def histories_of(given: UserSequences) -> Histories:
    rows = given.offsets[1:] - 1
    return Histories.before(given, np.arange(given.n_users), rows)


def report(recommender: Recommender, given: UserSequences, cutoffs: tuple[int, ...] = (1, 3)) -> Report:
    scorer, seen = ranking_scorer(recommender, given), recommender.config.evaluation.seen_items
    return evaluate(scorer, given, len(TITLES), cutoffs=cutoffs, seen_items=seen)


@SEEN
@pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])
def test_a_beam_of_all_titles_evaluates_as_exact_scores_do(likelihood: str, seen_items: str) -> None:
    settings = (f"objective.likelihood={likelihood}", f"evaluation.seen_items={seen_items}")
    given, exact, beam = sequences(), make(*settings), make(*settings, *BEAM)
    assert ranking_scorer(exact, given) is exact
    assert report(beam, given).metrics == pytest.approx(report(exact, given).metrics, abs=1e-6)
    found, scores = ranking_scorer(beam, given).score(histories_of(given)), exact.score(histories_of(given))
    reached = np.isfinite(found)
    np.testing.assert_allclose(found[reached], scores[reached], rtol=1e-4, atol=1e-4)
    assert reached.all() == (seen_items == "include")


@SEEN
def test_only_the_best_items_give_the_same_metrics(seen_items: str) -> None:
    seen = f"evaluation.seen_items={seen_items}"
    given, exact, best = sequences(), make(seen), make(seen, "evaluation.ranking=best", "evaluation.cutoffs=[1, 3]")
    assert report(best, given).metrics == pytest.approx(report(exact, given).metrics, abs=1e-6)


def test_a_target_that_is_not_found_is_a_miss_and_no_lucky_tie() -> None:
    given = sequences()
    narrow = make(*BEAM, "evaluation.beam_width=4", "evaluation.seen_items=include")
    found = ranking_scorer(narrow, given).score(histories_of(given))
    assert set(np.isfinite(found).sum(1).tolist()) <= {4, 5}, "four titles, one of which two items share"
    # The metrics look further than the beam: all that was not found would tie, were it not out of the ranking.
    rows = report(narrow, given, cutoffs=(len(TITLES),)).per_target
    hit = np.isfinite(found)[np.arange(given.n_users), rows["item_index"].to_numpy()]
    assert 0 < hit.sum() < len(hit)
    assert (rows[f"hr@{len(TITLES)}"].to_numpy() == hit).all()
    assert (rows["n_better"].to_numpy()[~hit] == len(TITLES)).all()
    assert (rows["n_equal"].to_numpy()[~hit] == 0).all()


def test_seen_items_make_room_for_others_in_the_beam() -> None:
    given = sequences()
    beam = make(*BEAM, "evaluation.beam_width=3")
    exact = make()
    histories = histories_of(given)
    found = ranking_scorer(beam, given).score(histories)
    owners = np.repeat(np.arange(len(histories)), histories.lengths)
    assert np.isneginf(found[owners, histories.item_index]).all()
    assert (np.isfinite(found).sum(1) >= 3).all()
    best = exact.score_best(histories, 1, exclude_seen=True)
    assert (found.argmax(1) == best.argmax(1)).mean() > 0.5


def test_items_of_one_title_share_what_the_beam_found() -> None:
    found = ranking_scorer(make(*BEAM, "evaluation.seen_items=include"), sequences()).score(histories_of(sequences()))
    twins = [place for place, title in enumerate(TITLES) if title == "Heat (1995)"]
    assert (found[:, twins[0]] == found[:, twins[1]]).all()


@SEEN
def test_the_guide_moves_scores_by_its_weight(seen_items: str) -> None:
    given, settings = sequences(), f"evaluation.seen_items={seen_items}"
    guided = make(*BEAM, settings, "evaluation.guide=last_item_markov", "evaluation.guide_weight=0.5")
    scorer = ranking_scorer(guided, given)
    assert isinstance(scorer, BeamRanking)
    assert scorer.guide is not None
    histories = histories_of(given)
    opinion = np.exp(scorer.guide.score(histories))
    plain = ranking_scorer(make(*BEAM, settings), given).score(histories)
    twins = np.array([[a == b for b in TITLES] for a in TITLES])
    expected = plain + 0.5 * np.log(opinion @ twins)
    np.testing.assert_allclose(scorer.score(histories), expected, rtol=1e-4, atol=1e-4)


def test_length_normalisation_reaches_the_search() -> None:
    given, include = sequences(), "evaluation.seen_items=include"
    normalised = ranking_scorer(make(*BEAM, include, "evaluation.length_power=1.0"), given).score(histories_of(given))
    recommender = make(*BEAM, include)
    plain = ranking_scorer(recommender, given).score(histories_of(given))
    compiled = recommender.compiled
    lengths = compiled.template.titles.lengths[compiled.leaf.numpy()]
    np.testing.assert_allclose(normalised, plain / lengths, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluation.guide=last_item_markov"], "evaluation.guide 'last_item_markov' guides a beam"),
        (["evaluation.ranking=beam", "evaluation.beam_width=10"], "beam_width 10 finds fewer items than .*, 20"),
    ],
)
def test_settings_that_contradict_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, settings)
