"""`flr prepare`: raw files in, a prepared folder out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.errors import ConfigError, RequestError
from flr.prepare_config import PrepareConfig


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with one option per field of `PrepareConfig`, so that each is described in one place."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    parameters = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, field in PrepareConfig.model_fields.items():
        hints[name] = Annotated[field.annotation | None, _option(name, field)]  # type: ignore[operator]
        keyword = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name])
        parameters.append(keyword)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    return command


def _option(name: str, field: FieldInfo) -> Any:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    facts = [" | ".join(choices)] if choices else []
    facts += [f"default: {field.default}"] if field.default not in (None, False) else []
    return typer.Option(
        f"--{name.replace('_', '-')}",
        help=" ".join([field.description or "", *(f"({fact})" for fact in facts)]),
        metavar=_metavar(name, field.annotation),
        show_default=False,
        rich_help_panel="Settings",
    )


def _metavar(name: str, annotation: Any) -> str | None:
    if annotation is bool:
        return None
    numbers = {int: "N", float: "SHARE", float | None: "NUMBER"}
    if annotation in numbers:
        return numbers[annotation]
    return "COLUMN" if name.endswith("_column") else "TEXT"


@_with_settings
def prepare(
    name: Annotated[str | None, typer.Argument(help="A public data set; `flr fetch` lists them.")] = None,
    *,
    output: Annotated[Path, typer.Option(help="The prepared folder, made here.")],
    interactions: Annotated[
        Path | None,
        typer.Option(
            help="Your rows: CSV, TSV, JSON lines or Parquet; or a file or folder of Amazon reviews, MovieLens, "
            "RecBole, LC-Rec, LatentR3 or Hugging Face's save_to_disk, recognised by name and first bytes."
        ),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Your items with titles, in any of these formats; unset: those beside the rows.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is already there.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Turn raw interactions and titles into a prepared folder: Parquet tables and a manifest.

    \b
    Examples:
      flr prepare ml-100k --output data/ml-100k
      flr prepare --interactions rows.csv --items items.csv --output data/mine
      flr prepare --interactions Toys_5.json.gz --output data/toys
      flr prepare ml-100k --min-rating 4 --output data/liked
      flr prepare --interactions CDs_and_Vinyl_5.json.gz
        --protocol latentr3 --output data/cds2015
      flr prepare --interactions LatentR3/CDs
        --split given --order-column pos --output data/cds
    """
    if (name is None) == (interactions is None):
        got = "neither" if name is None else f"both {name!r} and {str(interactions)!r}"
        raise RequestError(f"name a public data set or give --interactions FILE; got {got}")
    if name is not None and items is not None:
        raise RequestError(f"{name!r} brings its own items; leave --items {str(items)!r} out")
    chosen = _settings({key: value for key, value in settings.items() if value is not None})

    from flr.data import readers, sources
    from flr.data.preparation import prepare as prepare_interactions
    from flr.data.storage import save_prepared

    raw = readers.read(interactions, items, chosen) if interactions else sources.read_source(str(name), chosen)
    prepared = prepare_interactions(raw, chosen, progress=console.progress(quiet))
    manifest = save_prepared(prepared, output, overwrite=overwrite).manifest
    if as_json:
        console.show_json(manifest)
        return
    _show_source(manifest["source"])
    _show(manifest, output)


def _show_source(source: dict[str, Any]) -> None:
    """Say what each file was recognised as, and what its reader found worth knowing."""
    for table in filter(None, (source["interactions"], source["items"])):
        console.show_note(f"read as {table['format']}: {table['path']}")
        if "note" in table:
            console.show_note(f"note: {table['note']}")
    if source.get("unreadable_ratings"):
        console.show_note(f"note: {source['unreadable_ratings']:,} ratings are no numbers and were left out")
    if several := source.get("items_with_several_titles"):
        console.show_note(f"note: {several:,} items have several titles, of which one was taken")
    if few := source.get("few_items_listed"):
        console.show_note(
            f"warning: {few['found']:,} of {few['of']:,} items of the interactions are in the items table; "
            "check that both name items alike (--item-column)"
        )
    elif unlisted := source.get("unlisted_items"):
        console.show_note(f"note: {unlisted:,} items of the interactions are not in the items table")
    for reason, count in source.get("unreadable_rows", {}).items():
        console.show_note(f"note: {count:,} left out because {reason}")


def _show(manifest: dict[str, Any], output: Path) -> None:
    console.show_table(("", "count"), [(_words(name), count) for name, count in manifest["counts"].items()])
    if window := manifest.get("window"):
        start, n_tried = window["start"] or "the first row", len(window["items_by_start"])
        of_many = f", of {n_tried} tried" if n_tried > 1 else ""
        console.show_note(f"window: {start} to {window['end'] or 'the last row'}{of_many}")
    for reason, count in manifest["dropped"].items():
        console.show_note(f"dropped: {count:,} {_words(reason)}")
    n_findings = sum(finding["value"] > 0 for finding in manifest["audit"]["findings"])
    console.show_note(f"{n_findings} findings to know about: flr audit {output}")
    console.show_line(f"prepared -> {output}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _settings(given: dict[str, Any]) -> PrepareConfig:
    try:
        return PrepareConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(one) for one in error.errors())) from error


def _problem(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    option = "".join(f"--{part} ".replace("_", "-") for part in problem["loc"])
    return f"{option}{problem['input']}: {message}" if option else message
