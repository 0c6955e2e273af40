"""The report page of one run: a small, self-contained HTML file anyone can open, print and pass on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from flr.experiments.charts import Panel, heat_cell, interval_rows, line_panel
from flr.experiments.content import FactorAttention, RunReportContent, TrainingCurve, Value
from flr.persistence import write_text


def write_run_report(path: Path, content: RunReportContent) -> None:
    """Write the page of a run.

    Args:
        path: HTML file; replaced in one step.
        content: What it shows.

    Raises:
        StorageError: The disk refused the write; what was there before is untouched.
    """
    write_text(path, render_run_report(content))


def render_run_report(content: RunReportContent) -> str:
    """Return the page of a run as HTML with neither script nor outside resource; all text is escaped."""
    return template("demo.html.j2").render(
        content=content,
        summary=_summary(content),
        table=_results_table(content),
        intervals=_intervals(content),
        panels=_panels(content.curve),
        heat_map=_heat_map(content.attention) if content.attention else None,
    )


def template(name: str, *, escape: bool = True) -> jinja2.Template:
    """Return a template of reports; it refuses names it is not given, and escapes all text unless told otherwise."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flr.experiments"),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    return environment.get_template(name)


def _shown(value: Value) -> str:
    """Return a value as the page shows it.

    >>> _shown(100000), _shown(0.1), _shown("ml-100k")
    ('100,000', '0.1', 'ml-100k')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _summary(content: RunReportContent) -> list[str]:
    """Return what was reached beside the baselines, and whether the difference is settled."""
    model, *baselines = content.results
    hits, ndcg, k = f"hr@{content.cutoff}", f"ndcg@{content.cutoff}", content.cutoff
    n_targets = int(model.metrics["n_targets"])
    sentences = [
        f"Out of {content.n_items:,} items, {model.name} has the one taken next among its first {k} for "
        f"{model.metrics[hits]:.1%} of {n_targets:,} held-out targets"
    ]
    if not baselines:
        return [sentences[0] + "."]
    others = " and ".join(f"{row.name} for {row.metrics[hits]:.1%}" for row in baselines)
    best = max(baselines, key=lambda row: row.metrics[ndcg])
    difference = model.metrics[ndcg] - best.metrics[ndcg]
    error = math.hypot(model.standard_errors.get(ndcg, math.nan), best.standard_errors.get(ndcg, math.nan))
    place = "ahead of" if difference > 0 else "behind"
    settled = abs(difference) > 2 * error
    verdict = "more than two standard errors" if settled else "within two standard errors, so not settled by one run"
    return [
        f"{sentences[0]}; {others}.",
        f"By NDCG@{k} it is {place} {best.name} by {abs(difference):.4f}: {verdict}.",
    ]


def _results_table(content: RunReportContent) -> dict[str, Any]:
    """Return columns and rows of the results; the best value of each quality metric is marked."""
    k = content.cutoff
    columns = [f"hr@{k}", f"ndcg@{k}", f"mrr@{k}", f"coverage@{k}", f"mean_popularity@{k}"]
    best = {name: max(row.metrics[name] for row in content.results) for name in columns[:-1]}
    rows = []
    for row in content.results:
        cells = []
        for name in columns:
            value, error = row.metrics[name], row.standard_errors.get(name, math.nan)
            cells.append(
                {
                    "value": _formatted(name, value),
                    "error": "" if math.isnan(error) else f"± {error:.4f}",
                    "best": len(content.results) > 1 and value == best.get(name),
                }
            )
        rows.append({"name": row.name, "n": int(row.metrics["n_targets"]), "cells": cells})
    names = [f"HR@{k}", f"NDCG@{k}", f"MRR@{k}", f"Coverage@{k}", f"Mean popularity@{k}"]
    return {"columns": names, "rows": rows}


def _formatted(metric: str, value: float) -> str:
    if metric.startswith("coverage"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if metric.startswith("mean_popularity") else f"{value:.4f}"


def _intervals(content: RunReportContent) -> Markup:
    metric = f"ndcg@{content.cutoff}"
    return interval_rows(
        [row.name for row in content.results],
        [row.metrics[metric] for row in content.results],
        [row.standard_errors.get(metric, math.nan) for row in content.results],
        metric.upper(),
    )


def _panels(curve: TrainingCurve) -> list[Markup]:
    if not (len(curve.steps) or len(curve.valid_steps)):
        return []
    last = max([*curve.steps, *curve.valid_steps])
    loss = Panel("Training loss", curve.steps, curve.losses, marked_step=curve.kept_step)
    ndcg = Panel(
        "Validation NDCG@10", curve.valid_steps, curve.valid_ndcg, dots=True, marked_step=curve.kept_step, digits=4
    )
    return [line_panel(loss, last_step=last, step_axis=False), line_panel(ndcg, last_step=last, step_axis=True)]


def _heat_map(attention: FactorAttention) -> dict[str, Any]:
    """Return the rows of the map, newest item first, and what went to text before the items, if that is anything."""
    weights = np.asarray(attention.weights, dtype=float)
    before = np.clip(1 - weights.sum(axis=1), 0, 1)
    columns = list(zip(attention.titles, weights.T, strict=True))[::-1]
    if before.max() > 0.005:
        columns.append(("text before the items", before))
    strongest = max(float(shares.max()) for _, shares in columns)
    rows = []
    for i, (title, shares) in enumerate(columns):
        cells = [
            heat_cell(float(share), strongest, f"Factor {k}: {share:.1%} of its attention on {title}")
            for k, share in enumerate(shares, start=1)
        ]
        rows.append({"ago": i + 1 if i < len(attention.titles) else "", "title": title, "cells": cells})
    return {"gates": [float(gate) for gate in attention.gates], "rows": rows, "strongest": strongest}
