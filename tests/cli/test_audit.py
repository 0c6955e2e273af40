"""`flr audit`: findings with what each does to a metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def prepared(run: Run, raw: tuple[Path, Path], columns: tuple[str, ...], tmp_path: Path) -> Path:
    """A prepared folder in which two items share a title."""
    result = run("prepare", "--interactions", raw[0], "--items", raw[1], "--output", tmp_path / "data", *columns)
    assert result.exit_code == 0, result.stderr
    return tmp_path / "data"


def test_findings_are_told_and_the_clean_ones_named(run: Run, prepared: Path) -> None:
    result = run("audit", prepared)
    assert result.exit_code == 0, result.stderr
    assert "3 users, 4 items" in result.stdout
    assert "duplicate titles" in result.stdout
    assert "Alien (1979)" in result.stdout
    assert "repeated rows" not in result.stdout
    assert "repeated rows" in result.stderr


def test_scores_stand_beside_findings(run: Run, prepared: Path) -> None:
    result = run("audit", prepared, "--seen-items", "include", "--quiet")
    assert result.exit_code == 0, result.stderr
    assert "3 test targets of 3 users, all items ranked" in result.stdout
    assert "HR@10: popularity 1.0000, rest" in result.stdout
    assert "excluded" not in result.stdout
    assert "reference scores" not in result.stderr


def test_without_scores_nothing_is_ranked(run: Run, prepared: Path) -> None:
    result = run("audit", prepared, "--no-scores")
    assert result.exit_code == 0, result.stderr
    assert "duplicate titles" in result.stdout
    assert "HR@10" not in result.stdout
    assert "scores" not in json.loads(run("audit", prepared, "--no-scores", "--json").stdout)


def test_a_page_is_written(run: Run, prepared: Path, tmp_path: Path) -> None:
    result = run("audit", prepared, "--html", tmp_path / "audit.html")
    assert result.exit_code == 0, result.stderr
    assert f"the page: {tmp_path / 'audit.html'}" in result.stdout
    assert "What would mislead a metric on data" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def test_drawn_users_are_said(run: Run, prepared: Path) -> None:
    result = run("audit", prepared, "--users", 2, "--seed", 5)
    assert "2 of 3 test targets, of 2 of 3 users drawn at random (seed 5)" in result.stdout
    scored = json.loads(run("audit", prepared, "--users", 2, "--json").stdout)["scored"]
    assert scored == {"n_targets": 2, "n_users": 2, "n_all_targets": 3, "n_all_users": 3, "seed": 0}


def test_json_has_every_finding(run: Run, prepared: Path) -> None:
    found = json.loads(run("audit", prepared, "--json", "-k", 3).stdout)
    assert found["counts"]["users"] == 3
    findings = {finding["name"]: finding for finding in found["findings"]}
    assert findings["duplicate_titles"]["examples"] == ["Alien (1979)"]
    assert findings["users_below_3"]["value"] == 0


def test_a_folder_that_was_not_prepared(run: Run, tmp_path: Path) -> None:
    result = run("audit", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(tmp_path) in result.stderr


def test_a_damaged_folder(run: Run, prepared: Path) -> None:
    (prepared / "items.parquet").write_bytes(b"PAR1")
    result = run("audit", prepared)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "items.parquet" in result.stderr
