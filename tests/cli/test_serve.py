"""`flr serve` and `flr key`: settings arrive, what is not safe does not start, keys are shown once."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.conftest import Run
from flr.cli.serve import serve
from flr.errors import ConfigError
from flr.serving.security import find_key, load_keys
from flr.serving.settings import ServeSettings


@pytest.fixture
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ports be whose they are on this machine: nothing listens in these tests."""
    monkeypatch.setattr("flr.serving.settings.ServeSettings.check_port", lambda _: None)


@pytest.mark.usefixtures("any_port")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_settings_arrive(
    is_terminal: bool, run: Run, stand_in: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flr.cli.console.is_terminal", lambda: is_terminal)
    calls: list[tuple[Any, ...]] = []
    service = SimpleNamespace(overlap=0.95, n_items=1234)

    def listen(served: object, settings: ServeSettings, on_listening: Callable[[str], None]) -> None:
        calls.append((served, settings))
        on_listening("http://[::1]:9001")

    stand_in("flr.serving.service", Service=SimpleNamespace(load=lambda *given: calls.append(given) or service))
    stand_in("flr.serving.server", serve=listen, log_json=lambda: None)
    options = (
        "--port",
        9000,
        "--threads",
        2,
        "--weights",
        "int8",
        "--rate",
        5,
        "--max-history",
        50,
        "--max-k",
        20,
        "--keys",
        tmp_path / "keys.json",
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
    assert (settings.max_history, settings.max_k) == (50, 20)
    assert settings.allowed_hosts == ("shop.example",)
    assert (settings.requests_per_second, settings.cors_origins) == (5.0, ("https://shop.example",))
    note = "serving 1,234 items at http://[::1]:9001; int8 weights keep 95.0% of the top 10\n"
    assert result.stderr == (note if is_terminal else "")


@pytest.mark.usefixtures("any_port")
def test_a_server_that_is_stopped_while_it_loads_ends(run: Run, stand_in: Callable[..., None], tmp_path: Path) -> None:
    def load(*_: object) -> None:
        assert callable(signal.getsignal(signal.SIGTERM))
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    stand_in("flr.serving.service", Service=SimpleNamespace(load=load))
    stand_in("flr.serving.server", serve=None, log_json=lambda: None)
    try:
        assert run("serve", "--run", tmp_path).exit_code == 143
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("any_port")
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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_told_before_anything_is_loaded(
    host: str, run: Run, stand_in: Callable[..., None], tmp_path: Path
) -> None:
    stand_in("flr.serving.service", Service=SimpleNamespace(load=lambda *_: pytest.fail("was loaded")))
    stand_in("flr.serving.server", serve=None, log_json=lambda: pytest.fail("logs"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--run", tmp_path, "--host", host, "--port", port)
    assert result.exit_code == 2
    remedy = "stop what listens there, or give another --port (0: a free one)"
    assert result.stderr == f"error: port {port} of {host} is in use; {remedy}\n"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "--host 192.0.2.1 is no address of this machine; give one, such as 127.0.0.1"),
        ("no.such.host.invalid", "--host 'no.such.host.invalid' cannot be found: "),
    ],
)
def test_a_host_that_is_elsewhere(host: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServeSettings(host=host, port=0).check_port()


def test_fast_batches_arrive_but_not_with_int8(run: Run, stand_in: Callable[..., None], tmp_path: Path) -> None:
    given: list[ServeSettings] = []
    service = SimpleNamespace(overlap=None, n_items=1)
    stand_in("flr.serving.service", Service=SimpleNamespace(load=lambda _, settings: given.append(settings) or service))
    stand_in("flr.serving.server", serve=lambda *_: None, log_json=lambda: None)
    options = ("serve", "--run", tmp_path, "--port", 0, "--batches", "fast")
    assert run(*options).exit_code == 0
    assert given[0].batches == "fast"
    refused = run(*options, "--weights", "int8")
    assert refused.exit_code == 2
    assert "--weights int8 with --batches fast" in refused.stderr


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [("--max-history", 0, "1,000"), ("--max-history", 1_001, "1,000"), ("--max-k", 0, "200"), ("--max-k", 201, "200")],
)
def test_limits_are_not_above_those_of_the_contract(
    option: str, given: int, expected: str, run: Run, tmp_path: Path
) -> None:
    result = run("serve", "--run", tmp_path, option, given)
    assert result.exit_code == 2
    assert result.stderr == f"error: {option} {given}, expected a number from 1 to {expected}\n"


def test_limits_are_those_of_the_contract_unless_told_otherwise(run: Run) -> None:
    given = {name: one.default for name, one in signature(serve).parameters.items()}
    settings = ServeSettings()
    assert (given["max_history"], given["max_k"]) == (settings.max_history, settings.max_k)
    shown = " ".join(run("serve", "--help").stdout.split())
    assert "--max-history" in shown
    assert "--max-k" in shown


def test_a_free_port_is_no_problem() -> None:
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        ServeSettings(host=host, port=0).check_port()


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
