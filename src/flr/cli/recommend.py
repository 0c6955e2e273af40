"""`flr recommend`: a trained run and histories in, titles with probabilities out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson
from flr.cli.steering import Exclude, Weights, Where, read_filters, read_weights, skipped_line
from flr.errors import ReadError, RequestError, UnknownItemError

if TYPE_CHECKING:
    from flr.recommender import Recommendation, Recommender


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

    Of many, one that is empty, or has nothing left when unknown items are skipped, gets an empty list and a note.

    \b
    Examples:
      flr recommend --run runs/ml-100k --history 1 --history 95
      flr recommend --run runs/ml-100k --by title --history "Alien (1979)"
      flr recommend --run runs/ml-100k --histories people.jsonl -k 5 --json
      flr recommend --run runs/ml-100k --history 1 --factor-weights 1,0,2,1
      flr recommend --run runs/ml-100k --history 1
        --where category=Sci-Fi --where category=Western --exclude 50
    """
    asked, weights = _asked(history, histories), read_weights(factor_weights)
    filters = read_filters(where, exclude)

    from flr.recommender import Recommender

    recommender = Recommender.load(run)
    asked = _looked_up(recommender, asked, by, unknown)
    if histories is None and not asked[0].is_answered:
        raise RequestError(f"{asked[0].problem}; give at least one known item")
    lists = recommender.recommend(
        [one.history for one in asked if one.is_answered],
        k=k,
        by=by,
        exclude_seen=not include_seen,
        unknown=unknown,
        filters=filters,
        factor_weights=weights,
    )
    left = iter(lists)
    answers = [(one, next(left) if one.is_answered else []) for one in asked]
    for one in asked:
        if not one.is_answered:
            console.show_note(f"{one.problem}; its list is empty")
    if as_json:
        console.show_json(
            [{"history": one.history, "items": best, "skipped": list(one.skipped)} for one, best in answers]
        )
        return
    for one, best in answers:
        if one.is_answered:
            _show(one, best)


@dataclass(frozen=True)
class _Asked:
    """One history.

    Attributes:
        where: Where it was given.
        history: Its items.
        skipped: Those that the catalogue does not have.
    """

    where: str
    history: list[str]
    skipped: tuple[str, ...] = ()

    @property
    def is_answered(self) -> bool:
        return len(self.skipped) < len(self.history)

    @property
    def problem(self) -> str:
        if not self.history:
            return f"{self.where}: the history is empty"
        return f"{self.where}: the history holds unknown items only ({skipped_line(self.skipped)})"


def _show(one: _Asked, best: list[Recommendation]) -> None:
    rows = [(rank, f"{item.probability:.2%}", item.title, item.item_id) for rank, item in enumerate(best, start=1)]
    console.show_table(("rank", "probability", "title", "id"), rows, title="after " + " | ".join(one.history[-5:]))
    if one.skipped:
        console.show_line(skipped_line(one.skipped))
    console.show_line()


def _looked_up(recommender: Recommender, asked: list[_Asked], by: str, unknown: str) -> list[_Asked]:
    """Return histories with what is skipped of each.

    Raises:
        UnknownItemError: An item is not in the catalogue and may not be skipped.
    """
    missing = recommender.unknown_items([one.history for one in asked], by=by)
    asked = [replace(one, skipped=tuple(items)) for one, items in zip(asked, missing, strict=True)]
    for one in asked if unknown == "error" else ():
        for item in one.skipped[:1]:
            try:
                recommender.item_index(item, by=by)
            except UnknownItemError as error:
                raise UnknownItemError(f"{one.where}: {error}; or leave it out with --unknown skip") from None
    return asked


def _asked(history: list[str] | None, path: Path | None) -> list[_Asked]:
    if (not history) == (path is None):
        got = "both" if history else "neither"
        raise RequestError(f"give either --history (repeated) or --histories FILE; got {got}")
    return _read_histories(path) if path is not None else [_Asked("--history", list(history or []))]


def _read_histories(path: Path) -> list[_Asked]:
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


def _history(line: str, number: int, path: Path) -> _Asked:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ReadError(f'{path}, line {number}: {error}; expected a list such as ["id 1", "id 2"]') from None
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise ReadError(f'{path}, line {number}: got {line[:80]!r}, expected a list such as ["id 1", "id 2"]')
    return _Asked(f"{path}, line {number}", [str(item) for item in value])
