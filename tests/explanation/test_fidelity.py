"""Curves are those of asking again with fewer items, and a rule that was planted is found by leaving out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flr.data.storage import load_prepared
from flr.errors import DataError, RequestError
from flr.evaluation.significance import Interval
from flr.explanation import fidelity as module
from flr.explanation.fidelity import fidelity, fidelity_cost
from flr.explanation.fidelity_checks import FidelityCheck, check_fidelity
from flr.recommender import Recommender
from flr.records import TEST, FloatArray, Histories
from toy import TITLES, UNSET, toy_sequences

from .conftest import Make


def histories_of(*rows: list[int]) -> Histories:
    return Histories(np.array([item for row in rows for item in row]), np.cumsum([0, *map(len, rows)]))


def log_prob(recommender: Recommender, items: list[int], target: int) -> float:
    return float(recommender.score(histories_of(items))[0, target])


def test_curves_are_of_asking_again_with_what_is_left(make: Make) -> None:
    recommender, history, target = make(), [3, 7, 0, 5], 8
    other, found = fidelity(recommender, histories_of([1, 2], history), np.array([4, target]))
    assert [one.measure for one in found] == ["attention", "gated", "leave-one-out", "latest"]
    assert {len(one.n_kept) for one in other} == {2}
    for one in found:
        assert one.n_kept == (1, 2, 3, 4)
        order = np.argsort(-np.array(one.importance), kind="stable")
        for kept, below, above in zip(one.n_kept, one.deletion, one.insertion, strict=True):
            least = [history[place] for place in sorted(order[len(history) - kept :])]
            most = [history[place] for place in sorted(order[:kept])]
            assert below == pytest.approx(log_prob(recommender, least, target), abs=1e-4)
            assert above == pytest.approx(log_prob(recommender, most, target), abs=1e-4)
        assert one.deletion[-1] == one.insertion[-1] == pytest.approx(one.random[-1])
        # Trapezoids of width one, by hand.
        curve = np.array(one.insertion) - np.array(one.random)
        assert one.insertion_gain == pytest.approx((curve[0] / 2 + curve[1] + curve[2] + curve[3] / 2) / 3)
        assert one.score == pytest.approx((one.insertion_gain + one.deletion_gain) / 2)


def test_importances_are_what_they_are_called(make: Make) -> None:
    recommender, history, target = make(), [3, 7, 0], 8
    (found,) = fidelity(recommender, histories_of(history), np.array([target]))
    by_measure = {one.measure: one.importance for one in found}
    whole = log_prob(recommender, history, target)
    alone = [whole - log_prob(recommender, history[:place] + history[place + 1 :], target) for place in range(3)]
    assert by_measure["leave-one-out"] == pytest.approx(alone, abs=1e-4)
    assert by_measure["latest"] == (0, 1, 2)
    thought = recommender.think(histories_of(history)).thought
    assert thought is not None
    by_token, gates = thought.attentions[-1, 0, 0].detach().numpy(), thought.gates[-1, 0, 0].detach().numpy()
    ends = recommender.compiled.template.streams(histories_of(history)).item_ends
    starts = [recommender.compiled.template.n_preamble, *(ends[:-1] + 1)]
    on_items = np.array([by_token[:, a : b + 1].sum(1) for a, b in zip(starts, ends, strict=True)])
    assert by_measure["attention"] == pytest.approx(on_items.mean(1), abs=1e-5)
    assert by_measure["gated"] == pytest.approx(on_items @ gates, abs=1e-5)


def test_long_histories_are_taken_in_steps(make: Make) -> None:
    recommender = make("text.window=30")
    rng = np.random.default_rng(0)
    (found,) = fidelity(recommender, histories_of(rng.integers(0, 11, 28).tolist()), np.array([2]), n_random=1)
    assert found[0].n_kept == (1, 4, 7, 10, 13, 16, 19, 22, 25, 28)


@pytest.mark.parametrize("n_items", [2, 3, 5, 12, 30])
def test_no_more_is_scored_than_the_cost_says(n_items: int, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    score = module.score_titles

    def counted(recommender: Recommender, histories: Histories, *others: Any) -> FloatArray:
        scored.append(histories.lengths.sum() / n_items)
        return score(recommender, histories, *others)

    monkeypatch.setattr(module, "score_titles", counted)
    history = np.random.default_rng(0).integers(0, 11, n_items).tolist()
    fidelity(make("text.window=30"), histories_of(history), np.array([2]))
    # Measures may agree, so that there is less to score.
    assert fidelity_cost(n_items) / 2 < sum(scored) <= fidelity_cost(n_items)


@pytest.mark.parametrize("overrides", [[], UNSET], ids=["published", "default"])
def test_what_is_steered_is_tested_as_it_is_steered(overrides: list[str], make: Make) -> None:
    recommender, history, weights = make(*overrides), histories_of([3, 7, 0, 5]), [0.0, 2.0, 1.0, 1.0]
    (plain,) = fidelity(recommender, history, np.array([8]))
    (found,) = fidelity(recommender, history, np.array([8]), factor_weights=weights)
    steered = recommender.score(history, factor_weights=weights)[0, 8]
    assert [one.deletion[-1] for one in found] == pytest.approx([steered] * 4, abs=1e-5)
    by_measure = {one.measure: one.importance for one in found}
    assert by_measure["gated"] != pytest.approx(plain[1].importance, abs=1e-4)
    with pytest.raises(RequestError, match="got 2 factor weights, this model has 4 factors"):
        fidelity(recommender, history, np.array([8]), factor_weights=[1.0, 2.0])


def test_a_test_keeps_to_the_catalogue_at_its_start(make: Make, edit_meanwhile: Callable[[Recommender], None]) -> None:
    recommender, history = make(), histories_of([3, 7, 0, 5])
    expected = fidelity(recommender, history, np.array([8]))
    edit_meanwhile(recommender)
    assert fidelity(recommender, history, np.array([8])) == expected
    assert recommender.catalogue.n_items == len(TITLES) + 1


def test_what_says_the_same_of_all_items_explains_nothing(make: Make) -> None:
    recommender = make("reasoner.memory=none", "reasoner.reads=items", "reasoner.reads_age=false")
    reasoner = recommender.model.reasoner
    assert reasoner is not None
    torch.nn.init.zeros_(reasoner.query.weight)
    history, target = histories_of([3, 7, 0, 5]), np.array([8])
    (even,) = fidelity(recommender, history, target)
    (off,) = fidelity(make("reasoner.memory=transitions"), history, target, factor_weights=[0.0] * 4)
    for one in (even[0], even[1], off[1]):
        assert one.importance == pytest.approx([one.importance[0]] * 4, abs=1e-6)
        assert (one.score, one.deletion_gain, one.insertion_gain) == (0, 0, 0)
        assert one.deletion == one.insertion == one.random
    assert even[3].score != 0


def test_a_tie_favours_no_place(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    importance = np.array([0.2, 0.6, 0.2 + 1e-9, 0.2])
    monkeypatch.setattr(module, "_importances", lambda *_: [{"planted": importance}])
    recommender, history, target = make(), [3, 7, 0, 5], 8
    found = [fidelity(recommender, histories_of(history), np.array([target]), seed=seed)[0][0] for seed in range(60)]
    firsts = [round(one.insertion[1], 4) for one in found]  # the second item and one of the others
    expected = [round(log_prob(recommender, pair, target), 4) for pair in ([3, 7], [7, 0], [7, 5])]
    assert set(firsts) == set(expected)
    assert min(firsts.count(height) for height in expected) > 10
    assert {round(one.insertion[0], 4) for one in found} == {round(log_prob(recommender, [7], target), 4)}


def test_orders_are_drawn_from_the_seed(make: Make) -> None:
    recommender, history = make(), histories_of([3, 7, 0, 5])
    first, again, other = (fidelity(recommender, history, np.array([8]), seed=seed, n_random=2) for seed in (0, 0, 1))
    assert first == again
    assert first[0][0].random != other[0][0].random


def test_the_rule_that_was_planted_is_found(ring_run: Path) -> None:
    recommender = Recommender.load(ring_run)
    sequences = load_prepared(ring_run.parent / "data").sequences
    checks = {one.measure: one for one in check_fidelity(recommender, sequences, n_users=30)}
    assert checks["leave-one-out"].n_users == 30
    assert checks["leave-one-out"].verdict == "better than random"
    assert checks["leave-one-out"].score.low > 1
    # The last item decides, so its place is the whole truth: nothing can be much better.
    assert checks["latest"].score.mean > 0.9 * checks["leave-one-out"].score.mean
    users, rows = sequences.targets(TEST)
    histories = Histories.before(sequences, users, rows)
    taken = fidelity(recommender, histories, sequences.item_index[rows], n_random=1)
    influences = [{one.measure: one.importance for one in found}["leave-one-out"] for found in taken]
    assert min(influence[-1] for influence in influences) > 3
    # Walks with a gap were never seen in training, so now and then another item matters, too; most never do.
    assert np.median(np.concatenate([np.abs(influence[:-1]) for influence in influences])) < 0.1


def test_a_model_without_a_thought_has_no_attention_to_check(make: Make) -> None:
    (found,) = fidelity(make("reasoner.kind=none"), histories_of([3, 7, 0]), np.array([8]))
    assert [one.measure for one in found] == ["leave-one-out", "latest"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "better than random"), (-0.1, 0.3, "no better than random"), (-0.3, -0.1, "worse than random")],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert FidelityCheck("gated", interval, interval, interval, 9).verdict == verdict


def test_what_cannot_be_ordered(make: Make) -> None:
    recommender = make()
    with pytest.raises(RequestError, match="what is read of a history, got 1 item; expected two or more"):
        fidelity(recommender, histories_of([1, 2], [3]), np.array([4, 5]))
    with pytest.raises(RequestError, match="got 0 random orders, expected one or more"):
        fidelity(recommender, histories_of([1, 2]), np.array([4]), n_random=0)
    with pytest.raises(DataError, match="0 users of the split 'test' have a target"):
        check_fidelity(recommender, toy_sequences([4, 5]))
