"""Prompts: `<preamble> title_1 <eoi> ... title_n <eoi> <suffix>`, after which the model thinks.

Without a suffix the template is append-only: adding an item to a history only appends tokens, so the key-value cache
of a history is a prefix of the cache of any longer one. With a suffix (a response header) it is an instruction
template, and every target has a prompt of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flr.records import FloatArray, Histories, IntArray, TokenizedTitles, ragged_indices


@dataclass(frozen=True)
class TokenStreams:
    """Histories as token ids, in flat arrays.

    Attributes:
        ids: Tokens of all streams, concatenated, int64.
        offsets: Stream b owns ``ids[offsets[b]:offsets[b + 1]]``, [B + 1] int64.
        item_ends: Column, within its stream, of each history item's last token, in the histories' flat order.
        items, places: Item that each token is of, and the item's place in its history; -1 outside titles, int64.
    """

    ids: IntArray
    offsets: IntArray
    item_ends: IntArray
    items: IntArray
    places: IntArray

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def columns(self, start: int, end: int) -> TokenStreams:
        """Return the tokens of some columns, without `item_ends`.

        >>> none = np.empty(0, dtype=np.int64)
        >>> streams = TokenStreams(np.array([7, 8, 9, 5]), np.array([0, 3, 4]), none, np.zeros(4), np.zeros(4))
        >>> streams.columns(1, 3).ids.tolist(), streams.columns(1, 3).lengths.tolist()
        ([8, 9], [2, 0])
        """
        lengths = (self.lengths - start).clip(0, end - start)
        indices, offsets = ragged_indices(self.offsets[:-1] + start, lengths)
        nothing = np.empty(0, dtype=np.int64)
        return TokenStreams(self.ids[indices], offsets, nothing, self.items[indices], self.places[indices])


class PromptTemplate:
    """Writes histories as token streams.

    Source: METHOD 2.

    Args:
        titles: Tokens of every distinct title.
        leaf: Title of each item, [N].
        preamble_ids: Tokens before the first title.
        suffix_ids: Tokens between the last title and the thought.

    Attributes:
        n_preamble, n_suffix: Numbers of these tokens.
    """

    def __init__(
        self, titles: TokenizedTitles, leaf: IntArray, preamble_ids: Sequence[int], suffix_ids: Sequence[int] = ()
    ) -> None:
        self.titles = titles
        self.leaf = leaf
        self.n_preamble, self.n_suffix = len(preamble_ids), len(suffix_ids)
        around = np.array([*preamble_ids, *suffix_ids], dtype=np.int64)
        self._pool = np.concatenate([around[: self.n_preamble], titles.ids, around[self.n_preamble :]])
        self._item_lengths = titles.lengths[leaf]
        self._item_starts = self.n_preamble + titles.offsets[:-1][leaf]

    @property
    def shares_prefixes(self) -> bool:
        """Whether the prompt of a history begins the prompt of any longer one."""
        return self.n_suffix == 0

    def stream_lengths(self, starts: IntArray, ends: IntArray, item_index: IntArray) -> IntArray:
        """Return the tokens of a prompt that holds the items ``item_index[start:end]``, for many runs at once."""
        total = np.concatenate([[0], np.cumsum(self._item_lengths[item_index])])
        lengths: IntArray = self.n_preamble + total[ends] - total[starts] + self.n_suffix
        return lengths

    def longest(self, window: int, n_thoughts: int) -> int:
        """Return the most tokens of a prompt of `window` items, its thoughts, and a title but for its last token."""
        title = int(self.titles.lengths.max())
        return self.n_preamble + window * title + self.n_suffix + n_thoughts + title - 1

    def streams(self, histories: Histories) -> TokenStreams:
        """Return the token streams of histories, whole (cut them to the model's window before)."""
        n_items = histories.lengths
        first_piece = np.concatenate([[0], np.cumsum(n_items + 2)])
        preambles, suffixes = first_piece[:-1], first_piece[1:] - 1
        is_item = np.ones(first_piece[-1], dtype=bool)
        is_item[preambles] = is_item[suffixes] = False
        starts = np.zeros(len(is_item), dtype=np.int64)
        starts[suffixes] = len(self._pool) - self.n_suffix
        lengths = np.full(len(is_item), self.n_preamble, dtype=np.int64)
        lengths[suffixes] = self.n_suffix
        starts[is_item] = self._item_starts[histories.item_index]
        lengths[is_item] = self._item_lengths[histories.item_index]
        indices, piece_offsets = ragged_indices(starts, lengths)
        offsets = piece_offsets[first_piece]
        owner = np.repeat(np.arange(len(histories)), n_items)
        item_ends = piece_offsets[1:][is_item] - 1 - offsets[owner]
        around = np.full(len(is_item), -1, dtype=np.int64)
        items, places = around.copy(), around
        items[is_item] = histories.item_index
        places[is_item] = np.arange(len(owner)) - histories.offsets[owner]
        n_tokens = np.diff(piece_offsets)
        return TokenStreams(
            self._pool[indices], offsets, item_ends, np.repeat(items, n_tokens), np.repeat(places, n_tokens)
        )

    def sum_by_item(self, by_token: FloatArray, histories: Histories) -> FloatArray:
        """Return the sums over each history item's tokens of what tokens have been given, such as attention.

        Args:
            by_token: Values of the tokens of `streams(histories)`, not negative, one stream per row, [B, L, ...].
            histories: B histories, whole, none empty.

        Returns:
            One row per item in the histories' flat order, [sum of lengths, ...] float64.
        """
        ends = self.streams(histories).item_ends
        starts = np.concatenate([[0], ends[:-1] + 1])
        starts[histories.offsets[:-1]] = self.n_preamble
        running = np.cumsum(by_token, axis=1, dtype=np.float64)
        up_to = np.concatenate([np.zeros_like(running[:, :1]), running], axis=1)
        owner = np.repeat(np.arange(len(histories)), histories.lengths)
        sums: FloatArray = np.maximum(up_to[owner, ends + 1] - up_to[owner, starts], 0)
        return sums
