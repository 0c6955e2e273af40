"""Every way to a backbone gives the same thing: a decoder, output weights and a tokenizer."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from flr.backbone.loading import (
    architecture,
    backbone_from_config,
    compact_backbone,
    empty_backbone,
    merge_lora,
    pretrained_backbone,
    pretrained_tokenizer,
)
from flr.backbone.streams import Backbone
from flr.config import BackboneConfig
from flr.errors import ArtifactError, ConfigError, FetchError, FlrError
from toy import save_pretrained

IDS = torch.tensor([[3, 9, 27, 81, 243]])


def logits_of(backbone: Backbone) -> torch.Tensor:
    with torch.inference_mode():
        positions = torch.arange(IDS.shape[1])[None]
        return backbone.eval().encode(IDS, positions, torch.zeros_like(IDS)).hidden @ backbone.output_weight.T


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_local_folder_gives_the_models_own_logits(kind: str, tied: bool, tmp_path: Path) -> None:
    model = save_pretrained(tmp_path, kind, tied=tied)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path)))
    assert (backbone.output is None) == tied
    with torch.inference_mode():
        torch.testing.assert_close(logits_of(backbone), model(IDS).logits, rtol=1e-4, atol=1e-5)


def test_a_hub_id_is_read_from_the_hubs_cache_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--somebody--tiny"
    model = save_pretrained(repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    backbone = pretrained_backbone(BackboneConfig(source="somebody/tiny"))
    with torch.inference_mode():
        torch.testing.assert_close(logits_of(backbone), model(IDS).logits, rtol=1e-4, atol=1e-5)
    assert pretrained_tokenizer("somebody/tiny").end_id is not None
    with pytest.raises(FetchError, match=r"'somebody/else' could not be fetched.*backbone.source"):
        pretrained_backbone(BackboneConfig(source="somebody/else"))


def test_the_first_layers_can_be_kept(tmp_path: Path) -> None:
    save_pretrained(tmp_path, "qwen2")
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), n_layers=2))
    assert len(backbone.transformer.layers) == backbone.transformer.config.num_hidden_layers == 2
    again = backbone_from_config(architecture(backbone))
    again.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(logits_of(again), logits_of(backbone), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_an_empty_backbone_has_what_its_settings_tell_and_takes_weights(kind: str, tmp_path: Path) -> None:
    special = {"head_dim": 8, "query_pre_attn_scalar": 8} if kind == "gemma3_text" else {}
    save_pretrained(tmp_path, kind, **special)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path)))
    empty = empty_backbone(architecture(backbone), tied=True)
    assert kind != "llama" or all(weight.is_meta for weight in empty.parameters())
    tables, expected = dict(empty.named_buffers()), dict(backbone.named_buffers())
    assert tables.keys() == expected.keys()
    assert all(torch.equal(table, expected[name]) for name, table in tables.items())
    empty.load_state_dict(backbone.state_dict(), assign=True)
    torch.testing.assert_close(logits_of(empty), logits_of(backbone), rtol=0, atol=0)


def test_lora_trains_little_and_folds_into_plain_weights(tmp_path: Path) -> None:
    save_pretrained(tmp_path)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), train="lora", lora_rank=4))
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name in trained:
                parameter.normal_(std=0.1)
    plain = backbone_from_config(architecture(backbone))
    plain.load_state_dict(merge_lora(backbone))
    torch.testing.assert_close(logits_of(plain), logits_of(backbone), rtol=1e-4, atol=1e-4)


def test_a_frozen_backbone_trains_nothing(tmp_path: Path) -> None:
    save_pretrained(tmp_path)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), train="frozen"))
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_weights_can_be_held_in_bfloat16(tmp_path: Path) -> None:
    save_pretrained(tmp_path)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), dtype="bfloat16"))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.bfloat16}
    assert torch.isfinite(logits_of(backbone)).all()
    # Rounded to bfloat16, frequencies would turn position 300 by a third of a radian.
    assert backbone.transformer.rotary_emb.inv_freq.dtype == torch.float32


def test_lora_beside_bfloat16_learns_and_is_folded_in_float32(tmp_path: Path) -> None:
    save_pretrained(tmp_path)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), train="lora", lora_rank=4, dtype="bfloat16"))
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    before = {name.replace(".base_layer.", "."): tensor.clone() for name, tensor in backbone.state_dict().items()}
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=1e-3)
    merged = merge_lora(backbone)
    moved = [name for name, tensor in merged.items() if tensor.dtype == torch.float32 and name.endswith("proj.weight")]
    assert moved
    for name in moved:  # by less than bfloat16 could hold
        change = merged[name] - before[name].float()
        assert 0 < change.abs().max() < 1e-4
    logits_of(backbone)


def test_compact_has_the_shape_its_settings_name() -> None:
    config = BackboneConfig(width=32, n_layers=2, n_heads=2, feed_forward=48, dropout=0.5)
    backbone = compact_backbone(config, 320)
    assert (backbone.width, len(backbone.transformer.layers), backbone.output) == (32, 2, None)
    torch.testing.assert_close(logits_of(backbone), logits_of(backbone), rtol=0, atol=0)
    backbone.train()
    assert not torch.equal(backbone.embed(IDS), backbone.embed(IDS))


@pytest.mark.parametrize(
    ("source", "settings", "error", "said"),
    [
        ("./nowhere", {}, ArtifactError, "there is no model folder './nowhere'"),
        ("./weights.gguf", {}, ArtifactError, "there is no GGUF file './weights.gguf'"),
        ("", {}, ArtifactError, "no model could be read from"),
        ("model", {"n_layers": 9}, ConfigError, "n_layers = 9, but .* has 3 layers"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    source: str, settings: dict[str, int], error: type[FlrError], said: str, tmp_path: Path
) -> None:
    save_pretrained(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    path = source if source.startswith(".") else str(tmp_path / (source or "empty"))
    with pytest.raises(error, match=said):
        pretrained_backbone(BackboneConfig(source=path, **settings))


@pytest.mark.parametrize(
    ("source", "meant"), [("smollm", "smollm2-135m"), ("SmolLM2-135M", "smollm2-135m"), ("Compact", "compact")]
)
def test_a_slip_in_one_of_our_own_names_asks_no_hub(source: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        pretrained_backbone(BackboneConfig(source=source))


def test_a_folder_without_a_tokenizer_is_no_empty_tokenizer() -> None:
    folder = Path(__file__).parents[2] / "configs" / "paper" / "qwen2.5-1.5b"
    with pytest.raises(ArtifactError, match=r"qwen2\.5-1\.5b' holds no tokenizer; save tokenizer\.json"):
        pretrained_tokenizer(str(folder))
