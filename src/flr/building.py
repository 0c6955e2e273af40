"""From settings to the fresh parts of a model, and the tokenizer of its titles."""

from __future__ import annotations

from typing import Final

import torch

from flr.backbone.loading import pretrained_tokenizer
from flr.backbone.streams import Backbone
from flr.config import REASONER_KINDS, Config, ReasonerConfig
from flr.errors import ConfigError
from flr.reasoner.factors import MultiFactorAttention
from flr.reasoner.memory import ItemMemory
from flr.records import Catalogue
from flr.text.tokenizer import TitleTokenizer
from flr.transitions import APART_RELATIONS, RELATION_WEIGHTS, Transitions

#: Items, counted from the last, whose age factors may tell apart.
AGES: Final = 32
_REASONERS: Final = {"factorized": MultiFactorAttention}


def register_reasoner(kind: str, cls: type[MultiFactorAttention]) -> None:
    """Let ``reasoner.kind`` name a reasoner of one's own: it is trained, saved and loaded as any other.

    A subclass changes what it likes of `MultiFactorAttention`: its gate, its attention, or its `regularizers`. Whoever
    trains or loads such a model calls this first, a study's script at its top level.

    Args:
        kind: Its name.
        cls: A subclass that takes the same arguments.

    Raises:
        ConfigError: The name is that of a built-in kind, or the class is no such subclass.
    """
    if kind in ("factorized", "none"):
        raise ConfigError(f"{kind!r} is built in; choose another name")
    if not (isinstance(cls, type) and issubclass(cls, MultiFactorAttention)):
        raise ConfigError(f"got {cls!r} as the reasoner {kind!r}, expected a subclass of MultiFactorAttention")
    _REASONERS[kind] = cls
    REASONER_KINDS.add(kind)


def build_reasoner(
    config: ReasonerConfig, backbone: Backbone, embedding_rms: float | None = None
) -> MultiFactorAttention | None:
    """Return a fresh reasoner for a backbone, or None where the config asks for no thought.

    Args:
        config: Its settings.
        backbone: Whose states it reads.
        embedding_rms: Root mean square of the input embeddings; None looks at them.
    """
    if config.kind == "none":
        return None
    if embedding_rms is None:
        with torch.no_grad():
            embedding_rms = float(backbone.embedding.weight.float().square().mean().sqrt())
    return _REASONERS[config.kind](
        backbone.width,
        n_factors=config.n_factors,
        n_steps=config.n_steps,
        embedding_rms=embedding_rms,
        gate=config.gate,
        share=config.share,
        full_width_factors=config.full_width_factors,
        factor_width=config.factor_width,
        shuffles=config.shuffle_factors,
        thought_positions=config.thought_positions,
        is_bottleneck=config.titles_see == "thought",
        n_ages=AGES if config.reads_age else 0,
        reads_items=config.reads == "items",
    )


def build_memory(config: ReasonerConfig, backbone: Backbone, transitions: Transitions | None) -> ItemMemory | None:
    """Return a fresh memory of transitions, or None where there are none.

    Args:
        config: Settings of the reasoner whose factors vote.
        backbone: Whose width the trust reads.
        transitions: The counts; None for a model without a memory.
    """
    if transitions is None:
        return None
    is_apart = config.relations == "apart" and config.n_factors > 1
    in_turn = APART_RELATIONS if is_apart else (RELATION_WEIGHTS,)
    return ItemMemory(transitions, backbone.width, [in_turn[k % len(in_turn)] for k in range(config.n_factors)])


def title_tokenizer(config: Config, catalogue: Catalogue, source: str | None = None) -> TitleTokenizer:
    """Return a source's tokenizer, by default the backbone's own; the compact one is trained on the titles."""
    preamble, suffix = config.text.around_titles
    source = source or config.backbone.source
    if source == "compact":
        return TitleTokenizer.train(
            catalogue.leaf_titles, config.text.vocabulary_size, preamble=preamble, suffix=suffix
        )
    text = pretrained_tokenizer(source)
    return TitleTokenizer.pretrained(text.tokenizer, preamble=preamble, suffix=suffix, end_id=text.end_id)
