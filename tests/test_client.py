"""The client: answers with types, problems as errors, patience when the server asks for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from flr.client import AsyncClient, BusyError, Client, FailedError, KeyRefusedError, RefusedError, UnreachableError
from flr.recommender import Recommender
from flr.serving.contract import MOST_ITEMS_PER_EDIT, Filters, NewItem
from flr.serving.security import new_key
from flr.serving.settings import ServeSettings
from serving.conftest import SHARED_YEARS, make_recommender, served


class Through(httpx.BaseTransport):
    """Carries requests to an application in this process."""

    def __init__(self, to: TestClient) -> None:
        self._to = to

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        answer = self._to.request(request.method, str(request.url), content=request.content, headers=headers)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def recommender() -> Recommender:
    return make_recommender(titles=SHARED_YEARS)


@pytest.fixture
def client(recommender: Recommender) -> Iterator[Client]:
    with served(recommender) as app:
        yield Client("http://localhost", transport=Through(app))


def test_every_question_has_a_typed_answer(client: Client, recommender: Recommender) -> None:
    answer = client.recommend([["i1", "zz"]], k=3, unknown="skip", factor_weights=[0, 1, 1, 1])
    expected = recommender.recommend([["i1"]], 3, factor_weights=[0, 1, 1, 1])[0]
    assert [item.model_dump() for item in answer.lists[0].items] == [vars(item) for item in expected]
    assert answer.lists[0].skipped == ["zz"]
    only = client.recommend([["i1"]], filters=Filters(allow=["i4"]))
    assert [item.item_id for item in only.lists[0].items] == ["i4"]
    assert client.explain(["i1", "i2"], "i4", k=2).explanation["item"]["item_id"] == "i4"
    steered = client.explain(["i1"], factor_weights=[0, 1, 1, 1], filters=Filters(exclude=["i9"])).explanation
    assert steered["item"]["log_prob"] == pytest.approx(
        client.recommend([["i1"]], factor_weights=[0, 1, 1, 1], filters=Filters(exclude=["i9"]))
        .lists[0]
        .items[0]
        .log_prob
    )
    assert steered["factors"][0]["gate"] == 0
    tested = client.explain(["i1", "i2"], "i4", fidelity=True).fidelity
    assert tested is not None
    assert [one.measure for one in tested] == ["attention", "gated", "leave-one-out", "latest"]
    assert client.items("heat", limit=1).total == 2
    assert [one.item_id for one in client.items(item_ids=["i5", "none", "i1"]).items] == ["i5", "i1"]
    (year,) = client.attributes(limit=2).attributes
    assert (year.name, len(year.values)) == ("year", 2)
    assert client.ready() is True
    new = [NewItem(item_id="n1", title="Heat Two (2025)"), {"item_id": "n2", "title": "Heat Three (2026)"}]
    assert client.add_items(new).changed == 2
    assert client.remove_items(["n1"]).catalogue_version == 2
    assert client.model().n_items == 16
    with pytest.raises(RefusedError, match="answered 404: this run has no profiles") as refused:
        client.factors()
    assert refused.value.problem
    assert refused.value.problem.type == "urn:flr:problem:no-profiles"


def test_a_server_that_is_not_ready_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        raise AssertionError("asked whether it is ready now")

    monkeypatch.setattr("flr.client.time.sleep", sleep)
    monkeypatch.setattr("flr.client.asyncio.sleep", sleep)
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        ready = len(seen) % 2 == 0
        return httpx.Response(200 if ready else 503, headers={"Retry-After": "1"}, json={"status": "ok"})

    async def asked() -> list[bool]:
        async with AsyncClient("http://x", transport=httpx.MockTransport(answer)) as client:
            return [await client.ready(), await client.ready()]

    client = Client("http://x", transport=httpx.MockTransport(answer))
    assert [client.ready(), client.ready(), *asyncio.run(asked())] == [False, True, False, True]
    assert seen == ["/ready"] * 4
    with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1:9 "):
        Client("http://127.0.0.1:9").ready()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda client: client.recommend([["zz"]]), "no item has the id 'zz'"),
        (lambda client: client.recommend([["i1"]], k=0), r"k: Input should be greater than or equal to 1 \(not sent\)"),
        (lambda client: client.add_items([{"item_id": "i1", "title": "x"}]), "'i1' is in the catalogue already"),
        (
            lambda client: client.add_items([{"item_id": "n", "title": "x", "genres": "Drama"}]),
            r'items.0: an item has no field "genres"; put it under "attributes": {"genres": ...} \(not sent\)',
        ),
        (lambda client: client.add_items(["n"]), r"items.0: Input should be a valid dictionary.* \(not sent\)"),
    ],
)
def test_what_is_refused_is_said(ask: Callable[[Client], Any], said: str, client: Client) -> None:
    with pytest.raises(RefusedError, match=said):
        ask(client)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda client: client.remove_items("12"), "remove_items: got the text '12', expected a list of ids"),
        (lambda client: client.remove_items([]), "remove_items: the list of ids is empty"),
        (lambda client: client.items(item_ids="12"), "items: got the text '12', expected a list of ids"),
        (lambda client: client.recommend("12"), "histories: got the text '12', expected a list of histories"),
        (lambda client: client.recommend(["12"]), "history number 0: got the text '12', expected a list of items"),
        (lambda client: client.explain("12"), "history: got the text '12', expected a list of items"),
        (lambda client: client.recommend([["1"]], factor_weights="12"), "factor_weights: got the text '12'"),
        (lambda client: client.add_items({"item_id": "1", "title": "x"}), "add_items: got {.*expected a list of items"),
    ],
)
def test_a_text_is_not_taken_apart(ask: Callable[[Any], Any], said: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("was sent")

    transport = httpx.MockTransport(answer)
    with pytest.raises(RefusedError, match=rf"{said}.* \(not sent\)"):
        ask(Client("http://x", transport=transport))
    with pytest.raises(RefusedError, match=said):
        asyncio.run(ask(AsyncClient("http://x", transport=transport)))


def test_keys_are_sent(tmp_path: Path, recommender: Recommender) -> None:
    key = new_key(tmp_path / "keys", "read")
    with served(recommender, ServeSettings(keys=tmp_path / "keys")) as app:
        assert Client("http://localhost", key=key, transport=Through(app)).model().n_items == 15
        with pytest.raises(KeyRefusedError, match="answered 401: a key is needed"):
            Client("http://localhost", transport=Through(app)).model()
        with pytest.raises(KeyRefusedError, match="answered 403: this needs a key of scope admin"):
            Client("http://localhost", key=key, transport=Through(app)).remove_items(["i1"])


def busy(
    times: int, status: int, waits: str | bytes = "7"
) -> tuple[Callable[[httpx.Request], httpx.Response], list[str]]:
    """Answer that the server is busy so many times, then what is served; note the requests."""
    seen: list[str] = []
    model = (
        '{"flr_version":"1","n_items":1,"n_factors":1,"window":1,"backbone":"compact","weights":"float32",'
        '"overlap":null,"knows_popular":true,"exact_batches":true,"catalogue_version":0,"limits":{}}'
    )
    edit = '{"changed":1,"notes":[],"catalogue_version":1}'

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        if len(seen) <= times:
            return httpx.Response(status, headers={"Retry-After": waits}, text="busy")
        return httpx.Response(200, text=model if request.method == "GET" else edit)

    return answer, seen


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("flr.client.time.sleep", slept.append)
    answer, seen = busy(2, status)
    assert Client("http://x", transport=httpx.MockTransport(answer)).model().n_items == 1
    assert (slept, len(seen)) == ([7.0, 7.0], 3)
    answer, seen = busy(9, status)
    with pytest.raises(BusyError, match=f"/v1/model answered {status}: busy"):
        Client("http://x", max_retries=1, transport=httpx.MockTransport(answer)).model()
    assert len(seen) == 2
    answer, seen = busy(1, status, waits="3600")
    with pytest.raises(BusyError):
        Client("http://x", transport=httpx.MockTransport(answer)).model()
    assert len(seen) == 1


def test_a_question_that_took_too_long_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.client.time.sleep", lambda _: None)
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        said = {"title": "Service Unavailable", "status": 503, "detail": "no answer within 10 s", "request_id": "r"}
        return httpx.Response(503, headers={"Retry-After": "1"}, json={"type": "urn:flr:problem:too-late", **said})

    with pytest.raises(BusyError, match="answered 503: no answer within 10 s"):
        Client("http://x", transport=httpx.MockTransport(answer)).recommend([["i1"]])
    assert seen == ["/v1/recommend"]


def test_an_edit_is_sent_again_only_where_nothing_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flr.client.time.sleep", lambda _: None)
    answer, seen = busy(1, 429)
    assert Client("http://x", transport=httpx.MockTransport(answer)).remove_items(["a"]).changed == 1
    answer, seen = busy(1, 503)
    with pytest.raises(BusyError):
        Client("http://x", transport=httpx.MockTransport(answer)).remove_items(["a"])
    assert seen == ["DELETE"]


@pytest.mark.parametrize("waits", ["²", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", ""])
def test_a_time_to_come_back_that_is_no_number_is_a_second(waits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("flr.client.time.sleep", slept.append)
    answer, _ = busy(1, 503, waits=waits.encode())
    assert Client("http://x", transport=httpx.MockTransport(answer)).model().n_items == 1
    assert slept == [1.0]


def test_ids_that_no_url_holds_are_refused_before_they_are_sent(client: Client) -> None:
    with pytest.raises(RefusedError, match=r"100 ids take 154,500 bytes .* in parts \(not sent\)"):
        client.remove_items(["ü" * 256] * 100)


def test_as_many_items_are_removed_at_once_as_added(client: Client) -> None:
    item_ids = [f"a-new-film-{number}" for number in range(MOST_ITEMS_PER_EDIT)]
    assert client.add_items([{"item_id": one, "title": "Heat Two (2025)"} for one in item_ids]).changed == 1_000
    removed = client.remove_items(item_ids)
    assert (removed.changed, removed.catalogue_version) == (1_000, 2)
    assert client.model().n_items == 15
    with pytest.raises(RefusedError, match=r"answered 422: query.item_id: List should have at most 1000 items"):
        client.remove_items([*item_ids, "i1"])


def test_what_a_newer_server_says_beside_is_passed_over() -> None:
    edit = {"changed": 1, "notes": [], "catalogue_version": 1, "news": [1]}
    problem = {"type": "t", "title": "T", "status": 422, "detail": "why", "request_id": "r", "news": {"a": 1}}
    newer = httpx.MockTransport(lambda _: httpx.Response(200, json=edit))
    assert Client("http://x", transport=newer).remove_items(["a"]).changed == 1
    refusing = httpx.MockTransport(lambda _: httpx.Response(422, json=problem))
    with pytest.raises(RefusedError, match=r"answered 422: why \(request r\)"):
        Client("http://x", transport=refusing).remove_items(["a"])


def test_what_is_no_answer_of_flr_is_said() -> None:
    html = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>bad gateway"))
    with pytest.raises(FailedError, match="answered 502: <html>bad gateway"):
        Client("http://x", transport=html).model()
    other = httpx.MockTransport(lambda _: httpx.Response(200, text="{}"))
    with pytest.raises(FailedError, match="something else than expected"):
        Client("http://x", transport=other).model()
    with pytest.raises(UnreachableError, match=r"no answer from http://127\.0\.0\.1:9 "):
        Client("http://127.0.0.1:9").model()


def test_the_asynchronous_client_asks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> None:
        answer, _ = busy(1, 429)
        async with AsyncClient("http://x", transport=httpx.MockTransport(answer)) as client:
            assert (await client.model()).n_items == 1
            assert (await client.remove_items(["a"])).changed == 1
            with pytest.raises(RefusedError, match="not sent"):
                await client.recommend([])

    monkeypatch.setattr("flr.client.asyncio.sleep", sleep)
    asyncio.run(run())
    assert slept == [7.0]


def test_both_clients_offer_the_same() -> None:
    import inspect

    for name in (
        "recommend",
        "explain",
        "items",
        "add_items",
        "remove_items",
        "model",
        "factors",
        "attributes",
        "ready",
    ):
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))


def test_the_client_loads_no_model_library() -> None:
    program = "import sys, flr.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "transformers", "polars", "fastapi"}
