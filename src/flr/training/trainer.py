"""What both stages train on: packed rows of user windows, and a Trainer that ranks the whole catalogue."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer

from flr.config import Config
from flr.errors import DataError
from flr.records import TRAIN, IntArray, UserSequences, ragged_indices
from flr.scoring.likelihood import ChildTable
from flr.seeding import generator
from flr.text.packing import Packer, Windows, pack_rows
from flr.training.validation import Validation

#: Default length of a row, in longest windows.
_ROW_WINDOWS = 2
#: What the log calls the number of targets.
_TARGETS = "targets"


class PackedRows(Dataset[Windows]):
    """Packed rows of user windows, as many as asked for; each epoch draws its own windows and packing.

    Args:
        sequences: All users.
        packer: Knows the token lengths of windows.
        window: Most history items of a window.
        row_tokens: Stream tokens of a row; None takes twice what the longest window needs, which keeps
            padding under a tenth.
        batch_tokens: Stream tokens of a batch.
        seed: The run's seed.

    Attributes:
        row_tokens: Stream tokens of a row, at least what the longest window needs.
        rows_per_batch: Rows in a batch, at least one.

    Raises:
        DataError: No user has a training target.
    """

    def __init__(
        self,
        sequences: UserSequences,
        packer: Packer,
        *,
        window: int,
        row_tokens: int | None,
        batch_tokens: int,
        seed: int,
    ) -> None:
        if not (sequences.split == TRAIN).any():
            raise DataError("the prepared data has no training target; prepare it with less held out or more users")
        self.sequences, self.packer, self.window, self.seed = sequences, packer, window, seed
        self.n_rows = 0
        self._epoch_starts = [0]
        self._epoch, self._windows, self._rows = (
            -1,
            Windows(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)),
            list[IntArray](),
        )
        longest = self._longest_window()
        self.row_tokens = max(row_tokens or _ROW_WINDOWS * longest, longest)
        self.rows_per_batch = max(1, batch_tokens // self.row_tokens)

    @classmethod
    def of(cls, config: Config, sequences: UserSequences, packer: Packer) -> Self:
        """Return the rows that stage one is trained on.

        Args:
            config: The run's settings.
            sequences: All users.
            packer: Knows the token lengths of windows.
        """
        return cls(sequences, packer, batch_tokens=config.training.batch_tokens, **cls._of_windows(config))

    @staticmethod
    def _of_windows(config: Config) -> dict[str, Any]:
        """Return the settings that both stages share."""
        return {"window": config.text.window, "row_tokens": config.training.row_tokens, "seed": config.seed}

    def _longest_window(self) -> int:
        """Return the most stream tokens that `window` items of one user take, wherever they start."""
        n_rows = np.diff(self.sequences.offsets)
        n_phases = np.maximum(n_rows - self.window, 0) + 1
        first, _ = ragged_indices(self.sequences.offsets[:-1], n_phases)
        last = np.minimum(first + self.window, np.repeat(self.sequences.offsets[1:], n_phases))
        lengths = self.packer.template.stream_lengths(first, last, self.sequences.item_index)
        return int(lengths.max(initial=0))

    def limit(self, n_batches: int) -> PackedRows:
        """Set the length to so many batches."""
        self.n_rows = n_batches * self.rows_per_batch
        return self

    def epoch_size(self) -> tuple[int, int]:
        """Return how many rows the first epoch has, and how many targets."""
        self._plan(0)
        return len(self._rows), len(self.packer.target_rows(self._windows, self.sequences)[1])

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, index: int) -> Windows:
        while index >= self._epoch_starts[-1]:
            self._plan(len(self._epoch_starts) - 1)
            self._epoch_starts.append(self._epoch_starts[-1] + len(self._rows))
        epoch = bisect_right(self._epoch_starts, index) - 1
        self._plan(epoch)
        return self._windows.take(self._rows[index - self._epoch_starts[epoch]])

    def _plan(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        self._windows = self.packer.windows(self.sequences, self.window, generator(self.seed, "windows", epoch))
        lengths = self.packer.lengths(self._windows, self.sequences)
        self._rows = pack_rows(lengths, self.row_tokens, generator(self.seed, "packing", epoch))
        self._epoch = epoch

    def collate(self, rows: Sequence[Windows]) -> dict[str, torch.Tensor]:
        """Return the fields of a `PackedBatch` from the windows of several rows."""
        windows = Windows(np.concatenate([row.starts for row in rows]), np.concatenate([row.ends for row in rows]))
        numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        batch = self.packer.collate(windows, numbers, self.sequences)
        return batch.tensors()


class PackedTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose examples are packed rows and whose evaluation ranks the whole catalogue.

    Args:
        table: Children of the catalogue's trie, on the training device.
        validation: Ranks the validation targets with the model as it is.
        arguments: As for `transformers.Trainer`.
    """

    def __init__(self, *, table: ChildTable, validation: Validation, **arguments: Any) -> None:
        # `evaluate` ranks the catalogue and reads no data set, but a Trainer that evaluates insists on one.
        super().__init__(eval_dataset=arguments["train_dataset"], **arguments)
        self.remove_callback(PrinterCallback)
        self.table = table
        self.validation = validation
        self.loss_is_scaled_for_ga = True
        self._sums: dict[str, torch.Tensor] = {}

    def _get_train_sampler(self, train_dataset: Dataset[Windows] | None = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device
    ) -> torch.Tensor:
        n_targets = sum(
            ((batch["target_items"] >= 0).sum() for batch in batch_samples), torch.zeros((), dtype=torch.long)
        )
        gathered: torch.Tensor = self.accelerator.gather(n_targets.to(device))
        return gathered.sum()

    def count(self, sums: dict[str, torch.Tensor], n_targets: torch.Tensor) -> None:
        """Take sums over targets, whose means since the last time `log` adds; they stay where they are until then."""
        for name, total in {**sums, _TARGETS: n_targets}.items():
            self._sums[name] = self._sums.get(name, 0.0) + total.detach().double()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, adding the mean over targets of whatever was counted."""
        if "loss" in logs and self._sums:
            sums, self._sums = {name: float(total) for name, total in self._sums.items()}, {}
            n_targets = sums.pop(_TARGETS)
            logs |= {**{name: total / max(n_targets, 1.0) for name, total in sums.items()}, _TARGETS: n_targets}
        super().log(logs, start_time)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Rank the validation targets and report metrics as ``eval_ndcg@10`` and so on."""
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.validate().items()}
        self.log(metrics)
        control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # type: ignore[has-type]
        self.control = control
        return metrics

    def validate(self) -> dict[str, float]:
        """Return the validation metrics of the model as it is."""
        return self.validation(self.accelerator)
