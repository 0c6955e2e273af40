"""`flr fetch`: lists what there is, and names what there is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flr.data import sources

from .conftest import Run


def test_the_list_has_every_source_with_its_licence(run: Run) -> None:
    table = run("fetch")
    assert table.exit_code == 0
    listed = json.loads(run("fetch", "--json").stdout)
    assert {name: about["licence"] for name, about in listed.items()} == {
        name: source.licence for name, source in sources.SOURCES.items()
    }
    assert all(name in table.stdout for name in sources.SOURCES)
    assert "GroupLens" in table.stdout


def test_an_unknown_name(run: Run) -> None:
    result = run("fetch", "ml-100")
    assert result.exit_code == 2
    assert "'ml-100'" in result.stderr
    assert "did you mean 'ml-100k'?" in result.stderr


def test_a_fetched_source_says_where_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetch", lambda name, **_: Path("cache") / name)
    assert run("fetch", "ml-100k").stdout.startswith("ml-100k is in cache/ml-100k\n")
    assert json.loads(run("fetch", "ml-100k", "--json").stdout)["folder"] == "cache/ml-100k"
