from __future__ import annotations

import numpy as np

from flr.records import Histories, TokenizedTitles
from flr.text.template import PromptTemplate

# Leaf 0 = [10, 11, 1], leaf 1 = [12, 1]; items 0 and 2 share leaf 0.
TEMPLATE = PromptTemplate(
    TokenizedTitles(np.array([10, 11, 1, 12, 1]), np.array([0, 3, 5]), 1), np.array([0, 1, 0]), preamble_ids=[8, 9]
)


#: The same with tokens between the last title and the thought.
INSTRUCTION = PromptTemplate(TEMPLATE.titles, TEMPLATE.leaf, preamble_ids=[8, 9], suffix_ids=[5, 6])


def test_streams_are_preamble_and_titles() -> None:
    streams = TEMPLATE.streams(Histories(np.array([0, 1, 2]), np.array([0, 2, 2, 3])))
    assert streams.offsets.tolist() == [0, 7, 9, 14]
    assert streams.ids.tolist() == [8, 9, 10, 11, 1, 12, 1, 8, 9, 8, 9, 10, 11, 1]
    assert streams.item_ends.tolist() == [4, 6, 4]


def test_adding_an_item_only_appends_tokens() -> None:
    short = TEMPLATE.streams(Histories(np.array([0, 1]), np.array([0, 2])))
    longer = TEMPLATE.streams(Histories(np.array([0, 1, 1]), np.array([0, 3])))
    assert longer.ids[: len(short.ids)].tolist() == short.ids.tolist()


def test_lengths_are_known_without_writing_the_stream() -> None:
    items = np.array([0, 1, 2, 1])
    lengths = TEMPLATE.stream_lengths(np.array([0, 1]), np.array([3, 4]), items)
    assert lengths.tolist() == [2 + 3 + 2 + 3, 2 + 2 + 3 + 2]


def test_a_suffix_closes_every_stream() -> None:
    histories = Histories(np.array([0, 1, 2]), np.array([0, 2, 2, 3]))
    streams, plain = INSTRUCTION.streams(histories), TEMPLATE.streams(histories)
    assert streams.offsets.tolist() == [0, 9, 13, 20]
    assert streams.ids.tolist() == [8, 9, 10, 11, 1, 12, 1, 5, 6, 8, 9, 5, 6, 8, 9, 10, 11, 1, 5, 6]
    assert streams.item_ends.tolist() == plain.item_ends.tolist()
    lengths = INSTRUCTION.stream_lengths(np.array([0, 2, 2]), np.array([2, 2, 3]), histories.item_index)
    assert lengths.tolist() == streams.lengths.tolist()
    assert TEMPLATE.shares_prefixes
    assert not INSTRUCTION.shares_prefixes


def test_sums_over_the_tokens_of_each_item_leave_out_what_is_around() -> None:
    histories = Histories(np.array([0, 1, 2]), np.array([0, 2, 3]))
    # Columns: preamble (2), title of item 0 (3) and 1 (2), suffix; the second row is padded.
    by_token = np.arange(18, dtype=np.float32).reshape(2, 9)
    assert INSTRUCTION.sum_by_item(by_token, histories).tolist() == [2 + 3 + 4, 5 + 6, 11 + 12 + 13]
    assert TEMPLATE.sum_by_item(by_token[..., None], histories).tolist() == [[9], [11], [36]]
