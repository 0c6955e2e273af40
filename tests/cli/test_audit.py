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
