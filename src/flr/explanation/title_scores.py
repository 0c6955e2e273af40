"""log p(item | history) of one item per history, without the rest of the catalogue.

A title costs its few tokens up to its last choice, where the whole catalogue costs all needed nodes of the trie; the
figures are those of `Recommender.score`.
"""

from __future__ import annotations

import numpy as np
import torch

from flr.recommender import Recommender
from flr.records import CONTEXT, TRAIN, FloatArray, Histories, IntArray, UserSequences
from flr.text.packing import Windows

#: Tokens of prompts that are read at a time.
_TOKENS_PER_FORWARD = 8192


def score_titles(recommender: Recommender, histories: Histories, items: IntArray) -> FloatArray:
    """Return log p(item | history) of one item for each history, float64, [B].

    Args:
        recommender: The model.
        histories: Item indices, oldest first, none empty; only the window is read.
        items: Item index for each, [B].
    """
    model, compiled = recommender.model.eval(), recommender.compiled
    packer = compiled.packer(model.n_thoughts)
    asked = _as_targets(histories.window(recommender.config.text.window), items)
    windows = Windows(asked.offsets[:-1], asked.offsets[1:])
    lengths = packer.lengths(windows, asked)
    order = np.argsort(lengths, kind="stable")
    out = np.empty(len(items))
    with torch.inference_mode():
        for rows in _batches(order, lengths):
            batch = packer.collate(windows.take(rows), np.arange(len(rows)), asked)
            batch = type(batch)(**{name: tensor.to(model.device) for name, tensor in vars(batch).items()})
            streams = model.encode(batch)
            thought = model.reason(batch, streams)
            written = model.write(batch, streams, None if thought is None else thought.vectors, compiled.table)
            sums = written.log_probs.new_zeros(len(rows)).index_add_(0, batch.score_rows, written.log_probs)
            out[rows] = sums.double().cpu().numpy()
    shares: FloatArray = np.log(compiled.n_sharing.cpu().numpy()[compiled.catalogue.leaf[items]])
    return out - shares


def _as_targets(histories: Histories, items: IntArray) -> UserSequences:
    """Return users whose rows are a history and, as their one target, its item."""
    offsets = histories.offsets + np.arange(len(histories) + 1)
    ends = offsets[1:] - 1
    split = np.full(offsets[-1], CONTEXT, dtype=np.int8)
    split[ends] = TRAIN
    item_index = np.empty(offsets[-1], dtype=np.int64)
    item_index[split == CONTEXT], item_index[ends] = histories.item_index, items
    nobody = np.full(len(histories), "", dtype=object)
    return UserSequences(nobody, offsets, item_index, np.arange(offsets[-1]), split)


def _batches(order: IntArray, lengths: IntArray) -> list[IntArray]:
    """Cut rows that ascend in length into batches of a bounded number of tokens, padding included."""
    cuts, start = [], 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > start and (place + 1 - start) * length > _TOKENS_PER_FORWARD:
            cuts.append(place)
            start = place
    return np.split(order, cuts)
