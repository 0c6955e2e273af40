"""The guard of stage two: it keeps the best weights, rolls back when validation falls, and knows when to stop.

Plain policy optimisation in the latent space collapses when its learning rate is a little too large. The guard makes
that harmless: it starts from stage one's metric and weights, and what it ends with is never below them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from flr.persistence import read_json, write_json
from flr.training.folder import step_in_name
from flr.training.validation import BEST_METRIC


class Guard(TrainerCallback):  # type: ignore[misc]
    """Watches NDCG@10 on validation.

    A validation that falls more than `max_drop` below the best puts the best weights back, forgets the optimiser's
    momentum and halves the learning rate; training then goes on from there. So does a rollout without probabilities.

    Args:
        module: Its trained parameters are kept and put back.
        max_drop: Relative fall below the best that is rolled back.
        patience: Validations without a better metric before training stops.

    Attributes:
        best_step: Optimiser step of the best weights, 0 for stage one.
        best_metrics: Validation metrics of the best weights.
        n_rollbacks: How often weights were put back during training.
    """

    def __init__(self, module: nn.Module, *, max_drop: float, patience: int) -> None:
        self.trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.max_drop, self.patience = max_drop, patience
        self.best_step, self.best_metrics, self.n_rollbacks, self.n_worse = 0, dict[str, float](), 0, 0
        self._best: dict[str, Tensor] = {}

    def begin(self, metrics: dict[str, float]) -> None:
        """Take the metrics of stage one, whose weights the module holds now."""
        self._keep(0, metrics)

    def _keep(self, step: int, metrics: dict[str, float]) -> None:
        self.best_step, self.best_metrics, self.n_worse = step, metrics, 0
        self._best = {name: parameter.detach().clone() for name, parameter in self.trained.items()}

    def is_finite(self) -> bool:
        """Return whether all trained weights are numbers."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.trained.values())

    def restore(self) -> None:
        """Put the best weights back."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self._best[name])

    def on_evaluate(self, args: Any, state: Any, control: Any, **found: Any) -> Any:
        """Judge a validation."""
        metrics = {name.removeprefix("eval_"): value for name, value in found["metrics"].items() if "@" in name}
        best = self.best_metrics[BEST_METRIC]
        if metrics[BEST_METRIC] > best:
            self._keep(state.global_step, metrics)
            return control
        self.n_worse += 1
        if metrics[BEST_METRIC] < best * (1 - self.max_drop):
            self.roll_back(found["optimizer"], found["lr_scheduler"])
        if self.n_worse >= self.patience:
            control.should_training_stop = True
        return control

    def roll_back(self, optimizer: Any, lr_scheduler: Any) -> None:
        """Put the best weights back, and go on from them more carefully."""
        self.restore()
        self.n_rollbacks += 1
        getattr(optimizer, "optimizer", optimizer).state.clear()
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)
        scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
        for group in optimizer.param_groups:
            group["lr"] /= 2
            group["initial_lr"] /= 2

    def save(self, folder: Path, step: int) -> None:
        """Write what a resumed run needs, before the checkpoint of this step is written."""
        folder.mkdir(parents=True, exist_ok=True)
        weights, facts = _files(folder, step)
        save_file({name: tensor.contiguous().cpu() for name, tensor in self._best.items()}, weights)
        names = ("best_step", "best_metrics", "n_rollbacks", "n_worse")
        write_json(facts, {name: getattr(self, name) for name in names})
        saved = sorted(step_in_name(path) for path in folder.glob("guard-*.json"))
        for old in saved[:-2]:  # the checkpoint before this one must stay usable until this one is whole
            for path in _files(folder, old):
                path.unlink(missing_ok=True)

    def load(self, folder: Path, step: int) -> None:
        """Read what `save` wrote with the checkpoint of a step."""
        weights, facts = _files(folder, step)
        for name, value in read_json(facts, "guard").items():
            setattr(self, name, value)
        self._best = {name: tensor.to(self.trained[name].device) for name, tensor in load_file(weights).items()}


def _files(folder: Path, step: int) -> tuple[Path, Path]:
    return folder / f"guard-{step}.safetensors", folder / f"guard-{step}.json"
