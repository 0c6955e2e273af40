"""The same budget of trials for every baseline, one's own too."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flr.baselines.registry import registered
from flr.baselines.settings import (
    EASE_GRID,
    NEIGHBOUR_GRID,
    NETWORK_GRID,
    TRANSITION_GRID,
    UNTUNED,
    BaselineSettings,
)
from flr.seeding import generator

#: What is tried, by section of the settings.
_GRIDS: Final[Mapping[str, Mapping[str, Sequence[Any]]]] = {
    "neighbours": NEIGHBOUR_GRID,
    "ease": EASE_GRID,
    "transitions": TRANSITION_GRID,
    "network": NETWORK_GRID,
}
#: Sections that baselines have which are no network.
_SECTIONS: Final = {
    "item-knn": "neighbours",
    "ease": "ease",
    "transitions": "transitions",
    "assisted-transitions": "transitions",
}


def trial_settings(name: str, settings: BaselineSettings) -> list[dict[str, Any]]:
    """Return what is tried for a baseline: the settings as given, then points of its grid in a fixed random order.

    The order depends on no seed, so all networks try the same points in every run; there are never more trials than
    points.
    """
    if name in UNTUNED:
        return [{}]
    given, grid = _tuned(name, settings)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    order = generator(0, "baseline grid").permutation(len(points))
    others = [points[i] for i in order if any(given[key] != value for key, value in points[i].items())]
    return [given, *({**given, **point} for point in others[: settings.trials - 1])]


def settled(name: str, settings: BaselineSettings, chosen: Mapping[str, Any]) -> BaselineSettings:
    """Return settings whose only trial is one that another seed chose.

    Args:
        name: Which baseline.
        settings: What else there is to set.
        chosen: Settings of the other seed's best trial.
    """
    if name in UNTUNED:
        return settings
    if registered(name) is not None:
        section, of_section = "own", {**settings.own, name: dict(chosen)}
    else:
        section, of_section = _section(name), dict(chosen)
    return BaselineSettings.model_validate(settings.model_dump() | {section: of_section, "trials": 1})


def _tuned(name: str, settings: BaselineSettings) -> tuple[dict[str, Any], Mapping[str, Sequence[Any]]]:
    """Return what a baseline is tried with first, and its grid."""
    own = registered(name)
    if own is not None:
        return {**own.settings, **settings.own.get(name, {})}, own.grid
    section = _section(name)
    return getattr(settings, section).model_dump(), _GRIDS[section]


def _section(name: str) -> str:
    """Return the section of the settings that a built-in baseline has."""
    return _SECTIONS.get(name, "network")
