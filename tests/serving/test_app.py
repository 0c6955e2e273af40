"""The HTTP door: the recommender's answers, and a clear problem for everything that is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from flr.catalogue.filters import AttributeIndex, Between, ItemFilter
from flr.explanation.fidelity import fidelity
from flr.recommender import Recommender
from flr.records import Histories
from flr.serving.app import create_app
from flr.serving.contract import MOST_HISTORIES, MOST_HISTORY_ITEMS
from flr.serving.edits import MOST_EDITS
from flr.serving.gate import Gate, JsonLines
from flr.serving.pages import add_pages
from flr.serving.security import new_key
from flr.serving.service import Service
from flr.serving.settings import ServeSettings
from serving.conftest import KINDS, histories_of, make_recommender, served


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def shared(request: pytest.FixtureRequest) -> Recommender:
    return make_recommender(*request.param)


@pytest.fixture(scope="module")
def client(shared: Recommender) -> Iterator[TestClient]:
    with served(shared) as client:
        yield client


def is_problem(response: Any, status: int, name: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:flr:problem:{name}"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def ranged(filters: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of a request as those of an `ItemFilter`."""
    return {
        name: [Between(one.get("min"), one.get("max")) if isinstance(one, dict) else one for one in wanted]
        for name, found in filters.get("where", {}).items()
        if (wanted := found if isinstance(found, list) else [found])
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3, "exclude_seen": False},
        {"factor_weights": [0.0, 1.0, 2.0, 0.5]},
        {"diversify": "factors", "k": 4},
        {"filters": {"where": {"year": [1990, "1995"]}, "exclude": ["i0"]}},
        {"filters": {"allow": ["i3", "i4"]}},
        {"filters": {"where": {"year": {"min": 1990, "max": 1995.5}}}},
        {"filters": {"where": {"year": [{"max": 1989}, "1995"]}}},
    ],
)
def test_lists_are_the_recommenders_to_the_bit(
    options: dict[str, Any], client: TestClient, shared: Recommender
) -> None:
    histories = histories_of(12)
    response = client.post("/v1/recommend", json={"histories": histories, **options})
    assert response.status_code == 200, response.text
    filters = options.get("filters")
    given = {**options, "filters": None if filters is None else ItemFilter(**{**filters, "where": ranged(filters)})}
    expected = shared.recommend(histories, **given)
    assert [one["items"] for one in response.json()["lists"]] == [[vars(item) for item in items] for items in expected]


def test_parallel_requests_get_what_each_gets_alone(client: TestClient, shared: Recommender) -> None:
    histories = histories_of(60, seed=1)

    def ask(history: list[str]) -> Any:
        return client.post("/v1/recommend", json={"histories": [history], "k": 4}).json()["lists"][0]["items"]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, histories))
    assert found == [[vars(item) for item in shared.recommend([history], 4)[0]] for history in histories]


def test_titles_are_understood_and_unknown_items_skipped_are_reported(client: TestClient) -> None:
    asked = {"histories": [["Heat (1995)", "Nothing (1900)"], ["Blue  (1993)"]], "by": "title", "unknown": "skip"}
    lists = client.post("/v1/recommend", json=asked).json()["lists"]
    assert [one["skipped"] for one in lists] == [["Nothing (1900)"], []]
    problem = is_problem(client.post("/v1/recommend", json={**asked, "unknown": "error"}), 422, "unknown-item")
    assert "history number 0: no item has the title 'Nothing (1900)'" in problem["detail"]


@pytest.mark.parametrize("options", [{}, {"diversify": "factors"}, {"factor_weights": [0, 1, 2, 1]}])
def test_a_history_of_unknown_items_only_has_an_empty_list_and_costs_nobody_theirs(
    client: TestClient, options: dict[str, Any]
) -> None:
    def lists(*histories: list[str]) -> Any:
        asked = {"histories": list(histories), "unknown": "skip", "k": 3, **options}
        return client.post("/v1/recommend", json=asked).json()["lists"]

    first, unknown, last = lists(["i1"], ["zz", "yy"], ["i2", "zz"])
    assert unknown == {"items": [], "skipped": ["zz", "yy"]} == lists(["zz", "yy"])[0]
    assert [first, last] == lists(["i1"], ["i2", "zz"])
    assert len(first["items"]) == 3
    only = {"history": ["zz"], "unknown": "skip"}
    assert "holds unknown items only" in is_problem(client.post("/v1/explain", json=only), 422, "request")["detail"]


@pytest.mark.parametrize("shared", [KINDS["default"]], indirect=True)
def test_new_people_have_what_is_popular_where_asked_for(client: TestClient, shared: Recommender) -> None:
    asked = {"histories": [["i1"], [], ["zz"]], "k": 4, "unknown": "skip", "filters": {"exclude": ["i0", "i9"]}}
    lists = client.post("/v1/recommend", json={**asked, "empty": "popular"}).json()["lists"]
    filters = ItemFilter(exclude=["i0", "i9"])
    expected = shared.recommend(asked["histories"], 4, unknown="skip", empty="popular", filters=filters)
    assert [one["items"] for one in lists] == [[vars(item) for item in items] for items in expected]
    assert lists[1]["items"] == lists[2]["items"] != []
    refused = client.post("/v1/recommend", json=asked)
    assert "history number 1 is empty" in is_problem(refused, 422, "request")["detail"]


@pytest.mark.parametrize("shared", [KINDS["published"]], indirect=True)
def test_what_is_popular_is_refused_by_a_model_that_does_not_know(client: TestClient) -> None:
    refused = client.post("/v1/recommend", json={"histories": [[]], "empty": "popular"})
    assert "no memory and does not know" in is_problem(refused, 422, "request")["detail"]


ONE = {"histories": [["i1"]]}
NEW = {"items": [{"item_id": "n1", "title": "Heat Two (2025)"}]}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.histories"),
        ({"histories": []}, "body.histories"),
        ({"histories": [["i1"]] * (MOST_HISTORIES + 1)}, "body.histories"),
        ({"histories": [["i1"] * (MOST_HISTORY_ITEMS + 1)]}, "body.histories.0"),
        ({"histories": [[1]]}, "body.histories.0.0"),
        ({"histories": [["x" * 513]]}, "body.histories.0.0"),
        ({"histories": [["\ud800"]]}, "body.histories.0.0"),
        ({**ONE, "k": 0}, "body.k"),
        ({**ONE, "k": 201}, "body.k"),
        ({**ONE, "k": "5"}, "body.k"),
        ({**ONE, "k": True}, "body.k"),
        ({**ONE, "by": "name"}, "body.by"),
        ({**ONE, "exclude_seen": 1}, "body.exclude_seen"),
        ({**ONE, "factor_weights": [float("nan"), 1, 1, 1]}, "body.factor_weights.0"),
        ({**ONE, "factor_weights": [-1, 1, 1, 1]}, "body.factor_weights.0"),
        ({**ONE, "kk": 5}, "body.kk"),
        ({**ONE, "filters": {"where": {"year": {"min": 2, "max": 1}}}}, "body.filters.where.year.range"),
        ({**ONE, "filters": {"where": {"year": {}}}}, "body.filters.where.year.range"),
    ],
)
def test_a_field_that_is_wrong_is_named(body: dict[str, Any], where: str, client: TestClient) -> None:
    response = client.post("/v1/recommend", content=json.dumps(body), headers={"Content-Type": "application/json"})
    problem = is_problem(response, 422, "validation")
    assert problem["errors"][0]["where"] == where


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**ONE, "factor_weights": [1.0]}, "got 1 factor weights, this model has 4 factors"),
        ({**ONE, "factor_weights": [0, 0, 0, 0], "diversify": "factors"}, "all 4 factor weights of a history are 0"),
        ({**ONE, "filters": {"where": {"yeer": 1}}}, "no attribute 'yeer'; did you mean 'year'"),
        ({**ONE, "filters": {"where": {"year": 1900}}}, "no item has year = 1900"),
    ],
)
def test_what_the_model_cannot_do_is_said(body: dict[str, Any], said: str, client: TestClient) -> None:
    assert said in is_problem(client.post("/v1/recommend", json=body), 422, "request")["detail"]


@pytest.mark.parametrize("what", ["allow", "exclude"])
def test_names_are_not_compared_with_the_whole_catalogue(
    what: str, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: object, **__: object) -> list[str]:
        raise AssertionError("the event loop would wait for this")

    monkeypatch.setattr("flr.errors.difflib.get_close_matches", compare)
    problem = is_problem(
        client.post("/v1/recommend", json={**ONE, "filters": {what: ["i1", "i111"]}}), 422, "unknown-item"
    )
    assert problem["detail"].startswith(f"filters.{what}: no item has the id 'i111'; see /v1/items")
    skipped = client.post("/v1/recommend", json={**ONE, "unknown": "skip", "filters": {what: ["i2", "i111"]}})
    assert skipped.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"), [("recommend", {"histories": [["i1"]]}), ("explain", {"history": ["i1"], "item": "i2"})]
)
def test_others_are_answered_while_attributes_are_looked_through(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, may_go_on, look_through = threading.Event(), threading.Event(), AttributeIndex._look_through

    def slow(index: AttributeIndex, attribute: str) -> Any:
        looking.set()
        may_go_on.wait(10)
        return look_through(index, attribute)

    monkeypatch.setattr(AttributeIndex, "_look_through", slow)
    with served(make_recommender()) as client, ThreadPoolExecutor(1) as pool:
        filtered = {**body, "filters": {"where": {"year": [1990, 1995, 1979]}}, "unknown": "skip"}
        answer = pool.submit(client.post, f"/v1/{path}", json=filtered)
        assert looking.wait(10)
        assert client.get("/health").status_code == 200
        assert client.post("/v1/recommend", json=ONE).status_code == 200
        assert not answer.done()
        may_go_on.set()
        assert answer.result().status_code == 200


def test_a_title_is_cleaned_once_however_often_it_is_asked_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[str] = []

    def clean(title: str) -> str:
        cleaned.append(title)
        return title

    monkeypatch.setattr("flr.catalogue.lookup.clean_title", clean)
    asked = {"histories": [["Unheard Of", "Alien (1979)"] * 20] * 10, "by": "title", "unknown": "skip"}
    assert client.post("/v1/recommend", json=asked).status_code == 200
    assert cleaned == ["Unheard Of"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"histories": [["\xff\xfe"]]}', b"[" * 100_000, b'{"k": ' + b"9" * 6000 + b"}"]
)
def test_a_body_that_is_no_json_is_a_400(content: bytes, client: TestClient) -> None:
    response = client.post("/v1/recommend", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    is_problem(response, response.status_code, response.json()["type"].rsplit(":", 1)[1])
    if b"\xff" in content or len(content) < 2:
        assert response.status_code == 400


@pytest.mark.parametrize("given", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_refused(given: str, client: TestClient) -> None:
    headers = {"Content-Type": given} if given else {}
    response = client.post("/v1/recommend", content=json.dumps(ONE).encode(), headers=headers)
    assert "send Content-Type: application/json" in is_problem(response, 415, "media-type")["detail"]


def test_paths_and_methods_that_are_not_there(client: TestClient) -> None:
    is_problem(client.get("/v1/nothing"), 404, "not-found")
    for path, methods in (("/v1/recommend", "POST"), ("/v1/items", "DELETE, GET, HEAD, POST"), ("/ready", "GET, HEAD")):
        response = client.put(path)
        is_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == methods
    is_problem(client.get("/v1/factors"), 404, "no-profiles")


def test_an_explanation_is_that_of_the_package(client: TestClient, shared: Recommender) -> None:
    from flr.explanation.attribution import explain

    response = client.post(
        "/v1/explain", json={"history": ["i1", "gone", "i4"], "item": "i8", "unknown": "skip", "k": 3}
    )
    assert response.status_code == 200, response.text
    assert response.json()["skipped"] == ["gone"]
    found, expected = response.json()["explanation"], explain(shared, [1, 4], 8, k=3)
    assert found["item"]["item_id"] == "i8"
    assert found["item"]["log_prob"] == expected.item.log_prob
    assert [one["influence"] for one in found["history"]] == [one.influence for one in expected.history]
    assert [one["contribution"] for one in found["sources"]] == [one.contribution for one in expected.sources]
    assert all(one["contribution"] for one in found["sources"])  # an assistant has a say
    problem = is_problem(client.post("/v1/explain", json={"history": ["i1"], "item": "no"}), 422, "unknown-item")
    assert "no item has the id 'no'" in problem["detail"]


def test_an_explanation_is_tested_where_somebody_asks(client: TestClient, shared: Recommender) -> None:
    weights = [0.0, 1.0, 2.0, 0.5]
    asked = {"history": ["i1", "i4", "i2"], "item": "i8", "factor_weights": weights}
    plain, tested = (client.post("/v1/explain", json={**asked, **more}) for more in ({}, {"fidelity": True}))
    assert plain.json() == {**tested.json(), "fidelity": None}
    history = Histories(np.array([1, 4, 2]), np.array([0, 3]))
    (expected,) = fidelity(shared, history, np.array([8]), factor_weights=weights)
    assert tested.json()["fidelity"] == json.loads(json.dumps([asdict(one) for one in expected]))
    influences = [one["influence"] for one in tested.json()["explanation"]["history"]]
    assert tested.json()["fidelity"][2]["importance"] == pytest.approx(influences, abs=1e-5)
    problem = is_problem(client.post("/v1/explain", json={"history": ["i1"], "fidelity": True}), 422, "request")
    assert "what is read of a history, got 1 item; expected two or more" in problem["detail"]


@pytest.mark.parametrize(
    "steering",
    [
        {"factor_weights": [0.0, 1.0, 2.0, 0.5]},
        {"filters": {"where": {"year": [1990, "1995"]}, "exclude": ["i0"]}, "exclude_seen": False},
        {"factor_weights": [0.0, 0.0, 0.0, 0.0], "filters": {"allow": ["i3", "i4", "zz"]}, "unknown": "skip"},
    ],
)
def test_what_is_steered_is_explained(steering: dict[str, Any], client: TestClient) -> None:
    (best,) = client.post("/v1/recommend", json={"histories": [["i1", "i2"]], **steering}).json()["lists"]
    for one in best["items"]:
        asked = {"history": ["i1", "i2"], "item": one["item_id"], **steering}
        found = client.post("/v1/explain", json=asked).json()["explanation"]
        assert [item["item_id"] for item in found["items"]] == [item["item_id"] for item in best["items"]]
        assert found["item"]["probability"] == pytest.approx(one["probability"], rel=1e-5)
        assert best["items"][found["item"]["rank"] - 1]["log_prob"] == pytest.approx(one["log_prob"], abs=1e-5)


@pytest.mark.parametrize(
    ("steering", "said"),
    [
        ({"factor_weights": [1.0]}, "got 1 factor weights, this model has 4 factors"),
        ({"filters": {"where": {"yeer": 1}}}, "no attribute 'yeer'; did you mean 'year'"),
        ({"filters": {"allow": []}}, "rule out all 11 items"),
    ],
)
def test_what_cannot_be_explained_is_said(steering: dict[str, Any], said: str, client: TestClient) -> None:
    response = client.post("/v1/explain", json={"history": ["i1"], **steering})
    assert said in is_problem(response, 422, "request")["detail"]


def test_a_filter_of_an_unknown_id_is_refused_before_anything_is_explained(client: TestClient) -> None:
    response = client.post("/v1/explain", json={"history": ["i1"], "filters": {"exclude": ["zz"]}})
    assert "filters.exclude: no item has the id 'zz'" in is_problem(response, 422, "unknown-item")["detail"]


def test_the_catalogue_is_listed_searched_and_edited() -> None:
    with served(make_recommender()) as client:
        assert client.get("/v1/items", params={"search": "BLUE", "limit": 2}).json()["total"] == 3
        page = client.get("/v1/items", params={"offset": 9, "limit": 5}).json()
        assert [item["item_id"] for item in page["items"]] == ["i9", "i10"]
        aliens = {"item_id": "i9", "title": "Aliens (1986)", "attributes": {"year": 1986}, "is_removed": False}
        assert page["items"][0] == aliens
        new = {"item_id": "n/1", "title": "Alien Velvet (1999)", "attributes": {"year": 1999}}
        added = client.post("/v1/items", json={"items": [new]})
        assert added.status_code == 201
        assert added.json()["catalogue_version"] == 1
        whole = {"histories": [["n/1"]], "k": 50, "exclude_seen": False}
        assert "n/1" in {
            item["item_id"] for item in client.post("/v1/recommend", json=whole).json()["lists"][0]["items"]
        }
        again = is_problem(client.post("/v1/items", json={"items": [new]}), 422, "items")
        assert "'n/1' is in the catalogue already" in again["detail"]
        wrong = {**new, "item_id": "n2", "attributes": {"colour": "red"}}
        assert "colour" in is_problem(client.post("/v1/items", json={"items": [wrong]}), 422, "items")["detail"]
        flat = {"item_id": "n2", "title": "Heat Two (2025)", "year": 2025}
        refused = is_problem(client.post("/v1/items", json={"items": [flat]}), 422, "validation")
        assert refused["detail"] == (
            'body.items.0: an item has no field "year"; put it under "attributes": {"year": ...}'
        )
        assert client.request("DELETE", "/v1/items", params={"item_id": ["n/1", "i1"]}).json()["changed"] == 2
        left = {item["item_id"] for item in client.post("/v1/recommend", json=whole).json()["lists"][0]["items"]}
        assert not left & {"n/1", "i1"}
        assert client.get("/v1/items").json()["total"] == 10
        gone = is_problem(client.request("DELETE", "/v1/items", params={"item_id": "zz"}), 422, "unknown-item")
        assert "'zz'" in gone["detail"]
        is_problem(client.request("DELETE", "/v1/items"), 422, "validation")


def test_items_are_found_by_their_ids_those_removed_too() -> None:
    recommender = make_recommender()
    with served(recommender) as client:
        client.request("DELETE", "/v1/items", params={"item_id": "i1"})
        page = client.get("/v1/items", params={"item_id": ["i9", "none", "i1"], "limit": 1}).json()
        assert (page["total"], page["offset"]) == (2, 0)
        titles = recommender.catalogue.titles
        assert [(one["item_id"], one["title"], one["is_removed"]) for one in page["items"]] == [
            ("i9", titles[9], False),
            ("i1", titles[1], True),
        ]
        assert page["items"][0]["attributes"] == {"year": 1986}
        for wrong, kind in [
            ({"search": "heat"}, "request"),
            ({"offset": 1}, "request"),
            ({"item_id": [""]}, "validation"),
        ]:
            is_problem(client.get("/v1/items", params={"item_id": ["i0"], **wrong}), 422, kind)
        is_problem(client.get("/v1/items", params={"item_id": ["i0"] * 101}), 422, "validation")


def edit_patiently(client: TestClient, number: int) -> int:
    """Add an item, again where the server is busy, and return the version that this led to."""
    new = {"items": [{"item_id": f"n{number}", "title": f"Heat {number} (1995)"}]}
    while (answer := client.post("/v1/items", json=new)).status_code == 429:
        is_problem(answer, 429, "overloaded")
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.2)
    version: int = answer.json()["catalogue_version"]
    return version


def test_a_hundred_edits_in_parallel_while_people_ask(tmp_path: Path) -> None:
    settings = ServeSettings(journal=tmp_path / "journal", timeout_seconds=60)
    with served(make_recommender(), settings) as client, ThreadPoolExecutor(104) as pool:
        stop = threading.Event()

        def keep_asking(filters: dict[str, Any] | None) -> int:
            n = 0
            while not stop.is_set():
                asked = {"histories": [["i1", "i2"]], "k": 120, "filters": filters}
                answer = client.post("/v1/recommend", json=asked)
                assert answer.status_code == 200
                total = sum(item["probability"] for item in answer.json()["lists"][0]["items"])
                assert total < 1.0001
                n_new = sum(item["item_id"].startswith("n") for item in answer.json()["lists"][0]["items"])
                assert n_new == answer.json()["catalogue_version"]
                n += 1
            return n

        asking = [pool.submit(keep_asking, filters) for filters in (None, {"exclude": ["i3"]}) for _ in range(2)]
        edits = [pool.submit(edit_patiently, client, number) for number in range(100)]
        versions = sorted(edit.result() for edit in edits)
        stop.set()
        assert all(one.result() for one in asking)
        assert versions == list(range(1, 101))
        assert client.get("/v1/items").json()["total"] == 111
    with served(make_recommender(), settings) as client:
        assert client.get("/v1/items").json()["total"] == 111
        assert client.get("/v1/model").json()["catalogue_version"] == 100


def test_edits_that_wait_hold_up_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived, check, n_refused = threading.Semaphore(0), Gate._check_client, 45 - MOST_EDITS
    with served(make_recommender(), ServeSettings(timeout_seconds=60)) as client, ThreadPoolExecutor(46) as pool:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        monkeypatch.setattr(Gate, "_check_client", lambda *given: (arrived.release(), check(*given)))
        with service._edits:
            new = [{"items": [{"item_id": f"n{number}", "title": f"Heat {number} (1995)"}]} for number in range(45)]
            edits = [pool.submit(client.post, "/v1/items", json=one) for one in new]
            assert all(arrived.acquire(timeout=60) for _ in edits)
            filtered = pool.submit(client.post, "/v1/recommend", json={**ONE, "filters": {"exclude": ["i3"]}})
            assert filtered.result(30).status_code == 200
            for refused in islice(as_completed(edits, timeout=60), n_refused):
                is_problem(refused.result(), 429, "overloaded")
        assert Counter(edit.result().status_code for edit in edits) == {201: MOST_EDITS, 429: n_refused}
        assert service.n_items == 11 + MOST_EDITS


def test_an_edit_whose_turn_does_not_come_is_given_up_but_not_one_that_is_begun() -> None:
    with served(make_recommender(), ServeSettings(timeout_seconds=0.2)) as client, ThreadPoolExecutor(2) as pool:
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        with service._edits:
            edits = [pool.submit(client.request, "DELETE", f"/v1/items?item_id={item_id}") for item_id in ("i1", "i2")]
            late = next(as_completed(edits, timeout=30))
            assert "was not made; try later" in is_problem(late.result(), 503, "too-late")["detail"]
        (first,) = set(edits) - {late}
        assert first.result().json() == {"changed": 1, "notes": [], "catalogue_version": 1}
        assert service.n_items == 10


def test_a_question_that_waits_for_others_to_be_looked_at_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, look_through = threading.Event(), AttributeIndex._look_through
    with served(make_recommender(), ServeSettings(timeout_seconds=0.5)) as client, ThreadPoolExecutor(60) as pool:
        monkeypatch.setattr(AttributeIndex, "_look_through", lambda *given: may_go_on.wait(60) and look_through(*given))
        filtered = {**ONE, "filters": {"where": {"year": 1990}}}
        asked = [pool.submit(client.post, "/v1/recommend", json=filtered) for _ in range(60)]
        try:
            is_problem(next(as_completed(asked, timeout=30)).result(), 503, "too-late")
        finally:
            may_go_on.set()


def test_a_version_is_of_one_edit_and_outlives_restarts(tmp_path: Path) -> None:
    settings = ServeSettings(journal=tmp_path / "journal")
    with served(make_recommender(), settings) as client, ThreadPoolExecutor(16) as pool:

        def edit(number: int) -> list[int]:
            new = {"item_id": f"n{number}", "title": f"Heat {number} (1995)"}
            added = client.post("/v1/items", json={"items": [new]})
            removed = client.request("DELETE", "/v1/items", params={"item_id": new["item_id"]})
            return [added.json()["catalogue_version"], removed.json()["catalogue_version"]]

        versions = [version for both in pool.map(edit, range(60)) for version in both]
    assert sorted(versions) == list(range(1, 121))
    for _ in range(3):  # the first start compacts what there is to nothing
        with served(make_recommender(), settings) as client:
            before = client.get("/v1/model").json()["catalogue_version"]
            added = client.post("/v1/items", json={"items": [{"item_id": f"m{before}", "title": "Heat Two (2025)"}]})
            versions.append(before)
            versions.append(added.json()["catalogue_version"])
    assert versions[-6:] == [120, 121, 121, 122, 122, 123]


def test_a_model_tells_the_version_that_its_items_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(make_recommender(), ServeSettings())
    states = [service.live]
    service.remove_items(["i1"])
    states.append(service.live)
    # An edit is made after the catalogue has been looked at once.
    monkeypatch.setattr(Service, "live", property(lambda _: states.pop(0) if len(states) > 1 else states[0]))
    with TestClient(create_app(service, warm_up=False), base_url="http://localhost") as client:
        found = [client.get("/v1/model").json() for _ in range(2)]
    assert [(one["n_items"], one["catalogue_version"]) for one in found] == [(11, 0), (10, 1)]


def test_keys_and_scopes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    reader, admin = new_key(path, "read"), new_key(path, "admin")
    with served(make_recommender(), ServeSettings(keys=path)) as client:
        assert client.get("/health").status_code == 200
        refused = client.post("/v1/recommend", json=ONE)
        assert "a key is needed" in is_problem(refused, 401, "key")["detail"]
        assert refused.headers["www-authenticate"] == "Bearer"
        wrong = client.post("/v1/recommend", json=ONE, headers={"Authorization": f"Bearer {reader[:-1]}"})
        assert "not known" in is_problem(wrong, 401, "key")["detail"]
        is_problem(client.get("/metrics"), 401, "key")
        for headers in ({"Authorization": f"bearer {reader}"}, {"X-API-Key": reader}):
            assert client.post("/v1/recommend", json=ONE, headers=headers).status_code == 200
            is_problem(client.post("/v1/items", json={"items": []}, headers=headers), 403, "scope")
            is_problem(client.request("DELETE", "/v1/items?item_id=i1", headers=headers), 403, "scope")
        assert client.post("/v1/items", json=NEW, headers={"Authorization": f"Bearer {admin}"}).status_code == 201


@pytest.mark.parametrize("end", ["%0A", "%0D%0A", "%00", "%7F"])
def test_no_route_is_found_under_a_path_that_ends_with_control_characters(end: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = [{}, *({"X-API-Key": new_key(path, scope)} for scope in ("read", "admin"))]
    app = create_app(Service(make_recommender(), ServeSettings(keys=path)), warm_up=False)
    routes = [(route.path, method) for route in app.routes for method in route.methods]  # type: ignore[attr-defined]
    assert ("/v1/items", "POST") in routes
    with TestClient(app, base_url="http://localhost") as client:
        for route, method in routes:
            for headers in keys:
                assert client.request(method, route + end, json=NEW, headers=headers).status_code == 404, route
        assert client.get("/v1/model", headers=keys[1]).json()["catalogue_version"] == 0


def test_what_is_no_question_needs_the_scope_admin(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    headers = {"X-API-Key": new_key(path, "read")}
    with served(make_recommender(), ServeSettings(keys=path)) as client:
        for method in ("POST", "DELETE", "PUT", "PATCH"):
            is_problem(client.request(method, "/v1/nothing", headers=headers), 403, "scope")
        is_problem(client.get("/v1/nothing", headers=headers), 404, "not-found")


def test_rates_are_limited_by_client() -> None:
    with served(make_recommender(), ServeSettings(requests_per_second=0.01, burst=3)) as client:
        answers = [client.get("/v1/model") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        is_problem(answers[-1], 429, "rate")
        assert 90 <= int(answers[-1].headers["retry-after"]) <= 100


def test_who_is_refused_or_given_the_page_takes_nothing_of_what_others_may(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    headers = {"X-API-Key": new_key(path, "read")}
    settings = ServeSettings(keys=path, requests_per_second=0.01, burst=2)
    app = create_app(Service(make_recommender(), settings), warm_up=False, pages=add_pages)
    with TestClient(app, base_url="http://localhost") as client:
        assert [client.get("/v1/model").status_code for _ in range(3)] == [401, 401, 429]
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
        assert [client.get("/v1/model", headers=headers).status_code for _ in range(3)] == [200, 200, 429]


def test_a_body_that_is_too_large_is_refused() -> None:
    with served(make_recommender(), ServeSettings(max_body_bytes=2_000)) as client:
        large = json.dumps({"histories": [["x" * 3_000]]}).encode()
        is_problem(client.post("/v1/recommend", content=large), 413, "too-large")
        is_problem(client.post("/v1/recommend", content=iter([large[:1000]] * 3)), 413, "too-large")
        assert client.post("/v1/recommend", json=ONE).status_code == 200


def test_lower_limits_of_a_server_hold() -> None:
    with served(make_recommender(), ServeSettings(max_history=3, max_k=5)) as client:
        long = client.post("/v1/recommend", json={"histories": [["i1"] * 4]})
        assert "holds 4 items, this server takes 3" in is_problem(long, 422, "request")["detail"]
        many = client.post("/v1/recommend", json={**ONE, "k": 6})
        assert "k = 6, this server gives at most 5" in is_problem(many, 422, "request")["detail"]
        limits = client.get("/v1/model").json()["limits"]
        assert (limits["history"], limits["k"]) == (3, 5)


def test_browsers_of_other_origins_are_let_in_only_where_named() -> None:
    ask = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    with served(make_recommender()) as client:
        assert "access-control-allow-origin" not in client.get("/v1/model", headers=ask).headers
    with served(make_recommender(), ServeSettings(cors_origins=("https://shop.example",))) as client:
        assert client.options("/v1/recommend", headers=ask).headers["access-control-allow-origin"] == ask["Origin"]
        other = client.options("/v1/recommend", headers={**ask, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_a_preflight_that_is_refused_is_a_problem_that_is_logged_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, shop = tmp_path / "keys.json", "https://shop.example"
    headers = {"X-API-Key": new_key(path, "read")}
    with served(make_recommender(), ServeSettings(keys=path, cors_origins=(shop,))) as client:
        for origin, method, said in (
            ("https://evil.example", "POST", "Disallowed CORS origin: got 'https://evil.example'"),
            (shop, "PUT", "Disallowed CORS method: got 'https://shop.example'"),
        ):
            asked = {"Origin": origin, "Access-Control-Request-Method": method, "X-Request-ID": "abc.1"}
            with caplog.at_level(logging.INFO, "flr"):
                refused = client.options("/v1/recommend", headers=asked)
            assert is_problem(refused, 400, "cors")["detail"].startswith(said)
            assert refused.headers["x-request-id"] == "abc.1"
            assert refused.headers["x-content-type-options"] == "nosniff"
            line = json.loads(JsonLines().format(caplog.records[-1]))
            assert (line["request_id"], line["route"], line["status"]) == ("abc.1", "/v1/recommend", 400)
        text = client.get("/metrics", headers=headers).text
    assert 'flr_http_requests_total{method="OPTIONS",route="/v1/recommend",status="400"} 2.0' in text


def test_a_page_of_a_named_origin_can_read_refusals(tmp_path: Path) -> None:
    path, shop = tmp_path / "keys.json", "https://shop.example"
    headers = {"Origin": shop, "Authorization": f"Bearer {new_key(path, 'read')}"}
    settings = ServeSettings(keys=path, requests_per_second=0.01, burst=4, max_body_bytes=1_000, cors_origins=(shop,))
    with served(make_recommender(), settings) as client:
        preflight = {"Origin": shop, "Access-Control-Request-Method": "POST"}
        assert client.options("/v1/recommend", headers=preflight).status_code == 200
        refused = [
            client.post("/v1/recommend", json=ONE, headers={"Origin": shop}),
            client.post("/v1/recommend", content=b"x" * 2_000, headers=headers),
            client.request("DELETE", "/v1/items?item_id=i1", headers=headers),
            *[client.get("/v1/model", headers=headers) for _ in range(3)],
        ]
        assert [answer.status_code for answer in refused] == [401, 413, 403, 200, 200, 429]
        for answer in refused:
            assert answer.headers["access-control-allow-origin"] == shop
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
        other = client.post("/v1/recommend", json=ONE, headers={"Origin": "https://evil.example"})
        assert other.status_code == 401
        assert "access-control-allow-origin" not in other.headers


OWN, OTHER = ["localhost", "LocalHost:8000", "127.0.0.1:1", "[::1]:8000"], "evil.example:8000"


@pytest.mark.parametrize("path", ["/", "/v1/items", "/metrics", "/openapi.json", "/nothing"])
def test_a_page_cannot_ask_by_a_name_that_points_here(path: str, client: TestClient) -> None:
    for host in OWN:
        assert client.get(path, headers={"Host": host}).status_code != 421
    for host in (OTHER, "127.0.0.1.evil.example", "localhost@evil.example", "[::2]", "0.0.0.0", ""):
        problem = is_problem(client.get(path, headers={"Host": host}), 421, "host")
        assert f"does not answer to the host {host!r}" in problem["detail"]
    for watched in ("/health", "/ready"):
        assert client.get(watched, headers={"Host": OTHER}).status_code == 200


def test_an_edit_by_another_name_is_not_made(client: TestClient) -> None:
    before = client.get("/v1/model").json()["catalogue_version"]
    is_problem(client.post("/v1/items", json=NEW, headers={"Host": OTHER}), 421, "host")
    is_problem(client.request("DELETE", "/v1/items?item_id=i1", headers={"Host": OTHER}), 421, "host")
    assert client.get("/v1/model").json()["catalogue_version"] == before


def test_hosts_that_are_named_are_answered_and_with_keys_all_unless_some_are(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = {"X-API-Key": new_key(keys, "read")}
    named = ("Shop.example",)
    for settings, other in (
        (ServeSettings(allowed_hosts=named), 421),
        (ServeSettings(keys=keys), 200),
        (ServeSettings(keys=keys, host="0.0.0.0"), 200),
        (ServeSettings(keys=keys, allowed_hosts=named), 421),
    ):
        with served(make_recommender(), settings) as client:
            for host, status in (("shop.example", 200), ("localhost:8000", 200), (OTHER, other)):
                assert client.get("/v1/model", headers={**key, "Host": host}).status_code == status, (settings, host)


def test_requests_have_ids_and_answers_safe_headers(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "abc.1"}).headers["x-request-id"] == "abc.1"
    for given in ("", "a b", "x" * 65, "<script>"):
        made = client.get("/health", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert len(made) == 16
    headers = client.get("/v1/model").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/model", "/v1/items", "/metrics", "/openapi.json"])
def test_heads_are_answered_as_what_they_are_heads_of(path: str, client: TestClient) -> None:
    whole, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_logs_hold_no_person(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flr"):
        client.post("/v1/recommend", json={"histories": [["i1", "secret-item"]]}, headers={"X-API-Key": "secret-key"})
        client.get("/v1/items", params={"search": "secret-search"})
    lines = [JsonLines().format(record) for record in caplog.records]
    assert len(lines) == 2
    first = json.loads(lines[0])
    assert (first["route"], first["status"], first["network"]) == ("/v1/recommend", 422, "-")
    assert "secret" not in "".join(lines)


def test_a_bug_is_a_500_that_tells_nothing(
    shared: Recommender, client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("inner secret")

    monkeypatch.setattr("flr.serving.batches.best_lists", broken)
    response = client.post("/v1/recommend", json=ONE)
    problem = is_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert any(problem["request_id"] in record.getMessage() and record.exc_info for record in caplog.records)
    monkeypatch.undo()
    assert client.post("/v1/recommend", json=ONE).status_code == 200


def test_refusals_are_counted_by_the_path_they_were_for(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    headers, admin = ({"Authorization": f"Bearer {new_key(path, scope)}"} for scope in ("read", "admin"))
    with served(make_recommender(), ServeSettings(keys=path, max_body_bytes=1_000)) as client:
        assert client.get("/v1/model").status_code == 401
        assert client.request("DELETE", "/v1/items?item_id=i1", headers=headers).status_code == 403
        assert client.post("/v1/recommend", content=b"x" * 2_000, headers=headers).status_code == 413
        assert client.put("/v1/recommend", headers=admin).status_code == 405
        assert client.get("/secret", headers=headers).status_code == 404
        text = client.get("/metrics", headers=headers).text
    for method, route, status in (
        ("GET", "/v1/model", 401),
        ("DELETE", "/v1/items", 403),
        ("POST", "/v1/recommend", 413),
        ("other", "/v1/recommend", 405),
        ("GET", "other", 404),
    ):
        assert f'flr_http_requests_total{{method="{method}",route="{route}",status="{status}"}} 1.0' in text
    assert "secret" not in text


def test_a_warm_up_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("why it failed")

    monkeypatch.setattr("flr.serving.batches.best_lists", broken)
    with TestClient(create_app(Service(make_recommender(), ServeSettings()))) as client:
        until = time.monotonic() + 30
        while "warming up failed" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.02)
        is_problem(client.get("/ready"), 503, "not-ready")
        assert "start it again" in is_problem(client.get("/health"), 503, "failed")["detail"]
    assert "why it failed" in caplog.text


def test_metrics_count_what_happened() -> None:
    with served(make_recommender()) as client:
        client.post("/v1/recommend", json=ONE)
        client.post("/v1/recommend", json={})
        client.request("DELETE", "/v1/items?item_id=i1&item_id=i2")
        text = client.get("/metrics").text
    assert 'flr_http_requests_total{method="POST",route="/v1/recommend",status="200"} 1.0' in text
    assert 'flr_http_requests_total{method="POST",route="/v1/recommend",status="422"} 1.0' in text
    assert "flr_catalogue_items 9.0" in text
    assert "flr_catalogue_removed_items 2.0" in text
    assert "flr_ready 1.0" in text


def test_a_request_that_takes_too_long_is_given_up() -> None:
    with served(make_recommender(), ServeSettings(timeout_seconds=0.2)) as client:
        engine = client.app.state.service.engine  # type: ignore[attr-defined]
        engine.run(lambda: time.sleep(1), timeout_seconds=60)
        is_problem(client.post("/v1/recommend", json=ONE), 503, "too-late")
        time.sleep(1)
        assert client.post("/v1/recommend", json=ONE).status_code == 200
        assert engine.counts.cancelled == 1


def test_a_request_that_a_stop_leaves_unanswered_is_told_so_and_counted(client: TestClient) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    app, has_begun, may_end = create_app(service, warm_up=False), threading.Event(), threading.Event()
    service.engine.run(lambda: (has_begun.set(), may_end.wait(60)), timeout_seconds=60)
    assert has_begun.wait(60), "or it would still be in the queue, where the question is looked for"

    async def ask_and_stop() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
            request = asyncio.create_task(asking.post("/v1/recommend", json=ONE))
            while not service.engine.n_queued:
                await asyncio.sleep(0.01)
            request.cancel()
            is_problem(await request, 503, "stopping")
            may_end.set()
            text = (await asking.get("/metrics")).text
        assert 'flr_http_requests_total{method="POST",route="/v1/recommend",status="503"} 1.0' in text

    asyncio.run(ask_and_stop())


def test_a_page_can_be_mounted_beside_the_api() -> None:
    from fastapi import FastAPI
    from starlette.responses import PlainTextResponse

    def pages(app: FastAPI, service: Service) -> frozenset[str]:
        app.add_api_route("/", lambda: PlainTextResponse(f"{service.n_items} items"), include_in_schema=False)
        return frozenset({"/"})

    app = create_app(Service(make_recommender(), ServeSettings()), pages=pages)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/").text == "11 items"


def test_every_answer_names_the_model(client: TestClient) -> None:
    model_id = client.get("/v1/model").json()["model_id"]
    assert re.fullmatch("[0-9a-f]{12}", model_id)
    answers = [client.get("/v1/items"), client.post("/v1/recommend", json=ONE), client.post("/v1/recommend", json={})]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert {answer.headers["x-flr-model"] for answer in answers} == {model_id}
