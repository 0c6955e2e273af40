"""A process of its own: stopped, killed, starved and left alone by its clients."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from flr.recommender import Recommender
from flr.records import Catalogue
from flr.serving.app import create_app
from flr.serving.contract import MOST_ITEMS_PER_EDIT
from flr.serving.server import _Server, limited_protocol, serve
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from serving.conftest import Start, ask, histories_of, make_recommender

pytestmark = pytest.mark.slow
HEADERS = "Host: localhost\r\nContent-Type: application/json\r\n"


def test_what_comes_over_a_real_connection_is_the_recommenders_to_the_bit(start: Start, saved: Path) -> None:
    server, recommender = start(), Recommender.load(saved)
    for history in histories_of(5):
        found = ask(server.url, history, k=4).json()["lists"][0]["items"]
        assert found == [vars(item) for item in recommender.recommend([history], 4)[0]]
    assert server.stop() == 0


def test_a_stop_under_load_loses_no_accepted_request(start: Start) -> None:
    server = start("--max-batch", "2")
    answers: list[int] = []
    broken: list[str] = []
    begun = threading.Semaphore(0)

    def keep_asking(history: list[str]) -> None:
        # One connection per request: what the server has taken from the socket it must answer.
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
            except OSError:
                return  # the door is closed
            with connection:
                body = b'{"histories": [["' + b'","'.join(item.encode() for item in history) + b'"]]}'
                head = f"POST /v1/recommend HTTP/1.1\r\n{HEADERS}Content-Length: {len(body)}\r\n\r\n"
                try:
                    connection.sendall(head.encode() + body)
                    begun.release()
                    answer = connection.recv(65_536)
                except OSError:
                    return  # reset before the server took it: never accepted
                if not answer:
                    return
                if not answer.startswith(b"HTTP/1.1 "):
                    broken.append(repr(answer))
                    return
                answers.append(int(answer.split()[1]))

    with ThreadPoolExecutor(8) as pool:
        for history in histories_of(8):
            pool.submit(keep_asking, history)
        for _ in range(60):
            assert begun.acquire(timeout=60)
        assert server.stop(signal.SIGTERM) == 0
    assert not broken
    assert set(answers) == {200}
    noted = sum('"route": "/v1/recommend"' in line for line in server.log)
    assert noted == len(answers)  # every request that was taken was answered, and its answer arrived


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_line_of_the_log_is_a_json_object(number: int, start: Start, tmp_path: Path) -> None:
    journal = tmp_path / "edits"
    server = start("--journal", str(journal))
    server.stop(signal.SIGKILL)
    with journal.open("ab") as file:
        file.write(b"torn")
    server = start("--journal", str(journal))
    assert ask(server.url, ["i1"]).status_code == 200
    assert ask(server.url, ["nothing"]).status_code == 422
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(1000)
    assert server.stop(number) == 0
    until = time.monotonic() + 10
    while not any("Finished server process" in line for line in server.log):
        assert time.monotonic() < until
        time.sleep(0.01)
    lines = [json.loads(line) for line in server.log]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    assert "cut short" in lines[0]["message"]
    assert lines[1]["message"] == "serving 11 items"
    assert [line["status"] for line in lines if line.get("route") == "/v1/recommend"] == [200, 422]


def test_a_second_interrupt_leaves_at_once(start: Start) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", server.port)) as waiting:
        waiting.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None
        begun = time.monotonic()
        assert server.stop(signal.SIGINT) == 130
        assert time.monotonic() - begun < 20  # accepted requests would be waited for 30 s
    until = time.monotonic() + 10
    while not any("interrupted before" in line for line in server.log):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert all(json.loads(line) for line in server.log)


def test_a_second_interrupt_waits_for_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    left = list[int]()
    monkeypatch.setattr("flr.serving.server.os._exit", left.append)
    server = _Server(uvicorn.Config(FastAPI()))
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        assert not left
        server.handle_exit(number, None)
    assert left == [130]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        pytest.param("::1", "[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")),
    ],
)
def test_the_address_that_is_told_is_that_of_the_socket(host: str, shown: str) -> None:
    told = list[str]()

    def note_and_stop(address: str) -> None:
        told.append(address)
        server.should_exit = True

    server = _Server(uvicorn.Config(FastAPI(), host=host, port=0, log_config=None), note_and_stop)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    thread.join(30)
    (address,) = told
    assert address.startswith(f"http://{shown}:")
    assert int(address.rpartition(":")[2]) > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_before_uvicorn_listens_to_it_stops_the_server(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = list[bool]()

    def run(server: uvicorn.Server) -> None:
        signal.raise_signal(number)
        stops.append(server.should_exit)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    settings = ServeSettings(threads=torch.get_num_threads())
    service = Service(make_recommender(), settings)
    try:
        serve(service, settings)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        service.close()
    assert stops == [True]


def test_a_stop_waits_as_long_as_requests_may_take() -> None:
    assert ServeSettings().most_drain_seconds == 30
    assert ServeSettings(timeout_seconds=60).most_drain_seconds == 65


@pytest.mark.parametrize(("proxies", "statuses"), [([], [200, 429]), (["127.0.0.0/8"], [200, 200])])
def test_behind_a_named_proxy_rates_are_those_of_who_asks(
    proxies: list[str], statuses: list[int], start: Start
) -> None:
    named = [argument for proxy in proxies for argument in ("--forwarded-allow-ips", proxy)]
    server = start("--rate", "0.01", "--burst", "1", *named)
    asking = [{"X-Forwarded-For": address} for address in ("203.0.113.1", "203.0.113.2")]
    assert [httpx.get(f"{server.url}/v1/model", headers=one).status_code for one in asking] == statuses
    assert httpx.get(f"{server.url}/v1/model", headers=asking[0]).status_code == 429


def test_more_than_the_queue_holds_is_told_to_come_back(start: Start) -> None:
    server = start("--max-queued", "8", "--max-batch", "1", "--cache-tokens", "0")
    together = threading.Barrier(24)

    def keep_asking(seed: int) -> list[httpx.Response]:
        histories = histories_of(6, seed=seed)
        together.wait(60)
        with httpx.Client(timeout=60) as client:
            asked = {"histories": histories, "k": 5}
            return [client.post(f"{server.url}/v1/recommend", json=asked) for _ in range(4)]

    with ThreadPoolExecutor(24) as pool:
        answers = [answer for some in pool.map(keep_asking, range(24)) for answer in some]
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    for answer in refused:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:flr:problem:overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    assert ask(server.url, ["i1"]).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    assert f"flr_engine_refused_total {len(refused)}.0" in text
    assert "flr_queued_histories 0.0" in text


def test_edits_outlive_a_kill(start: Start, tmp_path: Path) -> None:
    journal = tmp_path / "edits"
    server = start("--journal", str(journal))
    added = [{"item_id": f"n{n}", "title": f"Alien {n} (2001)"} for n in range(3)]
    for item in added:
        assert httpx.post(f"{server.url}/v1/items", json={"items": [item]}).status_code == 201
    assert httpx.delete(f"{server.url}/v1/items", params={"item_id": ["n1", "i0"]}).status_code == 200
    server.stop(signal.SIGKILL)
    with journal.open("ab") as file:
        file.write(b'0123456789abcdef {"op":"add","items":[{"item_id":"never answ')
    again = start("--journal", str(journal))
    found = {item["item_id"] for item in httpx.get(f"{again.url}/v1/items").json()["items"]}
    assert found == {"n0", "n2", *(f"i{n}" for n in range(1, 11))}
    assert any("cut short" in line for line in again.log)
    assert ask(again.url, ["n0", "n1"]).status_code == 200


@dataclass
class Batch:
    """Items that are added together and removed together.

    Attributes:
        item_ids: Their ids.
        asked, answered: Edits that were asked for, and those that were answered with success: 1 the addition, 2 the
            removal as well.
    """

    item_ids: list[str]
    asked: int = 0
    answered: int = 0

    def edit(self, client: httpx.Client) -> bool:
        """Add the items, or remove them where they are; return whether that was answered."""
        self.asked += 1
        try:
            if self.asked == 1:
                items = [{"item_id": item_id, "title": f"Alien {item_id} (2001)"} for item_id in self.item_ids]
                answer = client.post("/v1/items", json={"items": items})
            else:
                answer = client.request("DELETE", "/v1/items", params={"item_id": self.item_ids})
        except httpx.TransportError:
            return False
        answer.raise_for_status()
        self.answered += 1
        return True

    def is_kept(self, found: set[str]) -> bool:
        """Return whether what is found may be: all or nothing, and what was answered."""
        n_found = len(found & set(self.item_ids))
        allowed = {0: {0}, 1: {3}, 2: {0}}
        return n_found in allowed[self.asked] | allowed[self.answered]


def test_parallel_edits_outlive_kills_whole_or_not_at_all(start: Start, tmp_path: Path) -> None:
    journal, batches = tmp_path / "edits", list[Batch]()
    for round_number in range(2):
        server = start("--journal", str(journal))
        answers = threading.Semaphore(0)

        def keep_editing(name: str, url: str = server.url, answers: threading.Semaphore = answers) -> None:
            with httpx.Client(base_url=url, timeout=60) as client:
                for number in itertools.count():
                    batch = Batch([f"{name}-{number}-{item}" for item in "abc"])
                    batches.append(batch)
                    for _ in range(1 + number % 2):  # every second one is removed again
                        if not batch.edit(client):
                            return
                        answers.release()

        with ThreadPoolExecutor(6) as pool:
            editing = [pool.submit(keep_editing, f"{round_number}-{thread}") for thread in range(6)]
            for _ in range(60):
                assert answers.acquire(timeout=60)
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        assert not [one.exception() for one in editing if one.exception()]
        assert any(batch.asked > batch.answered for batch in batches)
    server = start("--journal", str(journal))  # the third, which has enough edits to compact them
    assert any("compacted" in line for line in server.log)
    listed = httpx.get(f"{server.url}/v1/items", params={"limit": 1000}).json()
    found = {item["item_id"] for item in listed["items"]}
    assert [batch for batch in batches if not batch.is_kept(found)] == []
    assert len(found) == listed["total"]
    assert found <= {item_id for batch in batches for item_id in batch.item_ids} | {f"i{n}" for n in range(11)}
    version = httpx.get(f"{server.url}/v1/model").json()["catalogue_version"]
    assert sum(batch.answered for batch in batches) <= version <= sum(batch.asked for batch in batches)
    kept = next(batch for batch in batches if batch.answered == 1)
    assert ask(server.url, kept.item_ids).status_code == 200


@contextmanager
def limited(service: Service, header_seconds: float, write_seconds: float, most: int) -> Iterator[uvicorn.Server]:
    """Serve in a thread of this process, with limits on connections."""
    protocol = limited_protocol(header_seconds, write_seconds, most)
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, http=protocol, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def port_of(server: uvicorn.Server) -> int:
    return int(server.servers[0].sockets[0].getsockname()[1])


def is_dropped(connection: socket.socket) -> bool:
    """Return whether the other end closes a connection without an answer; one that still sends sees it reset."""
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


def test_a_connection_that_sends_nothing_or_slowly_is_dropped(saved: Path) -> None:
    with limited(Service.load(saved, ServeSettings(body_seconds=0.5)), 0.5, 5.0, 3) as server:
        port = port_of(server)

        def connect(sent: bytes) -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            connection.sendall(sent)
            return connection

        silent, headers = connect(b""), connect(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        body = connect(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        time.sleep(0.1)
        with suppress(ConnectionError):
            assert is_dropped(connect(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))  # three at a time
        with suppress(ConnectionError):  # where this machine is slow it is dropped before the last of them
            for _ in range(4):
                time.sleep(0.1)
                headers.sendall(b"a")
        assert is_dropped(silent)
        assert is_dropped(headers)
        assert body.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET /" + b"x" * 70_000,
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n",
    ],
    ids=["request line", "header", "too large", "chunk", "after another"],
)
def test_what_is_no_http_is_a_problem_too(sent: bytes, saved: Path) -> None:
    with limited(Service.load(saved, ServeSettings(body_seconds=2.0)), 5.0, 5.0, 10) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as connection:
            connection.sendall(sent)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
        assert head.startswith(b"400 Bad Request\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:])
        assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
        problem = json.loads(body)
        assert (problem["type"], problem["request_id"]) == ("urn:flr:problem:http", headers["x-request-id"])
        assert httpx.get(f"http://127.0.0.1:{port_of(server)}/health").status_code == 200


def test_a_url_holds_the_ids_of_a_large_removal(saved: Path) -> None:
    with limited(Service.load(saved, ServeSettings()), 5.0, 5.0, 10) as server:
        address = f"http://127.0.0.1:{port_of(server)}/v1/items"
        item_ids = [f"{number:045}" for number in range(MOST_ITEMS_PER_EDIT)]
        new = [{"item_id": one, "title": "Heat Two (2025)"} for one in item_ids]
        assert httpx.post(address, json={"items": new}, timeout=60).status_code == 201
        removed = httpx.delete(address, params={"item_id": item_ids}, timeout=60)
        assert removed.json()["changed"] == 1_000


@pytest.mark.parametrize("asks_to_close", [False, True])
def test_a_client_that_never_reads_its_answer_is_dropped(asks_to_close: bool) -> None:
    plain = make_recommender()
    films = plain.catalogue
    about = pl.DataFrame({"about": ["x" * 1_000_000] * films.n_items})
    catalogue = Catalogue(films.item_ids, films.titles, films.leaf, films.leaf_titles, about)
    recommender = Recommender(plain.model, plain.tokenizer, catalogue, plain.config)
    with limited(Service(recommender, ServeSettings()), 5.0, 0.5, 10) as server:
        head = "GET /v1/items?limit=1000 HTTP/1.1\r\nHost: localhost\r\n" + "Connection: close\r\n" * asks_to_close
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port_of(server)))
            deaf.sendall(f"{head}\r\n".encode())
            connections = server.server_state.connections
            until = time.monotonic() + 10
            while not connections:
                assert time.monotonic() < until
                time.sleep(0.01)
            while connections and time.monotonic() < until:
                time.sleep(0.05)
            assert not connections
        whole = httpx.get(f"http://127.0.0.1:{port_of(server)}/v1/items?limit=1000", timeout=30)
        assert len(whole.content) > 11_000_000


def test_a_connection_is_kept_for_as_long_as_it_is_said(start: Start) -> None:
    server = start("--keep-alive", "2")
    with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b'{"status":"ok"}' not in answer:
                answer += connection.recv(65_536)
        assert connection.recv(65_536) == b""


def test_a_client_that_goes_away_leaves_the_queue(start: Start) -> None:
    server = start("--max-batch", "1", "--cache-tokens", "0")
    body = b'{"histories": [' + b",".join([b'["i1","i2","i3","i4","i5","i6","i7"]'] * 60) + b'], "k": 11}'
    head = f"POST /v1/recommend HTTP/1.1\r\n{HEADERS}Content-Length: {len(body)}\r\n\r\n".encode()
    impatient = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    for connection in impatient:
        connection.sendall(head + body)
    time.sleep(0.1)
    for connection in impatient:
        connection.close()
    assert ask(server.url, ["i1"]).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    dropped = next(line for line in text.splitlines() if line.startswith("flr_engine_cancelled_total"))
    assert float(dropped.split()[1]) >= 1
    assert 'flr_http_requests_total{method="POST",route="/v1/recommend",status="499"}' in text
    assert not any(json.loads(line)["level"] == "error" for line in server.log)
