"""Every `flr` command in the documents and in the help exists, with its options and settings."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flr.cli.main import app
from flr.config import load_config

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def examples() -> list[str]:
    # What studies report below docs/studies is prose with results, made by a program.
    docs = (path for path in (ROOT / "docs").rglob("*.md") if ROOT / "docs" / "studies" not in path.parents)
    texts = [path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(docs)]]
    texts += [command.help or "" for command in COMMANDS.values()]
    return sorted({line.strip() for text in texts for line in re.findall(r"^ *flr [a-z].*$", text, re.MULTILINE)})


@pytest.mark.parametrize("line", examples())
def test_an_example_can_be_typed(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    assert name in COMMANDS, line
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {part for part in arguments if part.startswith("-")} <= known, line
    # `--help` first: parses the line as far as the parser goes, and runs nothing.
    assert CliRunner().invoke(app, [name, *arguments, "--help"]).exit_code == 0
    settings = [value for part, value in itertools.pairwise(arguments) if part == "--set"]
    assert load_config(None, settings)


def test_there_are_examples_of_every_command() -> None:
    assert {line.split()[1] for line in examples()} == set(COMMANDS)


def test_the_python_example_names_public_names_only() -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code) == 1
    assert set(re.findall(r"flr\.(\w+)", code[0])) == {"Recommender"}
    compile(code[0], "README.md", "exec")
