from __future__ import annotations

import pytest
import torch

from flr.errors import ConfigError
from flr.reasoner.factors import MultiFactorAttention


def loop(module: MultiFactorAttention, hidden: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """The thought of one target, factor by factor, straight from METHOD Eqs. 1-5."""
    d_f, K = module.factor_width, module.n_factors
    assert module.value is not None
    assert module.gate_weight is not None
    H, z = hidden[first : last + 1], hidden[last]
    for _ in range(module.n_steps):
        factors, logits = [], []
        for k in range(K):
            own = slice(k * d_f, (k + 1) * d_f)
            q = module.query.weight[own] @ z
            a = torch.softmax(H @ module.key.weight[own].T @ q / d_f**0.5, 0)
            f = a @ (H @ module.value.weight[own].T)
            factors.append(f)
            logits.append(module.gate_weight[k] @ torch.cat([f, z]))
        g = torch.softmax(torch.stack(logits), 0)
        mixed = module.mix.weight @ torch.cat([K * g[k] * factors[k] for k in range(K)])
        z = module.norm(z + mixed)
    return module.scale * (module.out.weight @ z) + module.out.bias


def test_thoughts_equal_the_equations_written_as_loops() -> None:
    torch.manual_seed(0)
    module = MultiFactorAttention(12, n_factors=3, n_steps=2, embedding_rms=0.3)
    assert module.gate_weight is not None
    torch.nn.init.normal_(module.gate_weight)
    torch.nn.init.normal_(module.out.bias)
    hidden = torch.randn(1, 9, 12)
    spans = [(0, 3), (4, 4), (4, 8)]
    columns = torch.arange(9)
    readable = torch.stack([(columns >= a) & (columns <= b) for a, b in spans])[None]
    thought = module(hidden, readable, torch.tensor([[b for _, b in spans]]))
    for place, (first, last) in enumerate(spans):
        torch.testing.assert_close(
            thought.vectors[0, place, 0], loop(module, hidden[0], first, last), rtol=1e-5, atol=1e-5
        )
    assert thought.factors.shape == (2, 1, 3, 3, 4)
    assert thought.states.shape == (1, 3, 3, 12)
    torch.testing.assert_close(thought.gates.sum(-1), torch.ones(2, 1, 3))
    assert float((thought.attentions * ~readable[None, :, :, None]).abs().max()) == 0


def test_the_gate_depends_on_the_thought() -> None:
    """A single gate vector for all factors would add the same number to each logit and change nothing."""
    torch.manual_seed(0)
    module = MultiFactorAttention(8, n_factors=2, n_steps=1)
    assert module.gate_weight is not None
    torch.nn.init.zeros_(module.gate_weight)
    hidden, readable, ends = torch.randn(1, 4, 8), torch.ones(1, 1, 4, dtype=torch.bool), torch.tensor([[3]])
    torch.testing.assert_close(module(hidden, readable, ends).gates, torch.full((1, 1, 1, 2), 0.5))
    with torch.no_grad():
        module.gate_weight[0, 4:] = hidden[0, 3]
    assert float(module(hidden, readable, ends).gates[0, 0, 0, 0]) > 0.6


def test_initial_thoughts_have_the_scale_of_the_embeddings() -> None:
    torch.manual_seed(0)
    module = MultiFactorAttention(256, n_factors=4, n_steps=2, embedding_rms=0.02)
    thought = module(torch.randn(2, 20, 256), torch.ones(2, 3, 20, dtype=torch.bool), torch.full((2, 3), 19))
    assert float(thought.vectors.square().mean().sqrt()) == pytest.approx(0.02, rel=0.15)


def test_one_factor_and_four_have_nearly_the_same_number_of_weights() -> None:
    one, four = (sum(p.numel() for p in MultiFactorAttention(192, n_factors=k, n_steps=2).parameters()) for k in (1, 4))
    assert abs(one - four) / one < 0.01


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"width 10 is not a multiple of reasoner.n_factors = 4"):
        MultiFactorAttention(10, n_factors=4, n_steps=1)
    assert MultiFactorAttention(10, n_factors=4, n_steps=1, full_width_factors=True).factor_width == 10


def test_shuffled_factors_are_mixed_in_any_order_while_training_only() -> None:
    torch.manual_seed(0)
    attention = MultiFactorAttention(8, n_factors=4, n_steps=1, shuffles=True)
    hidden, readable, ends = torch.randn(1, 5, 8), torch.ones(1, 1, 5, dtype=torch.bool), torch.full((1, 1), 4)
    plain = MultiFactorAttention(8, n_factors=4, n_steps=1)
    plain.load_state_dict(attention.state_dict())
    attention.eval()
    torch.testing.assert_close(attention(hidden, readable, ends).vectors, plain(hidden, readable, ends).vectors)
    attention.train()
    drawn = torch.stack([attention(hidden, readable, ends).vectors.flatten() for _ in range(400)])
    assert len(drawn.detach().round(decimals=4).unique(dim=0)) == 24  # the orders of four factors
    thought = attention(hidden, readable, ends)
    torch.testing.assert_close(thought.factors, plain(hidden, readable, ends).factors)


def test_a_factor_width_of_its_own() -> None:
    attention = MultiFactorAttention(10, n_factors=3, n_steps=1, factor_width=7)
    assert (attention.factor_width, attention.mix.in_features) == (7, 21)


def test_threads_do_not_change_the_gradients_of_ages() -> None:
    """A run is to end with the same weights however its threads take turns."""
    torch.manual_seed(0)
    module = MultiFactorAttention(16, n_factors=4, n_steps=1, n_ages=50)
    hidden, readable = torch.randn(8, 200, 16), torch.ones(8, 40, 200, dtype=torch.bool)
    places, ends = torch.arange(200).expand(8, -1) // 2, torch.full((8, 40), 199)
    weights, n_threads = torch.randn(8, 40, 1, 16), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = []
        for _ in range(6):
            module.zero_grad()
            (module(hidden, readable, ends, places=places).vectors * weights).sum().backward()
            assert module.age_bias is not None and module.age_bias.grad is not None
            found.append(module.age_bias.grad.clone())
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.equal(one, found[0]) for one in found)
