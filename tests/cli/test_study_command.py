"""`flr study`: what is asked for and what is shown."""

from __future__ import annotations

from pathlib import Path

from .conftest import Run


def test_a_file_or_quick_and_not_both(run: Run, tmp_path: Path) -> None:
    neither = run("study", "--output", tmp_path)
    assert (neither.exit_code, neither.stdout) == (2, "")
    assert "neither a study file nor --quick" in neither.stderr
    both = run("study", "study.yaml", "--quick", "--output", tmp_path)
    assert "both a study file and --quick" in both.stderr


def test_a_missing_file(run: Run, tmp_path: Path) -> None:
    result = run("study", tmp_path / "nothing.yaml", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "cannot read the study file" in result.stderr
