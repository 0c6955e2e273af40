"""`flr audit`: what in the data would mislead a metric, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from flr.cli import console
from flr.cli.guard import AsJson, Quiet

if TYPE_CHECKING:
    from flr.data.findings import Audit, Finding
    from flr.evaluation.data_effects import DataEffects
    from flr.evaluation.protocol import SeenItems
    from flr.experiments.data_audit import DataAudit


def audit(
    data: Annotated[Path, typer.Argument(help="Prepared folder, made by `flr prepare`.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Users and items with fewer rows count as thin.")] = 5,
    no_scores: Annotated[bool, typer.Option("--no-scores", help="Only count; rank nothing.")] = False,
    seen_items: Annotated[
        Literal["exclude", "include", "both"],
        typer.Option(help="Whether items of the history are candidates; findings show the first treatment."),
    ] = "both",
    users: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rank for this many test users, drawn at random; unset: as many as 2^28 scores allow."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw of users.")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page, one self-contained file.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List what in a prepared folder would mislead a metric, and measure what it does to HR@10.

    Popularity and the last-item Markov chain need no training: they rank the whole catalogue for the test targets, and
    each finding shows their HR@10 on the targets it is about and on the rest.

    \b
    Examples:
      flr audit data/ml-100k
      flr audit data/ml-100k --html audit.html
      flr audit data/ml-100k --no-scores --json
    """
    from flr.data.storage import load_prepared
    from flr.experiments.audit_report import write_audit_report
    from flr.experiments.data_audit import audit_data, headline

    prepared = load_prepared(data)
    treatments: tuple[SeenItems, ...] = ("exclude", "include") if seen_items == "both" else (seen_items,)
    result = audit_data(
        prepared,
        k=k,
        scores=not no_scores,
        seen_items=treatments,
        max_users=users,
        seed=seed,
        progress=console.progress(quiet),
    )
    if html is not None:
        write_audit_report(html, result, name=data.resolve().name, manifest=prepared.manifest)
    if as_json:
        console.show_json(result.to_json())
        return
    _show_counts(result.audit)
    if result.effects is not None:
        _show_scores(result.effects)
        console.show_wrapped(headline(result, treatments[0]) + "\n")
    _show_findings(result, treatments[0])
    if html is not None:
        console.show_line(f"the page: {html}")


def _show_counts(found: Audit) -> None:
    counts = [f"{count:,} {name.replace('_', ' ')}" for name, count in found.counts.items()]
    console.show_wrapped(", ".join(counts))
    console.show_line()


def _show_scores(effects: DataEffects) -> None:
    from flr.experiments.data_audit import scored_targets

    rows = [(one.recommender, f"{one.seen_items}d", *one.metrics.values()) for one in effects.scores]
    names = [name.upper() for name in effects.scores[0].metrics]
    console.show_table(("reference", "seen items", *names), rows, title=scored_targets(effects))
    console.show_line()


def _show_findings(result: DataAudit, seen_items: SeenItems) -> None:
    rows = [(one.value, _share(one.share), _told(one, result, seen_items)) for one in result.found]
    measure = f"findings, with HR@10 on their test targets (seen items {seen_items}d); the rest is HR@10 without them"
    title = "" if result.effects is None else measure
    console.show_table(("number", "share", "found, and what it does to a metric"), rows, title=title)
    if clean := [one.name.replace("_", " ") for one in result.audit.findings if not one.value]:
        console.show_note(f"none of: {', '.join(clean)}")


def _told(finding: Finding, result: DataAudit, seen_items: SeenItems) -> Text:
    from flr.experiments.data_audit import measured, some_examples

    told = Text.assemble((finding.name.replace("_", " "), "bold"), f". {finding.effect}")
    if effects := list(filter(None, result.beside(finding.name, seen_items))):
        hits = "; ".join(f"{one.recommender} {_hit_rate(one.hr)}, rest {_hit_rate(one.hr_rest)}" for one in effects)
        n_targets = effects[0].n_targets
        on = "" if n_targets == finding.value else f" ({n_targets:,} test targets)"
        told.append(f"\nHR@10: {hits}{on}", "cyan")
    if number := measured(finding, result.effects, seen_items):
        told.append(f"\n{number}", "cyan")
    if finding.examples:
        told.append(f"\nSuch as: {some_examples(finding)}.", "dim")
    return told


def _hit_rate(hr: float | None) -> str:
    return "-" if hr is None else f"{hr:.4f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
