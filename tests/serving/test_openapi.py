"""The OpenAPI document is kept: nothing that it allows, and nothing that it forbids, makes the server fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from benchmarks.fuzzing import callers, check_answer, fuzz
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from flr.explanation.profiles import FactorProfiles
from flr.explanation.results import Explanation
from flr.serving.contract import AddItemsRequest, ExplainRequest, RecommendRequest
from flr.serving.examples import ANSWERS, EXPLANATION, PROBLEMS, PROFILES
from flr.serving.security import new_key
from flr.serving.settings import ServeSettings
from serving.conftest import SHARED_YEARS, make_recommender, served
from toy import UNSET

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(make_recommender(*UNSET, titles=SHARED_YEARS)) as client:
        yield client


def test_no_request_makes_the_server_fail(client: TestClient) -> None:
    tally = fuzz(client, 300, seed=0)
    for operation in ("POST /v1/recommend", "POST /v1/explain"):
        answered, refused = tally[operation, 200], tally[operation, 422]
        assert answered > 10, tally  # reached the engine
        assert refused > 5, tally
    assert tally["POST /v1/items", 201]
    assert tally["DELETE /v1/items", 200]


def test_no_request_passes_without_a_key_that_may(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    known = callers(new_key(path, "read"), new_key(path, "admin"))
    with served(make_recommender(*UNSET), ServeSettings(keys=path)) as client:
        tally = fuzz(client, 200, callers=known, seed=0)
    statuses = {status for _, status in tally}
    assert {200, 401, 403, 422} <= statuses, tally
    assert tally["POST /v1/recommend", 200] > 10, tally


@pytest.mark.parametrize(
    ("status", "kind", "refusal", "said"),
    [
        (500, PROBLEM, None, "the server failed"),
        (200, "application/json", 401, "got 200, expected 401"),
        (403, PROBLEM, None, "a good key was refused"),
        (422, "text/plain", None, "422 came as text/plain"),
    ],
)
def test_an_answer_that_must_not_be_is_found_out(status: int, kind: str, refusal: int | None, said: str) -> None:
    answer = httpx.Response(status, headers={"Content-Type": kind}, text="{}")
    with pytest.raises(AssertionError, match=said):
        check_answer(answer, refusal)


def test_the_document_says_what_there_is(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    found = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert found == {
        ("/v1/recommend", "post"),
        ("/v1/explain", "post"),
        ("/v1/items", "get"),
        ("/v1/items", "post"),
        ("/v1/items", "delete"),
        ("/v1/attributes", "get"),
        ("/v1/model", "get"),
        ("/v1/factors", "get"),
        ("/health", "get"),
        ("/ready", "get"),
        ("/metrics", "get"),
    }
    refused = document["paths"]["/v1/recommend"]["post"]["responses"]["422"]
    (kind, content), *others = refused["content"].items()
    assert (kind, content["schema"], others) == (PROBLEM, {"$ref": "#/components/schemas/Problem"}, [])


@pytest.mark.parametrize("model", [RecommendRequest, ExplainRequest, AddItemsRequest])
def test_examples_are_right(model: type[RecommendRequest]) -> None:
    for example in model.model_json_schema()["examples"]:
        model.model_validate(example)


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer["content"].items():
                    yield path, method, status, kind, content["example"]


def test_every_answer_has_an_example_that_the_document_allows(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    n_good = 0
    for path, method, status, kind, example in examples(document):
        content = example if isinstance(example, str) else json.dumps(example)
        answer = httpx.Response(
            int(status),
            headers={"Content-Type": kind},
            text=content,
            request=httpx.Request(method, f"http://localhost{path}"),
        )
        answer.elapsed = timedelta()
        schema[path][method].validate_response(answer)
        n_good += status.startswith("2")
    assert n_good == 11


def test_examples_hold_what_the_document_leaves_open() -> None:
    for example, kind in ((EXPLANATION, Explanation), (PROFILES, FactorProfiles)):
        adapter = TypeAdapter(kind)
        assert adapter.validate_json(json.dumps(asdict(example))) == example
    explained = ANSWERS["POST", "/v1/explain"]["explanation"]
    for one in explained["factors"]:
        assert len(one["reads"]) == len(explained["history"])
        assert sum(one["reads"]) + one["elsewhere"] == pytest.approx(1)
    assert sum(one["gate"] for one in explained["factors"]) == pytest.approx(1)
    assert sum(one["weight"] for one in explained["sources"]) == pytest.approx(1)
    log_prob = explained["item"]["log_prob"]
    for one in [*explained["factors"], *explained["sources"]]:
        assert one["contribution"] == pytest.approx(log_prob - one["without"]["log_prob"], abs=2e-4)


def test_examples_of_problems_are_what_is_said(client: TestClient, tmp_path: Path) -> None:
    one = {"histories": [["zz"]]}
    as_text = client.post("/v1/recommend", content=b"{}", headers={"Content-Type": "text/plain"})
    as_json = client.post("/v1/recommend", content=b"{", headers={"Content-Type": "application/json"})
    answers = [
        as_text,
        as_json,
        client.post("/v1/recommend", json=one),
        client.get("/v1/factors"),
        client.get("/v1/model", headers={"Host": "evil.example"}),
    ]
    path = tmp_path / "keys.json"
    reader = {"X-API-Key": new_key(path, "read")}
    with served(make_recommender(*UNSET), ServeSettings(keys=path)) as guarded:
        answers += [guarded.get("/v1/model"), guarded.request("DELETE", "/v1/items?item_id=i1", headers=reader)]
    assert [answer.status_code for answer in answers] == [415, 400, 422, 404, 421, 401, 403]
    for answer in answers:
        assert {**answer.json(), "request_id": ""} == {**PROBLEMS[answer.status_code], "request_id": ""}
