"""Whole blocks: an answer's last bit does not depend on company, on padding, or on what was read before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr import blocks
from flr.backbone.prefixes import PrefixReader
from flr.backbone.streams import EncodedStreams
from flr.blocks import BLOCK, by_block, in_any_company, shared_columns
from flr.recommender import Recommender
from flr.records import Histories, IntArray
from flr.text.template import TokenStreams
from toy import INSTRUCTION, TITLES, UNSET, toy_catalogue, toy_model, toy_tokenizer

pytestmark = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="measured with MKL only")


def make(*overrides: str) -> Recommender:
    model, compiled, config = toy_model(*overrides, "text.window=60")
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), toy_catalogue(), config)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["reasoner.kind=none"],
        ["reasoner.thought_positions=all"],
        ["reasoner.titles_see=thought"],
        ["objective.likelihood=vocabulary"],
        INSTRUCTION,
        UNSET,
        [*UNSET, *INSTRUCTION],
    ],
)
def test_a_list_is_the_same_to_the_bit_in_any_company(overrides: list[str]) -> None:
    recommender = make(*overrides)
    rng = np.random.default_rng(0)
    # The longest streams are past the columns that rows may share.
    histories = [
        [f"i{n}" for n in rng.integers(0, len(TITLES), length)] for length in [1, 2, 3, 5, 8, 13, 21, 34, 58, 60] * 2
    ]
    alone = [recommender.recommend([history], 6, exclude_seen=False)[0] for history in histories]
    for size in (2, 3, 5, 7, 16, 20):
        together = [
            items
            for start in range(0, len(histories), size)
            for items in recommender.recommend(histories[start : start + size], 6, exclude_seen=False)
        ]
        assert together == alone


def test_long_histories_of_as_many_items_but_other_lengths_do_not_share_their_padding() -> None:
    recommender = make(*INSTRUCTION)
    drawn, most = np.random.default_rng(0).integers(0, len(TITLES), (24, 60)), shared_columns()

    def lengths_of(n: int) -> IntArray:
        histories = Histories(drawn[:, :n].ravel(), np.arange(25) * n)
        return recommender.compiled.template.streams(histories).lengths

    n_items = next(n for n in range(60) if max(lengths_of(n)) > most - 2 * BLOCK)
    items, lengths = drawn[:, :n_items], lengths_of(n_items)
    assert min(lengths) < most - 3 * BLOCK
    histories = [[f"i{n}" for n in items[row]] for row in np.argsort(-lengths)]
    alone = [recommender.recommend([history], 6, exclude_seen=False)[0] for history in histories]
    for n in (1, 2):  # the longest come first
        some = slice(n), slice(-n - 1, None)
        together = recommender.recommend([one for part in some for one in histories[part]], 6, exclude_seen=False)
        assert together == [one for part in some for one in alone[part]]


def test_reading_on_after_whole_blocks_is_the_same_to_the_bit_as_reading_at_once() -> None:
    recommender = make()
    items = np.random.default_rng(1).integers(0, len(TITLES), 24)
    streams = recommender.compiled.template.streams(Histories(items, np.array([0, len(items)])))
    n_tokens = len(streams.ids)
    assert 5 * BLOCK < n_tokens < shared_columns()
    with torch.inference_mode():
        whole = recommender.model.read(streams)
        for n_read in range(BLOCK, n_tokens, BLOCK):
            past = EncodedStreams(
                whole.hidden[:, :n_read],
                whole.real[:, :n_read],
                tuple(layer[:, :, :n_read].clone() for layer in whole.keys),
                tuple(layer[:, :, :n_read].clone() for layer in whole.values),
            )
            around = np.full(n_tokens - n_read, -1)
            rest = TokenStreams(
                streams.ids[n_read:], np.array([0, n_tokens - n_read]), streams.item_ends, around, around
            )
            extended = recommender.model.read(rest, past)
            assert torch.equal(extended.hidden[:, :n_tokens], whole.hidden[:, :n_tokens])
            assert torch.equal(extended.keys[-1][:, :, :n_tokens], whole.keys[-1][:, :, :n_tokens])


def test_few_rows_come_again_until_there_is_a_block_and_many_do_not() -> None:
    seen: list[int] = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows * 2

    for n in (1, BLOCK - 1, BLOCK, BLOCK + 3):
        rows = torch.randn(n, 4)
        assert torch.equal(by_block(double, rows), rows * 2)
    assert seen == [BLOCK, 2 * (BLOCK - 1), BLOCK, BLOCK + 3]
    assert by_block(double, torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize(("limit", "expected"), [(383, 192), (192, 192), (191, 0)])
def test_columns_that_rows_share_are_found_out(limit: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_columns() in {384, 192}
    attend = torch.nn.functional.scaled_dot_product_attention

    def in_parts(query: torch.Tensor, key: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return attend(query, key, *rest) + (1e-6 if key.shape[2] > limit else 0)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", in_parts)
    assert blocks._most_shared.__wrapped__() == expected


def test_where_nobody_compares_last_bits_no_row_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles alone, whose trie is read nearly whole: histories need more columns than rows share."""
    monkeypatch.setattr("flr.blocks._most_shared", lambda: 64)
    recommender = make("reasoner.kind=none")
    histories = Histories.of([[item % len(TITLES) for item in range(start, start + 9)] for start in range(12)])
    n_calls = 0
    read = PrefixReader.__call__

    def counted(self: PrefixReader, *given: torch.Tensor) -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        return read(self, *given)

    monkeypatch.setattr("flr.backbone.prefixes.PrefixReader.__call__", counted)
    alone = recommender.score_best(histories, 10, exclude_seen=False)
    n_alone, n_calls = n_calls, 0
    with in_any_company():
        together = recommender.score_best(histories, 10, exclude_seen=False)
    assert n_calls * 4 < n_alone
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert shared_columns() == 64


def test_company_counts_again_after_an_error() -> None:
    before = shared_columns()
    with pytest.raises(KeyError), in_any_company():
        assert shared_columns() > 1_000_000
        raise KeyError
    assert shared_columns() == before
