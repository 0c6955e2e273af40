"""What was read of long histories is read on from whole chunks, to the same bits as when it is read anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flr.backbone.streams import EncodedStreams
from flr.blocks import CHUNK, shared_columns
from flr.recommender import Recommender
from flr.records import Histories
from flr.serving.prefix_cache import PrefixCache
from flr.text.template import TokenStreams
from serving.conftest import make_recommender
from toy import TITLES

_TAKEN = np.random.default_rng(0).integers(len(TITLES), size=260)


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return make_recommender("text.window=300", "reasoner.memory=transitions")


def tokens(recommender: Recommender, n: int) -> TokenStreams:
    return recommender.compiled.template.streams(Histories(_TAKEN[:n], np.array([0, n])))


def read_anew(recommender: Recommender, n: int) -> EncodedStreams:
    with torch.inference_mode():
        return recommender.model.read(tokens(recommender, n))


def length(recommender: Recommender, n: int) -> int:
    return int(tokens(recommender, n).lengths[0])


def test_a_long_history_that_grew_is_read_on_from_its_last_whole_chunk(recommender: Recommender) -> None:
    cache = PrefixCache(recommender.model.read, 10_000)
    grown = [n for n in range(90, 260, 17) if length(recommender, n) > shared_columns()]
    assert len(grown) > 3
    with torch.inference_mode():
        cache(tokens(recommender, grown[0]))
        for n in grown[1:]:
            before, n_tokens = cache.n_read, length(recommender, n)
            found, anew = cache(tokens(recommender, n)), read_anew(recommender, n)
            assert torch.equal(found.hidden, anew.hidden)
            assert all(torch.equal(a, b) for a, b in zip(found.keys, anew.keys, strict=True))
            assert found.items is not None and anew.items is not None and torch.equal(found.items, anew.items)
            assert cache.n_read - before < 2 * CHUNK < n_tokens


def test_a_history_that_becomes_long_goes_on_from_what_was_read_of_it_when_short(recommender: Recommender) -> None:
    short = next(n for n in range(200, 0, -1) if length(recommender, n) <= shared_columns())
    cache = PrefixCache(recommender.model.read, 10_000)
    with torch.inference_mode():
        cache(tokens(recommender, short))
        before = cache.n_read
        found = cache(tokens(recommender, short + 1))
    assert torch.equal(found.hidden, read_anew(recommender, short + 1).hidden)
    assert cache.n_read - before < CHUNK + 16


def test_chunks_read_what_one_forward_reads(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    chunked = read_anew(recommender, 200)
    monkeypatch.setattr("flr.model.shared_columns", lambda: 100_000)
    at_once = read_anew(recommender, 200)
    assert chunked.real.shape == at_once.real.shape
    assert torch.allclose(chunked.hidden[chunked.real], at_once.hidden[at_once.real], atol=1e-4)


def test_histories_of_unlike_length_may_be_long_together(recommender: Recommender) -> None:
    lengths = (40, 250, 130)
    together = Histories(np.concatenate([_TAKEN[:n] for n in lengths]), np.cumsum([0, *lengths]))
    with torch.inference_mode():
        read = recommender.model.read(recommender.compiled.template.streams(together))
    for row, n in enumerate(lengths):
        alone = read_anew(recommender, n)
        assert torch.allclose(read.hidden[row][read.real[row]], alone.hidden[0][alone.real[0]], atol=1e-4)
        assert read.items is not None and alone.items is not None
        assert torch.equal(read.items[row][read.real[row]], alone.items[0][alone.real[0]])
