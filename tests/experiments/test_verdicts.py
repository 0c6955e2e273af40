"""From reports to verdicts: known differences are found, absent ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flr.errors import ArtifactError
from flr.evaluation.comparison import holm
from flr.evaluation.reports import save_report
from flr.experiments.matrix import Study, cells
from flr.experiments.verdicts import DataFindings, findings_on
from flr.persistence import write_json
from flr.records import Report

N = 300
STUDY = Study.model_validate(
    {
        "title": "t",
        "data": {"toy": {"folder": "toy"}},
        "variants": {
            "flr": {},
            "alike": {},
            "same": {},
            "worse": {},
            "better": {},
            "absent": {},
            "near": {"compare_with": "worse"},
            "lost": {"compare_with": "absent"},
        },
        "reference": "flr",
        "baselines": ["popularity"],
        "seeds": [0, 1],
    }
)


def save(folder: Path, gain: float, seed: int) -> None:
    """Save a test report whose NDCG@10 is that of everybody plus a gain, up to noise."""
    base = np.random.default_rng(0).random(N) * 0.5
    scale = 0.5 if "alike" in folder.parts else 0.005
    name = "/".join(folder.parts[-3:])  # without pytest's own folder, which is another in every session
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, scale, N)
    values = base + gain + noise
    names = ("ndcg@10", "hr@10", "ndcg@5", "hr@5")
    columns = dict.fromkeys(names, values)
    per_target = pl.DataFrame({"user_index": np.arange(N) // 3, "row": np.arange(N), **columns})
    metrics = {**{name: float(values.mean()) for name in names}, "n_targets": N, "n_users": N // 3}
    save_report(Report("flr", "test", metrics, per_target, 1.0), folder)


@pytest.fixture
def found(tmp_path: Path) -> DataFindings:
    gains = {"flr": 0.1, "alike": 0.1, "same": 0.1, "worse": 0.05, "better": 0.15, "near": 0.03, "lost": 0.1}
    for cell in cells(STUDY, tmp_path):
        if cell.variant in gains:
            save(cell.folder, gains[cell.variant], cell.seed)
            facts = {"n_parameters": 10, "train_seconds": 1800.0, "data_hash": "abc"}
            write_json(cell.folder / "run.json", facts)
    popularity = tmp_path / "baselines" / "toy" / "seed-0" / "popularity"
    save(popularity, 0.0, 7)
    write_json(popularity / "baseline.json", {"trials": [{"seconds": 900.0}, {"seconds": 180.0}]})
    return findings_on(STUDY, "toy", list(cells(STUDY, tmp_path)), tmp_path)


def test_each_verdict(found: DataFindings) -> None:
    verdicts = {claim.rival: claim.verdict for claim in found.claims}
    assert verdicts == {
        "alike": "undecided",
        "same": "does not hold",
        "worse": "holds",
        "better": "does not hold",
        "near": "holds",
        "popularity": "undecided",  # far below, and of one seed
    }
    (popularity,) = [claim for claim in found.claims if claim.rival == "popularity"]
    assert (popularity.n_seeds, popularity.corrected < 1e-6) == (1, True)
    assert found.missing == ("absent", "lost")  # there is nothing that the latter could be compared with


def test_differences_are_the_reference_less_the_rival_and_corrected(found: DataFindings) -> None:
    claims = {claim.rival: claim for claim in found.claims}
    assert claims["worse"].comparison.difference.mean == pytest.approx(0.05, abs=0.01)
    assert claims["better"].comparison.difference.mean == pytest.approx(-0.05, abs=0.01)
    assert (claims["worse"].n_seeds, claims["popularity"].n_seeds) == (2, 1)  # popularity has the first seed alone
    assert all(claim.corrected >= claim.comparison.p_value for claim in found.claims)


def test_a_variant_is_compared_with_what_the_study_says(found: DataFindings) -> None:
    """In one family with all others: its p-value is corrected for their number, and theirs for it."""
    claims = {claim.rival: claim for claim in found.claims}
    near = claims["near"]
    assert (near.model, near.n_seeds, {claims[name].model for name in claims if name != "near"}) == (
        "worse",
        2,
        {"flr"},
    )
    assert near.comparison.difference.mean == pytest.approx(0.02, abs=0.001)  # .05 - .03; flr is .07 above
    means = {model.name: model.figures["ndcg@10"].mean for model in found.models}
    assert near.comparison.difference.mean == pytest.approx(means["worse"] - means["near"])
    assert near.value == means["worse"]
    expected = holm([claim.comparison.p_value for claim in found.claims])
    assert [claim.corrected for claim in found.claims] == expected.tolist()
    assert len(expected) == 6


def test_figures_over_seeds(found: DataFindings) -> None:
    ours, *_, popularity = found.models
    assert (ours.name, ours.n_weights, ours.hours, ours.figures["ndcg@10"].n) == ("flr", 10, 1.0, 2)
    assert (popularity.name, popularity.is_baseline, popularity.n_weights) == ("popularity", True, None)
    assert popularity.hours == pytest.approx(0.3), "all trials count"
    assert popularity.figures["ndcg@10"].n == 1


def test_nothing_without_the_reference(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no run of 'flr' is finished on 'toy'"):
        findings_on(STUDY, "toy", list(cells(STUDY, tmp_path)), tmp_path)
