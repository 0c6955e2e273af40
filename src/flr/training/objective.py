"""The stage-one objective: the recommendation loss plus the regularisers, weighted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flr.config import ObjectiveConfig
from flr.model import FLRModel
from flr.records import PackedBatch
from flr.scoring.likelihood import ChildTable

RECOMMENDATION = "recommendation"
#: Losses that count in full: what is recommended by, and what a model with a memory mixes for it.
_WHOLE = (RECOMMENDATION, "titles", "votes")


class Objective(nn.Module):
    """Weighs losses, with fixed weights or with learned homoscedastic-uncertainty weights.

    With fixed weights the total is ``L_rec + sum_i lambda_i L_i``. With uncertainty weights (Kendall et al. 2018)
    each loss has a learned log-variance s_i, the total is ``sum_i lambda_i' (exp(-s_i) L_i + s_i / 2)``, and a
    lambda of 0 still switches its loss off. With a memory, L_rec is the sum of three losses, which have one s. Losses
    that a reasoner of one's own adds to the regularisers count in full once these are warm.

    Source: METHOD 4.

    Args:
        config: Weights and the kind of weighting.
        is_regularized: Whether the model gives the losses of factors; one without a thought has none.
    """

    def __init__(self, config: ObjectiveConfig, *, is_regularized: bool = True) -> None:
        super().__init__()
        self.weights = {
            "orthogonality": config.lambda_orth,
            "diversity": config.lambda_div,
            "sparsity": config.lambda_sparse,
        }
        given = self.weights if is_regularized else {}
        names = (RECOMMENDATION, *(name for name, weight in given.items() if weight > 0))
        learned = config.weighting == "uncertainty"
        self.log_variances = nn.ParameterDict({name: torch.zeros(()) for name in names}) if learned else None

    def forward(
        self, losses: dict[str, Tensor], n_own: Tensor | float, n_targets: float, regularizer_scale: float
    ) -> Tensor:
        """Return this batch's part of the total loss per target; the parts of an optimiser batch add up to it.

        Args:
            losses: Loss name -> sum over the targets of this batch.
            n_own: Targets of this batch.
            n_targets: Targets in the whole optimiser batch (all devices and accumulation steps).
            regularizer_scale: Warm-up factor of the regularisers, 0 to 1.
        """
        total = losses[RECOMMENDATION].new_zeros(())
        for name, loss in losses.items():
            weight = self.weights.get(name, 1.0)
            if weight == 0:
                continue
            scale = 1.0 if name in _WHOLE else regularizer_scale
            learned = RECOMMENDATION if name in _WHOLE else name
            if self.log_variances is None or learned not in self.log_variances:
                total = total + scale * weight * loss / n_targets
            else:
                log_variance = self.log_variances[learned]
                weighed = torch.exp(-log_variance) * loss + log_variance / 2 * n_own
                total = total + scale * weighed / n_targets
        return total


class TrainedModule(nn.Module):
    """What the Trainer sees: the model and its objective, one forward from a packed batch to loss sums.

    Args:
        model: The model in training.
        objective: Weighs its losses.
    """

    def __init__(self, model: FLRModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self, batch: PackedBatch, table: ChildTable, n_targets: float, regularizer_scale: float
    ) -> dict[str, Tensor]:
        """Return ``loss`` (the total per target) and the sums of its parts over the batch's targets."""
        losses = self.model(batch, table)
        loss = self.objective(losses, batch.target_mask.sum(), n_targets, regularizer_scale)
        return {"loss": loss, **losses}
