"""What of the evidence a study gathers, and how much: the block ``evidence`` of a study file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flr.errors import nearest
from flr.evaluation.robustness import STRENGTHS

#: Fewer of the damages than `flr.evaluation.robustness` tries, each of which is an evaluation.
_STRENGTHS = {**STRENGTHS, "insert": (0.2, 0.5), "drop": (0.2, 0.5), "shuffle": (0.5, 1.0), "truncate": (1.0, 3.0)}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DisentanglementSettings(_Part):
    """How different the factors are on held-out users."""

    max_targets: int = Field(
        1000, ge=50, description="About how many test targets are thought about, those of random users; all runs'."
    )
    n_top: int = Field(3, ge=1, description="Items per factor whose overlap is counted.")
    n_resamples: int = Field(200, ge=20, description="Resamples of users.")
    n_halves: int = Field(20, ge=5, description="Random halves of users that give the interval of linear CKA.")


class ProfileSettings(_Part):
    """What each factor stands for."""

    max_targets: int = Field(
        1000, ge=50, description="About how many test targets are thought about, those of random users; all runs'."
    )


class InformationSettings(_Part):
    """Mutual information of factors."""

    n_targets: int = Field(1000, ge=50, description="Test targets of random users, of which one of each user counts.")
    n_components: int = Field(3, ge=1, description="Principal components that nearest neighbours see.")
    n_permutations: int = Field(39, ge=1, description="Permutations of the neighbours' null.")
    n_permutations_infonce: int = Field(3, ge=1, description="The same for the critic, each a training.")
    n_halves: int = Field(20, ge=5, description="Random halves of users that give the interval.")


class InterventionSettings(_Part):
    """What the lists lose when thoughts are changed."""

    max_targets: int = Field(
        100, ge=20, description="About how many test targets of each run, those of random users; new by seed."
    )
    kinds: tuple[Literal["remove", "mean", "swap", "shuffle"], ...] = Field(
        ("remove", "swap", "shuffle"), min_length=1, description="Changes of one factor at a time."
    )


class RobustnessSettings(_Part):
    """What is lost when histories are damaged."""

    max_targets: int = Field(
        150, ge=20, description="About how many test targets of each run, those of random users; new by seed."
    )
    strengths: dict[str, tuple[float, ...]] = Field(
        default={name: tuple(map(float, each)) for name, each in _STRENGTHS.items()},
        description="Strengths of each strain; selections of targets cost nothing.",
    )

    @field_validator("strengths")
    @classmethod
    def _check_strengths(cls, given: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for strain, each in given.items():
            if strain not in STRENGTHS:
                raise ValueError(f"there is no strain {strain!r}; {nearest(strain, STRENGTHS)}")
            is_count = strain == "truncate"
            for strength in each:
                if not 0 < strength <= (float("inf") if is_count else 1):
                    expected = "a number of items above 0" if is_count else "a share above 0, at most 1"
                    raise ValueError(f"got strength {strength:g} of {strain!r}, expected {expected}")
        return given


class EvidenceSettings(_Part):
    """Each instrument takes its settings, true for its defaults, or false for none of it."""

    disentanglement: DisentanglementSettings | None = DisentanglementSettings()
    profiles: ProfileSettings | None = ProfileSettings()
    mutual_information: InformationSettings | None = InformationSettings()
    interventions: InterventionSettings | None = InterventionSettings()
    robustness: RobustnessSettings | None = RobustnessSettings()
    slices: bool = Field(True, description="Metrics by kind of target; costs nothing.")
    stability: bool = Field(True, description="Whether seeds find the same factors; needs disentanglement.")
    control: str | None = Field(None, description="Variant of as many factors without regularisers.")
    single_vector: str | None = Field(None, description="Variant of one factor.")

    @field_validator("disentanglement", "profiles", "mutual_information", "interventions", "robustness", mode="before")
    @classmethod
    def _read_switch(cls, given: Any) -> Any:
        return {} if given is True else None if given is False else given
