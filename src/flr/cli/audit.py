"""`flr audit`: what in the data would mislead a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr.cli import console
from flr.cli.guard import AsJson


def audit(
    data: Annotated[Path, typer.Argument(help="Prepared folder, made by `flr prepare`.")],
    as_json: AsJson = False,
) -> None:
    """List ties, duplicates, broken titles, cold items and leakage in a prepared folder."""
