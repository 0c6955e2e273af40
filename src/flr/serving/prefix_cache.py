"""What was read of histories, kept by blocks of tokens: a history that grew is read on, not again.

A block is known by all tokens up to its end, so histories that begin alike share blocks, whoever they are of. What is
kept are whole blocks only, at the columns they will have again; so reading on gives the same bits as reading anew (see
`flr.blocks`). Of histories of more than `shared_columns` tokens, which are read in chunks, whole chunks are kept. A
history whose window has slid is read anew: it begins with another item. Items that come and go change nothing here:
tokens stay tokens. Which item a token is of, where titles are shared, is not kept but told each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flr.backbone.streams import EncodedStreams
from flr.blocks import BLOCK, CHUNK, shared_columns
from flr.records import IntArray
from flr.text.template import TokenStreams

#: Reads token streams, after a past where there is one.
Read = Callable[[TokenStreams, EncodedStreams | None], EncodedStreams]


@dataclass(frozen=True)
class _Block:
    """What was read of one block: hidden states [BLOCK, D]; keys and values [2 * layers, heads, BLOCK, head width]."""

    hidden: Tensor
    memory: Tensor


class PrefixCache:
    """Reads token streams through a cache; the least recently used blocks go first. Used by one thread only.

    Args:
        read: Reads in earnest.
        max_tokens: Most tokens that are kept; 0 keeps none.

    Attributes:
        n_reused, n_read: Tokens found here and tokens read, so far.
    """

    def __init__(self, read: Read, max_tokens: int) -> None:
        self._read, self.max_tokens = read, max_tokens
        self._blocks: OrderedDict[bytes, _Block] = OrderedDict()
        self.n_reused = self.n_read = 0

    @property
    def n_tokens(self) -> int:
        """Tokens that are kept now."""
        return len(self._blocks) * BLOCK

    def clear(self) -> None:
        self._blocks.clear()

    def __call__(self, streams: TokenStreams) -> EncodedStreams:
        """Return what the model reads in each stream, padded to whole blocks."""
        rows = [streams.ids[start:end] for start, end in zip(streams.offsets[:-1], streams.offsets[1:], strict=True)]
        known = [self._known(ids) for ids in rows]
        groups: dict[int, list[int]] = {}
        for place, blocks in enumerate(known):
            groups.setdefault(len(blocks), []).append(place)
        if list(groups) == [0]:  # nothing is known: no need to take apart and put together
            encoded = self._read(streams, None)
            self.n_read += len(streams.ids)
            for place, ids in enumerate(rows):
                self._keep(ids, 0, encoded, place)
            return encoded
        parts: list[tuple[list[int], EncodedStreams]] = []
        for n_known, places in groups.items():
            parts.append((places, self._read_on([rows[place] for place in places], [known[p] for p in places])))
            for row, place in enumerate(places):
                self._keep(rows[place], n_known, parts[-1][1], row)
        return _together(parts).of_items(streams.items, streams.places)

    def _known(self, ids: IntArray) -> list[_Block]:
        """Return the blocks that are kept of a stream's beginning, as many as there are in a row."""
        found: list[_Block] = []
        if not self.max_tokens:
            return found
        for end in range(BLOCK, _lasting(len(ids)) + 1, BLOCK):
            block = self._blocks.get(ids[:end].tobytes())
            if block is None:
                break
            found.append(block)
        per_chunk = CHUNK // BLOCK
        return found if len(ids) <= shared_columns() else found[: len(found) // per_chunk * per_chunk]

    def _read_on(self, rows: Sequence[IntArray], known: Sequence[list[_Block]]) -> EncodedStreams:
        """Return streams of which equally many blocks are known."""
        n_known = len(known[0]) * BLOCK
        rest = [ids[n_known:] for ids in rows]
        offsets = np.cumsum([0, *map(len, rest)])
        self.n_reused += n_known * len(rows)
        self.n_read += int(offsets[-1])
        around = np.full(int(offsets[-1]), -1)
        new = TokenStreams(np.concatenate(rest), offsets, np.empty(0, dtype=np.int64), around, around)
        if not n_known:
            return self._read(new, None)
        memory = torch.stack([torch.cat([block.memory for block in blocks], dim=2) for blocks in known], dim=1)
        hidden = torch.stack([torch.cat([block.hidden for block in blocks]) for blocks in known])
        n_layers = len(memory) // 2
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        past = EncodedStreams(hidden, real, tuple(memory[:n_layers]), tuple(memory[n_layers:]))
        return past if not offsets[-1] else self._read(new, past)

    def _keep(self, ids: IntArray, n_known: int, encoded: EncodedStreams, row: int) -> None:
        """Keep the whole blocks of one stream, and note that those known before were used."""
        n_whole = _lasting(len(ids)) // BLOCK
        if not self.max_tokens or not n_whole:
            return
        memory = None
        # Backwards: the beginning is the most recently used, so that no block outlives the ones before it.
        for number in range(n_whole - 1, -1, -1):
            key = ids[: (number + 1) * BLOCK].tobytes()
            if key in self._blocks:
                self._blocks.move_to_end(key)
                continue
            if memory is None:
                memory = torch.stack([layer[row] for layer in (*encoded.keys, *encoded.values)])
            at = slice(number * BLOCK, (number + 1) * BLOCK)
            self._blocks[key] = _Block(encoded.hidden[row, at].clone(), memory[:, :, at].clone())
        while self.n_tokens > self.max_tokens:
            self._blocks.popitem(last=False)


def _lasting(n_tokens: int) -> int:
    """Return how many tokens of a stream are read alike however it goes on: whole blocks, of a long one whole chunks.

    >>> _lasting(100), _lasting(384), _lasting(500), _lasting(520)
    (96, 384, 384, 512)
    """
    return n_tokens // BLOCK * BLOCK if n_tokens <= shared_columns() else n_tokens // CHUNK * CHUNK


def _together(parts: Sequence[tuple[list[int], EncodedStreams]]) -> EncodedStreams:
    """Return rows of several reads in their own order, padded to the longest."""
    if len(parts) == 1:  # in order, then
        return parts[0][1]
    n_columns = max(part.real.shape[1] for _, part in parts)
    order = torch.tensor([place for places, _ in parts for place in places]).argsort()

    def joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
        padded = []
        for tensor in tensors:
            shape = list(tensor.shape)
            shape[dim] = n_columns - shape[dim]
            padded.append(torch.cat([tensor, tensor.new_zeros(shape)], dim=dim) if shape[dim] else tensor)
        return torch.cat(padded)[order]

    reads = [part for _, part in parts]
    keys, values = (
        tuple(joined(layers, 2) for layers in zip(*(getattr(part, kind) for part in reads), strict=True))
        for kind in ("keys", "values")
    )
    hidden, real = joined([part.hidden for part in reads], 1), joined([part.real for part in reads], 1)
    return EncodedStreams(hidden, real, keys, values)
