"""What is printed where, and how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flr.cli import console


def test_results_go_to_stdout_and_remarks_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_line("ndcg@10 0.064")
    console.show_note("cached")
    assert capsys.readouterr() == ("ndcg@10 0.064\n", "cached\n")


def test_long_lines_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_line("x" * 500)
    console.show_error("y" * 500)
    assert capsys.readouterr() == ("x" * 500 + "\n", "error: " + "y" * 500 + "\n")


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("title", "n", "share"), [("A [b]", 1200, 0.5), ("C", None, 0.25)], title="items")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "items"
    assert lines[1].split() == ["title", "n", "share"]
    assert lines[3].split() == ["A", "[b]", "1,200", "0.5000"]
    assert lines[4].split() == ["C", "-", "0.2500"]


def test_json_of_everything_a_command_returns(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Found:
        path: Path
        values: np.ndarray
        best: np.float64

    console.show_json({"found": Found(Path("a/b"), np.arange(2), np.float64(0.5)), 1: (float("nan"), True, "é")})
    out = capsys.readouterr().out
    assert json.loads(out) == {"found": {"path": "a/b", "values": [0, 1], "best": 0.5}, "1": [None, True, "é"]}
    assert "é" in out


def test_progress_is_lines_in_a_pipe_and_silent_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(console.progress(), console.Lines)
    with console.progress(quiet=True).task("training") as step:
        step()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0:00"), (61, "1:01"), (3723.2, "1:02:03")])
def test_clock(seconds: float, shown: str) -> None:
    assert console._clock(seconds) == shown
