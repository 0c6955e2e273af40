"""A process of its own: stopped, killed, starved and left alone by its clients."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from flr.recommender import Recommender
from serving.conftest import Start, ask, histories_of

pytestmark = pytest.mark.slow
HEADERS = "Host: x\r\nContent-Type: application/json\r\n"


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


def test_a_connection_that_sends_nothing_or_slowly_is_dropped(
    start: Start, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    import uvicorn

    from flr.serving.app import create_app
    from flr.serving.server import limited_protocol
    from flr.serving.service import Service
    from flr.serving.settings import ServeSettings

    service = Service.load(saved, ServeSettings(body_seconds=0.5))
    config = uvicorn.Config(create_app(service), port=0, http=limited_protocol(0.5, 3), log_config=None)
    server = uvicorn.Server(config)
    monkeypatch.setattr(server, "install_signal_handlers", lambda: None, raising=False)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def connect(sent: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(sent)
        return connection

    silent, headers = connect(b""), connect(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    body = connect(b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    time.sleep(0.1)
    try:
        fourth = connect(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").recv(100)
    except ConnectionResetError:
        fourth = b""
    assert fourth == b""  # three at a time
    for _ in range(4):
        time.sleep(0.1)
        headers.sendall(b"a")
    assert silent.recv(100) == b""
    assert headers.recv(100) == b""
    assert body.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


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
