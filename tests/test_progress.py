"""The silent progress says nothing and still keeps the protocol; the command line's kinds keep it too."""

from __future__ import annotations

import pytest

from flr.cli.console import Bars, Lines
from flr.progress import SILENT, Progress


def work(progress: Progress) -> int:
    with progress.task("outer", total=2) as outer:
        for _ in range(2):
            with progress.task("inner") as inner:
                inner(3, note="loss 4.2100")
            outer()
        progress.message("ndcg@10 0.0640")
    return 1


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert work(SILENT) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_progress_goes_to_stderr_and_keeps_its_messages(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    work(kind())
    out, err = capsys.readouterr()
    assert out == ""
    assert "ndcg@10 0.0640" in err
    assert "outer: done, 2," in err


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_an_error_inside_a_task_comes_out(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    progress = kind()
    with pytest.raises(ValueError, match="inside"), progress.task("outer"):
        raise ValueError("inside")
    assert "done" not in capsys.readouterr().err
    assert work(progress) == 1


def test_lines_are_rare_and_tell_the_remaining_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("flr.cli.console.time.perf_counter", lambda: float(next(clock)))
    with Lines().task("training", total=6) as step:
        for _ in range(6):
            step(note="loss 4.2")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 3/6 (50%), 0:12 elapsed, 0:12 left, loss 4.2"
    assert lines[-1] == "training: done, 6, 28.0 s, loss 4.2"
    assert len(lines) == 3


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_only_the_outer_task_says_that_it_is_done(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    progress = kind()
    for name in ("train", "align"):
        with progress.task(name) as step, progress.task("evaluate") as inner:
            inner(5)
            step(1)
    said = capsys.readouterr().err
    assert "train: done, 1" in said
    assert "align: done, 1" in said
    assert "evaluate: done" not in said
