"""`flr recommend`: a trained run and histories in, titles with probabilities out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson
from flr.cli.steering import Exclude, Weights, Where, read_filters, read_weights
from flr.errors import ReadError, RequestError


def recommend(
    *,
    run: Annotated[Path, typer.Option(help="Run folder made by `flr train`, or a saved recommender.")],
    history: Annotated[list[str] | None, typer.Option(help="One item of the history; repeat it, oldest first.")] = None,
    histories: Annotated[
        Path | None, typer.Option(help="JSON lines, one history per line: a list of items, oldest first.")
    ] = None,
    by: Annotated[Literal["id", "title"], typer.Option(help="Whether histories name items by id or by title.")] = "id",
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to recommend.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also recommend items of the history.")] = False,
    unknown: Annotated[Literal["error", "skip"], typer.Option(help="Items that are not in the catalogue.")] = "error",
    factor_weights: Weights = None,
    where: Where = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items after one history, or after each of many.

    \b
    Examples:
      flr recommend --run runs/ml-100k --history 1 --history 95
      flr recommend --run runs/ml-100k --by title --history "Alien (1979)"
      flr recommend --run runs/ml-100k --histories people.jsonl -k 5 --json
      flr recommend --run runs/ml-100k --history 1 --factor-weights 1,0,2,1
      flr recommend --run runs/ml-100k --history 1
        --where category=Sci-Fi --where category=Western --exclude 50
    """
    wanted, weights = _wanted(history, histories), read_weights(factor_weights)
    filters = read_filters(where, exclude)

    from flr.recommender import Recommender

    lists = Recommender.load(run).recommend(
        wanted,
        k=k,
        by=by,
        exclude_seen=not include_seen,
        unknown=unknown,
        filters=filters,
        factor_weights=weights,
    )
    if as_json:
        console.show_json([{"history": past, "items": best} for past, best in zip(wanted, lists, strict=True)])
        return
    for past, best in zip(wanted, lists, strict=True):
        rows = [(rank, f"{item.probability:.2%}", item.title, item.item_id) for rank, item in enumerate(best, start=1)]
        console.show_table(("rank", "probability", "title", "id"), rows, title="after " + " | ".join(past[-5:]))
        console.show_line()


def _wanted(history: list[str] | None, path: Path | None) -> list[list[str]]:
    if (not history) == (path is None):
        got = "both" if history else "neither"
        raise RequestError(f"give either --history (repeated) or --histories FILE; got {got}")
    return _read_histories(path) if path is not None else [list(history or [])]


def _read_histories(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ReadError(f"there is no file {str(path)!r}; --histories expects JSON lines, one list per line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(f"cannot read {str(path)!r}: {error}; expected JSON lines in UTF-8") from error
    read = [_history(line, number, path) for number, line in enumerate(lines, start=1) if line.strip()]
    if not read:
        raise ReadError(f'{str(path)!r} holds no history; expected JSON lines such as ["id 1", "id 2"]')
    return read


def _history(line: str, number: int, path: Path) -> list[str]:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ReadError(f'{path}, line {number}: {error}; expected a list such as ["id 1", "id 2"]') from None
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise ReadError(f'{path}, line {number}: got {line[:80]!r}, expected a list such as ["id 1", "id 2"]')
    return [str(item) for item in value]
