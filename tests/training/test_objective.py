"""The weighted loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from flr.config import ObjectiveConfig
from flr.training.objective import Objective

LOSSES = {
    "recommendation": torch.tensor(12.0),
    "orthogonality": torch.tensor(2.0),
    "diversity": torch.tensor(1.0),
    "sparsity": torch.tensor(3.0),
}


def test_fixed_weights_are_a_weighted_mean_over_targets() -> None:
    objective = Objective(ObjectiveConfig(lambda_orth=0.5, lambda_div=0.25, lambda_sparse=0.0))
    assert float(objective(LOSSES, 4, 4, 1.0)) == pytest.approx((12 + 0.5 * 2 + 0.25 * 1) / 4)
    assert float(objective(LOSSES, 4, 4, 0.0)) == pytest.approx(3.0)
    assert not list(objective.parameters())


def test_uncertainty_weights_are_learned_and_find_their_optimum() -> None:
    objective = Objective(ObjectiveConfig(weighting="uncertainty", lambda_sparse=0.0))
    assert set(objective.log_variances) == {"recommendation", "orthogonality", "diversity"}  # type: ignore[arg-type]
    with torch.no_grad():
        objective.log_variances["recommendation"].fill_(math.log(2.0))  # type: ignore[index]
    # exp(-log 2) * 3 + log 2 / 2 for the first, and the plain means of the two others.
    assert float(objective(LOSSES, 4, 4, 1.0)) == pytest.approx(1.5 + math.log(2) / 2 + 0.5 + 0.25)
    optimiser = torch.optim.SGD(objective.parameters(), lr=0.5)
    for _ in range(400):
        optimiser.zero_grad()
        objective(LOSSES, 4, 4, 1.0).backward()
        optimiser.step()
    # d/ds (exp(-s) L + s / 2) = 0 at exp(s) = 2 L.
    found = {name: math.exp(float(s)) for name, s in objective.log_variances.items()}  # type: ignore[union-attr]
    assert found == pytest.approx({"recommendation": 6.0, "orthogonality": 1.0, "diversity": 0.5}, rel=1e-3)


def test_what_a_memory_learns_by_has_one_learned_weight() -> None:
    losses = {**LOSSES, "titles": torch.tensor(20.0), "votes": torch.tensor(16.0)}
    objective = Objective(ObjectiveConfig(weighting="uncertainty", lambda_sparse=0.0))
    with torch.no_grad():
        objective.log_variances["recommendation"].fill_(math.log(2.0))  # type: ignore[index]
    expected = (12 + 20 + 16) / 4 / 2 + 3 * math.log(2) / 2 + 0.5 + 0.25
    assert float(objective(losses, 4, 4, 1.0)) == pytest.approx(expected)


def test_losses_of_a_reasoner_of_ones_own_count_as_they_are_once_warm() -> None:
    for weighting in ("fixed", "uncertainty"):
        objective = Objective(ObjectiveConfig(weighting=weighting))
        added = [float(objective({**LOSSES, "mine": torch.tensor(8.0)}, 4, 4, scale)) for scale in (0.5, 1.0)]
        without = [float(objective(LOSSES, 4, 4, scale)) for scale in (0.5, 1.0)]
        assert [a - b for a, b in zip(added, without, strict=True)] == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_parts_of_an_optimiser_batch_add_up_however_it_is_cut(weighting: str) -> None:
    objective = Objective(ObjectiveConfig(weighting=weighting))  # type: ignore[arg-type]
    for number, log_variance in enumerate(objective.parameters()):
        torch.nn.init.constant_(log_variance, 1.0 + number)
    part = {name: loss / 4 for name, loss in LOSSES.items()}
    rest = {name: loss * 3 / 4 for name, loss in LOSSES.items()}
    parts = objective(part, torch.tensor(1.0), 4, 0.5) + objective(rest, torch.tensor(3.0), 4, 0.5)
    torch.testing.assert_close(parts, objective(LOSSES, torch.tensor(4.0), 4, 0.5))


def test_learned_weights_are_of_losses_that_there_are() -> None:
    config = ObjectiveConfig(weighting="uncertainty")
    plain = Objective(config, is_regularized=False)
    assert plain.log_variances is not None
    assert set(plain.log_variances) == {"recommendation"}  # others would have no gradient, which DDP refuses
    assert set(Objective(config).log_variances or ()) > {"recommendation"}
