from __future__ import annotations

import math

import pytest
import torch

from flr.reasoner.regularizers import diversity, orthogonality, sparsity, step_distances


def factors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([rows])[:, None, None]  # R = 1, B = 1, P = 1


def test_orthogonality_is_the_mean_squared_cosine() -> None:
    assert float(orthogonality(factors([1, 0], [0, 2]))) == 0
    assert float(orthogonality(factors([1, 0], [-3, 0]))) == 1
    # Pairs: (x, y) 0, (x, x+y) 1/2, (y, x+y) 1/2.
    assert float(orthogonality(factors([1, 0], [0, 1], [1, 1]))) == pytest.approx(1 / 3)


def test_diversity_is_the_overlap_of_attentions() -> None:
    assert float(diversity(factors([1, 0, 0], [0, 0, 1]))) == 0
    assert float(diversity(factors([0.2, 0.8], [0.2, 0.8]))) == pytest.approx(1)
    assert float(diversity(factors([0.5, 0.5, 0], [0, 0.5, 0.5]))) == pytest.approx(0.5)


def test_sparsity_is_normalised_entropy_over_what_may_be_read() -> None:
    n = torch.tensor([[4]])
    assert float(sparsity(factors([0.25] * 4), n)) == pytest.approx(1)
    assert float(sparsity(factors([1.0, 0, 0, 0]), n)) == pytest.approx(0, abs=1e-9)
    assert float(sparsity(factors([0.5, 0.5, 0, 0], [1, 0, 0, 0]), n)) == pytest.approx(math.log(2) / math.log(4) / 2)
    assert float(sparsity(factors([1.0]), torch.tensor([[1]]))) == 0


def test_step_distances_tell_parallel_from_orthogonal() -> None:
    assert float(step_distances(factors([2, 0], [1, 0]))) == 0
    assert float(step_distances(factors([2, 0], [0, 1]))) == pytest.approx(math.sqrt(2))


def test_one_factor_has_no_pairs() -> None:
    one = factors([1.0, 0])
    assert [float(loss(one)) for loss in (orthogonality, diversity, step_distances)] == [0, 0, 0]


def test_gradients_stay_finite_where_attention_is_exactly_zero() -> None:
    logits = torch.tensor([[0.3, 0.1, -torch.inf]], requires_grad=True)
    attention = logits.masked_fill(torch.tensor([[False, False, True]]), torch.finfo().min).softmax(-1)
    loss = sparsity(attention[None, None, None], torch.tensor([[2]])) + diversity(attention[None, None, None])
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
