"""Factor records hold what the model thinks, whatever the batches, and item attention sums to what titles get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flr.diagnostics.factor_records import collect_factors
from flr.errors import ConfigError, DataError
from flr.reasoner.memory import items_in_order
from flr.recommender import Recommender
from flr.records import TEST, Histories, UserSequences
from toy import INSTRUCTION, toy_catalogue, toy_model, toy_sequences, toy_tokenizer


def make(*overrides: str) -> Recommender:
    model, compiled, config = toy_model(*overrides)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


def sequences() -> UserSequences:
    """Users whose last two rows are test targets."""
    world = toy_sequences([3, 9, 5, 4, 12])
    ends = world.offsets[1:]
    world.split[np.concatenate([ends - 1, ends - 2])] = TEST
    return world


@pytest.mark.parametrize("overrides", [(), tuple(INSTRUCTION)], ids=["titles", "instruction"])
def test_records_are_what_the_model_thinks_one_by_one(overrides: tuple[str, ...]) -> None:
    recommender, world = make(*overrides), sequences()
    records = collect_factors(recommender, world, batch_size=3)
    users, rows = world.targets(TEST)
    assert records.users.tolist() == users.tolist()
    assert records.rows.tolist() == rows.tolist()
    assert records.items.tolist() == world.item_index[rows].tolist()
    for place in (0, 4, 9):
        history = Histories.before(world, users[[place]], rows[[place]])
        with torch.inference_mode():
            thought = recommender.think(history).thought
        assert thought is not None
        np.testing.assert_allclose(records.factors[place], thought.factors[:, 0, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(records.gates[place], thought.gates[:, 0, 0].numpy(), atol=1e-5)
        np.testing.assert_allclose(records.vectors[place], thought.vectors[0, 0].numpy(), atol=1e-5)
        alone = records.take(np.array([place]))
        assert alone.histories.item_index.tolist() == history.window(6).item_index.tolist()
        expected = _attention_by_loop(recommender, history.window(6), thought.attentions[:, 0, 0].numpy())
        np.testing.assert_allclose(alone.item_attention, expected, atol=1e-5)


def test_what_each_factor_votes_for_alone_is_kept() -> None:
    recommender, world = make("reasoner.memory=transitions", "reasoner.reads=items"), sequences()
    records = collect_factors(recommender, world, batch_size=3)
    model = recommender.model
    assert model.memory is not None
    assert records.voted.shape == (len(records), records.n_factors, 10)
    users, rows = world.targets(TEST)
    history = Histories.before(world, users[[4]], rows[[4]]).window(6)
    with torch.inference_mode():
        streams = recommender.snapshot.read(history)
        thought = model.think(streams).thought
        assert thought is not None
        items = items_in_order(streams.items, streams.places)
        for k in range(records.n_factors):
            gates = torch.zeros_like(thought.gates)
            gates[..., k] = 1
            votes = model.memory.on_items(replace(thought, gates=gates), items, streams.places)
            assert records.voted[4, k].tolist() == votes.probs[0].topk(10).indices.tolist()
    assert collect_factors(make(), world).voted.shape == (len(records), records.n_factors, 0)


def _attention_by_loop(recommender: Recommender, history: Histories, attention: np.ndarray) -> np.ndarray:
    template = recommender.compiled.template
    column, found = template.n_preamble, []
    for item in history.item_index:
        length = template.titles.lengths[template.leaf[item]]
        found.append(attention[..., column : column + length].sum(-1))
        column += length
    return np.array(found)


def test_shares_are_shares() -> None:
    records = collect_factors(make(), sequences(), batch_size=4)
    on_items = np.add.reduceat(records.item_attention, records.histories.offsets[:-1])
    assert ((on_items > 0) & (on_items < 1)).all()  # the rest is on the token before the first title
    assert ((records.token_entropy >= 0) & (records.token_entropy <= 1 + 1e-6)).all()
    np.testing.assert_allclose(records.contributions.sum(-1), 1, atol=1e-5)


def test_contributions_are_of_what_is_added() -> None:
    recommender = make()
    records = collect_factors(recommender, sequences())
    reasoner = recommender.model.reasoner
    assert reasoner is not None
    mix, d_f = reasoner.mix.weight.detach().numpy(), reasoner.factor_width
    parts = [
        np.linalg.norm(mix[:, k * d_f : (k + 1) * d_f] @ (records.gates[0, 1, k] * records.factors[0, 1, k]))
        for k in range(4)
    ]
    np.testing.assert_allclose(records.contributions[0, 1], np.array(parts) / sum(parts), atol=1e-5)


def test_some_users() -> None:
    recommender, world = make(), sequences()
    some = collect_factors(recommender, world, users=np.array([1, 4]))
    assert sorted(set(some.users.tolist())) == [1, 4]


def test_what_has_no_factors_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reasoner.kind = 'none'"):
        collect_factors(make("reasoner.kind=none"), sequences())
    with pytest.raises(DataError, match="split 'valid' has no target"):
        collect_factors(make(), sequences(), split="valid")
