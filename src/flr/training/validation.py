"""What every stage does while it trains: rank the validation users, and say how it is going."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainerCallback

from flr.blocks import in_any_company
from flr.errors import DataError
from flr.evaluation.decoding import BestItems
from flr.evaluation.protocol import PER_TARGET, evaluate
from flr.progress import SILENT, Progress, Step
from flr.recommender import Recommender
from flr.records import VALID, FloatArray, Histories, IntArray, PreparedData, UserSequences
from flr.seeding import generator

#: What decides which weights are kept.
BEST_METRIC: Final = "ndcg@10"
#: Resamples of the targets that choose what is settled once the weights are.
_N_RESAMPLES: Final = 200


class Validation:
    """Ranks the whole catalogue for the validation targets, each process for its share of the users.

    Args:
        recommender: The model in training, as it will be served.
        prepared: The data.
        progress: Told about every batch of histories.

    Raises:
        DataError: The data has no validation target.
    """

    def __init__(self, recommender: Recommender, prepared: PreparedData, progress: Progress = SILENT) -> None:
        self.recommender, self.progress = recommender, progress
        self.sequences = prepared.sequences
        config = recommender.config
        self.users = validation_users(self.sequences, config.training.eval_users, config.seed)

    def __call__(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the metrics over all processes."""
        settings = self.recommender.config.evaluation
        share = self.users[accelerator.process_index :: accelerator.num_processes]
        names = [f"{metric}@{k}" for k in settings.cutoffs for metric in PER_TARGET]
        sums = torch.zeros(1 + len(names), dtype=torch.float64)
        if len(share):
            exclude_seen = settings.seen_items == "exclude"
            with in_any_company():
                report = evaluate(
                    BestItems(self.recommender, max(settings.cutoffs), exclude_seen),
                    self.sequences,
                    self.recommender.catalogue.n_items,
                    split="valid",
                    cutoffs=settings.cutoffs,
                    seen_items=settings.seen_items,
                    users=share,
                    progress=self.progress,
                )
            n_targets = report.metrics["n_targets"]
            found = [n_targets, *(report.metrics[name] * n_targets for name in names)]
            sums = torch.tensor(found, dtype=torch.float64)
        total = summed_over_processes(sums, accelerator).tolist()
        return dict(zip(names, (value / total[0] for value in total[1:]), strict=True))


def summed_over_processes(sums: Tensor, accelerator: Accelerator | None) -> Tensor:
    """Return the sums of all processes' numbers, [n], on the accelerator's device, float64; as given without one."""
    if accelerator is None:
        return sums
    total: Tensor = accelerator.gather(sums[None].to(device=accelerator.device, dtype=torch.float64)).sum(0)
    return total


def validation_users(
    sequences: UserSequences, most: int | None, seed: int, stream: str = "validation users"
) -> IntArray:
    """Return the users who have validation targets, ascending, or so many of them, drawn at random.

    Args:
        sequences: All interactions.
        most: Most users; None takes all.
        seed, stream: Of the draw.

    Raises:
        DataError: Nobody has one.
    """
    users = np.unique(sequences.targets(VALID)[0])
    if not len(users):
        raise DataError("the prepared data has no validation target; prepare it with a split that holds some out")
    if most is None or most >= len(users):
        return users
    return np.sort(generator(seed, stream).choice(users, most, replace=False))


@dataclass(frozen=True)
class ValidationTargets:
    """The validation targets of some users, as far as this process ranks them.

    Attributes:
        n: How many there are in all processes.
        mine: Place of each of this process's among them, [m].
        histories: What came before each, m.
        items: Item index of each, [m].
    """

    n: int
    mine: IntArray
    histories: Histories
    items: IntArray

    @classmethod
    def of(cls, sequences: UserSequences, users: IntArray, accelerator: Accelerator | None = None) -> ValidationTargets:
        """Return those of some users of all; without an accelerator there is one process."""
        owners, rows = sequences.targets(VALID)
        asked = np.isin(owners, users)
        owners, rows = owners[asked], rows[asked]
        first, step = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
        mine = np.flatnonzero(np.isin(owners, users[first::step]))
        histories = Histories.before(sequences, owners[mine], rows[mine])
        return cls(len(rows), mine, histories, sequences.item_index[rows[mine]].astype(np.int64))


def best_in_resamples(gains: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return which of several ways is best in each of many resamples of the targets; ties go to the first.

    Args:
        gains: What each target gains by each way, [n, ways].
        rng: Draws the resamples.
    """
    n = len(gains)
    best: IntArray = (rng.multinomial(n, np.full(n, 1 / n), size=_N_RESAMPLES) @ gains).argmax(1)
    return best


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Writes the log file and tells the progress bar.

    Args:
        progress: Takes validation results.
        step: Takes finished steps.
        log: JSON lines, one per logged step.
    """

    def __init__(self, progress: Progress, step: Step, log: Path) -> None:
        self.progress, self.step, self.log, self.note = progress, step, log, ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step(1, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or not state.is_world_process_zero:
            return
        if "reward" in logs:
            self.note = f"reward {logs['reward']:.4f}"
        elif "loss" in logs:
            self.note = f"loss {logs['loss']:.3f}"
        if f"eval_{BEST_METRIC}" in logs:
            scores = f"NDCG@10 {logs['eval_ndcg@10']:.4f}, HR@10 {logs['eval_hr@10']:.4f}"
            self.progress.message(f"step {state.global_step}: {self.note}, valid {scores}")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
