"""Stage one: supervised training of the next title, on transformers.Trainer.

Where it departs from the textbook:

1. One user window is one example with many targets (METHOD 6); rows are filled by tokens, so a batch has a
   fixed number of tokens, not of users.
2. The loss is the sum over targets divided by the targets of the whole optimiser batch, over all devices and
   accumulation steps, so results do not depend on how a batch is cut.
3. The order of rows is drawn per epoch from the run's seed, not from the Trainer's sampler; a resumed run
   skips to where it was and goes on to the same weights.
4. Validation ranks the whole catalogue; the best NDCG@10 is kept.

Launch: ``flr train --data DATA --output RUN``; several processes: ``torchrun --nproc-per-node 2 -m flr train ...``.
"""

from __future__ import annotations

from typing import Any

import torch

from flr.records import PackedBatch
from flr.training.trainer import PackedTrainer


class StageOneTrainer(PackedTrainer):
    """Minimises the stage-one objective.

    Args:
        regularizer_warmup_steps: Steps over which the regularisers' weights rise from 0.
        arguments: As for `PackedTrainer`.
    """

    def __init__(self, *, regularizer_warmup_steps: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.regularizer_warmup_steps = regularizer_warmup_steps

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss whose gradients, averaged over devices and summed over accumulation, are the mean's."""
        assert num_items_in_batch is not None
        batch = PackedBatch.of(inputs)
        warmup = self.regularizer_warmup_steps
        scale = 1.0 if not warmup else min(1.0, self.state.global_step / warmup)
        losses = model(batch, self.table, num_items_in_batch, scale)
        parts = {name: loss for name, loss in losses.items() if name != "loss"}
        self.count(parts, batch.target_mask.sum())
        loss = losses["loss"] * self.accelerator.num_processes
        return (loss, losses) if return_outputs else loss
