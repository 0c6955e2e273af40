"""Pooled tables of planted runs: known effects come out, on the right targets and seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel

from flr.experiments.effect_tables import effects_table, oracle_table, slices_table
from flr.experiments.evidence_files import VERSIONS, Subject, save_table
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.factor_tables import disentanglement_table, jackknife
from flr.experiments.robustness_tables import ALL_DAMAGES, robustness_table
from flr.persistence import write_json
from flr.records import UserSequences
from toy import toy_sequences

N = 60
USERS = np.arange(N) // 2
SETTINGS = EvidenceSettings.model_validate(
    {"robustness": {"strengths": {"cold": [0.5], "drop": [0.2, 0.5]}}, "control": "heads"}
)
LABELS = pl.DataFrame(
    {"row": np.arange(N), "user_index": USERS, "popularity": np.where(np.arange(N) < 20, "head", "tail")}
)


def plain(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.6, N)


def planted(folder: Path, instrument: str, settings: BaseModel, tables: dict[str, pl.DataFrame], seed: int) -> Subject:
    subject = Subject(folder, folder, is_baseline=False, seed=seed, window=6, seen_items="include")
    for name, table in tables.items():
        save_table(subject, name, table)
    key = {"version": VERSIONS[instrument], "settings": settings.model_dump(mode="json")}
    write_json(subject.evidence / f"{instrument}.json", key)
    return subject


def intervened(folder: Path, seed: int) -> Subject:
    """Factor 0 is worth .1 on the head and nothing on the tail, factor 1 nothing; only 0 alone keeps all."""
    none, head = plain(seed), np.arange(N) < 20
    columns = {
        "swap thought": none - 0.05,
        "swap votes": none - 0.07,
        "remove 0": none - 0.1 * head,
        "remove 1": none,
        "only 0": none + np.where(head, 0.02, -0.02),
        "only 1": none - np.where(head, 0.1, 0.0),
    }
    kept = {f"kept {name}": np.full(N, 0.4) for name in columns}
    frame = pl.DataFrame({"row": np.arange(N), "user_index": USERS, "none": none, **columns, **kept})
    assert SETTINGS.interventions is not None
    return planted(folder, "interventions", SETTINGS.interventions, {"interventions": frame}, seed)


def test_effects_of_seeds_are_pooled_and_single_factors_stand_alone(tmp_path: Path) -> None:
    models = {"flr": {seed: intervened(tmp_path / str(seed), seed) for seed in (0, 1)}}
    table = effects_table(models, SETTINGS, LABELS)
    rows = {(row["seed"], row["intervention"], row["label"]): row for row in table.to_dicts()}
    swap = rows["all", "swap thought", "all"]
    assert (swap["change"], swap["low"], swap["high"]) == pytest.approx((-0.05, -0.05, -0.05))
    assert (swap["targets"], swap["users"], swap["kept"]) == (2 * N, 30, pytest.approx(0.4))
    assert rows["all", "swap votes", "all"]["change"] == pytest.approx(-0.07)
    assert swap["full"] == pytest.approx(np.mean([plain(0), plain(1)]))
    # Any factor: half of .1, on the head only.
    assert rows["all", "remove any factor", "head"]["change"] == pytest.approx(-0.05)
    assert rows["all", "remove any factor", "tail"]["change"] == pytest.approx(0, abs=1e-12)
    assert rows["1", "remove 0", "all"]["change"] == pytest.approx(-0.1 / 3)
    assert rows["1", "remove 0", "all"]["low"] < -0.1 / 3 < rows["1", "remove 0", "all"]["high"] < 0
    assert not any("only" in name or (seed == "all" and "0" in name) for seed, name, _ in rows)


def test_the_oracle_picks_target_by_target(tmp_path: Path) -> None:
    (row,) = oracle_table({"flr": {0: intervened(tmp_path, 0)}, "none": {}}, SETTINGS).to_dicts()
    assert row["gain"] == pytest.approx(0.02 / 3)
    assert row["best_fixed"] == pytest.approx(plain(0).mean() - 0.02 / 3)
    assert (row["seeds"], row["full"]) == (1, pytest.approx(plain(0).mean()))


def alone(folder: Path, values: dict[str, np.ndarray], users: np.ndarray, seed: int) -> Subject:
    frame = pl.DataFrame({"row": np.arange(len(users)), "user_index": users, **values})
    assert SETTINGS.interventions is not None
    return planted(folder, "interventions", SETTINGS.interventions, {"interventions": frame}, seed)


def test_a_single_vector_is_its_own_best_factor(tmp_path: Path) -> None:
    """Of runs that ask about unlike numbers of targets, too."""
    models = {}
    for seed, n in ((0, 10), (1, 90)):
        values = np.random.default_rng(seed).random(n) ** (1 + 9 * seed)
        models[seed] = alone(tmp_path / str(seed), {"none": values, "only 0": values}, np.arange(n) // 2, seed)
    (row,) = oracle_table({"single": models}, SETTINGS).to_dicts()
    assert row["full"] == pytest.approx(row["best_fixed"]) == pytest.approx(row["oracle"])
    assert row["seeds"] == 2


def test_the_best_factor_is_judged_on_other_users_than_it_was_chosen_on(tmp_path: Path) -> None:
    """Factors that are all luck: none is better than another, whatever the best of sixteen seems on its own targets."""
    rng = np.random.default_rng(0)
    models = {}
    for seed in range(20):
        luck = {f"only {k}": np.repeat(rng.normal(0.5, 0.5, 30), 2) for k in range(16)}
        models[seed] = alone(tmp_path / str(seed), {"none": np.full(N, 0.5), **luck}, USERS, seed)
    (row,) = oracle_table({"flr": models}, SETTINGS).to_dicts()
    assert row["best_fixed"] == pytest.approx(0.5, abs=0.05)  # 0.66 where they are judged on what they were chosen on
    assert row["oracle"] > 1


def ranked(seed: int, items: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"row": np.arange(N), "user_index": USERS, "item_index": items, "ndcg@10": plain(seed)})


def damaged(folder: Path, loss: float, seed: int, items: np.ndarray) -> Subject:
    none = plain(seed)[: len(items)]
    columns = {"none": none, "drop 0.2": none * (1 - loss), "drop 0.5": none * (1 - 2 * loss)}
    n = len(items)
    frame = pl.DataFrame({"row": np.arange(n), "user_index": USERS[:n], "item_index": items, **columns})
    assert SETTINGS.robustness is not None
    return planted(folder, "robustness", SETTINGS.robustness, {"robustness": frame}, seed)


def popular_world() -> UserSequences:
    """Item k is taken k times in training, k below 11."""
    world = toy_sequences([2] * 66)
    world.item_index[:] = 0
    world.item_index[1::2] = np.repeat(np.arange(1, 12), 11)[:66] % 11
    return world


def test_losses_are_relative_and_compared_on_shared_seeds(tmp_path: Path) -> None:
    items = np.zeros(N, dtype=np.int64)
    models = {
        "flr": {seed: damaged(tmp_path / f"flr{seed}", 0.1, seed, items) for seed in (0, 1)},
        "single": {0: damaged(tmp_path / "single", 0.2, 0, items)},
        "absent": {},
        "stranger": {7: damaged(tmp_path / "stranger", 0.2, 7, items)},
    }
    reports = {model: {seed: ranked(seed, items) for seed in of_seeds} for model, of_seeds in models.items()}
    table = robustness_table(models, reports, SETTINGS, "flr", sequences=popular_world(), n_items=11)
    rows = {(row["model"], row["strain"], row["strength"]): row for row in table.to_dicts()}
    assert set(table["model"]) == {"flr", "single"}  # a stranger shares no seed
    assert rows["flr", "drop", 0.5]["loss"] == pytest.approx(0.2)
    assert rows["flr", "drop", 0.5]["difference"] is None
    assert rows["single", "drop", 0.2]["difference"] == pytest.approx(0.1)
    assert rows["single", ALL_DAMAGES, 0.0]["loss"] == pytest.approx(0.3)
    assert rows["single", ALL_DAMAGES, 0.0]["difference_low"] == pytest.approx(0.15)
    assert (rows["flr", "drop", 0.2]["seeds"], rows["single", "drop", 0.2]["seeds"]) == (2, 1)
    # All items are as cold as each other, so the selection keeps all and loses nothing.
    assert rows["flr", "cold", 0.5]["loss"] == pytest.approx(0)
    assert rows["flr", "cold", 0.5]["targets"] == 2 * N


def test_a_selection_keeps_the_cold_targets_of_all_that_were_tested(tmp_path: Path) -> None:
    items = np.where(np.arange(N) < 20, 0, 5)  # item 0 is by far the most taken
    few = np.zeros(4, dtype=np.int64)
    models = {"flr": {seed: damaged(tmp_path / str(seed), 0.1, seed, few) for seed in (0, 1)}}
    reports = {"flr": {0: ranked(0, items), 1: ranked(1, items)}}
    table = robustness_table(models, reports, SETTINGS, "flr", sequences=popular_world(), n_items=11)
    (row,) = table.filter(pl.col("strain") == "cold").to_dicts()
    assert (row["targets"], row["seeds"]) == (80, 2)
    cold, everything = (np.mean([plain(seed)[first:].mean() for seed in (0, 1)]) for first in (20, 0))
    assert row["value"] == pytest.approx(cold)
    assert row["loss"] == pytest.approx(1 - cold / everything)


def test_what_seeds_disagree_on_is_not_known_however_many_users_agree(tmp_path: Path) -> None:
    """Each user of a seed loses the same, and the three seeds lose .1, .2 and .3 more than the reference."""
    items = np.zeros(N, dtype=np.int64)
    models = {
        "flr": {seed: damaged(tmp_path / f"flr{seed}", 0.1, seed, items) for seed in range(3)},
        "single": {seed: damaged(tmp_path / f"single{seed}", 0.2 + 0.1 * seed, seed, items) for seed in range(3)},
    }
    reports = {model: {seed: ranked(seed, items) for seed in of_seeds} for model, of_seeds in models.items()}
    table = robustness_table(models, reports, SETTINGS, "flr", sequences=popular_world(), n_items=11)
    rows = {(row["model"], row["strain"], row["strength"]): row for row in table.to_dicts()}
    drop = rows["single", "drop", 0.2]
    assert drop["difference"] == pytest.approx(0.2, abs=0.02)
    assert drop["difference_low"] < 0  # .2 +- 4.3 * .1 / sqrt(3)
    assert 0.4 < drop["difference_high"] < 0.5
    cold = rows["single", "cold", 0.5]
    assert cold["difference_high"] - cold["difference_low"] == pytest.approx(0, abs=1e-9)


def test_slices_are_the_reference_less_the_model() -> None:
    def report(values: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame({"row": np.arange(N), "user_index": USERS, "ndcg@10": values})

    head = np.arange(N) < 20
    models = {
        "flr": {0: report(plain(0)), 1: report(plain(1))},
        "other": {0: report(plain(0) - 0.1 * head), 1: report(plain(1) - 0.1 * head)},
        "absent": {},
    }
    rows = {(row["model"], row["label"]): row for row in slices_table(models, "flr", LABELS).to_dicts()}
    assert rows["other", "head"]["difference"] == pytest.approx(0.1)
    assert rows["other", "tail"]["difference"] == pytest.approx(0, abs=1e-12)
    assert rows["flr", "all"]["value"] == pytest.approx(np.mean([plain(0), plain(1)]))
    assert (rows["flr", "head"]["targets"], rows["flr", "head"]["users"], rows["flr", "head"]["seeds"]) == (20, 10, 2)
    assert {model for model, _ in rows} == {"flr", "other"}


def test_disentanglement_of_models_is_compared_resample_by_resample(tmp_path: Path) -> None:
    """The same luck of users moves both models, so the difference is known better than either figure."""
    luck = np.concatenate([[0.0], np.random.default_rng(0).normal(0, 0.05, 200)])
    pairs = pl.DataFrame({"statistic": ["correlation"] * 2, "step": [1, 2], "part": ["0-1"] * 2, "null": [0.9, 0.01]})
    models = {
        model: {
            seed: planted(
                tmp_path / f"{model}-{seed}",
                "factors",
                SETTINGS.disentanglement,
                {
                    "figures": pl.DataFrame({"correlation": value + luck, "dead_factors": seed}),
                    "factors": pairs,
                    "alignment": pl.DataFrame({"linear_cka": np.full(5, np.nan)}),
                },
                seed,
            )
            for seed in (0, 1)
        }
        for model, value in (("flr", 0.2), ("heads", 0.5))
        if SETTINGS.disentanglement is not None
    }
    table = disentanglement_table(models, SETTINGS)
    rows = {(row["model"], row["statistic"]): row for row in table.to_dicts()}
    ours = rows["flr", "correlation"]
    assert (ours["value"], ours["null"], ours["seeds"]) == (pytest.approx(0.2), pytest.approx(0.01), 2)
    assert ours["high"] - ours["low"] > 0.15
    assert (ours["difference_low"], ours["difference_high"]) == pytest.approx((-0.3, -0.3))
    assert rows["heads", "correlation"]["difference"] is None
    dead = rows["flr", "dead_factors"]
    assert (dead["value"], dead["low"]) == (0.5, None)  # of two seeds there is no interval


def test_differences_of_factors_allow_for_other_seeds(tmp_path: Path) -> None:
    """The model shares less than its control in two seeds and more in the third."""
    pairs = pl.DataFrame({"statistic": ["correlation"], "step": [1], "part": ["0-1"], "null": [0.01]})
    nothing = pl.DataFrame({"linear_cka": np.full(5, np.nan)})

    def run(model: str, seed: int, value: float) -> Subject:
        figures = pl.DataFrame({"correlation": np.full(5, value)})
        tables = {"figures": figures, "factors": pairs, "alignment": nothing}
        assert SETTINGS.disentanglement is not None
        return planted(tmp_path / f"{model}-{seed}", "factors", SETTINGS.disentanglement, tables, seed)

    models = {
        "flr": {seed: run("flr", seed, value) for seed, value in enumerate((0.3, 0.2, 0.4))},
        "heads": {seed: run("heads", seed, value) for seed, value in ((2, 0.3), (0, 0.6), (1, 0.6))},
    }
    (row,) = disentanglement_table(models, SETTINGS).filter(pl.col("difference").is_not_null()).to_dicts()
    differences = np.array([-0.3, -0.4, 0.1])
    reach = 4.3027 * differences.std(ddof=1) / np.sqrt(3)
    assert row["difference"] == pytest.approx(-0.2)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((-0.2 - reach, -0.2 + reach), rel=1e-4)


def test_figures_of_factors_are_compared_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    """Seed 1 is unlike seed 0, so who has it alone would seem different from who has not."""
    names = ["linear_cka", "correlation"]
    pairs = pl.DataFrame({"statistic": names, "step": [1, 1], "part": ["0-1"] * 2, "null": [0.01] * 2})
    nats = pl.DataFrame({"estimator": ["neighbours", "infonce"], "nats": [1.0, 1.0], "null_mean": [0.0, 0.0]})
    assert SETTINGS.disentanglement is not None
    assert SETTINGS.mutual_information is not None

    def run(model: str, seed: int, value: float) -> Subject:
        figures = pl.DataFrame({"correlation": np.full(5, value)})
        folder = tmp_path / f"{model}-{seed}"
        tables = {"figures": figures, "factors": pairs, "alignment": pl.DataFrame({"linear_cka": np.full(5, value)})}
        planted(folder, "factors", SETTINGS.disentanglement, tables, seed)
        tables = {"information": nats, "halves": pl.DataFrame({"nats": np.full(5, value)})}
        return planted(folder, "information", SETTINGS.mutual_information, tables, seed)

    models = {
        "flr": {0: run("flr", 0, 0.2), 1: run("flr", 1, 0.6), 2: run("flr", 2, 0.6)},
        "heads": {0: run("heads", 0, 0.3), 3: run("heads", 3, 0.9)},
        "stranger": {7: run("stranger", 7, 0.2)},
    }
    table = disentanglement_table(models, SETTINGS)
    rows = {(row["model"], row["statistic"]): row for row in table.to_dicts()}
    for statistic in ("linear_cka", "correlation", "mutual_information"):
        ours, strangers = rows["flr", statistic], rows["stranger", statistic]
        assert (ours["difference"], ours["seeds_compared"], ours["seeds"]) == (pytest.approx(-0.1), 1, 3)
        assert (ours["difference_low"], ours["difference_high"]) == pytest.approx((-0.1, -0.1))
        assert (strangers["difference"], strangers["seeds_compared"]) == (None, None)
        assert rows["heads", statistic]["seeds_compared"] is None


def test_a_jackknife_leaves_out_one_run_at_a_time() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    found = jackknife(np.array([0.5, 0.5, 0.8]), pairs, 3)
    without = np.array([0.8, 0.5, 0.5])
    error = np.sqrt(2 / 3 * ((without - 0.6) ** 2).sum())
    assert found.mean == pytest.approx(0.6)
    assert found.high - found.mean == pytest.approx(4.3027 * error, rel=1e-4)
    assert np.isnan(jackknife(np.array([0.4]), pairs[:1], 2).low)
