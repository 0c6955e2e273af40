"""`flr serve` and `flr key`: settings arrive, what is not safe does not start, keys are shown once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.conftest import Run
from flr.serving.security import find_key, load_keys


@pytest.mark.parametrize("is_terminal", [True, False])
def test_settings_arrive(
    is_terminal: bool, run: Run, stand_in: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flr.cli.console.is_terminal", lambda: is_terminal)
    calls: list[tuple[Any, ...]] = []
    service = SimpleNamespace(overlap=0.95, n_items=1234)
    stand_in("flr.serving.service", Service=SimpleNamespace(load=lambda *given: calls.append(given) or service))
    stand_in("flr.serving.server", serve=lambda *given: calls.append(given), log_json=lambda: None)
    options = (
        "--port",
        9000,
        "--threads",
        2,
        "--weights",
        "int8",
        "--rate",
        5,
        "--allowed-host",
        "shop.example",
        "--cors-origin",
        "https://shop.example",
    )
    result = run("serve", "--run", tmp_path, *options)
    assert result.exit_code == 0, result.output
    (where, settings), (served, same) = calls
    assert (where, served, same) == (tmp_path, service, settings)
    assert (settings.port, settings.threads, settings.weights) == (9000, 2, "int8")
    assert settings.allowed_hosts == ("shop.example",)
    assert (settings.requests_per_second, settings.cors_origins) == (5.0, ("https://shop.example",))
    note = "serving 1,234 items at http://127.0.0.1:9000; int8 weights keep 95.0% of the top 10\n"
    assert result.stderr == (note if is_terminal else "")


def test_a_server_that_is_interrupted_twice_exits_as_the_shell_expects(
    run: Run, stand_in: Callable[..., None], tmp_path: Path
) -> None:
    def serve(*_: object) -> None:
        raise KeyboardInterrupt

    service = SimpleNamespace(overlap=None, n_items=1)
    stand_in("flr.serving.service", Service=SimpleNamespace(load=lambda *_: service))
    stand_in("flr.serving.server", serve=serve, log_json=lambda: None)
    result = run("serve", "--run", tmp_path)
    assert (result.exit_code, result.stderr) == (130, "")


def test_others_are_not_served_without_keys(run: Run, tmp_path: Path) -> None:
    result = run("serve", "--run", tmp_path, "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--host 0.0.0.0 can be reached by others" in result.stderr


def test_a_key_is_shown_once_and_works(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    shown = [run("key", "--file", file, "--scope", scope) for scope in ("admin", "read")]
    keys = [result.stdout.strip() for result in shown]
    found = [find_key(load_keys(file), key) for key in keys]
    assert [key and key.scope for key in found] == ["admin", "read"]
    assert not any(key in file.read_text() for key in keys)
