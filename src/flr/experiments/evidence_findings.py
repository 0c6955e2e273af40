"""The evidence on one data set: tables of all models, and a verdict per claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from flr.catalogue.titles import build_catalogue
from flr.data.storage import load_prepared
from flr.errors import ArtifactError
from flr.evaluation.reports import load_report
from flr.evaluation.slices import slice_labels
from flr.experiments.effect_tables import effects_table, oracle_table, slices_table
from flr.experiments.evidence_claims import EvidenceClaim, evidence_claims
from flr.experiments.evidence_files import Subject, spent_seconds
from flr.experiments.factor_tables import disentanglement_table, stability_table
from flr.experiments.matrix import Study
from flr.experiments.pooling import details_table
from flr.experiments.robustness_tables import robustness_table


@dataclass(frozen=True)
class DataEvidence:
    """What the instruments found on one data set.

    Attributes:
        data: Its name.
        tables: By name: ``disentanglement``, ``factor-pairs``, ``profiles``, ``mutual-information``,
            ``interventions``, ``oracle``, ``robustness``, ``slices``, ``stability``; empty where an instrument is off
            or had nothing to look at.
        claims: A verdict each.
        hours: That gathering took, all models and seeds together.
    """

    data: str
    tables: Mapping[str, pl.DataFrame]
    claims: tuple[EvidenceClaim, ...]
    hours: float


def evidence_on(study: Study, data: str, of_models: Mapping[str, Mapping[int, Subject]]) -> DataEvidence:
    """Return tables and claims from what was gathered so far.

    Args:
        study: What was run.
        data: Name of the data set.
        of_models: Name of the variant or baseline -> seed -> subject.

    Raises:
        ArtifactError: The prepared folder or a table is missing or damaged.
    """
    settings, reference = study.evidence, study.reference
    prepared = load_prepared(study.data[data].folder)
    sequences, n_items = prepared.sequences, prepared.items.height
    reports = {name: _reports(of_seeds) for name, of_seeds in of_models.items()}
    variants = {name: of_models[name] for name in study.variants}
    tables: dict[str, pl.DataFrame] = {
        "disentanglement": disentanglement_table(variants, settings),
        "factor-pairs": details_table(variants, "factors", settings.disentanglement),
        "profiles": details_table(variants, "profiles", settings.profiles),
        "mutual-information": details_table(variants, "information", settings.mutual_information),
        "oracle": oracle_table(variants, settings),
        "robustness": robustness_table(of_models, reports, settings, reference, sequences=sequences, n_items=n_items),
        "stability": stability_table(variants, settings),
    }
    if reports[reference]:
        per_target = next(iter(reports[reference].values()))
        labels = slice_labels(per_target, sequences, build_catalogue(prepared.items))
        tables["interventions"] = effects_table(variants, settings, labels)
        if settings.slices:
            tables["slices"] = slices_table(reports, reference, labels)
    seconds = sum(spent_seconds(subject) for of_seeds in of_models.values() for subject in of_seeds.values())
    claims = tuple(evidence_claims(data, tables, reference, settings))
    return DataEvidence(data, tables, claims, seconds / 3600)


def _reports(of_seeds: Mapping[int, Subject]) -> dict[int, pl.DataFrame]:
    """Return the test results per target of the seeds that are finished."""
    found = {}
    for seed, subject in of_seeds.items():
        try:
            found[seed] = load_report(subject.folder, "test").per_target
        except ArtifactError:
            continue
    return found
