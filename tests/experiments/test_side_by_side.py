"""Folders of results beside each other: known differences are found, and what cannot be compared is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.errors import ArtifactError, DataError, RequestError
from flr.evaluation.comparison import compare, holm
from flr.evaluation.reports import save_report
from flr.experiments.side_by_side import compare_folders
from flr.persistence import write_json
from flr.records import Report
from flr.seeding import generator

N = 300


def save(
    folder: Path, gain: float, seed: int = 0, *, items: int = 0, seen_items: str | None = "exclude", name: str = "flr"
) -> pl.DataFrame:
    noise = np.random.default_rng(seed + 1).normal(0, 0.005, N)
    values = np.random.default_rng(0).random(N) * 0.5 + gain + noise
    users = np.arange(N) // 3
    ids = pl.Series([str(user) for user in users])
    columns = {"user_index": users, "user_id": ids, "row": np.arange(N), "item_index": np.full(N, items)}
    targets = pl.DataFrame({**columns, "ndcg@10": values, "hr@10": (values > 0.3).astype(float)})
    metrics = {"ndcg@10": float(values.mean()), "hr@10": float((values > 0.3).mean())}
    save_report(Report(name, "test", metrics, targets, 1.0, seen_items), folder)
    return targets


def test_others_are_compared_with_the_first_as_a_study_does(tmp_path: Path) -> None:
    ours = [save(tmp_path / "ours" / f"seed-{seed}", 0.1, seed) for seed in (0, 1)]
    worse = save(tmp_path / "worse", 0.05, 7)
    alike = [save(tmp_path / "runs" / f"alike-{seed}", 0.1, seed) for seed in (2, 1, 0)]
    names = [str(tmp_path / "ours"), str(tmp_path / "worse"), str(tmp_path / "runs" / "alike-*")]
    first, second, third = compare_folders(names)
    assert [model.figure.n for model in (first, second, third)] == [2, 1, 3]
    assert first.figure.mean == pytest.approx(np.mean([run["ndcg@10"].mean() for run in ours]))
    assert first.first_less_this is None
    assert [folder.name for folder in third.folders] == ["alike-0", "alike-1", "alike-2"]
    in_order = (alike[2], alike[1], alike[0])
    expected = [compare(theirs, ours, "ndcg@10", generator(0, "side by side")) for theirs in ([worse], in_order)]
    assert [second.first_less_this, third.first_less_this] == expected
    assert [second.corrected, third.corrected] == holm([found.p_value for found in expected]).tolist()
    assert second.corrected is not None and second.corrected < 1e-6
    assert expected[0].difference.mean == pytest.approx(0.05, abs=0.002)
    assert third.corrected is not None and third.corrected > second.corrected


def test_another_metric_can_be_compared_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b")]
    save(Path(names[0]), 0.2)
    save(Path(names[1]), 0.0)
    assert compare_folders(names, metric="hr@10")[1].first_less_this
    with pytest.raises(RequestError, match="unknown metric 'ndgc@10' of 'flr': did you mean 'ndcg@10'"):
        compare_folders(names, metric="ndgc@10")
    with pytest.raises(RequestError, match="unknown metric 'row'"):
        compare_folders(names, metric="row")


def test_what_answers_another_question_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "ours", 0.1)
    save(tmp_path / "other-items", 0.1, items=3)
    save(tmp_path / "seen", 0.1, seen_items="include")
    save(tmp_path / "before", 0.1, 5, seen_items=None)
    ours = str(tmp_path / "ours")
    with pytest.raises(DataError, match=r"300 and 300 targets that are not the same"):
        compare_folders([ours, str(tmp_path / "other-items")])
    with pytest.raises(DataError, match=r"seen_items=include.*with exclude"):
        compare_folders([ours, str(tmp_path / "seen")])
    assert compare_folders([ours, str(tmp_path / "before")])


def test_several_models_are_not_the_seeds_of_one(tmp_path: Path) -> None:
    save(tmp_path / "ours", 0.1)
    for name in ("sasrec", "gru4rec"):
        save(tmp_path / "baselines" / name, 0.1, name=name)
    for number, factors in enumerate((4, 1)):
        save(tmp_path / "runs" / f"run-{number}", 0.1, number)
        config = {"seed": number, "reasoner": {"n_factors": factors}}
        write_json(tmp_path / "runs" / f"run-{number}" / "run.json", {"stage": "sft", "config": config})
    for pattern in ("baselines/*", "runs/*"):
        with pytest.raises(DataError, match=r"holds different models, such as .*, no seeds of one"):
            compare_folders([tmp_path / "ours", tmp_path / pattern])
    same = {"seed": 1, "reasoner": {"n_factors": 4}}
    write_json(tmp_path / "runs" / "run-1" / "run.json", {"stage": "sft", "config": same})
    assert compare_folders([tmp_path / "ours", tmp_path / "runs" / "*"])[1].figure.n == 2


def test_baselines_of_unlike_settings_are_not_the_seeds_of_one(tmp_path: Path) -> None:
    save(tmp_path / "ours", 0.1)
    for number, width in enumerate((64, 128)):
        folder = tmp_path / "tuned" / f"net-{number}"
        save(folder, 0.1, number, name="sasrec")
        trials = [{"settings": {"width": 32}}, {"settings": {"width": width}}]
        write_json(folder / "baseline.json", {"seed": number, "best": 1, "trials": trials})
    with pytest.raises(DataError, match="holds different models"):
        compare_folders([tmp_path / "ours", tmp_path / "tuned" / "*"])


def test_a_seed_twice_is_no_second_run(tmp_path: Path) -> None:
    save(tmp_path / "ours", 0.1)
    for name in ("run", "copy-of-run"):
        save(tmp_path / "runs" / name, 0.1, 1)
        write_json(tmp_path / "runs" / name / "run.json", {"stage": "sft", "config": {"seed": 1}})
    with pytest.raises(DataError, match="holds seed 1 more than once"):
        compare_folders([tmp_path / "ours", tmp_path / "runs" / "*"])


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    for seed in (0, 1):
        save(tmp_path / "runs" / f"seed-{seed}", 0.1, seed)
    with pytest.raises(RequestError, match=r"seed-1' belongs to .*; give it once"):
        compare_folders([tmp_path / "runs", tmp_path / "runs" / "seed-1"])


def test_folders_without_results_are_named(tmp_path: Path) -> None:
    save(tmp_path / "ours", 0.1)
    ours = str(tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="there is no folder 'nowhere-"):
        compare_folders([ours, "nowhere-*"])
    with pytest.raises(ArtifactError, match=r"empty' holds no results of 'test'.*flr evaluate --split test"):
        compare_folders([ours, str(tmp_path / "empty")])
    with pytest.raises(ArtifactError, match=r"holds no results of 'valid'"):
        compare_folders([ours, str(tmp_path / "empty")], split="valid")
    with pytest.raises(RequestError, match="got 1 model, expected at least two"):
        compare_folders([ours])
    with pytest.raises(RequestError, match=r"ours' more than once"):
        compare_folders([ours, ours])


_BASELINE = {"seed": 0, "best": 0, "trials": [{"settings": {}}]}


def test_models_of_unlike_data_are_not_compared(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("run", "baseline", "own")]
    for name in names:
        save(Path(name), 0.1)
    write_json(tmp_path / "run" / "run.json", {"data_hash": "a" * 64})
    write_json(tmp_path / "baseline" / "baseline.json", _BASELINE | {"data_hash": "a" * 64})
    assert len(compare_folders(names)) == 3
    write_json(tmp_path / "baseline" / "baseline.json", _BASELINE | {"data_hash": "b" * 64})
    with pytest.raises(DataError, match=r"run' is of the data aaaaaaaaaaaa, '.*baseline' of bbbbbbbbbbbb"):
        compare_folders(names)


def test_a_metric_of_ones_own_is_told_by_target(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a", "b")]
    for name, gain in zip(names, (0.2, 0.0), strict=True):
        targets = save(name, gain).with_columns((pl.col("ndcg@10") / 2).alias("half@10"))
        save_report(Report("own", "test", {"ndcg@10": 0.0}, targets, 1.0, "exclude"), name)
    first, second = compare_folders(names, metric="half@10")
    assert first.figure.mean == pytest.approx(second.figure.mean + 0.1, abs=0.01)


def test_one_folder_alone_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"models: got the text '.*', expected a list of folders"):
        compare_folders(str(tmp_path))
