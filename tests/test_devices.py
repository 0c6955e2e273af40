"""Random numbers of one's own leave those of others alone."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from flr.devices import default_device, own_random_numbers, without_autocast


def test_what_is_drawn_inside_follows_from_the_seed_and_moves_nothing_outside() -> None:
    torch.manual_seed(0)
    undisturbed = torch.rand(3)
    torch.manual_seed(0)
    with own_random_numbers(7):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), undisturbed)
    torch.manual_seed(1)
    with own_random_numbers(7):
        assert torch.equal(torch.rand(3), first)


def test_of_several_gpus_one_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, seeded = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: opened.append(device) or torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    assert default_device() == torch.device("cuda")
    with own_random_numbers(7, torch.device("cuda", 5)):
        pass
    assert (opened, seeded) == ([torch.device("cuda", 5)], [7])
    with own_random_numbers(7, torch.device("cpu")):
        pass
    assert (len(opened), len(seeded)) == (1, 1)


def test_what_is_float32_stays_so_inside_autocast() -> None:
    one, cpu = torch.ones(2, 2), torch.device("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        with without_autocast(cpu):
            assert (one @ one).dtype == torch.float32
    with without_autocast(torch.device("lazy")):  # which knows no autocast
        assert (one @ one).dtype == torch.float32
