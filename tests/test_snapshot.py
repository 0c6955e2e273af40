"""Filtered lists: exactly the best of what is allowed, whoever asks for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flr.backbone.prefixes import PrefixReader
from flr.backbone.streams import EncodedStreams
from flr.catalogue.filters import ItemFilter
from flr.errors import FlrError, RequestError, UnknownItemError
from flr.recommender import Recommendation, Recommender
from flr.records import Histories
from flr.text.template import TokenStreams
from live_shop import shop
from toy import toy_model, toy_tokenizer

HISTORIES = [["i0", "i5"], ["i8", "i3", "i2"], ["i10"], ["i4", "i9", "i6", "i1"]]
FILTERS = [
    ItemFilter(where={"genre": "Drama"}),
    None,
    ItemFilter(allow=["i7", "i10", "i2"]),
    ItemFilter(exclude=["i0", "i2", "i8"], where={"year": [1990, 1991, 1995, 1979]}),
]


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return shop()


def expected(recommender: Recommender, history: list[str], allowed: Sequence[str], k: int) -> list[tuple[str, float]]:
    """Return the best of the allowed items that the history has not, from the scores of all."""
    (scores,) = recommender.score(recommender.resolve([history]))
    found = [(name, float(scores[int(name[1:])])) for name in allowed if name not in history]
    return sorted(found, key=lambda pair: -pair[1])[:k]


def check(found: list[Recommendation], wanted: list[tuple[str, float]]) -> None:
    assert [item.item_id for item in found] == [name for name, _ in wanted]
    assert [item.log_prob for item in found] == pytest.approx([score for _, score in wanted], abs=1e-4)


ALLOWED = [
    ["i0", "i1", "i2", "i3"],
    [f"i{n}" for n in range(11)],
    ["i7", "i10", "i2"],
    ["i1", "i7", "i10", "i5"],
]


@pytest.mark.parametrize("k", [1, 2, 5, 50])
@pytest.mark.parametrize(
    "make", [shop, lambda: shop("objective.likelihood=vocabulary"), lambda: shop("reasoner.titles_see=thought")]
)
def test_each_history_has_a_filter_of_its_own(k: int, make: Callable[[], Recommender]) -> None:
    recommender = make()
    lists = recommender.recommend(HISTORIES, k=k, filters=FILTERS)
    for history, allowed, found in zip(HISTORIES, ALLOWED, lists, strict=True):
        check(found, expected(recommender, history, allowed, k))


def test_one_filter_is_for_all(recommender: Recommender) -> None:
    one = ItemFilter(where={"tags": ["a", "d"]})
    together = recommender.recommend(HISTORIES, k=3, filters=one)
    assert together == recommender.recommend(HISTORIES, k=3, filters=[one] * len(HISTORIES))
    for history, found in zip(HISTORIES, together, strict=True):
        check(found, expected(recommender, history, ["i0", "i7", "i10", "i8", "i9"], 3))


@pytest.mark.parametrize("sees", ["history", "thought"])
def test_nothing_allowed_is_an_empty_list_beside_full_ones(sees: str) -> None:
    recommender = shop(f"reasoner.titles_see={sees}")
    nothing = ItemFilter(allow=["i0", "i5"])
    lists = recommender.recommend(HISTORIES, k=4, filters=[nothing, None, ItemFilter(allow=[]), nothing])
    assert [len(found) for found in lists] == [0, 4, 0, 2]
    assert all(np.isfinite(item.log_prob) for found in lists for item in found)


@pytest.mark.parametrize(
    ("one", "error", "said"),
    [
        (ItemFilter(where={"gener": "Drama"}), RequestError, "no attribute 'gener'; did you mean 'genre'"),
        (ItemFilter(where={"genre": "Dramma"}), RequestError, "genre = 'Dramma'; did you mean 'Drama'"),
        (ItemFilter(exclude=["i77"]), UnknownItemError, "exclude: no item has the id 'i77'; did you mean 'i7'"),
        (ItemFilter(allow=["i1", "j"]), UnknownItemError, "allow: no item has the id 'j'"),
        (ItemFilter(exclude="i7"), RequestError, "exclude: got the text 'i7', expected a list of ids"),
    ],
)
def test_names_in_filters_are_checked(
    one: ItemFilter, error: type[FlrError], said: str, recommender: Recommender
) -> None:
    with pytest.raises(error, match=said):
        recommender.recommend(HISTORIES, filters=one)


def test_unknown_names_in_filters_can_be_skipped(recommender: Recommender) -> None:
    loose = ItemFilter(allow=["i1", "j", "i2"], exclude=["k"], where={"genre": ["Drama", "Opera"]})
    strict = ItemFilter(allow=["i1", "i2"], where={"genre": "Drama"})
    found = recommender.recommend(HISTORIES, filters=loose, unknown="skip")
    assert found == recommender.recommend(HISTORIES, filters=strict)


def test_filters_and_histories_must_be_as_many(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="got 4 filters for 1 histories"):
        recommender.recommend([["i0"]], filters=FILTERS)


def with_memory() -> Recommender:
    model, compiled, config = toy_model(
        "reasoner.memory=transitions", "reasoner.reads=items", "reasoner.reads_age=true"
    )
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), compiled.catalogue, config)


def test_a_new_item_has_votes_if_it_is_like_a_known_one() -> None:
    recommender = with_memory()
    title = str(recommender.catalogue.titles[0])
    recommender.add_items([{"item_id": "like", "title": f"{title} again"}, {"item_id": "unlike", "title": "Qxz"}])
    with torch.inference_mode():
        state = recommender.think(Histories(np.array([1, 2, 0]), np.array([0, 3]))).among(recommender.compiled)
    assert state.votes is not None
    like, unlike = state.votes.probs[0, -2:].tolist()
    assert like > 0
    assert unlike == 0
    assert float(state.votes.probs.sum()) == pytest.approx(1, abs=1e-5)


def test_borrowed_votes_do_not_depend_on_the_path_of_edits(tmp_path: Path) -> None:
    recommender = with_memory()
    known = [str(title) for title in recommender.catalogue.titles]
    histories = Histories(np.array([1, 2, 0]), np.array([0, 3]))
    recommender.add_items([{"item_id": "a", "title": f"{known[0]} again"}])
    recommender.add_items([{"item_id": "b", "title": f"{known[4]} again"}])
    before = recommender.score(histories)
    recommender.remove_items(["i4"])
    recommender.add_items([{"item_id": "i4", "title": "Something Else"}])  # what b was like is no more
    scores = recommender.score(histories)
    assert scores[0, -1] != before[0, -1]
    recommender.save(tmp_path / "saved")
    again = Recommender.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.score(histories), scores)


def test_votes_follow_a_catalogue_that_changes() -> None:
    recommender = with_memory()
    recommender.add_items([{"item_id": "new", "title": "Green House (2001)"}])
    recommender.remove_items(["i3", "i5"])
    histories = Histories(np.array([1, 2, 11, 3]), np.array([0, 2, 4]))  # the new item and a removed one are read
    scores = recommender.score(histories)
    assert np.isneginf(scores[:, [3, 5]]).all()
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, atol=1e-5)
    best = recommender.score_best(histories, 4, exclude_seen=False)
    order = np.argsort(-scores, axis=1)[:, :4]
    assert (np.argsort(-best, axis=1)[:, :4] == order).all()
    np.testing.assert_allclose(np.take_along_axis(best, order, 1), np.take_along_axis(scores, order, 1), atol=1e-5)


def test_no_more_histories_are_read_at_once_than_asked_for(recommender: Recommender) -> None:
    histories, n_read = recommender.resolve(HISTORIES), list[int]()

    def counted(streams: TokenStreams) -> EncodedStreams:
        n_read.append(len(streams.lengths))
        return recommender.model.read(streams)

    few = replace(recommender.snapshot, reader=counted, max_rows=3)
    expected = recommender.score_best(histories, 3, exclude_seen=True)
    assert np.array_equal(few.score_best(histories, 3, exclude_seen=True), expected)
    assert n_read == [3, 1]


def many_titles() -> Recommender:
    """Return a model with a memory that it trusts, on a catalogue large enough to leave titles unread."""
    colours, things, numbers = (
        "Red Blue Green Gold Grey Pink",
        "House Horse River Tower Ship Moon",
        "One Two Three Four",
    )
    titles = [f"{a} {b} {c}" for a in colours.split() for b in things.split() for c in numbers.split()]
    model, compiled, config = toy_model("reasoner.memory=transitions", titles=titles)
    assert model.memory is not None
    with torch.no_grad():
        model.memory.trust.bias.fill_(2.0)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), compiled.catalogue, config)


def test_what_the_best_are_told_with_is_log_p_and_nothing_else() -> None:
    recommender, histories = many_titles(), Histories(np.array([5, 6, 8]), np.array([0, 3]))
    scores, best = (
        recommender.score(histories)[0],
        recommender.score_best(histories, 3, exclude_seen=False)[0],
    )
    (told,) = np.nonzero(np.isfinite(best))
    assert sorted(told) == sorted(np.argsort(-scores)[: len(told)])
    assert 3 <= len(told) < 10
    assert best[told] == pytest.approx(scores[told], abs=1e-4)


def test_votes_for_what_nobody_may_see_make_no_title_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    recommender, n_read = many_titles(), list[int]()
    histories = Histories(np.array([5, 6, 8]), np.array([0, 3]))
    state = recommender.think(histories)
    assert state.votes is not None
    read = PrefixReader.__call__

    def counted(self: PrefixReader, rows: Tensor, nodes: Tensor, parents: Tensor) -> Tensor:
        n_read[-1] += len(nodes)
        return read(self, rows, nodes, parents)

    monkeypatch.setattr(PrefixReader, "__call__", counted)
    for of_seen in (0.3, 1e-9):
        probs = torch.full_like(state.votes.probs, 1e-9)
        probs[0, [5, 6, 8]] = of_seen
        voted = replace(state, votes=replace(state.votes, probs=probs), advice=None)
        n_read.append(0)
        recommender.score_best(histories, 3, exclude_seen=True, think=lambda *_, voted=voted: voted)
    assert n_read[0] == n_read[1] > 0


def test_votes_can_be_brought_among_a_changed_catalogue_twice() -> None:
    recommender = shop("reasoner.memory=transitions")
    recommender.add_items([{"item_id": "new", "title": "Alien House", "genre": "Drama"}])
    recommender.remove_items(["i3"])
    once = recommender.think(Histories.of([[1, 2, 0]]))
    twice = once.among(recommender.compiled)
    assert once.votes is not None and twice.votes is not None
    assert twice.votes.probs.shape == (1, 12)
    assert twice.votes.probs.numpy() == pytest.approx(once.votes.probs.numpy(), abs=1e-6)
