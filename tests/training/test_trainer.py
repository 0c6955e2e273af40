"""Packed rows: every target once an epoch, whatever is asked first; little padding on real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.catalogue.titles import build_catalogue
from flr.compiled import CompiledCatalogue, compile_catalogue
from flr.data.preparation import prepare
from flr.data.readers import read
from flr.errors import DataError
from flr.prepare_config import PrepareConfig
from flr.records import CONTEXT, UserSequences
from flr.text.tokenizer import TitleTokenizer
from flr.training.trainer import PackedRows
from toy import INSTRUCTION, toy_model, toy_sequences


def packed_rows(sequences: UserSequences, compiled: CompiledCatalogue, *, window: int = 6, seed: int = 0) -> PackedRows:
    return PackedRows(sequences, compiled.packer(1), window=window, row_tokens=None, batch_tokens=3200, seed=seed)


def n_rows_of_an_epoch(rows: PackedRows) -> int:
    _ = rows.limit(1)[0]
    return len(rows._rows)


def test_an_epoch_holds_every_target_once() -> None:
    sequences = toy_sequences([2, 9, 15, 3, 31])
    rows = packed_rows(sequences, toy_model()[1])
    windows = [rows[place] for place in range(n_rows_of_an_epoch(rows))]
    targets = [row for part in windows for a, b in zip(part.starts, part.ends, strict=True) for row in range(a + 1, b)]
    expected = sorted(set(range(sequences.n_interactions)) - set(sequences.offsets[:-1].tolist()))
    assert sorted(targets) == expected


def test_an_epoch_of_instructions_holds_every_target_once() -> None:
    sequences = toy_sequences([2, 9, 15, 3, 31])
    rows = packed_rows(sequences, toy_model(*INSTRUCTION)[1])
    windows = [rows[place] for place in range(n_rows_of_an_epoch(rows))]
    targets = sorted(np.concatenate([part.ends - 1 for part in windows]).tolist())
    assert targets == sorted(set(range(sequences.n_interactions)) - set(sequences.offsets[:-1].tolist()))
    assert all((part.ends - part.starts <= 7).all() for part in windows)
    batch = rows.collate(windows)
    assert int((batch["target_items"] >= 0).sum()) == len(targets)


def test_a_row_is_the_same_whatever_was_asked_before() -> None:
    sequences, compiled = toy_sequences([9, 15, 31, 12]), toy_model()[1]
    one_by_one = packed_rows(sequences, compiled)
    in_order = [one_by_one[place].starts.tolist() for place in range(40)]
    jumping = packed_rows(sequences, compiled)
    assert [jumping[place].starts.tolist() for place in (33, 2, 39)] == [in_order[place] for place in (33, 2, 39)]
    other_seed = packed_rows(sequences, compiled, seed=1)
    assert [other_seed[place].starts.tolist() for place in range(40)] != in_order


def test_without_a_training_target_there_is_nothing_to_train_on() -> None:
    sequences = toy_sequences([3, 4])
    idle = replace(sequences, split=np.full(7, CONTEXT, dtype=np.int8))
    with pytest.raises(DataError, match="no training target"):
        packed_rows(idle, toy_model()[1])


@pytest.mark.parametrize(
    ("folder", "files", "settings"),
    [
        ("ml-1m-exact", ("interactions.parquet", "items.parquet"), PrepareConfig()),
        (
            "cds2015",
            ("interactions_raw.parquet", "items.parquet"),
            PrepareConfig(split="given", order_column="pos", missing_title="fallback"),
        ),
    ],
)
def test_padding_is_under_a_tenth_on_real_data(
    folder: str, files: tuple[str, str], settings: PrepareConfig, shared_data: Path
) -> None:
    interactions, items = (shared_data / folder / name for name in files)
    prepared = prepare(read(interactions, items, settings), settings)
    catalogue = build_catalogue(prepared.items)
    tokenizer = TitleTokenizer.train(catalogue.leaf_titles, 8000)
    compiled = compile_catalogue(catalogue, tokenizer, likelihood="catalogue", max_title_tokens=48)
    rows = packed_rows(prepared.sequences, compiled, window=20)
    shares = []
    for batch in range(8):
        parts = [rows[batch * rows.rows_per_batch + place] for place in range(rows.rows_per_batch)]
        segments = rows.collate(parts)["stream_segments"]
        shares.append(float((segments < 0).float().mean()))
    assert pl.Series(shares).mean() < 0.1
