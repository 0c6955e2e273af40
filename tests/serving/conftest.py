"""A small recommender behind HTTP, in this process and in one of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from flr.recommender import Recommender
from flr.records import Catalogue
from flr.serving.app import create_app
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from toy import TITLES, UNSET, toy_catalogue, toy_model, toy_tokenizer


def make_recommender(*overrides: str, titles: list[str] = TITLES) -> Recommender:
    """Return a random model of films, by default eleven, with a year each."""
    model, compiled, config = toy_model("text.window=30", *overrides, titles=titles)
    plain = toy_catalogue(titles)
    years = pl.DataFrame({"year": [int(title[-5:-1]) for title in titles]})
    catalogue = Catalogue(plain.item_ids, plain.titles, plain.leaf, plain.leaf_titles, years)
    return Recommender(model, toy_tokenizer(compiled.catalogue, config), catalogue, config)


#: Films of which several are of one year, so that filters can choose by it.
SHARED_YEARS = [*TITLES, "Stalker (1979)", "Ran (1986)", "Goodfellas (1990)", "Casino (1995)"]

#: The method as published, and what is trained by default: with a memory and an assistant.
KINDS: dict[str, list[str]] = {"published": [], "default": UNSET}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def recommender(request: pytest.FixtureRequest) -> Recommender:
    return make_recommender(*request.param)


def histories_of(n: int, longest: int = 25, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[f"i{item}" for item in rng.integers(0, len(TITLES), rng.integers(1, longest + 1))] for _ in range(n)]


@contextmanager
def served(recommender: Recommender, settings: ServeSettings | None = None) -> Iterator[TestClient]:
    """Serve in this process, and wait until it is ready."""
    app = create_app(Service(recommender, settings or ServeSettings()))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        until = time.monotonic() + 60
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        yield client


@contextmanager
def listening(service: Service, pages: Callable[[FastAPI, Service], frozenset[str]] | None = None) -> Iterator[str]:
    """Serve on a port of this machine from a thread of this process; yield the address once it is ready."""
    config = uvicorn.Config(create_app(service, pages=pages), port=0, log_config=None, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not (server.started and service.engine.is_ready):
        assert time.monotonic() < until
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of a few films, of the default kind."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_recommender(*UNSET).save(folder)
    return folder


@dataclass
class Process:
    """A server of its own."""

    process: subprocess.Popen[str]
    port: int
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        self.process.send_signal(signal_number)
        return self.process.wait(60)


Start = Callable[..., Process]


@pytest.fixture
def start(saved: Path) -> Iterator[Start]:
    """Start `flr serve` on a free port, and wait until it is ready."""
    running: list[Process] = []

    def run(*arguments: str) -> Process:
        command = [sys.executable, "-m", "flr", "serve", "--run", str(saved), "--port", "0", *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
        one = Process(process, 0)
        running.append(one)
        assert process.stderr is not None
        for line in process.stderr:
            one.log.append(line)
            if found := re.search(r"Uvicorn running on http://[^:]+:(\d+)", line):
                one.port = int(found[1])
            if '"message": "ready' in line:
                break
        assert one.port, one.log
        threading.Thread(target=lambda: one.log.extend(process.stderr), daemon=True).start()  # type: ignore[arg-type]
        return one

    yield run
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def ask(url: str, history: list[str], **options: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/recommend", json={"histories": [history], **options}, timeout=60)
