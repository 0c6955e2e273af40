"""What a person sees: results on stdout; progress, notes and errors on stderr.

Nothing else in the package prints. Titles and messages are shown as they are: square brackets in them are
text, never markup.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import rich.progress
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from flr.progress import SILENT, Progress, Step

#: Columns assumed where the output is a file or a pipe, so that nothing is cut.
_PIPE_WIDTH = 200
#: Seconds between two plain lines of one task.
_LINE_SECONDS = 10.0


def show_line(text: str = "", style: str = "") -> None:
    """Print one line of a result."""
    _console(sys.stdout).print(Text(text, style=style), soft_wrap=True)


def show_wrapped(text: str) -> None:
    """Print a paragraph of a result, broken at words where the terminal ends."""
    _console(sys.stdout).print(Text(text))


def show_note(text: str) -> None:
    """Print a remark beside the result."""
    _console(sys.stderr).print(Text(text, style="dim"), soft_wrap=True)


def show_error(text: str) -> None:
    """Print what went wrong, in one red line."""
    line = " ".join(text.split("\n")).strip()
    _console(sys.stderr).print(Text.assemble(("error: ", "bold red"), (line, "red")), soft_wrap=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; columns whose values are all numbers are set to the right.

    Args:
        columns: Headings.
        rows: Cells; floats are shown with four decimals, None as a dash.
        title: Line above the table.
    """
    rows = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    console = _console(sys.stdout)
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)


def show_json(value: object) -> None:
    """Print `value` as JSON; dataclasses, paths and NumPy numbers are understood, NaN becomes null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def is_terminal() -> bool:
    """Return whether notes go to a terminal."""
    return _console(sys.stderr).is_terminal


def speaks() -> bool:
    """Return whether this process tells of results: of several that train together, the first one does."""
    return os.environ.get("RANK", "0") == "0"


def progress(quiet: bool = False) -> Progress:
    """Return bars on a terminal, plain lines elsewhere, silence when asked for."""
    if quiet or not speaks():
        return SILENT
    return Bars() if is_terminal() else Lines()


class Bars:
    """A `Progress` of live bars with elapsed and remaining time."""

    def __init__(self) -> None:
        self._live = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False, table_column=Column(min_width=14)),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left", style="dim"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}", markup=False, style="cyan"),
            console=_console(sys.stderr),
            transient=True,
        )
        self._depth = 0

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        if not self._depth:
            self._live.start()
        self._depth += 1
        bar = self._live.add_task("  " * (self._depth - 1) + name, total=total, note="")
        started, counted = time.perf_counter(), _Count()

        def step(n: int = 1, note: str = "") -> None:
            counted.n += n
            counted.note = note or counted.note
            self._live.update(bar, advance=n, note=counted.note)

        try:
            yield step
            if self._depth == 1:
                self.message(_closing(name, counted, time.perf_counter() - started))
        finally:
            self._live.remove_task(bar)
            self._depth -= 1
            if not self._depth:
                self._live.stop()

    def message(self, text: str) -> None:
        self._live.console.print(Text(text), soft_wrap=True)


class Lines:
    """A `Progress` of plain lines for files and pipes: at most one per task and ten seconds."""

    def __init__(self) -> None:
        self._depth = 0

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        self._depth += 1
        counted = _Count()
        started = spoken = time.perf_counter()

        def step(n: int = 1, note: str = "") -> None:
            nonlocal spoken
            counted.n += n
            counted.note = note or counted.note
            now = time.perf_counter()
            if now - spoken >= _LINE_SECONDS:
                spoken = now
                self.message(_running(name, total, counted, now - started))

        try:
            yield step
            if self._depth == 1:
                self.message(_closing(name, counted, time.perf_counter() - started))
        finally:
            self._depth -= 1

    def message(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@dataclasses.dataclass
class _Count:
    n: int = 0
    note: str = ""


def _running(name: str, total: int | None, counted: _Count, elapsed: float) -> str:
    amount = f"{counted.n:,}/{total:,} ({counted.n / total:.0%})" if total else f"{counted.n:,}"
    parts = [amount, f"{_clock(elapsed)} elapsed"]
    if total and counted.n:
        parts.append(f"{_clock(elapsed / counted.n * max(total - counted.n, 0))} left")
    return f"{name}: " + ", ".join([*parts, *filter(None, [counted.note])])


def _closing(name: str, counted: _Count, elapsed: float) -> str:
    amount = [f"{counted.n:,}"] if counted.n else []
    return f"{name}: " + ", ".join(["done", *amount, f"{elapsed:.1f} s", *filter(None, [counted.note])])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _console(stream: TextIO) -> Console:
    # Made per use: the streams may be exchanged (tests, pipes) and making one costs nothing.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value - value == 0 else None
    return str(value) if isinstance(value, Path) else value
