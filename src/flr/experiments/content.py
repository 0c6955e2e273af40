"""What the report page of a run shows, in plain Python and NumPy types: whoever fills it needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flr.evaluation.metrics import clustered_standard_error
from flr.records import USER_INDEX, FloatArray, Report

Value = str | int | float


@dataclass(frozen=True)
class ResultRow:
    """One line of the results table.

    Attributes:
        name: What was evaluated.
        metrics: Metric name -> value, for example ``{"ndcg@10": 0.064}``.
        standard_errors: Metric name -> standard error, for metrics that are means over targets.
    """

    name: str
    metrics: Mapping[str, float]
    standard_errors: Mapping[str, float]

    @classmethod
    def of(cls, report: Report) -> ResultRow:
        """Return the line of an evaluation; standard errors are clustered by user."""
        users = report.per_target[USER_INDEX].to_numpy()
        columns = [name for name in report.metrics if name in report.per_target.columns]
        errors = {name: clustered_standard_error(report.per_target[name].to_numpy(), users) for name in columns}
        return cls(report.name, report.metrics, errors)


@dataclass(frozen=True)
class TrainingCurve:
    """What training logged.

    Attributes:
        steps: Optimiser steps of the losses, ascending.
        losses: Mean training loss at each.
        valid_steps: Steps at which the model was validated, ascending.
        valid_ndcg: NDCG@10 on validation at each.
        kept_step: Step whose weights were kept; None when unknown.
    """

    steps: Sequence[int]
    losses: Sequence[float]
    valid_steps: Sequence[int]
    valid_ndcg: Sequence[float]
    kept_step: int | None = None


@dataclass(frozen=True)
class UserExample:
    """What one person took and what the model recommends.

    Attributes:
        user_id: The user's own id.
        history: Titles of the last few items, oldest first.
        n_history: Items in the whole history.
        recommended: (title, probability over the whole catalogue in 0..1), best first.
        taken_next: Title of the held-out item; None when there is none.
    """

    user_id: str
    history: Sequence[str]
    n_history: int
    recommended: Sequence[tuple[str, float]]
    taken_next: str | None = None


@dataclass(frozen=True)
class FactorAttention:
    """Where each factor of one person's thought looked, at the last refinement step.

    Attributes:
        user_id: The user's own id.
        titles: Titles of the items in the window, oldest first, [n].
        weights: Attention of each factor summed over each item's tokens, [K, n], rows sum to at most 1; what is
            missing went to text before the items and is shown as such.
        gates: Aggregation weights of the factors, [K], sum 1.
    """

    user_id: str
    titles: Sequence[str]
    weights: FloatArray
    gates: FloatArray


@dataclass(frozen=True)
class RunReportContent:
    """Everything the page shows, in plain Python and NumPy types.

    Attributes:
        dataset: Name of the data, for the headline.
        n_items: Size of the catalogue that was ranked.
        data: Label -> value: users, items, interactions, split, ...
        settings: Label -> value: backbone, factors, steps, window, seen items, ...
        results: Evaluations on the test split; the model first, then the baselines.
        curve: Training, as logged.
        examples: About three people with recommendations.
        attention: One person's attention, or None for a model without factors.
        findings: What the data audit found, one sentence each; empty when nothing was found.
        facts: Label -> value: seed, versions, duration, commit, data hash, ...
        cutoff: Cutoff k of the metrics shown.
    """

    dataset: str
    n_items: int
    data: Mapping[str, Value]
    settings: Mapping[str, Value]
    results: Sequence[ResultRow]
    curve: TrainingCurve
    examples: Sequence[UserExample]
    attention: FactorAttention | None
    findings: Sequence[str]
    facts: Mapping[str, Value]
    cutoff: int = 10
