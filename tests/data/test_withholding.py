"""Nobody hears of a cold item before it is tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.data.preparation import prepare
from flr.data.splitting import check_leakage
from flr.data.storage import load_prepared, save_prepared
from flr.data.withholding import withhold, without_cold
from flr.errors import DataError
from flr.prepare_config import PrepareConfig
from flr.records import SPLITS, TEST, Interactions, PreparedData


def raw(n_items: int = 20, n_users: int = 60, length: int = 8) -> Interactions:
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", time)
        for user in range(n_users)
        for time, item in enumerate(rng.choice(n_items, length, replace=False))
    ]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(n_items)], "title": [f"Film {n}" for n in range(n_items)]})
    return Interactions(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), items)


def rows_of(data: PreparedData) -> set[tuple[str, str, int, str]]:
    """Return (user, item, time, split) of every row."""
    sequences = data.sequences
    users = sequences.user_ids[np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))]
    items = data.items["item_id"].to_numpy()[sequences.item_index]
    names = np.array(SPLITS)[sequences.split]
    return set(zip(users.tolist(), items.tolist(), sequences.timestamps.tolist(), names.tolist(), strict=True))


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_cold_items_are_in_test_rows_only_and_the_rest_is_as_before(split: str) -> None:
    whole = prepare(raw(), PrepareConfig(split=split))  # type: ignore[arg-type]
    cold = prepare(raw(), PrepareConfig(split=split, cold_items=0.25, cold_seed=3))  # type: ignore[arg-type]
    names = set(cold.items["item_id"][-5:])
    assert cold.n_cold == 5
    assert cold.manifest["cold"] == {"n_items": 5, "seed": 3}
    assert rows_of(cold) == {row for row in rows_of(whole) if row[1] not in names or row[3] == "test"}
    assert cold.manifest["dropped"]["rows_of_cold_items"] == len(rows_of(whole)) - len(rows_of(cold)) > 0
    assert [item for item in whole.items["item_id"] if item not in names] == cold.items["item_id"][:-5].to_list()
    check_leakage(cold.sequences.split, cold.sequences.offsets, cold.sequences.user_ids)
    is_cold = cold.sequences.item_index >= 15
    assert is_cold.any()
    assert (cold.sequences.split[is_cold] == TEST).all()


def test_other_seeds_withhold_other_items() -> None:
    names = [set(prepare(raw(), PrepareConfig(cold_items=0.25, cold_seed=s)).items["item_id"][-5:]) for s in (0, 1, 0)]
    assert names[0] == names[2] != names[1]


def test_only_who_asks_gets_to_see_them(tmp_path: Path) -> None:
    saved = save_prepared(prepare(raw(), PrepareConfig(cold_items=0.25)), tmp_path / "data")
    warm, whole = load_prepared(tmp_path / "data"), load_prepared(tmp_path / "data", with_cold=True)
    assert rows_of(whole) == rows_of(saved)
    assert len(warm.items) == 15
    assert warm.sequences.item_index.max() < 15
    assert rows_of(warm) == {row for row in rows_of(saved) if row[1] in set(warm.items["item_id"])}
    assert warm.n_cold == whole.n_cold == 5
    assert warm.manifest["data_hash"] == whole.manifest["data_hash"]
    assert np.diff(warm.sequences.offsets).min() > 0


def test_data_without_cold_items_are_all_warm(tmp_path: Path) -> None:
    saved = save_prepared(prepare(raw()), tmp_path / "data")
    assert rows_of(load_prepared(tmp_path / "data", with_cold=True)) == rows_of(saved)
    assert load_prepared(tmp_path / "data").n_cold == 0
    assert rows_of(PreparedData(without_cold(saved.sequences, 20), saved.items, {})) == rows_of(saved)


@pytest.mark.parametrize(
    ("n_items", "n_users", "share", "said"),
    [
        (20, 60, 0.999, "cold_items 0.999 withholds all 20 items"),
        (20, 60, 0.95, "cold_items 0.95 leaves no (training|validation) target"),
        (40, 1, 0.01, "none of the 1 test targets is a cold item"),
    ],
)
def test_too_many_and_too_few_are_refused(n_items: int, n_users: int, share: float, said: str) -> None:
    data = prepare(raw(n_items, n_users), PrepareConfig(catalogue="listed"))
    with pytest.raises(DataError, match=said):
        withhold(data.sequences, data.items, share=share, seed=0)
