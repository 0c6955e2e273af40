"""The configs of the paper: they differ where they should, and each runs, both stages, on a tiny model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from flr.config import Config, load_config
from flr.data.preparation import prepare
from flr.data.readers import read
from flr.data.storage import load_prepared, save_prepared
from flr.prepare_config import PrepareConfig
from flr.text.tokenizer import TitleTokenizer
from flr.training.alignment import align_run
from flr.training.finished import evaluate_run
from flr.training.run import train_run

FOLDER = Path(__file__).parent.parent / "configs" / "paper"
DATA_SETS, METHODS = ("cds", "games", "instruments", "toys"), ("bigrec", "d3", "flr", "latentr3")
#: Published best numbers of factors; 4 where nothing is published.
N_FACTORS = {"cds": 3, "games": 4, "instruments": 4, "toys": 4}
NAMES = [f"{data}-{method}" for data in DATA_SETS for method in METHODS]
#: What each method sets differently from BIGRec.
DIFFERENT = {
    "d3": {"evaluation.guide", "evaluation.length_power"},
    "latentr3": {"reasoner.kind", "reasoner.n_factors", "reasoner.n_steps"},
    "flr": {"reasoner.kind", "objective.lambda_div", "objective.lambda_orth", "objective.lambda_sparse"},
}


def config_of(name: str, *overrides: str) -> Config:
    return load_config(FOLDER / f"{name}.yaml", overrides)


def flat(config: Config) -> dict[str, object]:
    sections = config.model_dump()
    return {f"{a}.{b}": v for a, section in sections.items() if isinstance(section, dict) for b, v in section.items()}


def different(first: Config, second: Config) -> set[str]:
    one, other = flat(first), flat(second)
    return {key for key in one if one[key] != other[key]}


def test_there_are_four_methods_for_each_of_four_data_sets() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_marked_as_published_or_ours(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r" +\w+: \S", line)]
    assert len(values) > 15
    assert [line for line in values if not re.search(r"  # (published \(|ours)", line)] == []


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_the_same_on_every_data_set_but_for_its_factors(method: str) -> None:
    configs = {data: config_of(f"{data}-{method}") for data in DATA_SETS}
    for data, config in configs.items():
        assert different(config, configs["toys"]) <= {"reasoner.n_factors"}
        if method == "flr":
            assert config.reasoner.n_factors == N_FACTORS[data]


@pytest.mark.parametrize("method", sorted(DIFFERENT))
def test_a_method_differs_from_bigrec_where_it_should(method: str) -> None:
    found = different(config_of(f"toys-{method}"), config_of("toys-bigrec"))
    assert {key for key in found if not key.startswith("grpo.")} == DIFFERENT[method]
    assert any(key.startswith("grpo.") for key in found) == (method in {"latentr3", "flr"})


def test_flr_differs_from_latentr3_by_its_reasoner_regularisers_and_update() -> None:
    sections = {key.split(".")[0] for key in different(config_of("toys-flr"), config_of("toys-latentr3"))}
    assert sections == {"reasoner", "objective", "grpo"}
    of_grpo = different(config_of("toys-flr"), config_of("toys-latentr3"))
    assert {key for key in of_grpo if key.startswith("grpo.")} == {"grpo.update"}


@pytest.mark.parametrize("n_factors", sorted({1, *N_FACTORS.values()}))
def test_the_backbones_width_is_a_multiple_of_the_factors(n_factors: int) -> None:
    shape = json.loads((FOLDER / "qwen2.5-1.5b" / "config.json").read_text(encoding="utf-8"))
    assert shape["hidden_size"] % n_factors == 0


@pytest.fixture(scope="module")
def games(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows of Video_Games as D3 publishes them, prepared."""
    folder = tmp_path_factory.mktemp("paper") / "games"
    settings = PrepareConfig(split="given", order_column="pos", missing_title="fallback")
    record = read(shared_data / "raw-fixtures" / "d3", None, settings)
    held_out = record.frame.filter(record.frame["split"] == "test")["user_id"].unique(maintain_order=True)
    few = record.frame.filter(record.frame["user_id"].is_in(held_out[:6].to_list()))
    save_prepared(prepare(replace(record, frame=few), settings), folder)
    return folder


@pytest.fixture(scope="module")
def models(games: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Random Qwen2s of two layers, with tied and untied embeddings."""
    titles = load_prepared(games).items["title"].to_list()
    return {tied: save_qwen2(tmp_path_factory.mktemp("qwen2"), titles, tied=tied) for tied in (True, False)}


def save_qwen2(folder: Path, titles: list[str], *, tied: bool) -> Path:
    """Write a Qwen2 whose embeddings have more rows than its tokenizer has tokens."""
    trained = TitleTokenizer.train(titles, 800)
    n_padded = -(-trained.vocabulary_size // 128) * 128
    assert n_padded > trained.vocabulary_size
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=n_padded,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="< eoi >").save_pretrained(folder)
    return folder


#: Two steps of each stage, on as few tokens as there can be.
BRIEF = (
    *("training.max_steps=2", "training.eval_steps=2", "training.eval_users=2", "training.batch_tokens=16"),
    *("training.row_tokens=16", "text.instruction=Next?", "text.input_header=Had:", "text.response_header=Now:"),
    *("grpo.max_steps=2", "grpo.eval_steps=2", "grpo.batch_tokens=16", "grpo.group_size=2", "grpo.warmup_steps=0"),
)
FLOAT32 = ("backbone.dtype=float32", "training.mixed_precision='no'")


def dry_run(config: Config, data: Path, folder: Path) -> None:
    """Train both stages and evaluate."""
    train_run(config, data, folder / "sft")
    runs = [folder / "sft"]
    if config.reasoner.kind != "none":
        align_run(config, folder / "sft", folder / "grpo")
        runs.append(folder / "grpo")
    for run in runs:
        metrics = evaluate_run(run).metrics
        assert 0 <= metrics["hr@5"] <= metrics["hr@10"] <= 1
        held = load_file(run / "model" / "model.safetensors")
        assert all(torch.isfinite(tensor).all() for tensor in held.values())
        expected = torch.bfloat16 if config.backbone.dtype == "bfloat16" else torch.float32
        assert {t.dtype for name, t in held.items() if name.startswith("backbone.")} == {expected}


@pytest.mark.parametrize("name", NAMES)
def test_every_config_runs_as_it_is(name: str, games: Path, models: dict[bool, Path], tmp_path: Path) -> None:
    tied = name.startswith(("cds", "toys"))
    config = config_of(name, f"backbone.source={models[tied]}", *BRIEF)
    assert (config.backbone.dtype, config.training.mixed_precision) == ("bfloat16", "bf16")
    dry_run(config, games, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_float32_too(method: str, games: Path, models: dict[bool, Path], tmp_path: Path) -> None:
    dry_run(config_of(f"cds-{method}", f"backbone.source={models[False]}", *BRIEF, *FLOAT32), games, tmp_path)
