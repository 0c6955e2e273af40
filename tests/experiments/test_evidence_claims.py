"""Planted tables: every claim gets the word that its figures deserve, and says them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from flr.experiments.evidence_claims import EvidenceClaim, evidence_claims
from flr.experiments.evidence_settings import EvidenceSettings

SETTINGS = EvidenceSettings(control="heads", single_vector="single")


def effect(intervention: str, low: float | None, high: float | None, seed: str = "all", **more: Any) -> dict[str, Any]:
    change = None if low is None or high is None else (low + high) / 2
    row = {"model": "flr", "seed": seed, "intervention": intervention, "slice": "all", "label": "all"}
    return (
        row
        | {"change": change or 0.0, "low": low, "high": high, "full": 0.1, "kept": 0.5, "targets": 90, "seeds": 3}
        | more
    )


def removals(*ends: tuple[float, float]) -> list[dict[str, Any]]:
    single = [effect(f"remove {k}", low, high, "0") for k, (low, high) in enumerate(ends)]
    return [*single, effect("remove any factor", -0.01, 0.01)]


def shared(cka: tuple[float, float], information: tuple[float, float] | None) -> pl.DataFrame:
    given = {"linear_cka": cka, "mutual_information": information}
    rows = [
        {"model": "flr", "statistic": name, "value": 0.2, "null": 0.01, "difference": sum(ends) / 2}
        | {"difference_low": ends[0], "difference_high": ends[1], "seeds_compared": 3}
        for name, ends in given.items()
        if ends is not None
    ]
    return pl.DataFrame(rows)


def claims(**tables: pl.DataFrame | list[dict[str, Any]]) -> list[EvidenceClaim]:
    frames = {name: pl.DataFrame(table, infer_schema_length=None) for name, table in tables.items()}
    return evidence_claims("toy", frames, "flr", SETTINGS)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.03, -0.01, "holds"),
        (-0.0008, 0.02, "does not hold"),  # a loss of 1 % is .001: shown to be less
        (-0.0004, 0.0002, "does not hold"),
        (-0.002, 0.001, "undecided"),
        (None, None, "undecided"),
    ],
)
@pytest.mark.parametrize("what", ["thought", "votes"])
def test_whether_the_list_depends_on_the_thought_and_on_votes(
    low: float | None, high: float | None, verdict: str, what: str
) -> None:
    (claim,) = claims(interventions=[effect(f"swap {what}", low, high)])
    assert (claim.verdict, claim.source) == (verdict, "interventions")
    assert f"with another user's {what}" in claim.told.lower()
    assert claim.claim.endswith("the thought, fed as a vector") == (what == "thought")
    assert "50% of the first five items stay" in claim.told


@pytest.mark.parametrize(
    ("ends", "verdict", "told"),
    [
        ([(-0.03, -0.01), (-0.02, -0.005)], "holds", "2 of 2 factors"),
        ([(-0.03, -0.01), (0.0, 0.0)], "does not hold", "1 of 2 factors"),  # a dead factor
        ([(-0.03, -0.01), (-0.02, 0.001)], "undecided", "1 of 2 factors"),
        ([(-0.03, -0.01)] * 19 + [(0.0, 0.0)], "undecided", "19 of 20 factors"),  # one in twenty is chance
        ([(-0.03, -0.01)] * 17 + [(0.0, 0.0)] * 3, "does not hold", "17 of 20 factors"),
        ([(-0.0009, -0.0001)] * 2, "does not hold", "0 of 2 factors"),  # surely something, and surely not much
    ],
)
def test_whether_each_factor_matters(ends: list[tuple[float, float]], verdict: str, told: str) -> None:
    (claim,) = claims(interventions=removals(*ends))
    assert (claim.verdict, claim.claim) == (verdict, "Each factor of flr matters")
    assert told in claim.told


@pytest.mark.parametrize(
    ("cka", "information", "ends", "verdict"),
    [
        ((-0.2, -0.1), (-0.5, -0.3), (-0.03, -0.01), "holds"),
        # Orthogonal, and of no use: the regularisers are satisfied, the claim is not.
        ((-0.2, -0.1), (-0.5, -0.3), (0.0, 0.0), "does not hold"),
        ((-0.2, -0.1), (0.1, 0.2), (-0.03, -0.01), "does not hold"),
        ((-0.2, 0.1), (-0.5, -0.3), (-0.03, -0.01), "undecided"),
        ((-0.2, -0.1), None, (-0.03, -0.01), "undecided"),  # one measure is not enough
    ],
)
def test_whether_factors_are_disentangled(
    cka: tuple[float, float], information: tuple[float, float] | None, ends: tuple[float, float], verdict: str
) -> None:
    found = claims(disentanglement=shared(cka, information), interventions=removals(ends))
    (claim,) = [claim for claim in found if claim.source == "disentanglement"]
    assert claim.verdict == verdict
    assert claim.claim == "Factors of flr share less than those of heads on held-out users, and each matters"
    assert "Linear CKA 0.200 (null 0.010), less that of heads" in claim.told


def test_models_that_were_compared_on_one_seed_are_not_told_apart() -> None:
    ours = {"model": "flr", "strain": "all damages", "loss": 0.1, "difference": None, "seeds": 5}
    ends = {"difference": 0.05, "difference_low": 0.02, "difference_high": 0.1}
    single = ours | {"model": "single", "seeds": 1, **ends}
    (robust,) = claims(robustness=[ours | dict.fromkeys(ends), single])
    table = shared((-0.2, -0.1), (-0.5, -0.3)).with_columns(seeds_compared=pl.lit(1))
    (_, shares_less) = claims(disentanglement=table, interventions=removals((-0.03, -0.01)))
    for claim in (robust, shares_less):
        assert claim.verdict == "undecided"
        assert "on the 1 seed that both have (which says nothing of others)" in claim.told


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.02, 0.1, "holds"), (-0.1, -0.02, "does not hold"), (-0.1, 0.02, "undecided")]
)
def test_whether_flr_is_more_robust(low: float, high: float, verdict: str) -> None:
    ours = {"model": "flr", "strain": "all damages", "loss": 0.1, "difference": None, "seeds": 5}
    single = ours | {"model": "single", "seeds": 3, "loss": 0.15, "difference": (low + high) / 2}
    rows = [ours | {"difference_low": None, "difference_high": None}]
    (claim,) = claims(robustness=[*rows, single | {"difference_low": low, "difference_high": high}])
    assert (claim.verdict, claim.low, claim.high) == (verdict, low, high)
    assert f"single loses {50 * (low + high):+.1f} points more of its NDCG@10" in claim.told
    assert "(flr loses 10.0% on all of its 5, single loses 15.0% on all of its 3)" in claim.told


@pytest.mark.parametrize(
    ("attention", "output", "before", "verdict"),
    [
        ((0.7, 0.9), (0.6, 0.8), 0.0, "holds"),
        ((0.7, 0.9), (0.1, 0.3), 0.0, "does not hold"),
        ((0.7, 0.9), (0.3, 0.8), None, "undecided"),
        ((None, None), (None, None), 0.1, "undecided"),
        ((0.7, 0.9), (0.7, 0.9), 1.0, "does not hold"),  # training parted what had been the same
        ((0.7, 0.9), (0.7, 0.9), 0.8, "undecided"),
    ],
)
def test_whether_factors_are_the_same(
    attention: tuple[float | None, float | None],
    output: tuple[float | None, float | None],
    before: float | None,
    verdict: str,
) -> None:
    known = {"model": "flr", "seeds": "all", "matched": 0.8, "random": 0.2, "identity": 0.75, "untrained": before}
    rows = [
        known | {"measure": measure, "low": ends[0], "high": ends[1]}
        for measure, ends in (("attention", attention), ("output", output))
    ]
    (claim,) = claims(stability=rows)
    assert claim.verdict == verdict
    assert ("too few seeds" in claim.told) == (attention[0] is None)


def test_nothing_is_claimed_without_figures_or_a_rival() -> None:
    assert claims() == []
    unnamed = EvidenceSettings()
    tables = {"disentanglement": shared((-1, -0.5), (-1, -0.5)), "interventions": pl.DataFrame(removals((-0.3, -0.1)))}
    damaged = {"model": "flr", "strain": "all damages", "loss": 0.1, "difference": None, "seeds": 5}
    matters, shares_less, robust = evidence_claims(
        "toy", tables | {"robustness": pl.DataFrame([damaged])}, "flr", unnamed
    )
    assert matters.claim == "Each factor of flr matters"
    for claim, key in ((shares_less, "evidence.control"), (robust, "evidence.single_vector")):
        assert (claim.verdict, claim.value) == ("undecided", None)
        assert claim.told == f"Nobody is named to compare with: set {key}"
