"""The quicker forward is the library's, on every kind of decoder it is used for, and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flr.backbone.lean import is_plain
from flr.backbone.loading import add_lora, pretrained_backbone
from flr.backbone.streams import Backbone
from flr.config import BackboneConfig
from toy import save_pretrained, toy_model


def compact(_: Path) -> Backbone:
    return toy_model()[0].backbone


def pretrained(folder: Path) -> Backbone:
    save_pretrained(folder)  # two key-value heads for four heads
    return pretrained_backbone(BackboneConfig(source=str(folder), train="frozen"))


@pytest.mark.parametrize("make", [compact, pretrained])
def test_it_computes_what_the_library_does(make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = make(tmp_path / "model").eval()  # type: ignore[operator]
    ids = torch.randint(0, 300, (3, 20))
    segments = torch.zeros_like(ids)
    segments[1, 15:] = -1
    positions = torch.arange(20).expand_as(ids)
    found = {}
    for name in ("lean", "library"):
        if name == "library":
            monkeypatch.setattr("flr.backbone.streams.is_plain", lambda _: False)
        with torch.inference_mode():
            past = backbone.encode(ids[:, :16], positions[:, :16], segments[:, :16])
            found[name] = backbone.encode(ids[:, 16:], positions[:, 16:], torch.zeros(3, 4).long(), past)
    lean, library = found["lean"], found["library"]
    assert lean.hidden.shape == (3, 32, 32)  # whole blocks
    assert not lean.real[:, 20:].any()
    torch.testing.assert_close(lean.hidden[:, :20], library.hidden, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip((*lean.keys, *lean.values), (*library.keys, *library.values), strict=True):
        torch.testing.assert_close(ours[:, :, :20], theirs, rtol=1e-5, atol=1e-5)
    assert not torch.equal(lean.hidden[:, :20], library.hidden)  # or it was not used


def test_it_is_not_used_where_it_would_be_wrong(tmp_path: Path) -> None:
    backbone = compact(tmp_path)
    assert is_plain(backbone.transformer)
    assert backbone.train()._lean() is None
    assert backbone.eval()._lean() is None  # gradients are wanted
    with torch.no_grad():
        assert backbone._lean() is not None
        assert backbone._lean() is backbone._lean()
    assert not is_plain(backbone.to(torch.bfloat16).transformer)
    save_pretrained(tmp_path / "qwen", "qwen2")
    assert not is_plain(pretrained_backbone(BackboneConfig(source=str(tmp_path / "qwen"))).transformer)
    with_lora = compact(tmp_path)
    add_lora(with_lora, BackboneConfig())
    assert not is_plain(with_lora.transformer)


@pytest.mark.parametrize("fused", [False, True])
def test_weights_that_were_trained_are_seen(tmp_path: Path, fused: bool) -> None:
    backbone = compact(tmp_path).eval()
    ids = torch.randint(0, 300, (1, 16))

    def read() -> torch.Tensor:
        with torch.no_grad():
            return backbone.eval().encode(ids, torch.arange(16)[None], torch.zeros_like(ids)).hidden

    before = read()
    backbone.train()
    weight = backbone.transformer.layers[0].mlp.down_proj.weight
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, fused=fused).step()  # fused, it leaves the weight's version as it was
    assert float((before - read()).abs().max()) > 1e-3


def test_weights_that_change_are_seen(tmp_path: Path) -> None:
    backbone = compact(tmp_path).eval()
    ids = torch.randint(0, 300, (1, 16))
    with torch.no_grad():
        before = backbone.encode(ids, torch.arange(16)[None], torch.zeros_like(ids)).hidden
        backbone.transformer.layers[0].mlp.down_proj.weight.mul_(2)
        after = backbone.encode(ids, torch.arange(16)[None], torch.zeros_like(ids)).hidden
    assert float((before - after).abs().max()) > 1e-3
