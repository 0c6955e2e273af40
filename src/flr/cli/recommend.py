"""`flr recommend`: a trained run and histories in, titles with probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.cli.people import People, people_of_data, people_of_file, shard_of
from flr.cli.steering import Exclude, Weights, Where, read_filters, read_weights, skipped_line
from flr.errors import RequestError, UnknownItemError

if TYPE_CHECKING:
    from flr.bulk import ListSettings
    from flr.recommender import Recommendation, Recommender


def recommend(
    *,
    run: Annotated[Path, typer.Option(help="Run folder made by `flr train`, or a saved recommender.")],
    history: Annotated[list[str] | None, typer.Option(help="One item of the history; repeat it, oldest first.")] = None,
    histories: Annotated[
        Path | None,
        typer.Option(
            help="Many people: JSON lines, each a list of items, oldest first, or an object with user_id and history; "
            "or Parquet with these columns."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="All people of a prepared folder, after all that they took; needs --output.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File of the lists, .parquet, .csv or .jsonl; interrupted, the same command goes on."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="With --output: every N-th of the people only, from the I-th on.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    by: Annotated[Literal["id", "title"], typer.Option(help="Whether histories name items by id or by title.")] = "id",
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to recommend.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also recommend items of the history.")] = False,
    unknown: Annotated[Literal["error", "skip"], typer.Option(help="Items that are not in the catalogue.")] = "error",
    empty: Annotated[
        Literal["error", "popular"],
        typer.Option(help="People without a known item: an empty list or an error, or what was taken most often."),
    ] = "error",
    factor_weights: Weights = None,
    diversify: Annotated[
        Literal["factors"] | None, typer.Option(help="Let the factors pick in turn; not with --output.")
    ] = None,
    where: Where = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Recommend items after one history, or after each of many.

    Of many, one that is empty, or has nothing left when unknown items are skipped, gets an empty list and a note; with
    --empty popular what was taken most often in training, as --empty popular alone shows it.

    \b
    Examples:
      flr recommend --run runs/ml-100k --history 1 --history 95
      flr recommend --run runs/ml-100k --by title --history "Alien (1979)"
      flr recommend --run runs/ml-100k --histories people.jsonl -k 5 --json
      flr recommend --run runs/ml-100k --history 1 --factor-weights 1,0,2,1
      flr recommend --run runs/ml-100k --history 1 --diversify factors
      flr recommend --run runs/ml-100k --history 1
        --where category=Sci-Fi --where category=Western --exclude 50
      flr recommend --run runs/ml-100k --empty popular
      flr recommend --run runs/mine --data data/mine --output lists.parquet
      flr recommend --run runs/mine --histories people.parquet --output lists-2.csv --shard 2/8
    """
    popular = empty == "popular"
    _check_sources({"--history": history, "--histories": histories, "--data": data}, output, may_lack=popular)
    _check_output({"--data": data, "--shard": shard, "--overwrite": overwrite}, output, diversify)
    weights, filters = read_weights(factor_weights), read_filters(where, exclude)
    if output is not None:
        from flr.bulk import ListSettings

        people = shard_of(people_of_data(data) if data is not None else people_of_file(histories or Path()), shard)
        settings = ListSettings(k, by, not include_seen, unknown, empty, filters, weights)
        _write(run, people, output, settings, overwrite=overwrite, as_json=as_json, quiet=quiet)
        return
    asked = [_Asked("--history", history or [])] if histories is None else _asked(people_of_file(histories))

    from flr.recommender import Recommender

    recommender = Recommender.load(run)
    asked = _looked_up(recommender, asked, by, unknown)
    if histories is None and not (popular or asked[0].is_answered):
        raise RequestError(f"{asked[0].problem}; give at least one known item")
    lists = iter(
        recommender.recommend(
            [one.history for one in asked if popular or one.is_answered],
            k=k,
            by=by,
            exclude_seen=not include_seen,
            unknown=unknown,
            empty=empty,
            filters=filters,
            factor_weights=weights,
            diversify=diversify,
        )
    )
    _tell([(one, next(lists) if popular or one.is_answered else None) for one in asked], as_json)


def _tell(answers: Sequence[tuple[_Asked, list[Recommendation] | None]], as_json: bool) -> None:
    """Show the list after each history; None for those that have no list."""
    for one, best in answers:
        if best is None:
            console.show_note(f"{one.problem}; its list is empty")
    if as_json:
        console.show_json(
            [{"history": one.history, "items": best or [], "skipped": list(one.skipped)} for one, best in answers]
        )
        return
    for one, best in answers:
        if best is not None:
            _show(one, best)


def _check_sources(given: Mapping[str, object], output: Path | None, *, may_lack: bool) -> None:
    named = [name for name, value in given.items() if value]
    if not named and may_lack and output is None:
        return
    if len(named) != 1:
        got = " and ".join(named) or "none of them"
        raise RequestError(f"give one of --history (repeated), --histories FILE and --data FOLDER; got {got}")
    if output is not None and named == ["--history"]:
        raise RequestError("got --output with --history; it is for the many people of --histories or --data")


def _check_output(need_it: Mapping[str, object], output: Path | None, diversify: str | None) -> None:
    """Refuse options that have no meaning without an output, or with one."""
    for name, value in need_it.items():
        if output is None and value:
            raise RequestError(f"got {name} without --output; name the file that gets the lists")
    if output is not None and diversify is not None:
        raise RequestError("got --diversify with --output; lists in a file are ranked by probability")


def _write(
    run: Path,
    people: People,
    output: Path,
    settings: ListSettings,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the lists of many people into a file, and tell what was done."""
    from flr.bulk import write_lists

    progress = console.progress(quiet)
    written = write_lists(
        run, people.frame, output, settings=settings, items=people.items, overwrite=overwrite, progress=progress
    )
    if as_json:
        console.show_json(written)
        return
    if written.n_skipped:
        console.show_note(
            f"{written.n_skipped:,} rows of histories were skipped, whose items the catalogue does not have"
        )
    if written.without:
        told = skipped_line(written.without, "who took nothing that the catalogue has")
        console.show_note(f"{len(written.without):,} people have no list; {told}")
    if n_empty := len(people.frame) - len(written.without) - written.n_lists:
        console.show_note(f"{n_empty:,} people have an empty list: nothing is left to recommend to them")
    console.show_line(f"{written.n_items:,} items for {written.n_lists:,} people: {written.path}")


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
    columns = ["rank", "probability", "title", "id"]
    rows: list[tuple[object, ...]] = [
        (rank, f"{item.probability:.2%}", item.title, item.item_id) for rank, item in enumerate(best, start=1)
    ]
    if best and best[0].factor is not None:
        columns.append("picked by factor")
        rows = [(*row, (item.factor or 0) + 1) for row, item in zip(rows, best, strict=True)]
    title = "after " + " | ".join(one.history[-5:]) if one.is_answered else "what was taken most often"
    console.show_table(columns, rows, title=title)
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
                problem = f"{one.where}: {error.problem}; or leave it out with --unknown skip"
                raise UnknownItemError(problem, error.other) from None
    return asked


def _asked(people: People) -> list[_Asked]:
    rows = zip(people.frame["user_id"], people.frame["history"].to_list(), strict=True)
    return [_Asked(f"{people.where} {user_id}", history or []) for user_id, history in rows]
