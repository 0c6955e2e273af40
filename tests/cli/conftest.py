"""A runner of the command line, and stand-ins for what it calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
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


@pytest.fixture
def raw(tmp_path: Path) -> tuple[Path, Path]:
    """Rows of three people and titles of four items, as CSV."""
    rows = ["person,thing,when"] + [f"u{u},i{(u + t) % 4},{1_000_000_000 + 60 * t}" for u in range(3) for t in range(4)]
    items = ["thing,name", "i0,Alien (1979)", "i1,Heat (1995)", "i2,Toy Story (1995)", "i3,Alien (1979)"]
    for name, lines in (("rows.csv", rows), ("items.csv", items)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "rows.csv", tmp_path / "items.csv"


@pytest.fixture
def columns() -> tuple[str, ...]:
    """The options that say which column of `raw` is what."""
    return (
        *("--user-column", "person", "--item-column", "thing"),
        *("--timestamp-column", "when", "--title-column", "name"),
    )
