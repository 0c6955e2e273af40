"""The page of a data audit: reference scores, and each finding with what it does to HR@10."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flr.data.findings import Finding
from flr.data.target_auditing import SHARING_A_USER
from flr.evaluation.data_effects import DataEffects, Effect
from flr.evaluation.protocol import SeenItems
from flr.experiments.data_audit import (
    BESIDE_FINDINGS,
    DataAudit,
    headline,
    in_words,
    measured,
    scored_targets,
    some_examples,
)
from flr.experiments.report import template
from flr.persistence import write_text


def write_audit_report(path: Path, result: DataAudit, *, name: str, manifest: dict[str, Any]) -> None:
    """Write the page of an audit.

    Args:
        path: HTML file; replaced in one step.
        result: What was found and measured.
        name: Of the data, for the headline.
        manifest: Of the prepared folder.

    Raises:
        StorageError: The disk refused the write; what was there before is untouched.
    """
    write_text(path, render_audit_report(result, name=name, manifest=manifest))


def render_audit_report(result: DataAudit, *, name: str, manifest: dict[str, Any]) -> str:
    """Return the page of an audit as HTML with neither script nor outside resource; all text is escaped."""
    effects = result.effects
    treatments: list[SeenItems] = list(dict.fromkeys(one.seen_items for one in effects.scores)) if effects else []
    facts = {"split": manifest.get("split"), "order": manifest.get("tie_break"), "flr": manifest.get("flr_version")}
    return template("audit.html.j2").render(
        name=name,
        summary=_summary(result, treatments),
        counts={in_words(key): count for key, count in result.audit.counts.items()},
        scored=scored_targets(effects) if effects else None,
        scores=_score_rows(effects) if effects else [],
        recommenders=BESIDE_FINDINGS,
        treatments=treatments,
        findings=[_finding_row(one, result, treatments) for one in result.found],
        clean=[in_words(one.name) for one in result.audit.findings if not one.value],
        facts={
            **{label: str(value) for label, value in facts.items() if value},
            "data hash": str(manifest.get("data_hash", "unknown"))[:16],
        },
    )


def _summary(result: DataAudit, treatments: list[SeenItems]) -> list[str]:
    if result.effects is None or not treatments:
        return [f"{sum(one.value > 0 for one in result.audit.findings)} findings to know about before training."]
    scores = [result.effects.score(name, treatments[0]) for name in BESIDE_FINDINGS]
    reached = " and ".join(f"{one.recommender} {one.metrics['hr@10']:.4f}" for one in scores)
    sentences = [f"HR@10 that needs no training, seen items {treatments[0]}d: {reached}."]
    sentences.append(headline(result, treatments[0]))
    ratios = [one.error_ratio for one in result.effects.scores if not math.isnan(one.error_ratio)]
    if result.audit[SHARING_A_USER].value and ratios:
        sentences.append(f"Standard errors clustered by user are up to {max(ratios):.1f} times as large as naive ones.")
    return sentences


def _score_rows(effects: DataEffects) -> list[dict[str, Any]]:
    return [
        {
            "name": one.recommender,
            "seen_items": f"{one.seen_items}d",
            "metrics": {key.upper(): f"{value:.4f}" for key, value in one.metrics.items()},
            "error": _shown(one.standard_error),
            "clustered": _shown(one.clustered_error),
        }
        for one in effects.scores
    ]


def _finding_row(finding: Finding, result: DataAudit, treatments: list[SeenItems]) -> dict[str, Any]:
    per_treatment = [(name, result.beside(finding.name, name)) for name in treatments]
    return {
        "name": in_words(finding.name),
        "value": finding.value,
        "share": "" if finding.share is None else f"{finding.share:.1%}",
        "effect": finding.effect,
        "measured": [(f"{name}d", text) for name in treatments if (text := measured(finding, result.effects, name))],
        "examples": some_examples(finding),
        "n_targets": next((one.n_targets for _, effects in per_treatment for one in effects if one), None),
        "lines": [(f"{name}d", [_hits(one) for one in effects]) for name, effects in per_treatment if any(effects)],
    }


def _hits(effect: Effect | None) -> tuple[str, str]:
    return ("-", "-") if effect is None else (_shown(effect.hr), _shown(effect.hr_rest))


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
