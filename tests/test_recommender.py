"""The recommender: who may ask what, what comes back, and what is left of it on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks.naive import score_titles
from safetensors.torch import load_file, save_file

from flr.catalogue.filters import ItemFilter
from flr.errors import ArtifactError, FlrError, RequestError, StorageError, UnknownItemError
from flr.model import FLRModel
from flr.recommender import Recommender
from flr.records import Histories
from flr.scoring.exact import item_log_probs
from toy import INSTRUCTION, TITLES, toy_catalogue, toy_model, toy_tokenizer


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return make()


def make(*overrides: str, titles: list[str] = TITLES) -> Recommender:
    model, compiled, config = toy_model(*overrides, titles=titles)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(titles), config)


def test_the_best_come_first_and_seen_items_do_not_come(recommender: Recommender) -> None:
    (best,) = recommender.recommend([["i0", "i5"]], k=20)
    assert len(best) == len(TITLES) - 2
    assert {item.item_id for item in best} == {f"i{n}" for n in range(len(TITLES))} - {"i0", "i5"}
    assert [item.log_prob for item in best] == sorted((item.log_prob for item in best), reverse=True)
    (whole,) = recommender.recommend([["i0", "i5"]], k=20, exclude_seen=False)
    assert sum(item.probability for item in whole) == pytest.approx(1, abs=1e-5)


def test_ids_and_titles_ask_the_same(recommender: Recommender) -> None:
    by_id = recommender.recommend([["i5", "i8"]], k=3)
    assert recommender.recommend([["Toy Story (1995)", "Alien  (1979) "]], k=3, by="title") == by_id


def test_histories_may_come_in_any_kind_of_list(recommender: Recommender) -> None:
    histories = [["i5", "i6"], ["i6", "i7"]]
    expected = recommender.recommend(histories, k=2)
    for given in (np.array(histories, dtype=object), pl.Series(histories), iter(histories)):
        assert recommender.recommend(given, k=2) == expected  # type: ignore[arg-type]
    for nothing in (np.array([]), pl.Series([]), []):
        assert recommender.recommend(nothing) == []  # type: ignore[arg-type]


def test_many_histories_equal_one_at_a_time(recommender: Recommender) -> None:
    histories = [["i1"], ["i2", "i3", "i4"], ["i5"] * 9, ["i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"]]
    together = recommender.recommend(histories, k=4)
    for history, items in zip(histories, together, strict=True):
        (alone,) = recommender.recommend([history], k=4)
        assert [item.item_id for item in alone] == [item.item_id for item in items]
        assert [i.log_prob for i in alone] == pytest.approx([i.log_prob for i in items], abs=1e-4)


def test_only_the_window_of_a_long_history_is_read_but_all_of_it_is_seen(recommender: Recommender) -> None:
    window = recommender.config.text.window
    long = ["i0", "i9", *[f"i{n}" for n in range(1, 1 + window)]]
    (best,) = recommender.recommend([long], k=20)
    assert not {item.item_id for item in best} & set(long)
    scores = recommender.score(recommender.resolve([long, long[-window:]]))
    assert torch.equal(torch.from_numpy(scores[0]), torch.from_numpy(scores[1]))


@pytest.mark.parametrize(
    ("histories", "arguments", "error", "said"),
    [
        ([["i0"]], {"k": 0}, RequestError, "k = 0"),
        ([["i0"]], {"k": 2.5}, RequestError, "k = 2.5, expected a whole number of at least 1"),
        ([["i0"]], {"by": "name"}, RequestError, "by = 'name', expected 'id' or 'title'"),
        ([["i0"]], {"unknown": "drop"}, RequestError, "unknown = 'drop', expected 'error' or 'skip'"),
        ([["i0", 12]], {}, RequestError, r"history number 0: got 12 \(int\) as id, expected a text such as '12'"),
        ([[12]], {"unknown": "skip"}, RequestError, r"got 12 \(int\) as id"),
        ([["i0"]], {"filters": {"where": {}}}, RequestError, "filters: got {'where': {}}, expected flr.ItemFilter"),
        ([["i0"]], {"filters": [{"where": {}}]}, RequestError, "got {'where': {}} in the list, expected flr.ItemFil"),
        ([["i0"]], {"filters": ItemFilter(where=["a"])}, RequestError, r"where: got \['a'\], expected attributes"),
        ("i0", {}, RequestError, "histories: got the text 'i0', expected a list of histories"),
        (["i0", "i1"], {}, RequestError, "history number 0: got the text 'i0', expected a list of items; one history"),
        ([["i0"], 5], {}, RequestError, "history number 1: got 5, expected a list of items"),
        ([["i0"], []], {}, RequestError, "history number 1 is empty"),
        ([["i0", "i55"]], {}, UnknownItemError, "no item has the id 'i55'; did you mean 'i5'"),
        ([["Alein (1979)"]], {"by": "title"}, UnknownItemError, "did you mean 'Alien \\(1979\\)'"),
        ([["Alien (1979)"]], {}, UnknownItemError, r"title of one \(to give titles instead, say by='title'\)"),
        ([["i0"]], {"factor_weights": [1.0]}, RequestError, "got 1 factor weights, this model has 4 factors"),
    ],
)
def test_what_cannot_be_answered_is_said(
    histories: list[list[str]], arguments: dict[str, object], error: type[FlrError], said: str, recommender: Recommender
) -> None:
    with pytest.raises(error, match=said):
        recommender.recommend(histories, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"diversify": "factors"},
        {"factor_weights": [[1.0, 1, 1, 1], [0, 0, 0, 0], [0, 2, 1, 0]]},
        {"filters": [None, ItemFilter(exclude=["i3"]), ItemFilter(allow=["i2", "i4", "i5"])]},
    ],
)
def test_a_history_of_skipped_items_only_has_an_empty_list(recommender: Recommender, options: dict[str, Any]) -> None:
    asked = [["i0", "i1"], ["x", "y"], ["i3", "x"]]
    first, second, third = recommender.recommend(asked, 3, unknown="skip", **options)
    assert second == []
    without = {name: [one[0], one[2]] if isinstance(one, list) else one for name, one in options.items()}
    assert [first, third] == recommender.recommend([asked[0], asked[2]], 3, unknown="skip", **without)
    assert recommender.recommend([["x"]], 3, unknown="skip") == [[]]
    with pytest.raises(RequestError, match="history number 0 holds unknown items only"):
        recommender.resolve([["x"]], unknown="skip")


def test_new_people_may_have_what_is_popular() -> None:
    recommender = make("reasoner.memory=transitions")
    assert recommender.model.memory is not None
    shares = recommender.model.memory.transitions.popularity
    order = np.argsort(-shares, kind="stable")
    filters = [None, None, ItemFilter(exclude=[f"i{order[0]}"])]
    asked = [["i0", "i1"], [], ["x"]]
    first, popular, filtered = recommender.recommend(asked, 3, unknown="skip", empty="popular", filters=filters)
    assert first == recommender.recommend([asked[0]], 3)[0]
    assert [item.item_id for item in popular] == [f"i{item}" for item in order[:3]]
    assert [item.probability for item in popular] == pytest.approx(shares[order[:3]].tolist())
    assert filtered == recommender.recommend([[]], 4, empty="popular")[0][1:]
    with pytest.raises(RequestError, match="history number 1 is empty"):
        recommender.recommend([["i0"], []], 3)
    with pytest.raises(RequestError, match="empty = 'random', expected 'error' or 'popular'"):
        recommender.recommend([[]], 3, empty="random")  # type: ignore[arg-type]


def test_what_was_removed_or_is_new_is_not_popular() -> None:
    recommender = make("reasoner.memory=transitions")
    best = recommender.recommend([[]], 2, empty="popular")[0]
    recommender.add_items([{"item_id": "new", "title": "Something New (2026)"}])
    recommender.remove_items([best[0].item_id])
    everything = recommender.recommend([[]], 100, empty="popular")[0]
    assert everything[0] == best[1]
    assert not {"new", best[0].item_id} & {item.item_id for item in everything}


def test_a_model_without_a_memory_does_not_know_what_is_popular() -> None:
    with pytest.raises(RequestError, match=r"no memory \(reasoner\.memory=none\), so it does not know"):
        make("reasoner.memory=none").recommend([[]], 3, empty="popular")


def test_ids_are_not_scored_as_they_are(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="expected a list of items"):
        recommender.resolve(["i0"])
    with pytest.raises(RequestError, match="by = 'name', expected 'id' or 'title'"):
        recommender.item_index("i0", by="name")
    with pytest.raises(RequestError, match=r"got 5 \(int\) as id"):
        recommender.item_index(5)  # type: ignore[arg-type]
    for score in (recommender.score, recommender.score_beam):
        options = {"exclude_seen": True} if score == recommender.score_beam else {}
        with pytest.raises(RequestError, match=r"histories: got \[\['i0'\]\], expected item indices"):
            score([["i0"]], **options)  # type: ignore[arg-type]


def test_unknown_items_are_told(recommender: Recommender) -> None:
    assert recommender.unknown_items([["i0", "x", "y", "x"], [], ["i1"]]) == [["x", "y", "x"], [], []]
    assert recommender.unknown_items([["i0", "Alien  (1979)"]], by="title") == [["i0"]]
    with pytest.raises(RequestError, match="history number 0: got the text 'i0'"):
        recommender.unknown_items(["i0"])


def test_unknown_items_can_be_skipped_and_nobody_gets_nothing(recommender: Recommender) -> None:
    assert recommender.recommend([["i0", "nothing"]], k=2, unknown="skip") == recommender.recommend([["i0"]], k=2)
    assert recommender.recommend([]) == []


def test_after_an_instruction_the_best_are_those_of_a_prompt_for_each() -> None:
    recommender = make(*INSTRUCTION)
    long = [f"i{n}" for n in range(9)]
    with torch.inference_mode():
        by_leaf = score_titles(recommender.model, list(range(3, 9)), recommender.compiled)
    scores = item_log_probs(by_leaf[None], recommender.compiled.leaf, recommender.compiled.n_sharing)[0]
    expected = sorted(((float(scores[n]), f"i{n}") for n in (9, 10)), reverse=True)
    for histories in ([long], [["i1"], long, ["i2", "i3"]]):
        best = recommender.recommend(histories, k=2)[histories.index(long)]
        assert [item.item_id for item in best] == [item_id for _, item_id in expected]
        assert [item.log_prob for item in best] == pytest.approx([score for score, _ in expected], abs=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["reasoner.kind=none"],
        ["reasoner.thought_positions=all"],
        ["reasoner.share=key_value"],
        ["objective.likelihood=vocabulary"],
        INSTRUCTION,
    ],
)
def test_what_is_loaded_scores_as_what_was_saved(overrides: list[str], tmp_path: Path) -> None:
    saved = make(*overrides)
    saved.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    history = saved.resolve([["i1", "i2"], ["i8"]])
    assert torch.equal(torch.from_numpy(loaded.score(history)), torch.from_numpy(saved.score(history)))
    assert loaded.config == saved.config
    kinds = {path.suffix for path in (tmp_path / "model").iterdir()}
    assert kinds == {".json", ".safetensors", ".parquet"}


def test_a_catalogue_of_equal_titles_is_served(tmp_path: Path) -> None:
    make(titles=["Same (1990)"] * 4).save(tmp_path / "model")
    (best,) = Recommender.load(tmp_path / "model").recommend([["i1"]], k=10)
    assert [item.item_id for item in best] == ["i0", "i2", "i3"]
    assert [item.probability for item in best] == pytest.approx([0.25] * 3)


def test_steering_a_factor_changes_the_list(recommender: Recommender) -> None:
    history = Histories(torch.tensor([1, 2, 3]).numpy(), torch.tensor([0, 3]).numpy())
    plain = recommender.score(history)
    assert (recommender.score(history, factor_weights=[1, 1, 1, 1]) == plain).all()
    assert abs(recommender.score(history, factor_weights=[0, 1, 1, 1]) - plain).max() > 1e-3


def test_a_folder_is_not_overwritten_unless_asked(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save(tmp_path / "model")
    with pytest.raises(ArtifactError, match="exists already"):
        recommender.save(tmp_path / "model")
    recommender.save(tmp_path / "model", overwrite=True)


def test_a_full_disk_leaves_the_old_model(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.save(tmp_path / "model")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flr.saving.save_file", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        recommender.save(tmp_path / "model", overwrite=True)
    assert Recommender.load(tmp_path / "model").catalogue.n_items == len(TITLES)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_loaded_model_no_longer_needs_its_files(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save(tmp_path)
    loaded = Recommender.load(tmp_path, device="cpu")
    path = tmp_path / "model.safetensors"
    with path.open("r+b") as file:  # in place, where a view of the file would see it
        file.write(bytes(path.stat().st_size))
    histories = Histories(np.array([0, 2, 1]), np.array([0, 3]))
    assert np.array_equal(loaded.score(histories), recommender.score(histories))


def test_an_assistant_saved_when_it_had_one_network_is_read(tmp_path: Path) -> None:
    recommender = make("reasoner.memory=transitions", "assistant.networks=[sasrec]")
    recommender.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("assistant.networks.0.") for name in weights)
    renamed = {name.replace("assistant.networks.0.", "assistant.network."): of for name, of in weights.items()}
    renamed["assistant.weight"] = renamed.pop("assistant.weights")[0].clone()
    save_file(renamed, tmp_path / "model.safetensors")
    meta = json.loads((tmp_path / "recommender.json").read_text())
    del meta["hashes"]  # nor had it any of these
    meta["config"]["assistant"] = {"kind": "sasrec", "width": recommender.config.assistant.width}
    (tmp_path / "recommender.json").write_text(json.dumps(meta))
    histories = Histories(np.array([0, 2, 1]), np.array([0, 3]))
    assert np.array_equal(Recommender.load(tmp_path).score(histories), recommender.score(histories))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_assistant_asked_while_histories_are_read_says_the_same(threads: int) -> None:
    recommender = make("reasoner.memory=transitions")
    model, snapshot = recommender.model, recommender.snapshot
    assert model.assistant is not None
    model.assistant.weights.fill_(0.4)
    histories = Histories(np.array([3, 1, 4, 1, 5]), np.array([0, 3, 3, 5]))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            aside = snapshot.think(histories).advice
            at_once = model.think(snapshot.read(histories)).advice
    finally:
        torch.set_num_threads(before)
    assert aside is not None
    assert at_once is not None
    assert aside.say.tolist() == pytest.approx([0.8, 0, 0.8])
    for one, other in zip(aside.opinions, at_once.opinions, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(aside.weights, at_once.weights)
    assert torch.equal(aside.discount, at_once.discount)


def test_whoever_trains_the_model_changes_no_answer_of_its_assistant() -> None:
    recommender = make("reasoner.memory=transitions")
    model, snapshot = recommender.model, recommender.snapshot
    assert model.assistant is not None
    histories = Histories(np.array([3, 1, 4]), np.array([0, 3]))
    with torch.inference_mode():
        before = snapshot.think(histories).advice
        model.train()
        state = torch.get_rng_state()
        after = snapshot.think(histories).advice
    assert before is not None
    assert after is not None
    assert torch.equal(before.opinions[0], after.opinions[0]), "dropout is at work"
    assert torch.equal(state, torch.get_rng_state())


def test_thoughts_that_are_told_are_those_that_lists_come_of() -> None:
    recommender = make("reasoner.memory=transitions")
    model, compiled, histories = recommender.model, recommender.compiled, Histories.of([[3, 1, 4], [1, 5]])
    assert model.assistant is not None
    model.assistant.weights.fill_(0.4)
    state = recommender.think(histories, factor_weights=[[1, 0, 2, 1], [1, 1, 1, 1]])
    assert state.thought is not None
    assert not state.thought.vectors.requires_grad
    expected = recommender.score(histories, factor_weights=[[1, 0, 2, 1], [1, 1, 1, 1]])
    assert model.score(state, compiled).detach().numpy() == pytest.approx(expected, abs=1e-5)
    unheard = recommender.snapshot.think(histories)
    assert unheard.advice is not None
    with pytest.raises(RequestError, match=r"have not heard the assistant: score state\.among\(compiled\)"):
        model.score(unheard, compiled)
    with pytest.raises(RequestError, match="got 2 factor weights, this model has 4"):
        recommender.think(histories, factor_weights=[1, 2])


@pytest.mark.parametrize("wrong", [-1, 11, 99_999])
def test_items_that_are_not_there_have_no_scores(wrong: int) -> None:
    recommender = make()
    assert recommender.catalogue.n_items == 11
    for ask in (recommender.score, recommender.think):
        with pytest.raises(RequestError, match=rf"got item index {wrong}, expected 0 to 10"):
            ask(Histories.of([[3, wrong]]))


def _cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _with_a_changed_number(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _of_another_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["reasoner.scale"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")


def _of_another_version(folder: Path) -> None:
    meta = json.loads((folder / "recommender.json").read_text())
    (folder / "recommender.json").write_text(json.dumps({**meta, "format_version": 99}))


def _of_another_config(folder: Path) -> None:
    meta = json.loads((folder / "recommender.json").read_text())
    meta["config"]["version"] = 7
    (folder / "recommender.json").write_text(json.dumps(meta))


def _without_architecture(folder: Path) -> None:
    meta = json.loads((folder / "recommender.json").read_text())
    del meta["architecture"]
    (folder / "recommender.json").write_text(json.dumps(meta))


def _of_items_that_are_not_there(folder: Path) -> None:
    meta = json.loads((folder / "recommender.json").read_text())
    (folder / "recommender.json").write_text(json.dumps({**meta, "retired": [3, 99]}))


def _without_items(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut_short, "cut short"),
        (_with_a_changed_number, "is not as it was saved"),
        (_without_weights, "missing or was cut short"),
        (_of_another_shape, "does not fit the model"),
        (_of_another_version, "format version 99, this flr reads 1"),
        (_of_another_config, "version 7"),
        (_without_architecture, "architecture"),
        (_without_items, "cannot be read"),
        (_of_items_that_are_not_there, r"lists \[3, 99\] as retired, expected indices below 11"),
    ],
)
def test_a_damaged_folder_is_named(damage: object, said: str, recommender: Recommender, tmp_path: Path) -> None:
    recommender.save(tmp_path / "model")
    damage(tmp_path / "model")  # type: ignore[operator]
    with pytest.raises(FlrError, match=said):
        Recommender.load(tmp_path / "model")


def test_a_folder_from_before_items_could_be_removed_has_all(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save(tmp_path / "model")
    meta = json.loads((tmp_path / "model" / "recommender.json").read_text())
    del meta["retired"]
    (tmp_path / "model" / "recommender.json").write_text(json.dumps(meta))
    assert Recommender.load(tmp_path / "model").recommend([["i0"]], k=20) == recommender.recommend([["i0"]], k=20)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no saved recommender"):
        Recommender.load(tmp_path / "nowhere")


def test_the_model_moves_with_its_tables(recommender: Recommender) -> None:
    assert isinstance(recommender.model, FLRModel)
    assert recommender.compiled.leaf.device == recommender.model.device
