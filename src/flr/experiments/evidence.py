"""The evidence of one finished run or baseline: gathered by instruments, kept in its folder, never gathered twice.

Runs of one data set are asked about the
same targets where they are compared factor by factor, and about new random users for every seed where seeds are pooled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import BaseModel

from flr.baselines.storage import load_baseline
from flr.data.storage import load_prepared
from flr.diagnostics.disentanglement import disentanglement
from flr.diagnostics.factor_records import FactorRecords, collect_factors
from flr.diagnostics.interventions import Intervention, all_interventions, intervened_values
from flr.diagnostics.mutual_information import factor_information
from flr.diagnostics.resampling import half_sampled_alignment, half_sampled_information, resampled_figures
from flr.errors import ArtifactError
from flr.evaluation.decoding import BestItems, ranking_scorer
from flr.evaluation.metrics import cutoff_of
from flr.evaluation.protocol import Scorer
from flr.evaluation.robustness import strained_values
from flr.experiments.evidence_files import VERSIONS, Subject, is_made, save_records, save_table
from flr.experiments.evidence_settings import EvidenceSettings
from flr.experiments.factor_tables import profile_table
from flr.explanation.profiling import profiles_from
from flr.persistence import file_sha256, read_json, write_json
from flr.recommender import Recommender
from flr.records import TEST, IntArray, PreparedData, UserSequences
from flr.seeding import generator
from flr.training.folder import RunFolder
from flr.training.run import untrained

METRIC: Final = "ndcg@10"
_WEIGHTS: Final = {True: "arrays.safetensors", False: "model/model.safetensors"}


def gather(subject: Subject, settings: EvidenceSettings) -> str:
    """Gather what is asked for and not there yet; returns what was done.

    Raises:
        ArtifactError: The run, the baseline or the data is missing or damaged.
        StorageError: The disk refused a write.
    """
    bench = _Bench(subject, settings)
    asked = [(subject.evidence / f"{name}.json", bench.key(name, of), make) for name, of, make in bench.instruments()]
    left = [(path, key, make) for path, key, make in asked if not is_made(path, key)]
    for path, *_ in left:  # What was made from other weights is nobody's evidence, and half-written tables are none.
        path.unlink(missing_ok=True)
    for path, key, make in left:
        started = time.perf_counter()
        make()
        write_json(path, {**key, "seconds": round(time.perf_counter() - started, 1)})
    return f"gathered {', '.join(path.stem for path, *_ in left)}" if left else "evidence is there already"


class _Bench:
    """What the instruments of one subject share; models and records are loaded when something is missing."""

    def __init__(self, subject: Subject, settings: EvidenceSettings) -> None:
        self.subject, self.settings = subject, settings
        self._thought: dict[bytes, FactorRecords] = {}

    def key(self, instrument: str, settings: BaseModel) -> dict[str, Any]:
        """Return all that results depend on."""
        return {
            "version": VERSIONS[instrument],
            "weights": self._weights,
            "data_hash": self._prepared.manifest["data_hash"],
            "seed": self.subject.seed,
            "window": self.subject.window,
            "seen_items": self.subject.seen_items,
            "settings": settings.model_dump(mode="json"),
        }

    def instruments(self) -> Iterator[tuple[str, BaseModel, Callable[[], None]]]:
        """Yield name, settings and use of each instrument that is on and has something to look at."""
        settings, n_factors = self.settings, self._n_factors
        if n_factors and settings.disentanglement is not None:
            yield "factors", settings.disentanglement, self._factors
        if n_factors and settings.profiles is not None:
            yield "profiles", settings.profiles, self._profiles
        if n_factors > 1 and settings.mutual_information is not None:
            yield "information", settings.mutual_information, self._information
        if n_factors and settings.interventions is not None:
            yield "interventions", settings.interventions, self._interventions
        if settings.robustness is not None:
            yield "robustness", settings.robustness, self._robustness

    @cached_property
    def _weights(self) -> str:
        path = self.subject.folder / _WEIGHTS[self.subject.is_baseline]
        if not path.exists():
            raise ArtifactError(f"there are no weights {str(path)!r}; give the command again to make them")
        return file_sha256(path)

    @cached_property
    def _n_factors(self) -> int:
        """Factors of the run; 0 for a model without a thought and for a baseline."""
        if self.subject.is_baseline:
            return 0
        reasoner = read_json(RunFolder(self.subject.folder).facts, "run")["config"]["reasoner"]
        return 0 if reasoner["kind"] == "none" else int(reasoner["n_factors"])

    @cached_property
    def _prepared(self) -> PreparedData:
        return load_prepared(self.subject.data)

    @cached_property
    def _recommender(self) -> Recommender:
        return Recommender.load(self.subject.folder)

    @cached_property
    def _scorer(self) -> Scorer:
        """What ranks as `METRIC` sees it; all items where seen ones make room, for damage hides which these are."""
        if self.subject.is_baseline:
            return load_baseline(self.subject.folder).scorer
        if self._recommender.config.evaluation.ranking == "beam":
            return ranking_scorer(self._recommender, self._prepared.sequences)
        if self.subject.seen_items == "exclude":
            return self._recommender
        return BestItems(self._recommender, cutoff_of(METRIC), exclude_seen=False)

    def _records(self, max_targets: int, seed: int) -> FactorRecords:
        """Return what is thought about the targets of random users, once for the same ones."""
        users = drawn_users(self._prepared.sequences, max_targets, seed)
        key = users.tobytes()
        if key not in self._thought:
            self._thought[key] = collect_factors(self._recommender, self._prepared.sequences, users=users)
        return self._thought[key]

    def _factors(self) -> None:
        settings = self.settings.disentanglement
        assert settings is not None
        records = self._records(settings.max_targets, 0)
        rng = partial(generator, 0)
        figures = resampled_figures(
            records, rng("evidence figures"), n_top=settings.n_top, n_resamples=settings.n_resamples
        )
        table = disentanglement(
            records, rng("evidence pairs"), n_top=settings.n_top, n_resamples=settings.n_resamples // 4
        )
        halves = half_sampled_alignment(records, rng("evidence alignment"), n_halves=settings.n_halves)
        save_table(self.subject, "alignment", pl.DataFrame({"linear_cka": halves}))
        save_table(self.subject, "figures", figures)
        save_table(self.subject, "factors", table)
        save_records(records, self.subject.evidence / "factors.npz")
        if records.n_factors > 1:
            users = np.unique(records.users)
            before = collect_factors(untrained(self._recommender), self._prepared.sequences, users=users)
            save_records(before, self.subject.evidence / "untrained.npz")

    def _profiles(self) -> None:
        settings = self.settings.profiles
        assert settings is not None
        records = self._records(settings.max_targets, 0)
        found = profiles_from(self._recommender, records, self._prepared.sequences, split="test")
        save_table(self.subject, "profiles", profile_table(found))

    def _information(self) -> None:
        settings = self.settings.mutual_information
        assert settings is not None
        records = self._records(settings.n_targets, 0)
        table = factor_information(
            records,
            generator(0, "evidence information"),
            n_components=settings.n_components,
            n_permutations=settings.n_permutations,
            n_permutations_infonce=settings.n_permutations_infonce,
        )
        halves = half_sampled_information(
            records,
            generator(0, "evidence halves"),
            n_components=settings.n_components,
            n_halves=settings.n_halves,
        )
        save_table(self.subject, "information", table)
        save_table(self.subject, "halves", pl.DataFrame({"nats": halves}))

    def _interventions(self) -> None:
        settings = self.settings.interventions
        assert settings is not None
        records = self._records(settings.max_targets, self.subject.seed)
        wanted = {*settings.kinds, "only"}
        possible = all_interventions(records.n_factors, votes=self._recommender.model.memory is not None)
        chosen: list[Intervention] = [each for each in possible if each.factor is None or each.kind in wanted]
        frame = intervened_values(
            self._recommender,
            records,
            self._prepared.sequences,
            interventions=chosen,
            metric=METRIC,
            seed=self.subject.seed,
            seen_items=self.subject.seen_items,
            users=np.unique(records.users),
        )
        save_table(self.subject, "interventions", frame)

    def _robustness(self) -> None:
        settings = self.settings.robustness
        assert settings is not None
        sequences = self._prepared.sequences
        subject = self.subject
        frame = strained_values(
            self._scorer,
            sequences,
            self._prepared.items.height,
            strengths=settings.strengths,
            metric=METRIC,
            window=subject.window,
            keeps_older=True,
            seed=subject.seed,
            seen_items=subject.seen_items,
            users=drawn_users(sequences, settings.max_targets, subject.seed),
        )
        save_table(self.subject, "robustness", frame)


def drawn_users(sequences: UserSequences, max_targets: int, seed: int) -> IntArray:
    """Return random test users with about so many targets between them, two at least, ascending.

    Their number is settled beforehand, by what a user has on average: who has many targets is drawn as often as others.

    Args:
        sequences: All interactions.
        max_targets: Targets, together; how many they are in the end depends on who is drawn.
        seed: Of the draw; more targets of one seed are those of fewer and others.
    """
    users, counts = np.unique(sequences.targets(TEST)[0], return_counts=True)
    n = max(2, round(max_targets * len(users) / counts.sum()))
    return np.sort(generator(seed, "evidence users").permutation(users)[:n])
