"""What a run asks of the machine it is on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch import distributed

from flr.data.storage import load_prepared
from flr.errors import ConfigError, FlrError
from flr.progress import Silent
from flr.training.folder import RunFolder
from flr.training.journey import Journey, on_first_process, open_journey, training_arguments
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


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """This process is the first of two; `other` is what the second gives, `told` what it is told."""
    both: dict[str, Any] = {"other": None, "told": []}

    def gather(everybody: list[Any], mine: Any) -> None:
        everybody[:] = [mine, both["other"] or mine]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    monkeypatch.setattr(distributed, "broadcast_object_list", both["told"].append)
    return both


def test_processes_that_are_given_different_things_are_refused(
    tmp_path: Path, two_processes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, config = load_prepared(prepared_ring(tmp_path / "data")), small_config()
    monkeypatch.setattr("flr.training.journey.training_arguments", lambda *_: None)

    def opened() -> Journey:
        return open_journey(config, prepared, tmp_path, tmp_path / "run", resume=False, overwrite=False)

    assert opened().is_new
    two_processes["other"] = small_config("training.learning_rate=0.5"), prepared.manifest["data_hash"]
    with pytest.raises(ConfigError, match=r"process 1 has training\.learning_rate = 0\.5, process 0"):
        opened()
    two_processes["other"] = config, "another hash"
    with pytest.raises(ConfigError, match="process 1 was given other data than process 0"):
        opened()


def test_whatever_fails_in_the_first_process_fails_in_all(two_processes: dict[str, Any]) -> None:
    def fail() -> None:
        raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError, match="no such luck"):
        on_first_process(fail)
    ((_, error),) = two_processes["told"]
    assert isinstance(error, FlrError)
    assert "process 0 failed: RuntimeError('no such luck')" in str(error)


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


def test_bfloat16_where_there_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("Your setup doesn't support bf16/gpu. You need Ampere+ GPU with cuda>=11.0\nmore")

    monkeypatch.setattr("flr.training.journey._arguments", refuse)
    config = small_config("training.mixed_precision=bf16")
    with pytest.raises(ConfigError, match=r"cannot train so: Your setup .* cuda>=11\.0; see training\.mixed_precision"):
        training_arguments(config, config.training, RunFolder(tmp_path))
