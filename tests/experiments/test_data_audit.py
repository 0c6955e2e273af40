"""Every measured effect on a world whose figures are exact fractions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from audited import audited_data
from flr.errors import DataError
from flr.evaluation import data_effects
from flr.evaluation.data_effects import DataEffects
from flr.evaluation.protocol import SeenItems
from flr.experiments.data_audit import DataAudit, audit_data, headline, measured, scored_targets
from flr.progress import SILENT
from flr.records import TRAIN, PreparedData

ALL = 4


@pytest.fixture(scope="module")
def result() -> DataAudit:
    return audit_data(audited_data(), k=3)


@pytest.fixture(scope="module")
def effects(result: DataAudit) -> DataEffects:
    assert result.effects is not None
    return result.effects


def test_counts_of_the_test_split(result: DataAudit) -> None:
    counts = result.audit.counts
    assert (counts["test_targets"], counts["test_users"], counts["most_test_targets_of_a_user"]) == (4, 3, 2)


@pytest.mark.parametrize("recommender", ["popularity", "popularity-of-users", "last-item-markov"])
def test_reference_scores(effects: DataEffects, recommender: str) -> None:
    assert effects.score(recommender, "include").metrics["hr@10"] == pytest.approx(2 / ALL)
    assert effects.score(recommender, "exclude").metrics["hr@10"] == pytest.approx((1 + 1 / 4) / ALL)
    assert list(effects.scores[0].metrics) == ["hr@5", "ndcg@5", "hr@10", "ndcg@10"]


@pytest.mark.parametrize(
    ("finding", "n_targets", "excluded", "included"),
    [
        ("test_targets_tied_with_history", 1, (1, 1 / 12), (1, 1 / 3)),
        ("test_targets_seen_before", 1, (0, 5 / 12), (1, 1 / 3)),
        ("test_targets_with_shared_titles", 1, (1 / 4, 1 / 3), (0, 2 / 3)),
        ("test_targets_with_html_titles", 1, (0, 5 / 12), (0, 2 / 3)),
        ("cold_test_targets", 1, (0, 5 / 12), (0, 2 / 3)),
        ("test_targets_of_new_users", 4, (5 / 16, None), (1 / 2, None)),
        ("test_targets_sharing_a_user", 2, (1 / 2, 1 / 8), (1 / 2, 1 / 2)),
        ("users_below_3", 2, (1 / 8, 1 / 2), (1 / 2, 1 / 2)),
        ("items_below_3", 2, (1 / 8, 1 / 2), (0, 1)),
    ],
)
def test_effects(
    effects: DataEffects,
    finding: str,
    n_targets: int,
    excluded: tuple[float, float | None],
    included: tuple[float, float | None],
) -> None:
    treatments: dict[SeenItems, tuple[float, float | None]] = {"exclude": excluded, "include": included}
    for treatment, (hr, hr_rest) in treatments.items():
        effect = effects.effect(finding, "popularity", treatment)
        assert effect is not None
        assert effect.n_targets == n_targets
        assert effect.hr == pytest.approx(hr)
        assert effect.hr_rest == (None if hr_rest is None else pytest.approx(hr_rest))


def test_what_marks_nothing_has_no_effect(effects: DataEffects) -> None:
    assert effects.effect("test_targets_with_entity_titles", "popularity", "exclude") is None
    assert effects.effect("missing_titles", "popularity", "exclude") is None


def test_crediting_titles_takes_item_0_for_item_12(effects: DataEffects) -> None:
    assert effects.score("popularity", "include").title_hr == pytest.approx(3 / ALL)
    assert effects.score("popularity", "exclude").title_hr == pytest.approx(2 / ALL)


def test_without_repeats_three_targets_are_left(effects: DataEffects) -> None:
    assert effects.score("popularity", "include").hr_without_repeats == pytest.approx(1 / 3)
    assert effects.score("popularity", "exclude").hr_without_repeats == pytest.approx(5 / 12)


def test_standard_errors_of_a_user_whose_targets_cancel(effects: DataEffects) -> None:
    # Hits 1 0 | 1 | 0: naive sqrt(1/3) / 2, clustered sqrt(3/2 * 1/2) / 4.
    score = effects.score("popularity", "include")
    assert score.standard_error == pytest.approx(np.sqrt(1 / 3) / 2)
    assert score.clustered_error == pytest.approx(np.sqrt(3 / 4) / 4)
    assert score.error_ratio == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("finding", "sentence"),
    [
        ("test_targets_with_shared_titles", "Crediting titles would take HR@10 from 0.5000 to 0.7500 (popularity)"),
        ("repeated_rows", "Without these rows HR@10 would go from 0.5000 to 0.3333 (popularity)"),
        ("test_targets_sharing_a_user", "from 0.2887 to 0.2165 (0.8 times, popularity)"),
        ("cold_test_targets", ""),
    ],
)
def test_measured_sentences(result: DataAudit, finding: str, sentence: str) -> None:
    assert sentence in measured(result.audit[finding], result.effects, "include")
    assert measured(result.audit[finding], None, "include") == ""


def test_the_headline_is_the_finding_that_moves_hr_most(result: DataAudit) -> None:
    assert headline(result, "exclude") == (
        "What moves HR@10 most: test targets tied with history. popularity reaches 1.0000 on these 1 test targets and "
        "0.0833 on the rest."
    )
    assert headline(DataAudit(result.audit, None), "exclude") == ""


def test_json_holds_everything_and_is_small(result: DataAudit) -> None:
    content = json.loads(json.dumps(result.to_json()))
    assert content["scored"] == {"n_targets": 4, "n_users": 3, "n_all_targets": 4, "n_all_users": 3, "seed": 0}
    assert len(content["scores"]) == 6
    assert {one["finding"] for one in content["effects"]} >= {"cold_test_targets", "test_targets_seen_before"}
    assert set(DataAudit(result.audit, None).to_json()) == {"counts", "findings"}


def test_one_treatment_only() -> None:
    found = audit_data(audited_data(), seen_items=("include",)).effects
    assert found is not None
    assert {one.seen_items for one in (*found.scores, *found.effects)} == {"include"}


def test_drawn_users_keep_all_their_targets_and_the_seed_decides() -> None:
    drawn = [audit_data(audited_data(), max_users=1, seed=seed).effects for seed in (0, *range(12))]
    assert repr(drawn[0]) == repr(drawn[1])
    assert {one.n_targets for one in drawn if one} == {1, 2}
    assert scored_targets(replace(drawn[0], n_targets=2, seed=7)) == (  # type: ignore[type-var]
        "2 of 4 test targets, of 1 of 3 users drawn at random (seed 7), all items ranked"
    )


def test_too_many_scores_are_avoided_by_drawing_users(monkeypatch: pytest.MonkeyPatch) -> None:
    n_items = 15
    for allowed, n_users in ((4 * n_items, 3), (4 * n_items - 1, 2), (1, 1)):
        monkeypatch.setattr(data_effects, "MAX_SCORES", allowed)
        found = audit_data(audited_data()).effects
        assert found is not None
        assert found.n_users <= n_users
        assert (found.n_targets * n_items <= allowed) or found.n_users == 1


def test_nothing_to_score_is_an_error_that_names_the_way_out() -> None:
    data = audited_data()
    split = np.minimum(data.sequences.split, TRAIN)
    without = PreparedData(replace(data.sequences, split=split), data.items, {})
    with pytest.raises(DataError, match="audit it without scores"):
        audit_data(without, progress=SILENT)
    assert audit_data(without, scores=False).effects is None
