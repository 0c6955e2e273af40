"""What a run asks of the machine it is on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from flr.data.storage import load_prepared
from flr.progress import Silent
from flr.training.folder import RunFolder
from flr.training.journey import open_journey, training_arguments
from toy import prepared_ring, small_config


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.mark.usefixtures("two_gpus")
def test_a_process_trains_on_one_of_two_gpus(tmp_path: Path) -> None:
    config = small_config()
    arguments = training_arguments(config, config.training, RunFolder(tmp_path))
    arguments.per_device_train_batch_size = 3
    assert arguments.device == torch.device("cuda", 0)
    # A Trainer that sees two wraps the model to cut batches in two, and makes them twice as large for it.
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 3)


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.mark.usefixtures("two_gpus")
def test_it_says_how_to_use_both(tmp_path: Path) -> None:
    data, heard = prepared_ring(tmp_path / "data"), Heard()
    prepared, output = load_prepared(data), tmp_path / "run"
    open_journey(small_config(), prepared, data, output, resume=False, overwrite=False, progress=heard)
    assert heard.messages == [
        "one of 2 GPUs is used; torchrun --nproc-per-node 2 -m flr train ... uses all, and takes the same steps with "
        "gradient_accumulation_steps divided by 2"
    ]
