"""Evidence of a run is gathered once, goes on after a kill, and is gathered again only where it would differ."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from flr.data.storage import load_prepared
from flr.diagnostics.factor_records import collect_factors
from flr.diagnostics.stability import attention_similarity
from flr.errors import ArtifactError
from flr.evaluation.reports import load_report
from flr.experiments import evidence
from flr.experiments.baselines import run_baselines
from flr.experiments.evidence import drawn_users, gather
from flr.experiments.evidence_files import Subject, load_records, load_table, spent_seconds
from flr.experiments.evidence_settings import EvidenceSettings
from flr.recommender import Recommender
from flr.records import TEST
from toy import prepared_ring, toy_sequences
from toy_runs import subject_of, toy_run

SETTINGS = EvidenceSettings.model_validate(
    {
        "disentanglement": {"n_resamples": 20},
        "mutual_information": {"n_permutations": 2, "n_permutations_infonce": 1, "n_halves": 5},
        "interventions": {"max_targets": 30, "kinds": ["remove"]},
        "robustness": {"max_targets": 30, "strengths": {"drop": [0.5], "cold": [0.5]}},
    }
)
ALL = "gathered factors, profiles, information, interventions, robustness"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_ring(tmp_path_factory.mktemp("ring") / "data", n_users=60)


@pytest.fixture(scope="module")
def gathered(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = toy_run(tmp_path_factory.mktemp("runs") / "flr", data)
    assert gather(subject, SETTINGS) == ALL
    return subject


def changed(**parts: Any) -> EvidenceSettings:
    return EvidenceSettings.model_validate({**SETTINGS.model_dump(), **parts})


def copy_of(subject: Subject, folder: Path) -> Subject:
    shutil.copytree(subject.folder, folder)
    return subject_of(folder, subject.data, subject.seed)


def contents(subject: Subject) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(subject.evidence.glob("*.parquet"))}


def test_what_is_there_is_not_gathered_again(gathered: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.experiments.evidence.Recommender", None)  # no model is even loaded
    before = {path: path.stat().st_mtime_ns for path in gathered.evidence.iterdir()}
    assert gather(gathered, SETTINGS) == "evidence is there already"
    assert {path: path.stat().st_mtime_ns for path in gathered.evidence.iterdir()} == before
    assert spent_seconds(gathered) > 0


def test_a_kill_costs_the_instrument_in_hand_and_changes_nothing(
    gathered: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copy_of(gathered, tmp_path / "killed")
    shutil.rmtree(again.evidence)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evidence, "intervened_values", killed)
        with pytest.raises(KeyboardInterrupt):
            gather(again, SETTINGS)
    assert not (again.evidence / "interventions.json").exists()
    assert load_table(again, "interventions", SETTINGS.interventions) is None
    assert gather(again, SETTINGS) == "gathered interventions, robustness"
    assert contents(again) == contents(gathered)


def test_only_what_would_differ_is_gathered_again(gathered: Subject, tmp_path: Path) -> None:
    run = copy_of(gathered, tmp_path / "run")
    harder = changed(robustness={"max_targets": 30, "strengths": {"drop": [0.8]}})
    assert load_table(run, "robustness", harder.robustness) is None  # what other settings found is not shown
    assert gather(run, harder) == "gathered robustness"
    assert gather(run, changed(mutual_information=False)) == "gathered robustness"
    assert gather(run, SETTINGS) == "evidence is there already"
    other = toy_run(tmp_path / "other", gathered.data, seed=1)
    for name in ("model.safetensors", "recommender.json"):
        shutil.copy(other.folder / "model" / name, run.folder / "model" / name)
    assert gather(run, SETTINGS) == ALL


def test_a_run_that_ranks_by_a_beam_is_damaged_as_it_ranks(data: Path, tmp_path: Path) -> None:
    beam = ["evaluation.ranking=beam", "evaluation.beam_width=10", "evaluation.guide=last_item_markov"]
    subject = toy_run(tmp_path / "beam", data, *beam, "reasoner.kind=none")
    gather(subject, SETTINGS)
    table = load_table(subject, "robustness", SETTINGS.robustness)
    assert table is not None
    tested = load_report(subject.folder, "test").per_target.join(table, on="row")
    assert len(tested) == len(table)
    assert tested["none"].to_list() == tested["ndcg@10"].to_list(), "undamaged it ranks as it was tested"
    exact = toy_run(tmp_path / "exact", data, "reasoner.kind=none")
    assert gather(exact, SETTINGS) == "gathered robustness"
    assert not table["none"].equals(load_table(exact, "robustness", SETTINGS.robustness)["none"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["reasoner.kind=none"], "gathered robustness"),
        (["reasoner.n_factors=1"], "gathered factors, profiles, interventions, robustness"),
    ],
)
def test_a_model_without_a_thought_or_pairs(data: Path, tmp_path: Path, overrides: list[str], told: str) -> None:
    assert gather(toy_run(tmp_path / "run", data, *overrides), SETTINGS) == told


def test_a_baseline_is_only_damaged(data: Path, tmp_path: Path) -> None:
    run_baselines(data, tmp_path, only=["last-item-markov"])
    subject = subject_of(tmp_path / "last-item-markov", data, 0, is_baseline=True)
    assert gather(subject, SETTINGS) == "gathered robustness"
    found = load_table(subject, "robustness", SETTINGS.robustness)
    assert found is not None
    assert found.columns == ["row", "user_index", "item_index", "none", "drop 0.5"]
    assert found["none"].mean() == 1.0  # the last item decides
    assert found["drop 0.5"].mean() < 0.9


def test_undamaged_values_are_those_of_the_test_report(gathered: Subject) -> None:
    report = load_report(gathered.folder, "test").per_target
    for name, settings in (("robustness", SETTINGS.robustness), ("interventions", SETTINGS.interventions)):
        found = load_table(gathered, name, settings)
        assert found is not None
        joined = found.join(report, on="row")
        np.testing.assert_allclose(joined["none"], joined["ndcg@10"], atol=1e-9)
        assert 2 < len(joined) <= 30


def test_records_come_back_but_for_thoughts(gathered: Subject) -> None:
    found = load_records(gathered, SETTINGS.disentanglement)
    assert found is not None
    expected = collect_factors(Recommender.load(gathered.folder), load_prepared(gathered.data).sequences)
    np.testing.assert_array_equal(found.factors, expected.factors)
    np.testing.assert_allclose(attention_similarity(found, expected).diagonal(), 1, atol=1e-6)
    assert found.vectors.size == 0
    assert load_records(gathered, None) is None


def test_users_are_drawn_whole_and_more_hold_fewer() -> None:
    world = toy_sequences([5, 9, 7, 6, 8] * 4)
    world.split[world.offsets[1:] - 1] = TEST
    world.split[world.offsets[1:] - 2] = TEST
    few, many = drawn_users(world, 8, 3), drawn_users(world, 20, 3)
    assert (len(few), len(many), len(drawn_users(world, 1, 0)), len(drawn_users(world, 999, 0))) == (4, 10, 2, 20)
    assert set(few) < set(many)
    assert set(drawn_users(world, 20, 4)) != set(many)


def test_who_has_many_targets_is_drawn_as_often_as_others() -> None:
    world = toy_sequences([40, *[6] * 30])
    world.split[world.offsets[1:] - 1] = TEST
    world.split[world.offsets[0] + 10 : world.offsets[1]] = TEST  # half of all targets are one user's
    drawn = [drawn_users(world, 20, seed) for seed in range(300)]
    assert {len(users) for users in drawn} == {10}
    assert 0.25 < np.mean([0 in users for users in drawn]) < 0.4


def test_records_of_the_model_before_its_training_are_kept(gathered: Subject) -> None:
    before = load_records(gathered, SETTINGS.disentanglement, "untrained")
    after = load_records(gathered, SETTINGS.disentanglement)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before.rows, after.rows)
    assert not np.allclose(before.factors, after.factors)


def test_evidence_of_other_weights_is_gone_even_where_gathering_fails(
    gathered: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(gathered, tmp_path / "run")
    other = toy_run(tmp_path / "other", gathered.data, seed=1)
    shutil.copytree(other.folder / "model", run.folder / "model", dirs_exist_ok=True)

    def broken(*_: Any, **__: Any) -> None:
        raise ArtifactError("no")

    monkeypatch.setattr(evidence, "collect_factors", broken)
    with pytest.raises(ArtifactError):
        gather(run, SETTINGS)
    assert load_table(run, "robustness", SETTINGS.robustness) is None


def test_missing_weights_and_damaged_tables_are_told(gathered: Subject, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there are no weights .*nowhere"):
        gather(subject_of(tmp_path / "nowhere", gathered.data, 0, is_baseline=True), SETTINGS)
    run = copy_of(gathered, tmp_path / "run")
    (run.evidence / "robustness.parquet").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"cannot read the evidence .*robustness\.parquet"):
        load_table(run, "robustness", SETTINGS.robustness)
    (run.evidence / "factors.npz").write_bytes(b"half")
    with pytest.raises(ArtifactError, match=r"cannot read the evidence .*factors\.npz"):
        load_records(run, SETTINGS.disentanglement)


def test_switches() -> None:
    off = EvidenceSettings.model_validate({"robustness": False, "interventions": True})
    assert off.robustness is None
    assert off.interventions == EvidenceSettings().interventions


def test_the_documents_show_the_defaults() -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(evidence:.*?)```", text, re.DOTALL)
    names = {"control": "no regularisers", "single_vector": "single vector"}
    assert EvidenceSettings.model_validate(yaml.safe_load(shown)["evidence"]) == EvidenceSettings(**names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"robustness": {"strengths": {"rain": [1]}}}, r"there is no strain 'rain'"),
        ({"robustness": {"strengths": {"drop": [1.5]}}}, r"got strength 1.5 of 'drop', expected a share above 0"),
        ({"robustness": {"strengths": {"truncate": [0]}}}, r"got strength 0 of 'truncate', expected a number of items"),
        ({"interventions": {"kinds": ["burn"]}}, r"'remove', 'mean', 'swap' or 'shuffle'"),
        ({"interventiosn": True}, r"interventiosn\n  Extra inputs"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvidenceSettings.model_validate(given)
