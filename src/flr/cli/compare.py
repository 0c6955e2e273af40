"""`flr compare`: two or more evaluated models in, how sure their difference is out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flr.cli import console
from flr.cli.guard import AsJson

if TYPE_CHECKING:
    from flr.experiments.side_by_side import ComparedModel


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Evaluated runs, folders of `flr baselines`, folders of seed-* runs, or quoted patterns that match "
            "one run per seed. The others are compared with the first."
        ),
    ],
    *,
    split: Annotated[Literal["valid", "test"], typer.Option(help="Which targets.")] = "test",
    metric: Annotated[str, typer.Option(help="What is compared, such as hr@5.")] = "ndcg@10",
    as_json: AsJson = False,
) -> None:
    """Compare evaluated models target by target: nothing is ranked again.

    Differences are those of the first model less each other one, with a 95 % interval over resampled users that allows
    for other seeds where there are several. p is the larger of a paired t test and a signed-rank test, both clustered
    by user, after Holm's correction for all models given; beside it, the smallest true difference that the t test would
    find four times in five.

    \b
    Examples:
      flr compare runs/ml-100k runs/one-vector
      flr compare runs/ml-100k baselines/mine/item-knn baselines/mine/sasrec --metric hr@10
      flr compare "runs/flr-seed-*" "runs/one-vector-seed-*" --json
    """
    from flr.experiments.side_by_side import compare_folders

    compared = compare_folders(models, split=split, metric=metric)
    if as_json:
        console.show_json([_told(model) for model in compared])
        return
    console.show_table(
        ("", "seeds", metric, "sd", "first is better by", "95 % low", "95 % high", "p (Holm)", "would be found"),
        [_row(model) for model in compared],
        title=_title(compared, split),
    )


def _row(model: ComparedModel) -> tuple[object, ...]:
    shown = (model.name, model.figure.n, model.figure.mean, None if model.figure.n == 1 else model.figure.sd)
    if model.first_less_this is None:
        return (*shown, None, None, None, None, None)
    difference = model.first_less_this.difference
    found = (difference.mean, difference.low, difference.high)
    return (*shown, *found, model.corrected, model.detectable)


def _title(compared: list[ComparedModel], split: str) -> str:
    _, second, *_ = compared
    comparison = second.first_less_this
    assert comparison is not None
    return f"{split}: {comparison.n_targets:,} targets of {comparison.n_users:,} users"


def _told(model: ComparedModel) -> dict[str, object]:
    told = {"model": model.name, "folders": model.folders, **vars(model.figure)}
    if model.first_less_this is None:
        return told
    comparison = model.first_less_this
    tests = {"p_value": comparison.p_value, "t_p_value": comparison.t_p_value, "detectable": model.detectable}
    return {**told, "p_holm": model.corrected, "first_less_this": {**vars(comparison), **tests}}
