"""Damage does what its name says, depends on nothing but seed and history, and shows in the curves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest

from flr.errors import ConfigError
from flr.evaluation.damage import DamagedScorer, damage
from flr.evaluation.robustness import hardest, strained_values
from flr.records import TEST, TRAIN, FloatArray, Histories, UserSequences

N = 40


def histories(*rows: list[int]) -> Histories:
    return Histories(np.concatenate([np.array(row) for row in rows]), np.cumsum([0, *map(len, rows)]))


def rows_of(found: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(found.item_index, found.offsets[1:-1])]


TEN, ONE = list(range(10)), [7]


def damaged(kind: str, strength: float, seed: int = 0) -> list[list[int]]:
    return rows_of(damage(histories(TEN, ONE), kind, strength, n_items=N, seed=seed))


def test_inserted_items_leave_the_others_in_order() -> None:
    ten, one = damaged("insert", 0.3)
    assert (len(ten), len(one)) == (13, 1)
    places = iter(ten)
    assert all(item in places for item in TEN)  # a subsequence


def test_dropped_items_leave_the_others_in_order_and_one_at_least() -> None:
    ten, one = damaged("drop", 0.3)
    assert len(ten) == 7
    assert ten == sorted(ten)
    assert one == ONE
    assert [len(row) for row in damaged("drop", 1.0)] == [1, 1]


def test_shuffling_moves_a_share_of_the_items() -> None:
    ten, one = damaged("shuffle", 0.5)
    assert sorted(ten) == TEN
    assert 1 < sum(a != b for a, b in zip(ten, TEN, strict=True)) <= 5
    assert one == ONE


def test_truncation_takes_the_last_and_leaves_one() -> None:
    assert damaged("truncate", 3) == [TEN[:7], ONE]
    assert damaged("truncate", 99) == [[0], ONE]


@pytest.mark.parametrize("kind", ["insert", "drop", "shuffle", "truncate"])
def test_no_strength_no_damage(kind: str) -> None:
    assert damaged(kind, 0) == [TEN, ONE]


def test_damage_depends_on_seed_and_history_alone() -> None:
    alone = rows_of(damage(histories(TEN), "insert", 0.5, n_items=N, seed=3))
    assert alone[0] == damaged("insert", 0.5, seed=3)[0] != damaged("insert", 0.5, seed=4)[0]


@pytest.mark.parametrize(("kind", "strength"), [("burn", 0.1), ("drop", 1.5), ("truncate", -1)])
def test_impossible_damage_is_refused(kind: str, strength: float) -> None:
    with pytest.raises(ConfigError, match=rf"damage '{kind}' of strength {strength}"):
        damaged(kind, strength)


@dataclass
class NextNumber:
    """Knows that i + 1 follows i, and that popular items come else."""

    name: str = "next-number"
    told: list[Histories] = field(default_factory=list)

    def score(self, histories: Histories) -> FloatArray:
        self.told.append(histories)
        scores = np.tile(-np.arange(N, dtype=np.float64), (len(histories), 1))
        scores[np.arange(len(histories)), (histories.item_index[histories.offsets[1:] - 1] + 1) % N] = 1
        return scores


def world() -> UserSequences:
    """Thirty users who count upwards from where they start."""
    starts = np.arange(30)
    items = (starts[:, None] + np.arange(6)) % N
    split = np.tile([TRAIN] * 5 + [TEST], (30, 1))
    return UserSequences(
        np.array([f"u{n}" for n in starts], dtype=object),
        np.arange(0, 181, 6),
        items.ravel().astype(np.int32),
        np.arange(180),
        split.ravel().astype(np.int8),
    )


def test_values_of_a_model_that_reads_the_last_item() -> None:
    strengths = {"truncate": (1,), "drop": (0.4, 0.8), "cold": (0.9,)}
    frame = strained_values(NextNumber(), world(), N, strengths=strengths, metric="ndcg@5")
    assert frame.columns == ["row", "user_index", "item_index", "none", "truncate 1", "drop 0.4", "drop 0.8"]
    assert (frame["none"] == 1).all()
    assert frame["truncate 1"].to_numpy().mean() < 0.2  # the last item is all it reads
    assert frame["drop 0.4"].to_numpy().mean() > frame["drop 0.8"].to_numpy().mean()
    coldest = frame.filter(hardest(frame, world(), N, "cold", 0.9))
    assert sorted(coldest["item_index"]) == [31, 32, 33, 34]  # taken by 3, 2, 1 and no other users


def test_only_the_window_is_damaged_and_told() -> None:
    scorer = NextNumber()
    DamagedScorer(scorer, "shuffle", 1.0, N, window=3).score(histories(TEN))
    assert sorted(scorer.told[0].item_index.tolist()) == [7, 8, 9]
    assert DamagedScorer(scorer, "drop", 0.25, N).name == "next-number (drop 0.25)"


def test_the_hardest_targets() -> None:
    """User 0 takes what others take too; items 1 and 2 are taken once in training."""
    sequences = UserSequences(
        np.array(["a", "b", "c"], dtype=object),
        np.array([0, 3, 6, 9]),
        np.array([0, 0, 1, 0, 2, 0, 1, 2, 3], dtype=np.int32),
        np.arange(9),
        np.array([TRAIN, TRAIN, TEST] * 3, dtype=np.int8),
    )
    per_target = pl.DataFrame({"user_index": [0, 1, 2], "item_index": [1, 0, 3]})
    assert hardest(per_target, sequences, 4, "cold", 1.0).tolist() == [False, False, True]
    assert hardest(per_target, sequences, 4, "cold", 0.5).tolist() == [True, False, True]
    assert hardest(per_target, sequences, 4, "shifted", 1.0).tolist() == [False, False, True]
    assert hardest(per_target, sequences, 4, "shifted", 0.0).all()


def test_an_unknown_strain_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown strains \['rain'\]"):
        strained_values(NextNumber(), world(), N, strengths={"rain": (1,)})


def test_older_items_are_told_as_they_are() -> None:
    scorer = NextNumber()
    DamagedScorer(scorer, "drop", 0.5, N, window=4, keeps_older=True).score(histories(TEN, ONE))
    ten, one = rows_of(scorer.told[0])
    assert ten[:6] == TEN[:6]
    assert len(ten) == 8
    assert set(ten[6:]) < set(TEN[6:])
    assert one == ONE
