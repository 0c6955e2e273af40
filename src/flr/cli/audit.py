"""`flr audit`: what in the data would mislead a metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flr.cli import console
from flr.cli.guard import AsJson

if TYPE_CHECKING:
    from flr.data.findings import Finding


def audit(
    data: Annotated[Path, typer.Argument(help="Prepared folder, made by `flr prepare`.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Users and items with fewer rows count as thin.")] = 5,
    as_json: AsJson = False,
) -> None:
    """List ties, repeats, broken titles and cold items of a prepared folder, and what each does to a metric.

    \b
    Examples:
      flr audit data/ml-100k
      flr audit data/ml-100k --json
    """
    from flr.data.auditing import audit as examine
    from flr.data.storage import load_prepared

    prepared = load_prepared(data)
    found = examine(prepared.sequences, prepared.items, k=k)
    if as_json:
        console.show_json(found.to_json())
        return
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.counts.items())
    rows = [(one.value, _share(one.share), _told(one)) for one in found.findings if one.value]
    console.show_line(counts)
    console.show_table(("number", "share", "found, and what it does to a metric"), rows)
    if clean := [one.name.replace("_", " ") for one in found.findings if not one.value]:
        console.show_note(f"none of: {', '.join(clean)}")


def _told(finding: Finding) -> Text:
    examples = f" Such as: {', '.join(finding.examples)}." if finding.examples else ""
    return Text.assemble((finding.name.replace("_", " "), "bold"), f". {finding.effect}", (examples, "dim"))


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
