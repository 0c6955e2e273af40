"""`flr explain`: a trained run and a history in, why an item is recommended out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet
from flr.cli.steering import Exclude, Weights, Where, read_filters, read_weights, skipped_line
from flr.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flr.evaluation.significance import Interval
    from flr.explanation.fidelity import Fidelity
    from flr.explanation.fidelity_checks import FidelityCheck
    from flr.explanation.results import Change, Explanation, FactorInfluence
    from flr.progress import Progress
    from flr.recommender import Recommender

#: Titles named in one cell of a table.
_SHOWN = 2
#: What sources of probabilities are called.
_SOURCES = {"titles": "written titles", "votes": "votes of the factors", "assistant": "assistant"}


def explain(
    *,
    run: Annotated[Path, typer.Option(help="Run folder made by `flr train`, or a saved recommender.")],
    history: Annotated[list[str] | None, typer.Option(help="One item of the history; repeat it, oldest first.")] = None,
    by: Annotated[Literal["id", "title"], typer.Option(help="Whether items are named by id or by title.")] = "id",
    item: Annotated[str | None, typer.Option(help="The item to explain; unset: the best recommendation.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists that are compared.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Items of the history are candidates.")] = False,
    unknown: Annotated[Literal["error", "skip"], typer.Option(help="Items that are not in the catalogue.")] = "error",
    factor_weights: Weights = None,
    where: Where = None,
    exclude: Exclude = None,
    fidelity: Annotated[
        bool, typer.Option("--fidelity", help="Also test this explanation by deletion and insertion.")
    ] = False,
    check: Annotated[
        int | None,
        typer.Option(min=2, metavar="USERS", help="Test explanations on this many users of the run's test split."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared folder for --check; unset: that of the run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random orders, and of the users of --check.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Explain a recommendation: what each purchase, each factor and each source does, and what it loses without them.

    An influence is the item's log-probability less that without one purchase, or with one factor turned off. Names of
    factors come from `flr profile`. --fidelity and --check measure whether attention and influences can be trusted.
    With --factor-weights, --where and --exclude the list is explained that `flr recommend` makes with the same.

    \b
    Examples:
      flr explain --run runs/ml-100k --by title --history "Alien (1979)" --history "Toy Story (1995)"
      flr explain --run runs/ml-100k --history 1 --history 95 --item 183 --fidelity
      flr explain --run runs/ml-100k --history 1 --factor-weights 1,0,2,1 --exclude 50
      flr explain --run runs/ml-100k --check 100 --json
    """
    if not history and check is None:
        raise RequestError("got neither --history (repeated) nor --check; give what is to be explained")
    weights, filters = read_weights(factor_weights), read_filters(where, exclude)
    if check is not None:
        steered = {"--factor-weights": factor_weights, "--where": where, "--exclude": exclude}
        _refuse_with_check({**steered, "--include-seen": include_seen})
        if not history:
            _refuse_without_history({"--item": item, "--fidelity": fidelity})
    import numpy as np

    from flr.explanation.attribution import explain as explain_item
    from flr.explanation.fidelity import fidelity as fidelity_of
    from flr.explanation.profiles import load_profiles
    from flr.recommender import Recommender

    recommender = Recommender.load(run)
    found, curves, skipped = None, None, list[str]()
    if history:
        resolved = recommender.resolve([history], by=by, unknown=unknown)
        (skipped,) = recommender.unknown_items([history], by=by)
        wanted = None if item is None else recommender.item_index(item, by=by)
        found = explain_item(
            recommender,
            resolved.item_index,
            wanted,
            k=k,
            exclude_seen=not include_seen,
            factor_weights=weights,
            filters=filters,
            unknown=unknown,
            profiles=load_profiles(run),
        )
        if fidelity:
            explained = np.array([found.item.item_index])
            curves = fidelity_of(recommender, resolved, explained, factor_weights=weights, seed=seed)[0]
    checks = (
        None if check is None else _check(recommender, run, data, check, seed=seed, progress=console.progress(quiet))
    )
    if as_json:
        console.show_json({"explanation": found, "skipped": skipped, "fidelity": curves, "check": checks})
        return
    if skipped:
        console.show_line(skipped_line(skipped))
    if found is not None:
        _show(found)
    if curves is not None:
        _show_fidelity(curves)
    if checks is not None:
        _show_checks(checks)


def _refuse_with_check(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise RequestError(f"--check tests explanations of lists that nobody steered; leave {name} out")


def _refuse_without_history(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value:
            raise RequestError(f"got {name} without --history; --check has items of its own, so leave {name} out")


def _check(
    recommender: Recommender, run: Path, data: Path | None, n_users: int, *, seed: int, progress: Progress
) -> list[FidelityCheck]:
    from flr.explanation.fidelity_checks import check_fidelity
    from flr.training.finished import finished_run_data

    sequences = finished_run_data(run, data)[0].sequences
    return check_fidelity(recommender, sequences, n_users=n_users, seed=seed, progress=progress)


def _show(found: Explanation) -> None:
    item = found.item
    console.show_line(f"{item.title}  (id {item.item_id})", style="bold")
    console.show_line(f"rank {item.rank:,}, probability {item.probability:.2%}" + _remarks(found))
    if found.n_unread:
        console.show_line(
            f"the model reads the last {len(found.history)} items; the {found.n_unread} older ones have no influence"
        )
    console.show_line()
    _show_history(found)
    console.show_line()
    _show_factors(found)
    if found.sources:
        console.show_line()
        _show_sources(found)


def _remarks(found: Explanation) -> str:
    seen = ", in the history already" if found.is_seen else ""
    seen += "" if found.is_allowed else ", left out by the filters"
    return seen + (f", shares its title with {found.n_sharing - 1} more" if found.n_sharing > 1 else "")


def _show_history(found: Explanation) -> None:
    titles = _titles(found)
    rows = [
        (
            one.title,
            one.item_id,
            None if one.attention is None else f"{one.attention:.1%}",
            None if one.influence is None else f"{one.influence:+.3f}",
            *_change(one.without, titles),
        )
        for one in reversed(found.history)
    ]
    title = "purchases, latest first: without one"
    console.show_table(("purchase", "id", "attention", "influence", "rank", "enters", "leaves"), rows, title=title)
    if len(found.history) == 1:
        console.show_line("the only purchase: without it there would be nobody to recommend to")


def _show_factors(found: Explanation) -> None:
    if not found.factors:
        console.show_line("this model has no thought (reasoner.kind = none), so there are no factors")
        return
    titles = _titles(found)
    rows = [
        (
            f"{one.factor + 1}" + (f"  {one.name}" if one.name else ""),
            f"{one.gate:.1%}",
            f"{one.contribution:+.3f}",
            _most_read(found, one),
            *_change(one.without, titles),
        )
        for one in found.factors
    ]
    columns = ("factor", "gate", "contribution", "reads most", "rank", "enters", "leaves")
    console.show_table(columns, rows, title="factors: without one")
    if found.factors[0].name is None:
        console.show_note("factors get names from `flr profile`")


def _show_sources(found: Explanation) -> None:
    titles = _titles(found)
    rows = [
        (_SOURCES[one.source], f"{one.weight:.1%}", f"{one.contribution:+.3f}", *_change(one.without, titles))
        for one in found.sources
    ]
    columns = ("source", "say", "contribution", "rank", "enters", "leaves")
    console.show_table(columns, rows, title="where probabilities come from: without one")


def _most_read(found: Explanation, factor: FactorInfluence) -> str:
    shares = [(share, one.title) for share, one in zip(factor.reads, found.history, strict=True)]
    best = sorted([*shares, (factor.elsewhere, "(no title)")], reverse=True)[:_SHOWN]
    return ", ".join(f"{title} {share:.0%}" for share, title in best if share >= 0.05)


def _titles(found: Explanation) -> dict[str, str]:
    changes = [one.without for part in (found.history, found.factors, found.sources) for one in part]
    lists = [found.items, *(change.items for change in changes if change is not None)]
    return {item.item_id: item.title for items in lists for item in items}


def _change(change: Change | None, titles: dict[str, str]) -> tuple[int | None, str | None, str | None]:
    if change is None:
        return None, None, None
    return change.rank, _named(change.entered, titles), _named(change.left, titles)


def _named(ids: Sequence[str], titles: dict[str, str]) -> str | None:
    more = f" +{len(ids) - _SHOWN}" if len(ids) > _SHOWN else ""
    return ", ".join(titles[one] for one in ids[:_SHOWN]) + more if ids else None


def _show_fidelity(curves: Sequence[Fidelity]) -> None:
    console.show_line()
    rows = [(one.measure, one.deletion_gain, one.insertion_gain, one.score) for one in curves]
    columns = ("importance", "deletion gain", "insertion gain", "score")
    console.show_table(columns, rows, title="fidelity of this explanation, nats above random orders")


def _show_checks(checks: Sequence[FidelityCheck]) -> None:
    rows = [
        (
            one.measure,
            *(f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]" for value in _intervals(one)),
            one.verdict,
        )
        for one in checks
    ]
    columns = ("importance", "score", "deletion gain", "insertion gain", "verdict")
    title = f"fidelity over {checks[0].n_users} users, nats above random orders with 95 % intervals"
    console.show_table(columns, rows, title=title)


def _intervals(check: FidelityCheck) -> tuple[Interval, ...]:
    return check.score, check.deletion_gain, check.insertion_gain
