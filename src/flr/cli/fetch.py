"""`flr fetch`: a public data set into the local cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet


def fetch(
    name: Annotated[str | None, typer.Argument(help="Name of the data set; leave it out to list all.")] = None,
    *,
    from_file: Annotated[
        list[Path] | None,
        typer.Option("--from-file", help="A file you have already, called as at its address; may be repeated."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a public data set once; afterwards it is read offline.

    \b
    Examples:
      flr fetch
      flr fetch ml-100k
      flr fetch ml-1m --from-file ~/Downloads/ml-1m.zip
    """
    from flr.data import sources

    if name is None:
        _list_sources(as_json)
        return
    folder = sources.fetch(name, at_hand=from_file or (), progress=console.progress(quiet))
    source = sources.SOURCES[name]
    if as_json:
        console.show_json({"name": name, "folder": folder, "licence": source.licence, "citation": source.citation})
        return
    console.show_line(f"{name} is in {folder}")
    console.show_note(f"licence: {source.licence}")
    console.show_note(f"cite: {source.citation}")


def _list_sources(as_json: bool) -> None:
    from flr.data.sources import SOURCES

    if as_json:
        console.show_json(SOURCES)
        return
    rows = [(name, source.description, source.size, source.licence) for name, source in SOURCES.items()]
    console.show_table(("name", "what", "size", "licence"), rows)
