"""Smaller weights for serving, and what they cost: the share of the top 10 that stays."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from flr.backbone.loading import cast_weights
from flr.errors import ConfigError
from flr.recommender import Recommender
from flr.records import Histories
from flr.scoring.ranking import top_items

_N_SAMPLES, _K = 64, 10


def reduce_weights(
    recommender: Recommender, weights: Literal["float32", "bfloat16", "int8"], min_overlap: float
) -> float | None:
    """Let a recommender's backbone compute with smaller numbers, in place.

    Args:
        recommender: Whose.
        weights: ``"int8"`` quantises linear layers when they compute; the embeddings stay as they are.
        min_overlap: Share of the top 10 that must stay.

    Returns:
        The share that stays, mean over made-up histories of items of the catalogue; None where nothing was asked for.

    Raises:
        ConfigError: Too much of the lists changes, or int8 is asked for on a GPU.
    """
    if weights == "float32":
        return None
    if weights == "int8" and recommender.model.device.type != "cpu":
        raise ConfigError(
            "--weights int8 is for processors and this server has a GPU; give --weights bfloat16, or hide the GPU "
            "with CUDA_VISIBLE_DEVICES="
        )
    histories = _histories(recommender)
    before = _best(recommender, histories)
    backbone = recommender.model.backbone
    if weights == "bfloat16":
        cast_weights(backbone, torch.bfloat16)
    else:
        quantize: Any = torch.ao.quantization.quantize_dynamic
        backbone.transformer = quantize(backbone.transformer, {nn.Linear}, dtype=torch.qint8)
    after = _best(recommender, histories)
    overlap = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(before, after, strict=True)]))
    if overlap < min_overlap:
        raise ConfigError(
            f"with --weights {weights} {overlap:.1%} of the top {_K} stay, expected {min_overlap:.1%}; "
            "serve float32, or lower --min-overlap"
        )
    return overlap


def _histories(recommender: Recommender) -> Histories:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, recommender.config.text.window + 1, _N_SAMPLES)
    retired = recommender.catalogue.retired
    items = np.arange(recommender.catalogue.n_items) if retired is None else np.flatnonzero(~retired)
    return Histories(rng.choice(items, int(lengths.sum())), np.concatenate([[0], np.cumsum(lengths)]))


def _best(recommender: Recommender, histories: Histories) -> list[list[int]]:
    scores = recommender.score_best(histories, _K, exclude_seen=False)
    ranking = top_items(torch.from_numpy(scores), _K)
    return [[int(item) for item in row if item >= 0] for row in ranking.item_index]
