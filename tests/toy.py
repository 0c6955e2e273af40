"""Small worlds and models that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from flr.backbone.loading import compact_backbone
from flr.building import build_memory, build_reasoner
from flr.compiled import CompiledCatalogue, compile_catalogue
from flr.config import Config, load_config
from flr.data.preparation import prepare
from flr.data.storage import save_prepared
from flr.data.transitions import count_transitions
from flr.model import FLRModel
from flr.prepare_config import PrepareConfig
from flr.records import CONTEXT, TRAIN, Catalogue, Interactions, UserSequences
from flr.sequential.assistant import build_assistant
from flr.text.tokenizer import TitleTokenizer

TITLES = [
    "The Red House (1990)",
    "The Red Horse (1990)",
    "The Blue House (1991)",
    "Blue Velvet (1986)",
    "Blue (1993)",
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Heat (1995)",
    "Alien (1979)",
    "Aliens (1986)",
    "Heat (1995)",
]

SMALL = [
    "backbone.width=32",
    "backbone.n_layers=2",
    "backbone.n_heads=2",
    "backbone.feed_forward=48",
    "backbone.dropout=0",
    # The published method; what is ours is asked for by name.
    "reasoner.memory=none",
    "reasoner.reads=tokens",
    "reasoner.reads_age=false",
    "objective.lambda_div=0.1",
    "objective.lambda_sparse=0.01",
    "assistant.width=8",
    "assistant.max_epochs=4",
    "text.vocabulary_size=300",
    "text.window=6",
]

#: What `SMALL` takes away of the settings of a model that is trained without further words.
UNSET = ["reasoner.memory=transitions", "reasoner.reads=items", "reasoner.reads_age=true"]


def small_config(*overrides: str) -> Config:
    return load_config(None, [*SMALL, *overrides])


def toy_catalogue(titles: list[str] = TITLES) -> Catalogue:
    distinct = list(dict.fromkeys(titles))
    leaf = np.array([distinct.index(title) for title in titles], dtype=np.int32)
    ids = np.array([f"i{n}" for n in range(len(titles))], dtype=object)
    return Catalogue(ids, np.array(titles, dtype=object), leaf, np.array(distinct, dtype=object))


def toy_tokenizer(catalogue: Catalogue, config: Config) -> TitleTokenizer:
    preamble, suffix = config.text.around_titles
    return TitleTokenizer.train(catalogue.leaf_titles, config.text.vocabulary_size, preamble=preamble, suffix=suffix)


#: The instruction template with texts that are short for a model of 300 tokens.
INSTRUCTION = [
    "text.template=instruction",
    "text.instruction=Which is next?",
    "text.input_header=Taken:",
    "text.response_header=Next:",
]


def toy_model(*overrides: str, titles: list[str] = TITLES, seed: int = 0) -> tuple[FLRModel, CompiledCatalogue, Config]:
    """Return a small random model whose logits are far from uniform, its catalogue and config."""
    config = small_config(*overrides)
    catalogue = toy_catalogue(titles)
    torch.manual_seed(seed)
    tokenizer = toy_tokenizer(catalogue, config)
    compiled = compile_catalogue(
        catalogue, tokenizer, likelihood=config.objective.likelihood, max_title_tokens=config.text.max_title_tokens
    )
    backbone = compact_backbone(config.backbone, tokenizer.vocabulary_size)
    torch.nn.init.normal_(backbone.embedding.weight, std=0.5)
    transitions = None
    if config.reasoner.has_memory:
        transitions = count_transitions(toy_sequences([9, 12, 30, 4, 7], len(titles), seed=5), len(titles))
    memory = build_memory(config.reasoner, backbone, transitions)
    assistant = None if memory is None else build_assistant(config.assistant, len(titles), config.text.window)
    if assistant is not None:
        for network in assistant.networks:
            torch.nn.init.normal_(network.items.weight, std=0.5)
        torch.nn.init.normal_(assistant.log_popularity)
        if assistant.linear is not None:
            assistant.linear.neighbours.random_(len(titles))
            torch.nn.init.normal_(assistant.linear.weights)
        assistant.weights.copy_(torch.tensor([0.3, 0.2])[: len(assistant.weights)])
        assistant.discount.fill_(0.1)
    model = FLRModel(backbone, build_reasoner(config.reasoner, backbone), memory, assistant)
    if model.reasoner is not None and model.reasoner.gate_weight is not None:
        torch.nn.init.normal_(model.reasoner.gate_weight, std=0.3)
    if model.reasoner is not None and model.reasoner.age_bias is not None:
        torch.nn.init.normal_(model.reasoner.age_bias, std=0.1)
    if model.memory is not None:
        torch.nn.init.normal_(model.memory.trust.weight, std=0.1)
    return model, compiled, config


def toy_sequences(lengths: list[int], n_items: int = len(TITLES), seed: int = 0) -> UserSequences:
    """Return users of the given lengths with random items; all rows but the first are training rows."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths])
    split = np.full(offsets[-1], TRAIN, dtype=np.int8)
    split[offsets[:-1]] = CONTEXT
    users = np.array([f"u{n}" for n in range(len(lengths))], dtype=object)
    return UserSequences(
        users, offsets, rng.integers(0, n_items, offsets[-1]).astype(np.int32), np.arange(offsets[-1]), split
    )


#: A tiny model for tests that train; items may come again, and the very first place counts.
TINY = [
    *SMALL,
    "training.batch_tokens=400",
    "training.learning_rate=0.01",
    "training.warmup_steps=5",
    "training.max_steps=80",
    "training.eval_steps=40",
    "evaluation.cutoffs=[1,10]",
    "evaluation.seen_items=include",
    "objective.regularizer_warmup_steps=10",
]


def ring_interactions(titles: list[str] = TITLES, *, n_users: int = 48, length: int = 9) -> Interactions:
    """Return a world in which everybody goes round the same ring of items, from any start.

    The next item is a function of the last: a model can and must learn it exactly.
    """
    ring = list(dict.fromkeys(titles)) if len(set(titles)) > 1 else titles
    starts = np.random.default_rng(0).integers(0, len(ring), n_users)
    rows = [(f"u{u}", f"i{(starts[u] + t) % len(ring)}", t) for u in range(n_users) for t in range(length)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(ring))], "title": ring})
    return Interactions(frame, items)


def prepared_ring(path: Path, titles: list[str] = TITLES, *, n_users: int = 48) -> Path:
    """Write `ring_interactions` as a prepared folder."""
    save_prepared(prepare(ring_interactions(titles, n_users=n_users), PrepareConfig()), path)
    return path


SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def save_pretrained(folder: Path, kind: str = "llama", *, tied: bool = True, **settings: Any) -> PreTrainedModel:
    """Write a tiny pretrained model of random weights with a tokenizer, as a Hub folder holds them."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SHAPE, tie_word_embeddings=tied, **settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model.eval().save_pretrained(folder)
    trained = TitleTokenizer.train(TITLES, 300)
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="< eoi >").save_pretrained(folder)
    return model
