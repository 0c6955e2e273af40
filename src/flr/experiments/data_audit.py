"""An audit with its measured effects: what `flr audit` tells, as records and sentences."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from flr.data.audited_rows import AuditedRows
from flr.data.auditing import audit
from flr.data.findings import Audit, Finding
from flr.data.target_auditing import SHARED, SHARING_A_USER, mark_targets
from flr.data.title_auditing import title_numbers
from flr.evaluation.data_effects import DataEffects, Effect, ReferenceScore, measure_effects
from flr.evaluation.protocol import SeenItems
from flr.progress import SILENT, Progress
from flr.records import PreparedData

#: Recommenders whose HR@10 stands beside each finding.
BESIDE_FINDINGS: Final = ("popularity", "last-item-markov")
_EXAMPLE_WIDTH: Final = 60
REPEATS: Final = "repeated_rows"


@dataclass(frozen=True)
class DataAudit:
    """What an audit found and what it does to a metric.

    Attributes:
        audit: Counts and findings.
        effects: Reference scores and measured effects; None where scores were not asked for.
    """

    audit: Audit
    effects: DataEffects | None

    def to_json(self) -> dict[str, Any]:
        """Return the audit as mappings, lists, text and numbers, with ``scores`` and ``effects`` where measured."""
        content = self.audit.to_json()
        if self.effects is None:
            return content
        scored = {name: value for name, value in asdict(self.effects).items() if name.startswith(("n_", "seed"))}
        scores = [{**asdict(one), "error_ratio": one.error_ratio} for one in self.effects.scores]
        return {**content, "scored": scored, "scores": scores, "effects": [asdict(one) for one in self.effects.effects]}

    @property
    def found(self) -> list[Finding]:
        """What was found, that which has a measured effect first."""
        marking = {one.finding for one in self.effects.effects} if self.effects else set()
        marking |= {REPEATS} if self.effects else set()
        return sorted((one for one in self.audit.findings if one.value), key=lambda one: one.name not in marking)

    def beside(self, finding: str, seen_items: SeenItems) -> list[Effect | None]:
        """Return the effects of a finding on `BESIDE_FINDINGS`, None where it marks no test targets."""
        if self.effects is None:
            return [None] * len(BESIDE_FINDINGS)
        return [self.effects.effect(finding, name, seen_items) for name in BESIDE_FINDINGS]


def audit_data(
    data: PreparedData,
    *,
    k: int = 5,
    scores: bool = True,
    seen_items: Sequence[SeenItems] = ("exclude", "include"),
    max_users: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> DataAudit:
    """Return what in the data would mislead a metric, and by how much.

    Args:
        data: A prepared folder in memory.
        k: Users and items with fewer rows are thin.
        scores: Whether reference recommenders are scored; without, nothing is measured.
        seen_items: Treatments of seen items to score under.
        max_users: Score for this many test users at most, drawn at random; None: see `flr.evaluation.data_effects`.
        seed: Of the draw.
        progress: Is told how far it is.

    Raises:
        DataError: Scores are asked for and the test split has no target with an earlier row.
    """
    found = audit(data.sequences, data.items, k=k)
    if not scores:
        return DataAudit(found, None)
    rows = AuditedRows(data.sequences, data.items)
    effects = measure_effects(
        data.sequences,
        titles=title_numbers(data.items),
        marks=mark_targets(rows, k=k),
        repeated=rows.repeated,
        seen_items=seen_items,
        max_users=max_users,
        seed=seed,
        progress=progress,
    )
    return DataAudit(found, effects)


def measured(finding: Finding, effects: DataEffects | None, seen_items: SeenItems) -> str:
    """Return the measured effect of a finding that is more than HR@10 on some targets; empty for all others."""
    if effects is None or not finding.value:
        return ""
    scores = [effects.score(name, seen_items) for name in BESIDE_FINDINGS]
    if finding.name == SHARED:
        return f"Crediting titles would take HR@10 {_changes(scores, [one.title_hr for one in scores])}."
    if finding.name == REPEATS and None not in (without := [one.hr_without_repeats for one in scores]):
        return f"Without these rows HR@10 would go {_changes(scores, without)}."
    if finding.name == SHARING_A_USER:
        errors = (
            f"{one.standard_error:.4f} to {one.clustered_error:.4f} ({one.error_ratio:.1f} times, {one.recommender})"
            for one in scores
            if not math.isnan(one.error_ratio)
        )
        told = ", ".join(f"from {error}" for error in errors)
        return f"Clustering takes the standard error of HR@10 {told}." if told else ""
    return ""


def headline(result: DataAudit, seen_items: SeenItems) -> str:
    """Return the finding without whose targets HR@10 of a reference recommender changes most, as a sentence or two.

    Dependence of one user's targets is no candidate: it is about standard errors. Empty without scores.
    """
    if result.effects is None:
        return ""
    changes = [
        (abs(effect.hr_rest - result.effects.score(effect.recommender, seen_items).metrics["hr@10"]), finding, effect)
        for finding in result.audit.findings
        for effect in result.beside(finding.name, seen_items)
        if effect is not None and effect.hr_rest is not None and finding.name != SHARING_A_USER
    ]
    change, finding, effect = max(changes, key=lambda one: one[0], default=(0.0, None, None))
    if not change or finding is None or effect is None:
        return "No finding moves HR@10 of the reference recommenders."
    return (
        f"What moves HR@10 most: {in_words(finding.name)}. {effect.recommender} reaches {effect.hr:.4f} on these "
        f"{effect.n_targets:,} test targets and {effect.hr_rest:.4f} on the rest."
    )


def scored_targets(effects: DataEffects) -> str:
    """Return what the reference scores are made on, and of a draw its seed."""
    if effects.n_users == effects.n_all_users:
        return f"{effects.n_targets:,} test targets of {effects.n_users:,} users, all items ranked"
    return (
        f"{effects.n_targets:,} of {effects.n_all_targets:,} test targets, of {effects.n_users:,} of "
        f"{effects.n_all_users:,} users drawn at random (seed {effects.seed}), all items ranked"
    )


def in_words(name: str) -> str:
    """Return a finding's or count's name as text."""
    return name.replace("_", " ")


def some_examples(finding: Finding) -> str:
    """Return the examples of a finding, each once and cut to what can be taken in at a glance."""
    return ", ".join(
        textwrap.shorten(one, _EXAMPLE_WIDTH, placeholder=" ...") for one in dict.fromkeys(finding.examples)
    )


def _changes(scores: Sequence[ReferenceScore], others: Sequence[float | None]) -> str:
    pairs = zip(scores, others, strict=True)
    told = [f"from {one.metrics['hr@10']:.4f} to {other:.4f} ({one.recommender})" for one, other in pairs]
    return ", ".join(told)
