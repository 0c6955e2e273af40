"""What a study runs: data sets x variants x seeds, read from one file, each combination a cell with a run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flr.baselines.registry import registered
from flr.config import Config, load_config
from flr.errors import ConfigError, nearest
from flr.experiments.evidence_settings import EvidenceSettings
from flr.training.reuse import assistant_settings, is_of_weights

#: Largest relative difference in weights between a variant and the reference, where it is said to be equal.
MATCHED_WITHIN = 0.01
#: Cutoffs of the metrics that the report shows.
CUTOFFS = (5, 10)
#: What names of data sets and variants look like, as they are those of folders too.
_NAME: Final = re.compile(r"""\w[^/\\:*?"<>|\x00-\x1f]*""")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyData(_Part):
    """One data set of a study."""

    folder: Path = Field(description="Prepared folder; a relative path starts at the study file.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of every variant on this data.")
    seeds: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Variants and baselines with fewer seeds here: name to number."
    )


class StudyVariant(_Part):
    """One way to train the model."""

    settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings, over those of the study: section.key to value."
    )
    stage_two_of: str | None = Field(None, description="Variant whose runs stage two starts from; unset: stage one.")
    weights_of: str | None = Field(
        None,
        description="Variant whose trained weights are taken, where settings of the assistant and the evaluation "
        "differ alone; unset: they are trained.",
    )
    match: Literal["none", "feed_forward", "operations"] = Field(
        "none",
        description="Whether the feed-forward width makes weights (feed_forward) or operations the reference's.",
    )
    same_size: bool = Field(
        True, description="Whether its weights must be as many as the reference's, to 1 %; not with operations."
    )
    compare_with: str | None = Field(
        None, description="Variant that it is compared with in the table of results; unset: the reference."
    )

    @property
    def source(self) -> str | None:
        """The variant whose settings it has but for its own, and whose runs its own start from; None for neither."""
        return self.stage_two_of or self.weights_of

    @model_validator(mode="after")
    def _check_source(self) -> StudyVariant:
        if self.stage_two_of is not None and self.weights_of is not None:
            raise ValueError("stage_two_of and weights_of exclude each other; name one of them")
        trained = [key for key in self.settings if is_of_weights(key)]
        if self.weights_of is not None and trained:
            raise ValueError(
                f"weights are taken from {self.weights_of!r}, so {trained[0]} cannot be set; only assistant.* and "
                "evaluation.* can, or leave out weights_of"
            )
        return self


class Study(_Part):
    """A whole study.

    Raises:
        ValueError: A name refers to nothing, or there are fewer than two different seeds.
    """

    title: str = Field(description="Heading of the report.")
    data: dict[str, StudyData] = Field(min_length=1, description="Data sets by name.")
    variants: dict[str, StudyVariant] = Field(min_length=1, description="Variants by name.")
    reference: str = Field(
        description="Variant that baselines and all variants without compare_with are compared with."
    )
    controls: tuple[str, ...] = Field((), description="Variants that the reference must beat for its claim to hold.")
    baselines: tuple[str, ...] = Field((), description="Baselines by name.")
    titles_from: str | None = Field(
        None,
        description="Language model that reads titles for alpharec (Hugging Face id, absolute path, smollm2-135m); "
        "unset: the backbone of the reference with the same seed.",
    )
    trials: int = Field(
        3, ge=1, description="Settings tried for each baseline with its first seed, chosen on validation for all seeds."
    )
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=2, description="Seeds of every cell.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of every variant.")
    evidence: EvidenceSettings = Field(EvidenceSettings(), description="What is looked at beside the metrics.")

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"got {list(seeds)}, expected seeds that differ; leave out what is there twice")
        return seeds

    @model_validator(mode="after")
    def _check_names(self) -> Study:
        sources = [variant.source for variant in self.variants.values() if variant.source is not None]
        fewer = [name for data in self.data.values() for name in data.seeds if name not in self.baselines]
        compared = [variant.compare_with for variant in self.variants.values()]
        named = [name for name in (self.evidence.control, self.evidence.single_vector, *compared) if name is not None]
        for name in (self.reference, *self.controls, *named, *sources, *fewer):
            if name not in self.variants:
                raise ValueError(f"there is no variant {name!r}; {nearest(name, self.variants)}")
            if name in sources and self.variants[name].source is not None:
                raise ValueError(f"variant {name!r} starts from another one itself; name that one")
        for name in self.baselines:
            try:
                registered(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _check_folders(self) -> Study:
        for kind, names in (("data set", self.data), ("variant", self.variants)):
            folders: dict[str, str] = {}
            for name in names:
                if not _NAME.fullmatch(name):
                    raise ValueError(
                        f"{kind} {name!r} is no name of a folder, expected a letter or digit first, and no slash, "
                        "colon or quote"
                    )
                if (other := folders.setdefault(_folder_name(name).lower(), name)) != name:
                    raise ValueError(f"{kind}s {other!r} and {name!r} would share a folder; rename one of them")
        return self

    @model_validator(mode="after")
    def _check_comparisons(self) -> Study:
        for name, variant in self.variants.items():
            other = variant.compare_with
            if other == name:
                raise ValueError(f"variant {name!r} is compared with itself; name another one in compare_with")
            if other is not None and name == self.reference:
                raise ValueError(
                    f"the reference {name!r} is compared with {other!r}, expected nothing, as others are compared with "
                    f"it; leave out its compare_with, and give {other!r} one"
                )
            if name in self.controls and other not in (None, self.reference):
                raise ValueError(
                    f"control {name!r} is compared with {other!r}, expected the reference {self.reference!r}, which "
                    "must beat it; leave out its compare_with, or take it from the controls"
                )
        return self

    def compared_with(self, name: str) -> str:
        """Return the variant that another variant or a baseline is compared with."""
        variant = self.variants.get(name)
        return self.reference if variant is None or variant.compare_with is None else variant.compare_with

    def seeds_of(self, data: str, name: str) -> tuple[int, ...]:
        """Return the seeds of a variant or baseline on a data set.

        A variant has at most those of the one it starts from, a baseline those of the reference.
        """
        source = self.reference if name in self.baselines else self.variants[name].source
        at_most = self.seeds if source is None else self.seeds_of(data, source)
        return at_most[: self.data[data].seeds.get(name, len(at_most))]


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        data, variant, seed: What is run.
        folder: Its run folder.
        config: Its settings, before weights are matched.
        source: Run folder whose weights it takes; None where it trains its own.
        is_aligned: Whether it is stage two, which starts from the weights it takes.
        assistant: Run folder whose assistant it takes; None where it trains its own.
    """

    data: str
    variant: str
    seed: int
    folder: Path
    config: Config
    source: Path | None = None
    is_aligned: bool = False
    assistant: Path | None = None

    @property
    def after(self) -> tuple[Path, ...]:
        """Run folders that must be finished before."""
        return tuple(path for path in (self.source, self.assistant) if path is not None)

    @property
    def name(self) -> str:
        return f"{self.data} / {self.variant} / seed {self.seed}"


def load_study(path: Path | str) -> Study:
    """Return a checked study; relative data folders start at the file's own folder.

    Raises:
        ConfigError: The file is missing, not a study, or its settings are no settings of a run.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the study file {str(path)!r}: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"the study file {str(path)!r} holds a {type(content).__name__}, expected a mapping")
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"the study file {str(path)!r}: {problems}") from error
    placed = {
        name: data.model_copy(update={"folder": (path.parent / data.folder).resolve()})
        for name, data in study.data.items()
    }
    study = study.model_copy(update={"data": placed})
    list(cells(study, path.parent))  # wrong settings are found before hours are spent
    return study


def cells(study: Study, output: Path) -> Iterator[Cell]:
    """Yield the cells of a study, seed by seed, so that a study cut short has all variants of its first seeds.

    Args:
        study: What is run.
        output: The study's folder.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    for seed in study.seeds:
        for data in study.data:
            run_folder = partial(_run_folder, output, data, seed=seed)
            named = {name: of for name, of in study.variants.items() if seed in study.seeds_of(data, name)}
            configs = {name: _config(study, data, name, seed) for name in named}
            trainers: dict[str, str] = {}  # of assistants: the first to need one that starts from nobody
            for name, variant in named.items():
                if variant.source is None:
                    trainers.setdefault(_kind_of_assistant(configs[name]), name)
            for name, variant in named.items():
                is_aligned = variant.stage_two_of is not None
                trainer = trainers.get(_kind_of_assistant(configs[name]), name)
                takes_assistant = configs[name].is_assisted and trainer != name and not is_aligned
                yield Cell(
                    data=data,
                    variant=name,
                    seed=seed,
                    folder=run_folder(name),
                    config=configs[name],
                    source=None if variant.source is None else run_folder(variant.source),
                    is_aligned=is_aligned,
                    assistant=run_folder(trainer) if takes_assistant else None,
                )


def _kind_of_assistant(config: Config) -> str:
    """Return what variants that can share an assistant have in common."""
    return repr((config.is_assisted, assistant_settings(config)))


def baseline_folders(study: Study, output: Path, data: str, name: str) -> dict[int, Path]:
    """Return where a baseline of each of its seeds on a data set goes, by seed."""
    return {seed: output / "baselines" / data / f"seed-{seed}" / name for seed in study.seeds_of(data, name)}


def _run_folder(output: Path, data: str, variant: str, seed: int) -> Path:
    return output / "runs" / data / _folder_name(variant) / f"seed-{seed}"


def _folder_name(name: str) -> str:
    return "-".join(name.split())


def _config(study: Study, data: str, name: str, seed: int) -> Config:
    variant = study.variants[name]
    layers = [study.settings, study.data[data].settings]
    if variant.source is not None:
        layers.append(study.variants[variant.source].settings)
    overrides = [f"{key}={json.dumps(value)}" for layer in (*layers, variant.settings) for key, value in layer.items()]
    try:
        config = load_config(None, [*overrides, f"seed={seed}"])
    except ConfigError as error:
        raise ConfigError(f"variant {name!r} on {data!r}: {error}") from error
    if not set(CUTOFFS) <= set(config.evaluation.cutoffs):
        raise ConfigError(
            f"variant {name!r} on {data!r}: evaluation.cutoffs = {list(config.evaluation.cutoffs)}, expected "
            f"{' and '.join(map(str, CUTOFFS))} among them, which the report shows; add what is missing"
        )
    return config
