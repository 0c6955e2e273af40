"""One clear line instead of a traceback, and the right exit code."""

from __future__ import annotations

import errno

import pytest
import typer
from typer.testing import CliRunner, Result

from flr.cli.guard import guarded
from flr.errors import DataError


def run_raising(error: BaseException, *arguments: str, resumable: bool = False) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)

    def plain(name: str = "x") -> None:
        """Do it."""
        raise error

    def long(name: str = "x", resume: bool = False) -> None:
        """Do it for long."""
        raise error

    app.command()(guarded(long if resumable else plain))
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (DataError("no column 'item'\nin rows.csv; name it"), 2, "error: no column 'item' in rows.csv; name it\n"),
        (OSError(errno.ENOSPC, "No space", "run/model"), 2, "error: the disk is full (run/model); free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "run"), 2, "error: 'run': Permission denied; check the"),
        (ZeroDivisionError("division by zero"), 1, "error: ZeroDivisionError: division by zero - this is a bug"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_an_error_is_one_line(error: Exception, exit_code: int, line: str) -> None:
    result = run_raising(error)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == (1 if line else 0)


def test_debug_raises_the_error_itself() -> None:
    error = DataError("no column")
    assert run_raising(error, "--debug").exception is error


def test_an_interrupt_is_130() -> None:
    assert run_raising(KeyboardInterrupt()).exit_code == 130


def test_an_interrupted_run_says_how_to_go_on() -> None:
    result = run_raising(KeyboardInterrupt(), resumable=True)
    assert result.exit_code == 130
    assert "--resume" in result.stderr


@pytest.mark.parametrize(("output", "said"), [("lists.csv", "; the same command goes on"), (None, "")])
def test_commands_that_keep_what_is_finished_say_so(output: str | None, said: str) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)

    def recommend(output: str | None = None) -> None:
        """Do it for many."""
        raise KeyboardInterrupt

    app.command()(guarded(recommend))
    assert CliRunner().invoke(app, ["--output", output] if output else []).stderr == f"interrupted{said}\n"


def test_square_brackets_in_messages_are_text() -> None:
    assert "'[bold]x[/]'" in run_raising(DataError("got '[bold]x[/]'")).stderr
