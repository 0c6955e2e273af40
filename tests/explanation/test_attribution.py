"""An explanation says what leaving out does: the same as asking the recommender again, one change at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from flr.catalogue.filters import ItemFilter
from flr.errors import RequestError, UnknownItemError
from flr.explanation.attribution import explain, score_without_parts, without_each
from flr.explanation.fidelity import fidelity
from flr.recommender import Recommender
from flr.records import Histories
from toy import INSTRUCTION, TITLES, UNSET

from .conftest import Make

HISTORY = [3, 7, 0, 5]


def history_of(*items: int) -> Histories:
    return Histories(np.array(items), np.array([0, len(items)]))


KINDS = {
    "history": [],
    "thought alone": ["reasoner.titles_see=thought"],
    "all positions": ["reasoner.thought_positions=all"],
    "even gates": ["reasoner.gate=uniform"],
    "instruction": INSTRUCTION,
}


@pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
def test_contributions_are_those_of_asking_again_with_weights(overrides: list[str], make: Make) -> None:
    recommender = make(*overrides)
    found = explain(recommender, HISTORY, 8)
    plain = recommender.score(history_of(*HISTORY))[0, 8]
    assert found.item.log_prob == pytest.approx(plain, abs=1e-5)
    for factor in found.factors:
        weights = [float(k != factor.factor) for k in range(4)]
        without = recommender.score(history_of(*HISTORY), factor_weights=weights)[0, 8]
        assert factor.contribution == pytest.approx(plain - without, abs=1e-5)
    assert max(abs(factor.contribution) for factor in found.factors) > 1e-3


def test_a_source_is_left_out_as_if_it_had_no_say(make: Make) -> None:
    recommender = make("reasoner.memory=transitions")
    found = explain(recommender, HISTORY, 8)
    assert [one.source for one in found.sources] == ["titles", "votes", "assistant"]
    assert sum(one.weight for one in found.sources) == pytest.approx(1, abs=1e-6)
    memory, assistant = recommender.model.memory, recommender.model.assistant
    assert memory is not None
    assert assistant is not None
    votes, heard = (next(one.weight for one in found.sources if one.source == name) for name in ("votes", "assistant"))
    assert heard / (votes + heard) == pytest.approx(float(assistant.weights.sum()), abs=1e-6)
    learnt = memory.trust.bias.detach().clone()
    without = {}
    for source, moved in (("titles", 30.0), ("votes", -30.0)):
        memory.trust.bias.data.copy_(learnt + moved)
        without[source] = recommender.score(history_of(*HISTORY))[0, 8]
    memory.trust.bias.data.copy_(learnt)
    assistant.weights.zero_()
    assistant.discount.zero_()
    without["assistant"] = recommender.score(history_of(*HISTORY))[0, 8]
    for one in found.sources:
        assert one.contribution == pytest.approx(found.item.log_prob - without[one.source], abs=1e-4)
        assert one.without.log_prob == pytest.approx(without[one.source], abs=1e-4)
    assert max(abs(one.contribution) for one in found.sources) > 0.1


def test_the_last_factor_that_is_on_takes_the_assistant_with_it(make: Make) -> None:
    recommender = make("reasoner.memory=transitions")
    alone, none = (explain(recommender, HISTORY, 8, factor_weights=[on, 0.0, 0.0, 0.0]) for on in (1.0, 0.0))
    assert [one.weight > 0 for one in alone.sources] == [True] * 3
    assert [one.weight for one in none.sources] == [1, 0, 0]
    assert [one.contribution for one in none.sources[1:]] == [0, 0]
    assert alone.factors[0].without.log_prob == pytest.approx(none.item.log_prob, abs=1e-5)


def test_a_model_that_writes_titles_only_has_no_sources_to_tell_apart(make: Make) -> None:
    assert explain(make("reasoner.memory=none"), HISTORY, 8).sources == ()
    sources = explain(make("reasoner.memory=transitions", "assistant.networks=[]"), HISTORY, 8).sources
    assert [one.source for one in sources] == ["titles", "votes"]


def test_the_history_is_read_once_for_all_parts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, reads = make("reasoner.memory=transitions"), []
    read = recommender.model.read
    monkeypatch.setattr(recommender.model, "read", lambda *given: reads.append(given) or read(*given))
    parts = score_without_parts(recommender, history_of(*HISTORY))
    assert parts.scores.shape == (1 + 4 + 3, len(TITLES))
    assert parts.of_factors().shape == (4, len(TITLES))
    assert parts.of_sources().shape == (3, len(TITLES))
    assert len(reads) == 1


@pytest.mark.parametrize("overrides", KINDS.values(), ids=KINDS)
def test_attention_on_items_and_elsewhere_is_all_there_is(overrides: list[str], make: Make) -> None:
    recommender = make(*overrides)
    found = explain(recommender, HISTORY, 8)
    template = recommender.compiled.template
    with torch.inference_mode():
        thought = recommender.think(history_of(*HISTORY)).thought
    assert thought is not None
    attention = thought.attentions[-1, 0, 0].numpy()  # [K, L]
    n_outside = template.n_suffix
    outside = attention[:, : template.n_preamble].sum(1) + attention[:, attention.shape[1] - n_outside :].sum(1)
    gates = thought.gates[-1, 0, 0].numpy()
    for factor in found.factors:
        assert sum(factor.reads) == pytest.approx(1 - outside[factor.factor], abs=1e-5)
        assert factor.elsewhere == pytest.approx(outside[factor.factor], abs=1e-5)
        assert factor.gate == pytest.approx(gates[factor.factor], abs=1e-5)
    for place, one in enumerate(found.history):
        assert one.attention == pytest.approx(sum(f.gate * f.reads[place] for f in found.factors), abs=1e-5)


def test_a_purchase_is_left_out_as_if_it_had_not_been_made(make: Make) -> None:
    recommender = make()
    found = explain(recommender, HISTORY, 8, k=3)
    for place, one in enumerate(found.history):
        rest = [item for other, item in enumerate(HISTORY) if other != place]
        scores = recommender.score(history_of(*rest))[0]
        assert one.item_id == f"i{HISTORY[place]}"
        assert one.influence == pytest.approx(found.item.log_prob - scores[8], abs=1e-5)
        assert one.without is not None
        candidates = [item for item in range(len(TITLES)) if item not in HISTORY]
        best = sorted(candidates, key=lambda item: -scores[item])[:3]
        assert [item.item_index for item in one.without.items] == best
        assert one.without.rank == 1 + sum(scores[item] > scores[8] for item in candidates)


def test_lists_before_are_the_recommendations_and_changes_are_their_difference(make: Make) -> None:
    recommender = make()
    found = explain(recommender, HISTORY, k=3)
    (best,) = recommender.recommend([[f"i{item}" for item in HISTORY]], k=3)
    assert [item.item_id for item in found.items] == [item.item_id for item in best]
    assert [item.probability for item in found.items] == pytest.approx([item.probability for item in best], abs=1e-5)
    assert found.item == found.items[0]
    assert [item.rank for item in found.items] == [1, 2, 3]
    changes = [one.without for one in (*found.history, *found.factors, *found.sources)]
    before = {item.item_id for item in found.items}
    assert any(change.entered for change in changes if change is not None)
    for change in changes:
        assert change is not None
        after = {item.item_id for item in change.items}
        assert set(change.entered) == after - before
        assert set(change.left) == before - after


STEERED: dict[str, dict[str, Any]] = {
    "weights": {"factor_weights": [0.0, 1.5, 2.0, 0.5]},
    "all off": {"factor_weights": [0.0, 0.0, 0.0, 0.0]},
    "filters": {"filters": ItemFilter(exclude=["i6", "i9"])},
    "both": {"factor_weights": [2.0, 0.0, 1.0, 1.0], "filters": ItemFilter(allow=["i2", "i6", "i8", "i10", "i3"])},
}


@pytest.mark.parametrize("overrides", [[], UNSET], ids=["published", "default"])
@pytest.mark.parametrize("steering", STEERED.values(), ids=STEERED)
def test_a_steered_list_is_explained_as_it_was_steered(
    steering: dict[str, Any], overrides: list[str], make: Make
) -> None:
    recommender = make(*overrides)
    (best,) = recommender.recommend([[f"i{item}" for item in HISTORY]], k=4, **steering)
    plain = explain(recommender, HISTORY, k=4)
    for place, one in enumerate(best):
        found = explain(recommender, HISTORY, recommender.item_index(one.item_id), k=4, **steering)
        assert [item.item_id for item in found.items] == [item.item_id for item in best]
        assert found.items[place].log_prob == found.item.log_prob == pytest.approx(one.log_prob, abs=1e-5)
        assert found.item.rank == found.items[place].rank
        assert found.item.rank == 1 + sum(other.log_prob > one.log_prob + 1e-6 for other in best)
        assert found.is_allowed
    assert explain(recommender, HISTORY, k=4, **steering).items != plain.items


@pytest.mark.parametrize("overrides", [[], UNSET], ids=["published", "default"])
def test_what_is_left_out_of_a_steered_list_is_left_out_under_its_weights(overrides: list[str], make: Make) -> None:
    recommender, weights = make(*overrides), [0.0, 1.5, 2.0, 0.5]
    only = ItemFilter(allow=["i1", "i2", "i4", "i8", "i10"])
    found = explain(recommender, HISTORY, 8, k=3, factor_weights=weights, filters=only)
    steered = recommender.score(history_of(*HISTORY), factor_weights=weights)[0, 8]
    for factor in found.factors:
        rest = [0.0 if k == factor.factor else weight for k, weight in enumerate(weights)]
        without = recommender.score(history_of(*HISTORY), factor_weights=rest)[0]
        assert factor.contribution == pytest.approx(steered - without[8], abs=1e-5)
        left = sorted([1, 2, 4, 8, 10], key=lambda item: -without[item])[:3]
        assert [item.item_index for item in factor.without.items] == left
    assert (found.factors[0].gate, found.factors[0].contribution) == (0, pytest.approx(0, abs=1e-6))
    for place, one in enumerate(found.history):
        rest = [item for other, item in enumerate(HISTORY) if other != place]
        without = recommender.score(history_of(*rest), factor_weights=weights)[0]
        assert one.influence == pytest.approx(steered - without[8], abs=1e-5)
        assert one.without is not None
        assert one.without.rank == 1 + sum(without[item] > without[8] for item in [1, 2, 4, 10])


@pytest.mark.parametrize("overrides", [[], UNSET], ids=["published", "default"])
def test_an_explanation_keeps_to_the_catalogue_at_its_start(
    overrides: list[str], make: Make, edit_meanwhile: Callable[[Recommender], None]
) -> None:
    recommender, only = make(*overrides), ItemFilter(exclude=["i1"])
    expected = explain(recommender, HISTORY, filters=only)
    edit_meanwhile(recommender)
    assert explain(recommender, HISTORY, filters=only) == expected
    assert recommender.catalogue.n_items == len(TITLES) + 1


def test_an_item_that_filters_leave_out_is_explained_beside_those_that_they_allow(make: Make) -> None:
    recommender = make()
    found = explain(recommender, HISTORY, 8, k=20, filters=ItemFilter(allow=["i1", "i2"]))
    assert not found.is_allowed
    assert {item.item_index for item in found.items} == {1, 2}
    assert found.item.log_prob == explain(recommender, HISTORY, 8).item.log_prob


def test_items_of_the_history_can_be_explained_and_can_be_candidates(make: Make) -> None:
    recommender = make()
    kept_out = explain(recommender, HISTORY, 3, k=20)
    assert kept_out.is_seen
    assert not {item.item_index for item in kept_out.items} & set(HISTORY)
    whole = explain(recommender, HISTORY, 3, k=20, exclude_seen=False)
    assert len(whole.items) == len(TITLES)
    assert whole.item.rank >= kept_out.item.rank
    assert not explain(recommender, HISTORY, 8).is_seen


def test_what_is_older_than_the_window_is_not_read(make: Make) -> None:
    recommender = make()
    window = recommender.config.text.window
    recent = [1, 2, 3, 4, 5, 6]
    assert len(recent) == window
    long = explain(recommender, [9, 7, *recent], 8, exclude_seen=False)
    assert long.n_unread == 2
    assert [one.position for one in long.history] == [2, 3, 4, 5, 6, 7]
    short = explain(recommender, recent, 8, exclude_seen=False)
    assert short.n_unread == 0
    for a, b in zip(long.history, short.history, strict=True):
        assert a.influence == pytest.approx(b.influence, abs=1e-5)
    for a, b in zip(long.factors, short.factors, strict=True):
        assert a.contribution == pytest.approx(b.contribution, abs=1e-5)


def test_the_only_purchase_is_not_left_out(make: Make) -> None:
    (one,) = explain(make(), [5], 8).history
    assert (one.influence, one.without) == (None, None)
    assert one.attention is not None


def test_an_item_that_is_taken_twice_is_left_out_once_at_a_time(make: Make) -> None:
    recommender = make()
    found = explain(recommender, [5, 2, 5], 8)
    first, _, last = found.history
    assert first.without is not None
    assert first.without.log_prob == pytest.approx(recommender.score(history_of(2, 5))[0, 8], abs=1e-5)
    assert last.without is not None
    assert last.without.log_prob == pytest.approx(recommender.score(history_of(5, 2))[0, 8], abs=1e-5)


def test_items_of_one_title_share_it(make: Make) -> None:
    found = explain(make(), [5, 1], 7)
    assert TITLES[7] == TITLES[10]
    assert found.n_sharing == 2
    assert explain(make(), [5, 1], 10).item.rank == found.item.rank


def test_a_model_without_a_thought_is_explained_by_purchases(make: Make) -> None:
    recommender = make("reasoner.kind=none")
    found = explain(recommender, HISTORY, 8)
    assert found.factors == ()
    assert {one.attention for one in found.history} == {None}
    without = recommender.score(history_of(7, 0, 5))[0, 8]
    assert found.history[0].influence == pytest.approx(found.item.log_prob - without, abs=1e-5)


def test_an_explanation_is_json(make: Make) -> None:
    found = explain(make(), HISTORY)
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["item"]["item_id"] == found.item.item_id


@pytest.mark.parametrize(
    ("history", "item", "options", "said"),
    [
        ([], None, {}, "the history is empty"),
        ("12", None, {}, "history: got the text '12', expected a list of item indices"),
        (["1", "2"], None, {}, "history: got the text '1', expected item indices"),
        ([1, 2], None, {"k": 0}, "k = 0, expected a whole number of at least 1"),
        ([1, 2], None, {"k": 2.5}, "k = 2.5, expected a whole number"),
        ([1, 2], None, {"unknown": "drop"}, "unknown = 'drop', expected 'error' or 'skip'"),
        ([1, 99], None, {}, "no item with index 99, expected 0..10"),
        ([1], -1, {}, "no item with index -1"),
        ([1, 2], None, {"filters": ItemFilter(allow=["i2"])}, "rule out all 11 items"),
        ([1], None, {"filters": ItemFilter(allow=["x9"])}, "no item has the id 'x9'"),
        ([1], None, {"filters": ItemFilter(allow=["x9"]), "unknown": "skip"}, "rule out all 11 items"),
        ([1], None, {"factor_weights": [1.0, 2.0]}, "got 2 factor weights, this model has 4 factors"),
        ([1], None, {"factor_weights": [1.0, -2.0, 1.0, 1.0]}, "factor weight -2.0, expected a finite number"),
        (list(range(11)), None, {}, "the history or the filters rule out all 11 items"),
    ],
)
def test_what_cannot_be_explained(
    history: list[int], item: int | None, options: dict[str, Any], said: str, make: Make
) -> None:
    with pytest.raises((RequestError, UnknownItemError), match=said):
        explain(make(), history, item, **options)


def test_an_item_that_is_never_recommended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = make()
    score = recommender.score

    def without_the_last(histories: Histories, **options: Any) -> np.ndarray:
        scores = score(histories, **options)
        scores[:, 10] = -np.inf
        return scores

    monkeypatch.setattr(recommender, "score", without_the_last)
    assert {item.item_index for item in explain(recommender, [1], k=20).items} == {0, *range(2, 10)}
    with pytest.raises(RequestError, match="item 'i10' is never recommended"):
        explain(recommender, [1], 10)


def test_each_is_missing_once() -> None:
    left = without_each(history_of(4, 5, 6))
    assert left.item_index.tolist() == [5, 6, 4, 6, 4, 5]
    assert left.offsets.tolist() == [0, 2, 4, 6]


IGNORED = TITLES.index("Blue (1993)")


@pytest.fixture
def blind(make: Make) -> Recommender:
    """Make a model by hand whose tokens know nothing of each other, and whose factors do not look at one title."""
    recommender = make("reasoner.n_steps=1", "reasoner.n_factors=1", "reasoner.titles_see=thought")
    model, template = recommender.model, recommender.compiled.template
    reasoner = model.reasoner
    assert reasoner is not None
    with torch.no_grad():
        for layer in model.backbone.transformer.layers:
            layer.self_attn.o_proj.weight.zero_()
        history = history_of(TITLES.index("Heat (1995)"), IGNORED, TITLES.index("Alien (1979)"))
        streams = template.streams(history)
        hidden = model.read(streams).hidden[0, : len(streams.ids)]
        of_title = np.isin(streams.ids, template.titles.ids[slice(*template.titles.offsets[[IGNORED, IGNORED + 1]])])
        away = torch.linalg.lstsq(hidden, torch.from_numpy(of_title).float()[:, None], driver="gelsd").solution[:, 0]
        assert torch.allclose(hidden @ away, torch.from_numpy(of_title).float(), atol=1e-3)
        # The query is what the last token, an end of item, asks for: not to look where `away` points.
        along = torch.linalg.pinv(hidden[-1:])[:, 0]
        reasoner.query.weight.copy_(-1e4 * torch.outer(torch.ones(len(along)), along))
        reasoner.key.weight.copy_(torch.outer(torch.ones(len(along)), away))
        reasoner.query.weight[1:].zero_()
    return recommender


def test_leaving_out_what_is_ignored_changes_nothing(blind: Recommender) -> None:
    heat, alien = TITLES.index("Heat (1995)"), TITLES.index("Alien (1979)")
    found = explain(blind, [heat, IGNORED, alien], 0)
    first, ignored, last = found.history
    assert ignored.attention == pytest.approx(0, abs=1e-6)
    assert ignored.influence == pytest.approx(0, abs=1e-5)
    assert ignored.without is not None
    assert (ignored.without.entered, ignored.without.left) == ((), ())
    for other in (first, last):
        assert other.influence is not None
        assert abs(other.influence) > 1e-2
    (curves,) = fidelity(blind, history_of(heat, IGNORED, alien), np.array([0]))
    by_measure = {one.measure: one for one in curves}
    assert by_measure["leave-one-out"].importance[1] == pytest.approx(0, abs=1e-5)
