"""Decoders of many kinds read packed histories as they read plain text, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from flr.backbone.loading import feed_forward_width, pretrained_backbone
from flr.building import build_reasoner, title_tokenizer
from flr.config import BackboneConfig, load_config
from flr.errors import ConfigError, DataError
from flr.model import FLRModel
from flr.recommender import Recommender
from flr.records import Histories
from flr.training.finished import evaluate_run
from flr.training.run import train_run
from toy import SHAPE, TINY, prepared_ring, save_pretrained, toy_catalogue

ALIKE: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},  # attention without torch's own kernel
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},  # embeddings are scaled by a table
    "mistral": {},
    "phi3": {},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 8.0},
    "cohere": {},  # logits a sixteenth of the usual
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "gpt_neox": {},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 3},  # learnt positions, and layers by another name
}
OTHERS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba": {},
    "bloom": {"n_head": 4, "n_layer": 3},
}


@pytest.mark.parametrize("kind", ALIKE)
def test_plain_decoders_read_histories_as_text(kind: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path, kind, **ALIKE[kind])
    for dtype in ("float32", "bfloat16"):
        backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path), dtype=dtype))
        assert backbone.training, "trying it out leaves it as it was"


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path, kind, **OTHERS[kind])
    with pytest.raises(ConfigError, match=f"is a {kind} model, which cannot be run on packed histories.*take a plain"):
        pretrained_backbone(BackboneConfig(source=str(tmp_path)))


def _bias(model: PreTrainedModel) -> None:
    nn.init.normal_(model.lm_head.bias)


def _soft_cap(model: PreTrainedModel) -> None:
    model.get_input_embeddings().weight.data *= 100  # logits large enough for a cap of 30 to matter


@pytest.mark.parametrize(("kind", "change"), [("phi", _bias), ("gemma2", _soft_cap)])
def test_logits_that_are_changed_after_their_weights_are_noticed(kind: str, change: Any, tmp_path: Path) -> None:
    model = save_pretrained(tmp_path, kind, tied=kind == "gemma2", **ALIKE.get(kind, {}))
    change(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"whose logits on packed histories are \d+% away from its own"):
        pretrained_backbone(BackboneConfig(source=str(tmp_path)))


@pytest.mark.parametrize("kind", ["gemma2", "granite", "gpt2"])
def test_what_was_trained_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", kind, **ALIKE[kind])
    data, brief = prepared_ring(tmp_path / "data"), ["training.max_steps=2", "training.eval_steps=2"]
    all_layers = [f"backbone.source={tmp_path / 'model'}", "backbone.n_layers=null"]
    summary = train_run(load_config(None, [*TINY, *brief, *all_layers]), data, tmp_path / "run")
    report = evaluate_run(tmp_path / "run", split="valid")
    assert report.metrics["ndcg@10"] == pytest.approx(summary.valid["ndcg@10"], abs=1e-6)


def test_a_decoder_with_learnt_places_reads_texts_that_fill_them_and_no_longer_ones(tmp_path: Path) -> None:
    def of_places(n_places: int) -> Recommender:
        save_pretrained(tmp_path, "gpt2", **ALIKE["gpt2"], n_positions=n_places)
        torch.manual_seed(0)
        backbone = pretrained_backbone(config.backbone)
        tokenizer = title_tokenizer(config, catalogue)
        return Recommender(FLRModel(backbone, build_reasoner(config.reasoner, backbone)), tokenizer, catalogue, config)

    catalogue = toy_catalogue()
    config = load_config(None, [*TINY, f"backbone.source={tmp_path}", "backbone.n_layers=null", "text.window=7"])
    roomy = of_places(512)
    assert roomy.model.backbone.n_places == 512
    longest = roomy.compiled.template.longest(7, roomy.model.n_thoughts)
    title = roomy.compiled.template.titles.lengths[catalogue.leaf].argmax()
    history = [str(catalogue.item_ids[title])] * 7
    fitting = of_places(longest)
    (best,) = fitting.recommend([history], k=catalogue.n_items, exclude_seen=False)
    assert sum(item.probability for item in best) == pytest.approx(1)
    scores = torch.from_numpy(fitting.snapshot.score(Histories.of([[int(title)] * 7])))
    assert float(scores.exp().sum()) == pytest.approx(1)
    with pytest.raises(DataError, match=rf"7 titles .* texts of {longest} tokens; .* {longest - 1} places"):
        of_places(longest - 1)
    with pytest.raises(DataError, match=r"lower text\.window or text\.max_title_tokens"):
        fitting.add_items([{"item_id": "new", "title": "A title that is longer than any other one here " * 2}])
    assert len(fitting.catalogue.item_ids) == len(catalogue.item_ids)


@pytest.mark.parametrize(("kind", "n_places"), [("llama", None), ("opt", 64)])
def test_only_learnt_places_are_counted(kind: str, n_places: int | None, tmp_path: Path) -> None:
    others = {"word_embed_proj_dim": 32, "ffn_dim": 48} if kind == "opt" else {}
    save_pretrained(tmp_path, kind, max_position_embeddings=64, **others)
    assert pretrained_backbone(BackboneConfig(source=str(tmp_path))).n_places == n_places


def test_only_layers_that_are_known_can_be_cut(tmp_path: Path) -> None:
    save_pretrained(tmp_path, "gpt2", **ALIKE["gpt2"])
    with pytest.raises(ConfigError, match=r"n_layers = 2, but .* has no layers that can be cut"):
        pretrained_backbone(BackboneConfig(source=str(tmp_path), n_layers=2))


def test_logits_are_scaled_as_the_decoder_does(tmp_path: Path) -> None:
    save_pretrained(tmp_path, "granite", logits_scaling=8.0)
    backbone = pretrained_backbone(BackboneConfig(source=str(tmp_path)))
    torch.testing.assert_close(backbone.output_weight, backbone.embedding.weight / 8)


@pytest.mark.parametrize(
    ("kind", "settings", "width"),
    [
        ("llama", {"intermediate_size": 48}, 48),
        ("gpt2", {"n_embd": 32}, 128),
        ("gpt2", {"n_embd": 32, "n_inner": 40}, 40),
        ("gptj", {"n_embd": 32}, 128),
        ("opt", {"hidden_size": 32, "ffn_dim": 56}, 56),
        ("falcon", {"hidden_size": 32}, 128),
    ],
)
def test_feed_forward_layers_are_found_by_any_name(kind: str, settings: dict[str, Any], width: int) -> None:
    assert feed_forward_width(AutoConfig.for_model(kind, **settings)) == width


def test_a_tokenizer_that_knows_more_than_its_model_is_refused(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", "llama")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE | {"vocab_size": 40}))
    model.save_pretrained(tmp_path / "model")
    data = prepared_ring(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"has \d+ tokens, its model embeds 40"):
        train_run(load_config(None, [*TINY, f"backbone.source={tmp_path / 'model'}"]), data, tmp_path / "run")
    nothing = ["backbone.source=model", "backbone.train=frozen", "reasoner.kind=none"]
    with pytest.raises(ConfigError, match=r"'frozen' leaves nothing to train where reasoner\.kind = 'none'"):
        train_run(load_config(None, [*TINY, *nothing]), data, tmp_path / "run")
