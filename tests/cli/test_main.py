"""The entry point: every command explains itself, and usage errors exit with 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flr

from .conftest import Run

COMMANDS = ("fetch", "prepare", "audit", "train", "evaluate", "recommend", "demo", "doctor")


def test_help_lists_the_commands(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f" {name} " in result.output] == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"  flr {command}" in result.output
    assert "--debug" in result.output


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"flr {flr.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "No such command"),
        (("train", "--dat", "x"), "No such option"),
        (("evaluate",), "Missing option"),
        (("evaluate", "--run", "x", "--split", "tets"), "tets"),
        (("recommend", "--run", "x", "-k", "0"), "greater than or equal to 1"),
    ],
)
def test_usage_errors_exit_with_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_help_loads_none_of_the_slow_libraries() -> None:
    slow = ("torch", "transformers", "polars", "scipy", "matplotlib")
    show = f"print(*set({slow}) & sys.modules.keys())"
    program = f"import sys; from flr.cli.main import main\ntry: main()\nfinally: {show}"
    found = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == ""
