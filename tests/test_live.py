"""Items that come and go while a recommender serves."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from flr.catalogue.filters import ItemFilter
from flr.errors import DataError, FlrError, RequestError, UnknownItemError
from flr.recommender import Recommender
from live_shop import log_probs, probabilities, rebuilt, shop

FLY = {"item_id": "fly", "title": "The Fly (1986)", "genre": "Sci-Fi Horror", "year": 1986}
HEAT = {"item_id": "heat", "title": "Heat (1995)"}


@pytest.mark.parametrize("overrides", [[], ["objective.likelihood=vocabulary"], ["reasoner.kind=none"]])
def test_an_edited_catalogue_scores_as_one_made_from_scratch(overrides: list[str]) -> None:
    edited = shop(*overrides)
    edited.add_items([FLY, HEAT, {"item_id": "red", "title": "The Red Hat (1990)"}])
    edited.remove_items(["i1", "i8", "i7", "red"])
    found, expected = log_probs(edited, ["i0", "i5", "fly"]), log_probs(rebuilt(edited), ["i0", "i5", "fly"])
    assert set(found) == set(expected) == {f"i{n}" for n in (0, 2, 3, 4, 5, 6, 9, 10)} | {"fly", "heat"}
    assert [found[name] for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_items_of_one_title_share_it_whoever_comes_and_goes() -> None:
    recommender, history = shop(), ["i0", "i3"]
    alone = probabilities(recommender, history)
    assert alone.sum() == pytest.approx(1, abs=1e-5)
    (place,) = recommender.add_items([HEAT]).item_index
    shared = probabilities(recommender, history)
    assert place == len(alone)
    assert shared.sum() == pytest.approx(1, abs=1e-5)
    assert shared[[7, 10, place]] == pytest.approx([2 / 3 * alone[7]] * 3)
    recommender.remove_items(["i7", "i10"])
    left = probabilities(recommender, history)
    assert left[place] == pytest.approx(2 * alone[7])
    assert left[[7, 10]].tolist() == [0, 0]
    assert left.sum() == pytest.approx(1, abs=1e-5)
    recommender.remove_items(["heat"])
    gone = probabilities(recommender, history)
    assert gone.sum() == pytest.approx(1, abs=1e-5)
    assert gone[[7, 10, place]].tolist() == [0, 0, 0]


def test_a_removed_item_is_not_recommended_but_still_read() -> None:
    recommender = shop()
    indices = recommender.resolve([["i8", "i5"]])
    with torch.inference_mode():
        before = recommender.think(indices).root_hidden
        recommender.remove_items(["i8"])
        assert torch.equal(recommender.think(recommender.resolve([["i8", "i5"]])).root_hidden, before)
    (best,) = recommender.recommend([["i8", "i5"]], k=20, exclude_seen=False)
    assert len(best) == 10
    assert "i8" not in {item.item_id for item in best}
    assert sum(item.probability for item in best) == pytest.approx(1, abs=1e-5)
    (by_title,) = recommender.recommend([["Alien (1979)", "Toy Story (1995)"]], k=20, by="title", exclude_seen=False)
    assert by_title == best
    assert np.isneginf(recommender.score(indices)[0, 8])


def test_a_frozen_recommender_keeps_to_its_catalogue() -> None:
    recommender = shop()
    frozen, before = recommender.frozen(), probabilities(recommender, ["i0"])
    recommender.add_items([FLY])
    frozen.remove_items(["i8"])
    assert frozen.catalogue.n_items == len(before) == recommender.catalogue.n_items - 1
    assert probabilities(frozen, ["i0"])[8] == 0
    assert probabilities(recommender, ["i0"])[8] > 0


def test_a_title_finds_the_item_that_is_still_there() -> None:
    recommender = shop()
    recommender.remove_items(["i7"])
    assert recommender.resolve([["Heat (1995)"]], by="title").item_index.tolist() == [10]


def test_beams_neither_find_removed_items_nor_lose_others() -> None:
    recommender = shop("evaluation.ranking=beam", "evaluation.beam_width=30")
    recommender.add_items([FLY])
    recommender.remove_items(["i1", "i7"])
    histories = recommender.resolve([["i0", "i1"], ["i5", "fly"]])
    exact, beam = recommender.score(histories), recommender.score_beam(histories, exclude_seen=False)
    assert np.isneginf(beam).sum(1).tolist() == [2, 2]
    np.testing.assert_allclose(beam, exact, atol=1e-4)
    flat = recommender.score_beam(
        histories, exclude_seen=True, guide=lambda rows: np.zeros((len(rows), recommender.catalogue.n_items))
    )
    assert np.isneginf(flat).sum(1).tolist() == [3, 4]


def test_new_items_are_found_by_their_attributes() -> None:
    recommender = shop()
    only_horror = ItemFilter(where={"genre": "Horror"})
    assert [item.item_id for item in recommender.recommend([["i0"]], filters=only_horror)[0]] == ["i8"]
    recommender.add_items([FLY])
    assert {item.item_id for item in recommender.recommend([["i0"]], filters=only_horror)[0]} == {"i8", "fly"}
    recommender.remove_items(["i8"])
    assert [item.item_id for item in recommender.recommend([["i0"]], filters=only_horror)[0]] == ["fly"]


def test_a_new_item_with_a_bar_leaves_the_words_of_others() -> None:
    recommender = shop()
    bar = {**FLY, "genre": "Horror|Comedy"}
    recommender.add_items([bar, {"item_id": "two", "title": "Two (1990)", "genre": "Noir Horror"}])
    found = recommender.recommend([["i0"]], k=20, filters=ItemFilter(where={"genre": "Horror"}))[0]
    assert {item.item_id for item in found} == {"i8", "fly", "two"}


def test_how_attributes_are_parted_survives_saving(tmp_path: Path) -> None:
    recommender = shop()
    attributes = pl.DataFrame({"genre": ["Jazz; Blues", "Rock; Pop", "Jazz; Pop", *["Rock; Folk"] * 8]})
    catalogue = replace(recommender.catalogue, attributes=attributes)
    before = Recommender(recommender.model, recommender.tokenizer, catalogue, recommender.config)
    before.add_items([{"item_id": "new", "title": "Something New", "genre": "Soul|Funk"}])
    before.save(tmp_path / "saved")
    after = Recommender.load(tmp_path / "saved")
    for one in (before, after):
        (found,) = one.recommend([["i5"]], k=5, filters=ItemFilter(where={"genre": "Jazz"}))
        assert sorted(item.item_id for item in found) == ["i0", "i2"]


def test_what_should_be_known_of_a_title_is_noted() -> None:
    recommender = shop("text.max_title_tokens=12")
    edit = recommender.add_items(
        [FLY, {"item_id": "long", "title": "The Red House " * 5}, {"item_id": "jp", "title": "千と千尋"}]
    )
    assert edit.item_index.tolist() == [11, 12, 13]
    about = {note.split("'")[1]: note for note in edit.notes}
    assert "only the first 11 are written and read" in about["long"]
    assert "are in no title before it, so the model has not learnt them" in about["jp"]
    assert recommender.add_items([{"item_id": "again", "title": "The Blue House (1990)"}]).notes == ()


@pytest.mark.parametrize(
    ("item_ids", "error", "said"),
    [
        (["i0", "i55"], UnknownItemError, "remove_items: no item has the id 'i55'; did you mean 'i5'"),
        (["i9"], RequestError, "item 'i9' has been removed already"),
        ("i0", RequestError, "remove_items: got the text 'i0', expected a list of ids"),
        ([f"i{n}" for n in (*range(9), 10)], DataError, "all 11 items are taken out"),
    ],
)
def test_what_cannot_be_removed_is_said_and_nothing_changes(
    item_ids: list[str], error: type[FlrError], said: str
) -> None:
    recommender = shop()
    recommender.remove_items(["i9"])
    before = recommender.catalogue
    with pytest.raises(error, match=said):
        recommender.remove_items(item_ids)
    assert recommender.catalogue is before


def test_a_bad_item_keeps_the_good_ones_out() -> None:
    recommender = shop()
    before = recommender.catalogue
    with pytest.raises(DataError, match="item 'bad' has no readable title"):
        recommender.add_items([FLY, {"item_id": "bad", "title": ""}])
    assert recommender.catalogue is before
    recommender.add_items([])
    recommender.remove_items([])
    assert recommender.catalogue is before


def test_edits_survive_saving(tmp_path: Path) -> None:
    edited = shop("text.max_title_tokens=12")
    edited.add_items([FLY, HEAT, {"item_id": "long", "title": "The Red House " * 5}])
    edited.remove_items(["i1", "i7", "fly"])
    edited.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    histories = edited.resolve([["i0", "fly"], ["heat", "i1", "long"]])
    assert np.array_equal(loaded.score(histories), edited.score(histories))
    assert loaded.recommend([["fly", "i1"]], k=20) == edited.recommend([["fly", "i1"]], k=20)
    assert loaded.catalogue.attributes is not None
    assert loaded.catalogue.attributes.equals(edited.catalogue.attributes)
    loaded.add_items([FLY])
    edited.add_items([FLY])
    assert np.array_equal(loaded.score(histories), edited.score(histories))


def test_random_edits_are_those_of_a_catalogue_made_from_scratch() -> None:
    rng, recommender = random.Random(0), shop("text.max_title_tokens=8")
    words = ["Red", "Blue", "House", "Heat", "Alien", "Story", "(1995)", "Toy"]
    live = {f"i{n}" for n in range(11)}
    for step in range(8):
        new = [
            {"item_id": f"n{step}-{n}", "title": " ".join(rng.choices(words, k=rng.randint(1, 5)))} for n in range(3)
        ]
        recommender.add_items(new)
        live |= {item["item_id"] for item in new}
        gone = rng.sample(sorted(live), 3)
        recommender.remove_items(gone)
        live -= set(gone)
        history = rng.sample(sorted(live), 3)
        found, expected = log_probs(recommender, history), log_probs(rebuilt(recommender), history)
        assert set(found) == live
        assert sum(np.exp(list(found.values()))) == pytest.approx(1, abs=1e-5)
        assert [found[name] for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_requests_during_edits_see_one_catalogue_or_the_other() -> None:
    recommender, histories = shop(), [["i0", "i5"], ["i8", "i3", "i2"]]
    recommender.add_items([FLY])
    whole = recommender.recommend(histories, k=20)
    recommender.remove_items(["fly"])
    answers, failures, stop = [recommender.recommend(histories, k=20)], [], threading.Event()
    assert answers[0] != whole

    def ask() -> None:
        try:
            while not stop.is_set():
                answers.append(recommender.recommend(histories, k=20))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not failures and (len(answers) < 60 or whole not in answers):
        recommender.add_items([FLY])
        recommender.remove_items(["fly"])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(answer in (answers[0], whole) for answer in answers)


def test_edits_of_many_threads_are_all_made_while_others_ask() -> None:
    recommender, failures = shop(), []

    def edit(number: int) -> None:
        try:
            for step in range(4):
                recommender.add_items([{"item_id": f"t{number}-{step}", "title": f"Heat {number} {step}"}])
                (best,) = recommender.recommend([["i0"]], k=100, exclude_seen=False)
                if sum(item.probability for item in best) != pytest.approx(1, abs=1e-5):
                    raise AssertionError(f"{len(best)} items sum to another number than 1")
            recommender.remove_items([f"t{number}-0"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    kept = {f"t{number}-{step}" for number in range(4) for step in range(1, 4)}
    (best,) = recommender.recommend([["i0"]], k=100, exclude_seen=False)
    assert {item.item_id for item in best} == kept | {f"i{n}" for n in range(11)}
