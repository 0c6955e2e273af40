"""The OpenAPI document is kept: nothing that it allows, and nothing that it forbids, makes the server fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from flr.serving.contract import AddItemsRequest, ExplainRequest, RecommendRequest
from serving.conftest import make_recommender, served
from toy import UNSET


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served(make_recommender(*UNSET)) as client:
        yield client


def test_no_request_makes_the_server_fail(client: TestClient) -> None:
    for operation in operations(client):
        assert_it_never_fails(client, operation, n_cases=40)


def operations(client: TestClient) -> list[schemathesis.APIOperation]:
    document = client.get("/openapi.json").json()
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def assert_it_never_fails(client: TestClient, operation: schemathesis.APIOperation, n_cases: int) -> None:
    @seed(0)
    @settings(max_examples=n_cases, database=None, suppress_health_check=list(HealthCheck))
    @given(allowed=operation.as_strategy(), forbidden=st.booleans(), data=st.data())
    def check(allowed: schemathesis.Case, forbidden: bool, data: st.DataObject) -> None:
        case = allowed
        if forbidden:
            wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            case = data.draw(wrong)
        response = client.request(**sendable(case))
        assert response.status_code < 500 or (operation.path, response.status_code) == ("/ready", 503), response.text
        kind = response.headers["content-type"].partition(";")[0]
        assert (kind == "application/problem+json") == (response.status_code >= 400)

    check()


def sendable(case: schemathesis.Case) -> dict[str, Any]:
    given = case.as_transport_kwargs(base_url="http://testserver")
    if "data" in given:
        given["content"] = given.pop("data")
    return {name: given[name] for name in ("method", "url", "headers", "params", "json", "content") if name in given}


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
