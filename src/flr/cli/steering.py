"""Options that steer a list, shared by `flr recommend`, which makes it, and `flr explain`, which explains it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flr.errors import RequestError

if TYPE_CHECKING:
    from flr.catalogue.filters import ItemFilter

#: Skipped items that are told by name.
_TOLD: Final = 10
_NUMBER: Final = r"([-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)?"
_RANGE: Final = re.compile(rf"{_NUMBER}\.\.{_NUMBER}")

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="W1,W2,...",
        help="Multiplier of each factor's gate: 0 turns a factor off, 2 doubles it, 1 leaves it.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Only items whose attribute has this value, or a number in a range such as 1990..1999, 1990.. or ..20; "
        "repeat it: any value of one key, all keys.",
    ),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="An item that is not to be recommended; repeat it.")
]


def skipped_line(items: Sequence[str], why: str = "which the catalogue does not have") -> str:
    """Return what is told of what is left out, such as items by ``--unknown skip``."""
    more = f" and {len(items) - _TOLD:,} more" if len(items) > _TOLD else ""
    return f"skipped: {', '.join(items[:_TOLD])}{more}, {why}"


def read_weights(text: str | None) -> list[float] | None:
    """Return the numbers of ``--factor-weights``.

    Raises:
        RequestError: Not all are finite numbers.
    """
    if text is None:
        return None
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = [math.nan]
    if not all(map(math.isfinite, weights)):
        raise RequestError(f"--factor-weights {text!r}, expected one number per factor, as in 1,0,2,1")
    return weights


def read_filters(where: list[str] | None, exclude: list[str] | None) -> ItemFilter | None:
    """Return the filter of ``--where`` and ``--exclude``; None where there are none.

    Raises:
        RequestError: A condition is not of the form KEY=VALUE, or a range holds nothing.
    """
    from flr.catalogue.filters import Between, ItemFilter

    values: dict[str, list[str | Between]] = {}
    for condition in where or []:
        key, separator, value = condition.partition("=")
        if not (key and separator and value):
            raise RequestError(f"--where {condition!r}, expected KEY=VALUE, such as category=Sci-Fi")
        ends = _RANGE.fullmatch(value)
        low, high = ((float(end) if end else None) for end in ends.groups()) if ends else (None, None)
        values.setdefault(key, []).append(value if low is high is None else Between(low, high))
    return ItemFilter(exclude=exclude or [], where=values) if values or exclude else None
