"""The equalities that the fast paths must keep, to 1e-4 in float32."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks import naive

from flr.compiled import CompiledCatalogue
from flr.errors import ConfigError
from flr.model import FLRModel
from flr.reasoner.regularizers import diversity, orthogonality, sparsity
from flr.records import FloatArray, Histories, IntArray, PackedBatch, UserSequences
from flr.text.packing import Windows
from toy import INSTRUCTION, TITLES, toy_model, toy_sequences

SETTINGS = [
    pytest.param([], id="default"),
    pytest.param(["reasoner.n_factors=1"], id="single vector"),
    pytest.param(["reasoner.kind=none"], id="no thought"),
    pytest.param(["reasoner.thought_positions=all", "reasoner.n_steps=3"], id="three thought positions"),
    pytest.param(["reasoner.gate=uniform", "reasoner.share=key_value"], id="uniform gate, shared key and value"),
    pytest.param(["reasoner.share=factors", "reasoner.full_width_factors=true"], id="one reader, full width"),
    pytest.param(["reasoner.titles_see=thought"], id="bottleneck"),
    pytest.param(["objective.likelihood=vocabulary"], id="vocabulary likelihood"),
    pytest.param(["objective.likelihood=vocabulary", "reasoner.kind=none"], id="BIGRec"),
    pytest.param(INSTRUCTION, id="instruction"),
    pytest.param([*INSTRUCTION, "objective.likelihood=vocabulary"], id="instruction, vocabulary likelihood"),
    pytest.param([*INSTRUCTION, "reasoner.titles_see=thought"], id="instruction, bottleneck"),
    pytest.param([*INSTRUCTION, "reasoner.kind=none"], id="instruction, no thought"),
]


MEMORY = ["reasoner.memory=transitions", "reasoner.reads=items", "reasoner.reads_age=true"]


def packed(model: FLRModel, compiled: CompiledCatalogue, sequences: UserSequences) -> tuple[PackedBatch, Windows]:
    packer = compiled.packer(model.n_thoughts)
    windows = packer.windows(sequences, 6, np.random.default_rng(1))
    rows = np.array([0] * (len(windows) // 2) + [1] * (len(windows) - len(windows) // 2))
    return packer.collate(windows, rows, sequences), windows


def naive_losses(
    model: FLRModel, compiled: CompiledCatalogue, sequences: UserSequences, windows: Windows, likelihood: str
) -> dict[str, torch.Tensor]:
    trie = naive.dict_trie(compiled)
    sums: dict[str, torch.Tensor] = {}
    for start, end in zip(windows.starts, windows.ends, strict=True):
        for row in range(start + 1 if compiled.template.shares_prefixes else end - 1, end):
            prompt, thought = naive.think_once(model, sequences.item_index[start:row].tolist(), compiled)
            leaf = int(compiled.catalogue.leaf[sequences.item_index[row]])
            tokens = naive.title_tokens(compiled, leaf)
            parts = {"recommendation": -naive.title_log_prob(model, prompt, tokens, trie, likelihood=likelihood)}
            if thought is not None:
                parts["orthogonality"] = orthogonality(thought.factors).sum()
                parts["diversity"] = diversity(thought.attentions).sum()
                n = torch.tensor([[thought.attentions.shape[-1]]])
                parts["sparsity"] = sparsity(thought.attentions, n).sum()
            for name, value in parts.items():
                sums[name] = sums.get(name, torch.zeros(())) + value
    return sums


@pytest.mark.parametrize("settings", SETTINGS)
def test_shared_prefix_losses_and_gradients_equal_one_example_at_a_time(settings: list[str]) -> None:
    model, compiled, config = toy_model(*settings)
    sequences = toy_sequences([2, 9, 15, 3])
    batch, windows = packed(model, compiled, sequences)
    weights = {"recommendation": 1.0, "orthogonality": 0.7, "diversity": 0.5, "sparsity": 0.3}
    gradients = []
    results = []
    for losses in (
        model(batch, compiled.table),
        naive_losses(model, compiled, sequences, windows, config.objective.likelihood),
    ):
        model.zero_grad()
        sum(weights[name] * loss for name, loss in losses.items()).backward()  # type: ignore[union-attr]
        results.append({name: float(loss) for name, loss in losses.items()})
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    assert gradients[0].keys() == gradients[1].keys() == dict(model.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(
            gradient, gradients[1][name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def histories(*items: list[int]) -> Histories:
    return Histories(np.array([item for row in items for item in row]), np.cumsum([0, *map(len, items)]))


def scores(model: FLRModel, compiled: CompiledCatalogue, rows: Histories) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        # As it was trained, without the assistant.
        return model.score(replace(model.think(model.read(compiled.template.streams(rows))), advice=None), compiled)


@pytest.mark.parametrize("settings", SETTINGS)
def test_exact_scores_equal_each_title_on_its_own(settings: list[str]) -> None:
    model, compiled, config = toy_model(*settings)
    items = [0, 5, 7]
    with torch.inference_mode():
        by_leaf = naive.score_titles(model.eval(), items, compiled, likelihood=config.objective.likelihood)
    shared = torch.bincount(compiled.leaf).float()
    expected = (by_leaf - shared.log())[compiled.leaf]
    torch.testing.assert_close(scores(model, compiled, histories(items))[0], expected, rtol=1e-4, atol=1e-4)


def test_catalogue_probabilities_sum_to_one_and_shared_titles_share() -> None:
    model, compiled, _ = toy_model()
    log_probs = scores(model, compiled, histories([1, 2], [3], [4, 5, 6, 7, 8]))
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(3), rtol=0, atol=1e-5)
    assert TITLES[7] == TITLES[10]
    assert torch.equal(log_probs[:, 7], log_probs[:, 10])


@pytest.mark.parametrize("settings", [[], ["reasoner.kind=none"], INSTRUCTION, MEMORY, [*INSTRUCTION, *MEMORY]])
def test_a_batch_of_eight_equals_eight_batches_of_one(settings: list[str]) -> None:
    model, compiled, _ = toy_model(*settings)
    rows = [[1], [2, 3], [4, 5, 6], [7, 8, 9, 0], [1, 3], [10], [5, 5, 5], [0, 1, 2, 3, 4, 5]]
    together = scores(model, compiled, histories(*rows))
    for number, row in enumerate(rows):
        torch.testing.assert_close(together[number], scores(model, compiled, histories(row))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [[], MEMORY])
def test_extending_a_cached_history_equals_encoding_it_anew(settings: list[str]) -> None:
    model, compiled, _ = toy_model(*settings)
    model.eval()
    whole = compiled.template.streams(histories([1, 2, 3, 4], [5, 6, 7]))
    before = compiled.template.streams(histories([1, 2], [5, 6]))
    added = compiled.template.streams(histories([3, 4], [7]))
    added = type(added)(
        ids=np.concatenate(
            [added.ids[a + compiled.template.n_preamble : b] for a, b in itertools.pairwise(added.offsets)]
        ),
        offsets=added.offsets - compiled.template.n_preamble * np.arange(3),
        item_ends=added.item_ends - compiled.template.n_preamble,
        items=added.items[added.items >= 0],
        places=added.places[added.places >= 0],
    )
    with torch.inference_mode():
        past = model.read(before)
        kept = past.hidden.clone()
        extended = model.read(added, past)
        expected = scores(model, compiled, histories([1, 2, 3, 4], [5, 6, 7]))
        actual = model.score(replace(model.think(extended), advice=None), compiled)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(past.hidden, kept)
    assert int(extended.real.sum()) == len(whole.ids)


@pytest.mark.parametrize("settings", [MEMORY, [*INSTRUCTION, *MEMORY], [*MEMORY, "reasoner.n_factors=1"]])
def test_a_memory_trains_on_the_probabilities_that_it_recommends_by(settings: list[str]) -> None:
    model, compiled, _ = toy_model(*settings)
    assert model.memory is not None
    sequences, transitions = toy_sequences([2, 9, 15, 3]), model.memory.transitions

    def of_everybody(sources: IntArray, targets: IntArray) -> FloatArray:
        source, target = sequences.item_index[sources], sequences.item_index[targets]
        counts, smoothing = transitions.counts_of(source.astype(np.int64), target), transitions.smoothing
        return (counts + smoothing * transitions.popularity[target][:, None]) / (transitions.totals[source] + smoothing)

    packer = compiled.packer(model.n_thoughts, (of_everybody, transitions.popularity))
    windows = packer.windows(sequences, 6, np.random.default_rng(1))
    batch = packer.collate(windows, np.arange(len(windows)) // 2, sequences)
    expected = 0.0
    owners, rows = packer.target_rows(windows, sequences)
    for window, row in zip(owners, rows, strict=True):
        start = windows.starts[window]
        log_probs = scores(model, compiled, histories(sequences.item_index[start:row].tolist()))
        torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0), rtol=0, atol=1e-5)
        expected -= float(log_probs[0, sequences.item_index[row]])
    losses = model.eval()(batch, compiled.table)
    assert float(losses["recommendation"]) == pytest.approx(expected, rel=1e-4)
    # What is recommended by teaches the trust alone; titles and votes learn by themselves.
    losses["recommendation"].backward()
    learned = {
        name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert learned == {"memory.trust.weight", "memory.trust.bias"}


def test_a_memory_needs_batches_with_evidence() -> None:
    model, compiled, _ = toy_model(*MEMORY)
    batch, _ = packed(model, compiled, toy_sequences([5, 4]))
    with pytest.raises(ConfigError, match="evidence"):
        model(batch, compiled.table)


def test_small_tree_slices_equal_one_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = [f"{a} {b} {c}" for a in ("red", "blue", "green") for b in ("cat", "dog") for c in ("one", "two", "six")]
    model, compiled, _ = toy_model(titles=titles)
    expected = scores(model, compiled, histories([0, 5], [7]))
    monkeypatch.setattr("flr.compiled._NODES_PER_SLICE", 3)
    _, sliced, _ = toy_model(titles=titles)
    assert len(sliced.slices) > 2
    assert sliced.n_needed_nodes == compiled.n_needed_nodes
    torch.testing.assert_close(scores(model, sliced, histories([0, 5], [7])), expected, rtol=1e-4, atol=1e-4)


def test_a_catalogue_of_equal_titles_is_uniform() -> None:
    model, compiled, _ = toy_model(titles=["Same (1990)"] * 4)
    log_probs = scores(model, compiled, histories([0, 1]))
    torch.testing.assert_close(log_probs.exp(), torch.full((1, 4), 0.25))


def test_turning_a_factor_off_changes_the_scores_and_weight_one_does_not() -> None:
    model, compiled, _ = toy_model()
    model.eval()
    with torch.inference_mode():
        streams = model.read(compiled.template.streams(histories([1, 2, 3])))
        plain = model.score(model.think(streams), compiled)
        same = model.score(model.think(streams, torch.ones(4)), compiled)
        off = model.score(model.think(streams, torch.tensor([0.0, 1, 1, 1])), compiled)
    assert torch.equal(plain, same)
    assert (plain - off).abs().max() > 1e-3
