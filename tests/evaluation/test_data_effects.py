"""What a finding does to HR@10, on a world small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flr.errors import DataError
from flr.evaluation import data_effects
from flr.evaluation.data_effects import DataEffects, measure_effects
from flr.records import TEST, TRAIN, UserSequences

N = 30


def world(n_users: int = 12) -> UserSequences:
    """Users who take item 0, then 1, then in test item 2 (even users) or the rare item 29 (odd users)."""
    last = [2 if user % 2 == 0 else 29 for user in range(n_users)]
    # A crowd without test rows makes items 0..11 popular and item 2 the successor of 1.
    crowd = [list(range(12)) for _ in range(5)]
    rows = [[0, 1, item] for item in last] + crowd
    splits = [[TRAIN, TRAIN, TEST]] * n_users + [[TRAIN] * 12] * 5
    lengths = [len(row) for row in rows]
    return UserSequences(
        np.array([f"u{n}" for n in range(len(rows))], dtype=object),
        np.cumsum([0, *lengths]),
        np.concatenate(rows).astype(np.int32),
        np.arange(sum(lengths)),
        np.concatenate(splits).astype(np.int8),
    )


def effects(sequences: UserSequences, **options: object) -> DataEffects:
    rows = sequences.targets(TEST)[1]
    settings = {
        "titles": np.arange(N),
        "marks": {"rare": sequences.item_index[rows] == 29, "nothing": np.zeros(len(rows), dtype=bool)},
        "repeated": np.zeros(sequences.n_interactions, dtype=bool),
        "seen_items": ("exclude",),
    }
    return measure_effects(sequences, **{**settings, **options})  # type: ignore[arg-type]


def test_marked_targets_are_told_from_the_rest() -> None:
    found = effects(world())
    assert (found.n_targets, found.n_users, found.n_all_targets) == (12, 12, 12)
    for recommender in ("popularity", "last-item-markov"):
        effect = found.effect("rare", recommender, "exclude")
        assert effect is not None
        assert (effect.n_targets, effect.hr, effect.hr_rest) == (6, 0.0, 1.0)
        assert found.score(recommender, "exclude").metrics["hr@10"] == 0.5
    assert found.effect("nothing", "popularity", "exclude") is None


def test_a_shared_title_is_credited_to_either_item() -> None:
    titles = np.arange(N)
    titles[29] = 2
    score = effects(world(), titles=titles).score("popularity", "exclude")
    assert (score.metrics["hr@10"], score.title_hr) == (0.5, 1.0)


def test_repeats_left_out_change_what_is_measured() -> None:
    """Even users took item 2 in training: a seen target is a miss, and without repeats it is no target."""
    sequences = world()
    sequences.item_index[np.arange(0, 36, 6)] = 2
    repeated = np.zeros(sequences.n_interactions, dtype=bool)
    repeated[np.arange(0, 36, 6) + 2] = True
    score = effects(sequences, repeated=repeated).score("popularity", "exclude")
    assert score.metrics["hr@10"] == 0.0
    assert score.hr_without_repeats == 0.0  # only targets of the rare item are left
    assert effects(world()).score("popularity", "exclude").hr_without_repeats is None


def test_errors_of_independent_users_are_naive_ones() -> None:
    score = effects(world()).score("popularity", "exclude")
    assert score.error_ratio == pytest.approx(1.0)
    assert score.standard_error == pytest.approx(0.5 / np.sqrt(11), rel=0.05)


def test_users_are_drawn_by_the_seed_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = effects(world(), max_users=4)
    assert (drawn.n_users, drawn.n_all_users) == (4, 12)
    monkeypatch.setattr(data_effects, "MAX_SCORES", 7 * N)
    assert effects(world()).n_targets == 7


def test_nothing_to_score() -> None:
    sequences = world()
    sequences.split[:] = TRAIN
    with pytest.raises(DataError, match="nothing to score: the test split has no row"):
        effects(sequences, marks={})
