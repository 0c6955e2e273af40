"""Profiles come back as they were kept, or not at all with a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flr.errors import ArtifactError
from flr.evaluation.significance import Interval
from flr.explanation.profiles import (
    FILE_NAME,
    AttributeLift,
    FactorProfile,
    FactorProfiles,
    TypicalItem,
    load_profiles,
    save_profiles,
)

from .conftest import Make


def profiles(n_factors: int = 4) -> FactorProfiles:
    factors = tuple(
        FactorProfile(
            factor=k,
            name=f"factor {k}",
            gate=0.25,
            elsewhere=0.1,
            spread=0.5,
            token_spread=0.4,
            recency=Interval(0.1, 0.05, 0.15),
            popularity=Interval(-0.1, -0.2, 0.0),
            attributes=(AttributeLift("genre", "War", 0.3, 0.2, 1.5, 0.8, 1.2),),
            items=(TypicalItem(3, "i3", "Blue Velvet (1986)", 7, 2.5),),
        )
        for k in range(n_factors)
    )
    return FactorProfiles("valid", 10, 8, ("genre",), 3, factors)


@pytest.fixture
def model(make: Make, tmp_path: Path) -> Path:
    make().save(tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def test_what_was_kept_comes_back_from_the_model_and_from_its_run(model: Path) -> None:
    assert load_profiles(model) is None
    assert save_profiles(model.parent, profiles()) == model / FILE_NAME
    assert load_profiles(model) == profiles()
    assert load_profiles(str(model.parent)) == profiles()


def test_what_nobody_read_comes_back_as_no_number(model: Path) -> None:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    factors = tuple(
        replace(one, spread=float("nan"), token_spread=float("nan"), recency=nothing) for one in profiles().factors
    )
    save_profiles(model, replace(profiles(), factors=factors))
    found = load_profiles(model)
    assert found is not None
    assert all(math.isnan(value) for one in found.factors for value in (one.spread, one.token_spread, one.recency.low))
    assert [replace(one, spread=0.5, token_spread=0.4, recency=nothing) for one in found.factors] == [
        replace(one, spread=0.5, token_spread=0.4, recency=nothing) for one in profiles().factors
    ]


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | changes


def _factor(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content | {"factors": [content["factors"][0] | changes, *content["factors"][1:]]}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_with(format_version=99), "has format version 99, this flr reads 1"),
        (_with(factors=None), "is damaged"),
        (lambda content: {key: content[key] for key in content if key != "split"}, "is damaged: lacks 'split'"),
        (
            lambda content: content | {"factors": content["factors"][:3]},
            "profiles 3 factors, the model beside it has 4",
        ),
        (_factor(name=7), "is damaged: 7 is no text"),
        (_factor(gate="much"), "is damaged: could not convert string to float: 'much'"),
        (_factor(recency=None), "is damaged"),
        (_factor(attributes=[{"value": "War"}]), "is damaged: lacks 'share'"),
        (_factor(items=[3]), "is damaged"),
    ],
)
def test_what_is_damaged_is_said(damage: Callable[[dict[str, Any]], Any], said: str, model: Path) -> None:
    file = save_profiles(model, profiles())
    file.write_text(json.dumps(damage(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(ArtifactError, match=said) as caught:
        load_profiles(model)
    assert FILE_NAME in str(caught.value)
    assert "make it again with `flr profile`" in str(caught.value)


def test_half_a_file_is_no_file(model: Path) -> None:
    file = save_profiles(model, profiles())
    file.write_text(file.read_text(encoding="utf-8")[:200], encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot read the file of factor profiles"):
        load_profiles(model)


def test_profiles_of_another_model_are_not_kept(model: Path, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="profiles 2 factors, the model beside it has 4"):
        save_profiles(model, profiles(2))
    make("reasoner.kind=none").save(tmp_path / "plain")
    with pytest.raises(ArtifactError, match="profiles 4 factors, the model beside it has 0"):
        save_profiles(tmp_path / "plain", profiles())
    assert not (model / FILE_NAME).exists()


def test_there_has_to_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no saved recommender"):
        save_profiles(tmp_path, profiles())
    with pytest.raises(ArtifactError, match="there is no saved recommender"):
        load_profiles(tmp_path / "nowhere")
