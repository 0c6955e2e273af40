"""A runner of the command line, and stand-ins for what it calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flr.cli.main import app

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run `flr` with the arguments given, in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module of the given names in place of a real one, so that only the command itself is tested."""

    def replace(module: str, **names: Any) -> None:
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**names))  # type: ignore[arg-type]

    return replace
