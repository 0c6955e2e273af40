"""Beam search: exact where it is wide, greedy where it is narrow, and always real titles with their real scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks import naive

from flr.compiled import CompiledCatalogue
from flr.errors import RequestError
from flr.model import FLRModel
from flr.records import Histories
from flr.scoring.beam import Beam, BestTitles, allowed_nodes, title_guide
from flr.thoughts import ThoughtState
from toy import toy_model

TITLES = [f"{a} {b} {c}" for a in ("red", "blue", "green") for b in ("cat", "dog") for c in ("one", "two", "six")]
TITLES += ["red", "red cat", "grey", "blue cat one more", "Heat", "Heat"]
ROWS = [[0, 3], [4], [5, 9, 1, 2], [20], [22, 23]]
KINDS = pytest.mark.parametrize("kind", ["factorized", "none"])
LIKELIHOODS = pytest.mark.parametrize("likelihood", ["catalogue", "vocabulary"])


def model_of(likelihood: str, kind: str = "factorized") -> tuple[FLRModel, CompiledCatalogue]:
    model, compiled, _ = toy_model(f"objective.likelihood={likelihood}", f"reasoner.kind={kind}", titles=TITLES)
    return model.eval(), compiled


def thought(model: FLRModel, compiled: CompiledCatalogue, rows: list[list[int]] = ROWS) -> ThoughtState:
    histories = Histories(np.array([item for row in rows for item in row]), np.cumsum([0, *map(len, rows)]))
    return model.think(model.read(compiled.template.streams(histories)))


def exact(model: FLRModel, compiled: CompiledCatalogue, state: ThoughtState) -> torch.Tensor:
    """Return log p of every distinct title, [B, n_leaves]."""
    return model.score_above(state, compiled, lambda found, rows: found.new_full((len(rows),), -torch.inf))


@LIKELIHOODS
@KINDS
@pytest.mark.parametrize("max_nodes", [1, 1024])
def test_a_beam_of_all_titles_is_the_exact_ranking(
    likelihood: str, kind: str, max_nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flr.model._NODES_PER_CALL", {True: max_nodes, False: max_nodes})
    model, compiled = model_of(likelihood, kind)
    n = compiled.catalogue.n_leaves
    with torch.inference_mode():
        state = thought(model, compiled)
        expected = exact(model, compiled, state).sort(dim=1, descending=True)
        found = model.search(state, compiled, Beam(n + 5))
    assert found.leaves.shape == (len(ROWS), n)
    torch.testing.assert_close(found.log_probs, expected.values, rtol=1e-4, atol=1e-4)
    assert found.leaves.tolist() == expected.indices.tolist()
    assert torch.equal(found.scores, found.log_probs)


@LIKELIHOODS
@KINDS
@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_narrow_beam_finds_what_a_decoder_without_cache_finds(likelihood: str, kind: str, width: int) -> None:
    model, compiled = model_of(likelihood, kind)
    with torch.inference_mode():
        state = thought(model, compiled)
        found, everything = model.search(state, compiled, Beam(width)), exact(model, compiled, state)
        expected = [
            naive.beam_search(model, row, compiled, naive.dict_trie(compiled), width=width, likelihood=likelihood)
            for row in ROWS
        ]
    check_valid(found, everything)
    for row, titles in enumerate(expected):
        leaves = [leaf for leaf in found.leaves[row].tolist() if leaf >= 0]
        assert [tuple(naive.title_tokens(compiled, leaf)) for leaf in leaves] == [tokens for _, tokens in titles]
        scores = found.log_probs[row, : len(titles)].tolist()
        assert scores == pytest.approx([score for score, _ in titles], abs=1e-4)


def check_valid(found: BestTitles, everything: torch.Tensor) -> None:
    """Every title is a real one and there once, best first, with its exact log-probability."""
    real = found.leaves >= 0
    assert real.any(1).all()
    assert (~real[:, :-1] <= ~real[:, 1:]).all(), "padding comes last"
    scores = everything.gather(1, found.leaves.clamp(min=0))
    torch.testing.assert_close(found.log_probs[real], scores[real], rtol=1e-4, atol=1e-4)
    assert torch.isneginf(found.log_probs[~real]).all()
    assert all(len(set(row[mask].tolist())) == mask.sum() for row, mask in zip(found.leaves, real, strict=True))
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()


@LIKELIHOODS
def test_width_one_is_greedy(likelihood: str) -> None:
    model, compiled = model_of(likelihood)
    with torch.inference_mode():
        found = model.search(thought(model, compiled), compiled, Beam(1)).leaves[:, 0].tolist()
        for row, leaf in zip(ROWS, found, strict=True):
            prompt, _ = naive.think_once(model, row, compiled)
            node, written = naive.dict_trie(compiled), list[int]()
            while node:
                embeddings = torch.cat([prompt, model.backbone.embed(torch.tensor(written, dtype=torch.long))])
                logits = model.backbone.output_weight @ naive.plain_forward(model, embeddings)[-1]
                written.append(max(node, key=lambda token, logits=logits: float(logits[token])))
                node = node[written[-1]]
            assert written == naive.title_tokens(compiled, leaf)


def test_many_histories_equal_one_at_a_time() -> None:
    model, compiled = model_of("catalogue")
    with torch.inference_mode():
        together = model.search(thought(model, compiled), compiled, Beam(4))
        for number, row in enumerate(ROWS):
            alone = model.search(thought(model, compiled, [row]), compiled, Beam(4))
            assert alone.leaves[0].tolist() == together.leaves[number].tolist()
            torch.testing.assert_close(alone.log_probs[0], together.log_probs[number], rtol=1e-4, atol=1e-4)


@LIKELIHOODS
def test_length_normalisation_orders_by_the_mean_per_token(likelihood: str) -> None:
    model, compiled = model_of(likelihood)
    lengths = torch.from_numpy(compiled.template.titles.lengths)
    with torch.inference_mode():
        state = thought(model, compiled)
        everything = exact(model, compiled, state)
        found = model.search(state, compiled, Beam(compiled.catalogue.n_leaves, length_power=1.0))
    expected = (everything / lengths).sort(dim=1, descending=True)
    assert found.leaves.tolist() == expected.indices.tolist()
    torch.testing.assert_close(found.scores, expected.values, rtol=1e-4, atol=1e-4)
    check_valid(found, everything)


@LIKELIHOODS
def test_a_guide_adds_its_share_to_every_title(likelihood: str) -> None:
    model, compiled = model_of(likelihood)
    n = compiled.catalogue.n_leaves
    opinion = torch.randn(len(ROWS), n, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(1)
    guide = title_guide(opinion, compiled.trie)
    with torch.inference_mode():
        state = thought(model, compiled)
        everything = exact(model, compiled, state)
        wide = model.search(state, compiled, Beam(n, guide=guide, guide_weight=0.5))
        narrow = model.search(state, compiled, Beam(3, guide=guide, guide_weight=0.5))
        led = model.search(state, compiled, Beam(1, guide=guide, guide_weight=1e4))
    expected = (everything + 0.5 * opinion).sort(dim=1, descending=True)
    assert wide.leaves.tolist() == expected.indices.tolist()
    torch.testing.assert_close(wide.scores, expected.values, rtol=1e-4, atol=1e-4)
    check_valid(wide, everything)
    check_valid(narrow, everything)
    best_first_tokens = guide(torch.arange(len(ROWS))[:, None], torch.arange(1, 1 + int(compiled.trie.n_children[0])))
    first = [compiled.trie.node_of_leaf[leaf] for leaf in led.leaves[:, 0].tolist()]
    while any(compiled.trie.parent[node] for node in first):
        first = [compiled.trie.parent[node] or node for node in first]
    assert [int(node) - 1 for node in first] == best_first_tokens.argmax(1).tolist()


def test_what_the_guide_rules_out_is_not_found() -> None:
    model, compiled = model_of("catalogue")
    opinion = torch.zeros(len(ROWS), compiled.catalogue.n_leaves)
    opinion[:, 4:] = -torch.inf
    opinion[1] = -torch.inf
    opinion[1, 7] = 0
    with torch.inference_mode():
        state = thought(model, compiled)
        guided = Beam(6, guide=title_guide(opinion, compiled.trie), guide_weight=1.0)
        found = model.search(state, compiled, guided)
        check_valid(found, exact(model, compiled, state))
    assert [sorted(row) for row in found.leaves.tolist()] == [
        [-1, -1, -1, -1, -1, 7] if row == 1 else [-1, -1, 0, 1, 2, 3] for row in range(len(ROWS))
    ]


@LIKELIHOODS
def test_what_is_not_allowed_makes_room_for_others(likelihood: str) -> None:
    model, compiled = model_of(likelihood)
    n = compiled.catalogue.n_leaves
    allowed = torch.rand(len(ROWS), n, generator=torch.Generator().manual_seed(2)) < 0.4
    allowed[:, 0] = True
    with torch.inference_mode():
        state = thought(model, compiled)
        everything = exact(model, compiled, state)
        found = model.search(state, compiled, Beam(n, allowed=allowed_nodes(allowed, compiled.trie)))
        narrow = model.search(state, compiled, Beam(3, allowed=allowed_nodes(allowed, compiled.trie)))
    expected = everything.masked_fill(~allowed, -torch.inf).sort(dim=1, descending=True)
    real = found.leaves >= 0
    assert real.sum(1).tolist() == allowed.sum(1).tolist()
    assert found.leaves[real].tolist() == expected.indices[real].tolist()
    check_valid(found, everything)
    check_valid(narrow, everything)
    assert allowed.gather(1, narrow.leaves.clamp(min=0))[narrow.leaves >= 0].all()


def test_a_guide_of_one_history_is_that_of_many() -> None:
    _, compiled = model_of("catalogue")
    opinion = torch.randn(3, compiled.catalogue.n_leaves, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    nodes = torch.arange(compiled.trie.n_nodes)
    alone, among = title_guide(opinion[1:2], compiled.trie), title_guide(opinion, compiled.trie)
    torch.testing.assert_close(alone(torch.zeros_like(nodes), nodes), among(torch.ones_like(nodes), nodes))


def test_a_guide_knows_the_probability_below_every_node() -> None:
    _, compiled = model_of("catalogue")
    trie, n = compiled.trie, compiled.catalogue.n_leaves
    opinion = torch.randn(2, n, generator=torch.Generator().manual_seed(1)).mul(40).log_softmax(1)
    opinion[1, 3] = -torch.inf
    guide = title_guide(opinion, trie)
    below: list[list[int]] = [[] for _ in range(trie.n_nodes)]
    for leaf, end in enumerate(trie.node_of_leaf.tolist()):
        node = end
        while node >= 0:
            below[node].append(leaf)
            node = int(trie.parent[node])
    expected = torch.stack([torch.logsumexp(opinion[:, leaves], dim=1) for leaves in below], dim=1)
    rows, nodes = torch.meshgrid(torch.arange(2), torch.arange(trie.n_nodes), indexing="ij")
    torch.testing.assert_close(guide(rows, nodes), expected, rtol=1e-4, atol=1e-4)


def test_a_catalogue_of_equal_titles_has_one() -> None:
    model, compiled, _ = toy_model(titles=["Same (1990)"] * 4)
    with torch.inference_mode():
        found = model.eval().search(thought(model, compiled, [[0], [1, 2]]), compiled, Beam(5))
    assert found.leaves.tolist() == [[0], [0]]
    assert found.log_probs.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0}, "a beam of width 0"),
        ({"width": 2, "guide_weight": 0.5}, "got no guide with guide_weight = 0.5"),
        ({"width": 2, "guide": lambda rows, nodes: rows}, "got a guide with guide_weight = 0.0"),
        ({"width": 2, "guide": lambda rows, nodes: rows, "guide_weight": -1.0}, "guide_weight = -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Beam(**settings)  # type: ignore[arg-type]
