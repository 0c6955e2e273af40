"""Rivals of one's own, fitted, chosen, saved and compared as the built-in baselines are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self, runtime_checkable

from flr.baselines.settings import NAMES
from flr.errors import ConfigError, nearest
from flr.evaluation.protocol import Scorer
from flr.records import UserSequences


@runtime_checkable
class Rival(Scorer, Protocol):
    """A scorer that knows how it is fitted and kept.

    It may have a property ``n_weights``, the weights that fitting has set, which reports show.
    """

    @classmethod
    def fit(cls, sequences: UserSequences, n_items: int, *_: Any, **settings: Any) -> Self:
        """Return it fitted to context and training rows; validation rows may stop it early.

        Args:
            sequences: All users, without their test rows.
            n_items: Size of the catalogue N.
            **settings: ``seed``, of everything random, and the settings of a trial.
        """

    def save(self, folder: Path) -> None:
        """Write it into a folder, which is empty and its own."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""


@dataclass(frozen=True)
class Registered:
    """A rival and what is tried for it.

    Attributes:
        kind: Its class.
        settings: Its first trial.
        grid: What else may be tried, by setting.
    """

    kind: type[Rival]
    settings: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]]


_NAME: Final = re.compile(r"\w[\w.-]*")
_REGISTERED: Final[dict[str, Registered]] = {}


def register_baseline(
    name: str,
    cls: type[Rival],
    *,
    settings: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Let baselines and studies name a rival of one's own: it has as many trials as the others, and the same tests.

    Whoever fits, loads or compares it calls this first, a study's script at its top level.

    Args:
        name: Its name, and that of its folders.
        cls: Scores histories, and has ``fit``, ``save`` and ``load``; see `Rival`.
        settings: What ``fit`` is given in the first trial; None gives nothing.
        grid: Values that further trials draw settings from; None: there is nothing to choose, so one trial is all.

    Raises:
        ConfigError: The name is no name of a folder, or that of a built-in baseline, the class lacks a method, settings
            cannot be written as JSON, or the grid names what ``settings`` does not, or has no values for it.
    """
    settings, grid = _as_written(settings or {}, name), _as_written(grid or {}, name)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a baseline got the name {name!r}, expected letters, digits, '_', '.' and '-'")
    if name in NAMES:
        raise ConfigError(f"{name!r} is built in; choose another name")
    if missing := [method for method in ("score", "fit", "save", "load") if not callable(getattr(cls, method, None))]:
        raise ConfigError(f"the baseline {name!r} is {cls!r}, which has no {missing[0]}(); see flr.baselines.registry")
    if unknown := set(grid) - set(settings):
        raise ConfigError(
            f"the grid of {name!r} has {sorted(unknown)[0]!r}, expected settings of its first trial, {sorted(settings)}"
        )
    if empty := [key for key, values in grid.items() if not values]:
        raise ConfigError(f"the grid of {name!r} has no values of {empty[0]!r}; leave it out")
    _REGISTERED[name] = Registered(cls, settings, grid)


def registered(name: str) -> Registered | None:
    """Return a rival of one's own, None for a built-in baseline.

    Raises:
        ConfigError: There is none of either kind.
    """
    if name not in _REGISTERED and name not in NAMES:
        raise ConfigError(
            f"there is no baseline {name!r}; {nearest(name, baseline_names())} "
            "(one of your own: call flr.register_baseline first)"
        )
    return _REGISTERED.get(name)


def baseline_names() -> tuple[str, ...]:
    """Return the names of all baselines, those of one's own last."""
    return (*NAMES, *_REGISTERED)


def _as_written(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return settings as they are when they are read again: JSON knows lists, but no tuples."""
    try:
        read: dict[str, Any] = json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"settings of {name!r} cannot be written as JSON ({error}); give numbers, texts and lists"
        ) from None
    return read
