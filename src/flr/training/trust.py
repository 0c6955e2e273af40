"""How far votes are trusted, settled on validation once the weights are.

Training rows say too much for written titles: a model learns them by heart, and its trust with them, while votes there
come from other people only. So the one number b of ``lambda = sigmoid(w . z + b)`` is moved to where validation ranks
best, as a baseline's settings are chosen.

Source: ours, docs/equations.md ("mixture"); see `flr.reasoner.memory`.
"""

from __future__ import annotations

from typing import Final

import torch
from accelerate import Accelerator

from flr.recommender import Recommender
from flr.training.validation import BEST_METRIC, Validation

#: Logits that one trial moves the trust by, and most trials in one direction.
_STRIDE: Final = 1.0
_MOST: Final = 6


@torch.no_grad()
def settle_trust(
    recommender: Recommender, validation: Validation, accelerator: Accelerator, metrics: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """Move the trust up, or else down, for as long as validation gains by it.

    Args:
        recommender: The trained model, changed in place; nothing happens where it has no memory.
        validation: Ranks its targets.
        accelerator: Joins the processes, which all call this.
        metrics: What validation says of the model as it is.

    Returns:
        Logits that the trust was moved by, and what validation says now.
    """
    memory = recommender.model.memory
    if memory is None:
        return 0.0, metrics
    recommender.model.eval()
    bias, moved = memory.trust.bias, 0.0
    learnt = bias.clone()
    for stride in (_STRIDE, -_STRIDE):
        for n in range(1, _MOST + 1):
            bias.copy_(learnt + n * stride)
            found = validation(accelerator)
            if found[BEST_METRIC] <= metrics[BEST_METRIC]:
                break
            metrics, moved = found, n * stride
        if moved:
            break
    bias.copy_(learnt + moved)
    return moved, metrics
