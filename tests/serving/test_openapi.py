"""The OpenAPI document is kept: nothing that it allows, and nothing that it forbids, makes the server fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.fuzzing import callers, check_answer, fuzz
from starlette.testclient import TestClient

from flr.serving.contract import AddItemsRequest, ExplainRequest, RecommendRequest
from flr.serving.security import new_key
from flr.serving.settings import ServeSettings
from serving.conftest import make_recommender, served
from toy import UNSET

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(make_recommender(*UNSET)) as client:
        yield client


def test_no_request_makes_the_server_fail(client: TestClient) -> None:
    tally = fuzz(client, 200, seed=0)
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
    assert refused["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.mark.parametrize("model", [RecommendRequest, ExplainRequest, AddItemsRequest])
def test_examples_are_right(model: type[RecommendRequest]) -> None:
    for example in model.model_json_schema()["examples"]:
        model.model_validate(example)
