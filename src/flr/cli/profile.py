"""`flr profile`: a run folder in, what each of its factors stands for out, kept beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson, Quiet

if TYPE_CHECKING:
    from flr.evaluation.significance import Interval
    from flr.explanation.profiles import FactorProfile, FactorProfiles

#: Typical items shown of each factor.
_N_ITEMS = 4


def profile(
    *,
    run: Annotated[Path, typer.Option(help="Run folder, made by `flr train`.")],
    data: Annotated[Path | None, typer.Option(help="Prepared folder; unset: the one the run was trained on.")] = None,
    split: Annotated[
        Literal["train", "valid", "test"], typer.Option(help="On whose targets the factors are observed.")
    ] = "valid",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Describe what each factor of a model reads, name it, and keep that beside the model for `flr explain`.

    Attributes are whatever shared columns the items have: genre, category, brand, year.

    \b
    Examples:
      flr profile --run runs/ml-100k
      flr profile --run runs/ml-100k --split test --json
    """
    from flr.explanation.profiles import save_profiles
    from flr.explanation.profiling import profile_factors
    from flr.recommender import Recommender
    from flr.training.finished import finished_run_data

    sequences = finished_run_data(run, data)[0].sequences
    found = profile_factors(Recommender.load(run), sequences, split=split, progress=console.progress(quiet))
    file = save_profiles(run, found)
    if as_json:
        console.show_json(found)
        return
    _show(found)
    console.show_line(f"kept in {file}")


def _show(found: FactorProfiles) -> None:
    columns = ("factor", "name", "gate", "recency", "popularity", "spread", "no title")
    rows = [
        (
            one.factor + 1,
            one.name,
            f"{one.gate:.1%}",
            _interval(one.recency),
            _interval(one.popularity),
            f"{one.spread:.2f}",
            f"{one.elsewhere:.1%}",
        )
        for one in found.factors
    ]
    title = f"{len(found.factors)} factors on {found.n_targets:,} targets of {found.n_users:,} users ({found.split})"
    console.show_table(columns, rows, title=title)
    compared = (
        f"{found.n_values} values of {', '.join(found.columns)}" if found.columns else "no attribute of the items"
    )
    console.show_line(f"compared: {compared}; shown are lifts beyond chance, [what chance gives]")
    console.show_line()
    for one in found.factors:
        _show_factor(one)


def _show_factor(one: FactorProfile) -> None:
    lifts = [
        (f"{lift.attribute}: {lift.value}", f"{lift.share:.1%}", f"{lift.base:.1%}", f"{lift.lift:.2f}",
         f"[{lift.chance_low:.2f}, {lift.chance_high:.2f}]")
        for lift in one.attributes
        if lift.is_sure
    ]  # fmt: skip
    console.show_line(f"factor {one.factor + 1}: {one.name}", style="bold")
    if lifts:
        console.show_table(("attribute", "reads", "histories hold", "lift", "chance"), lifts)
    typical = ", ".join(f"{item.title} ({item.lift:.1f}x)" for item in one.items[:_N_ITEMS])
    console.show_wrapped(f"typical: {typical or 'no item'}")
    console.show_line()


def _interval(value: Interval) -> str:
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
