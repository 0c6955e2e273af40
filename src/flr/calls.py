"""What can be asked of `flr serve`: paths and payloads, and how answers and problems are read; no sending.

Questions take the arguments of the methods of `flr.client.Client` by name, `self` among them or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from flr.arguments import check_histories, check_list
from flr.errors import FlrError, RequestError
from flr.serving.contract import (
    AddItemsRequest,
    AttributesResponse,
    EditResponse,
    ExplainRequest,
    ExplainResponse,
    FactorsResponse,
    ItemsResponse,
    ModelResponse,
    NewItem,
    Problem,
    RecommendRequest,
    RecommendResponse,
    State,
)

T = TypeVar("T", bound=BaseModel)
_BUSY: Final = {429, 503}
#: Of a question that took too long, and would again: it would only keep others waiting.
_TOO_LATE: Final = "urn:flr:problem:too-late"
#: Waits longer than this are left to the caller.
_LONGEST_WAIT_SECONDS: Final = 30.0
#: Bytes of a query: servers and httpx take URLs of 64 KiB.
_LONGEST_QUERY: Final = 60_000


class RemoteError(FlrError):
    """What a server answered with a problem, or not at all.

    Attributes:
        problem: What the server said; None where it said nothing of the kind.
    """

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class UnreachableError(RemoteError):
    """No server there, or it did not answer in time."""


class BusyError(RemoteError):
    """429 or 503, still so after all retries, or no answer within the server's time-out."""


class KeyRefusedError(RemoteError):
    """401 or 403: the key is missing, unknown, or of another scope."""


class RefusedError(RemoteError):
    """Other 4xx: the request is wrong, the detail says how."""


class FailedError(RemoteError):
    """5xx: the server failed, its log has the request id."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer is.

    Attributes:
        method, path, body, query: What is sent.
        answer: Type of what comes back.
        is_patient: Whether it is asked again where the server is busy.
    """

    method: str
    path: str
    answer: type[T]
    body: BaseModel | None = None
    query: Mapping[str, Any] | None = None
    is_patient: bool = True

    @property
    def is_edit(self) -> bool:
        return self.path == "/v1/items" and self.method != "GET"

    def request(self) -> dict[str, Any]:
        """Return what httpx is to send, as arguments of its `request`."""
        content = None if self.body is None else self.body.model_dump_json()
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return {
            "method": self.method,
            "url": self.path,
            "content": content,
            "headers": headers,
            "params": self.query,
        }

    def read(self, response: httpx.Response) -> T:
        """Return the answer, or raise what the server said."""
        if response.is_success:
            try:
                return self.answer.model_validate_json(response.content, extra="ignore")  # newer servers may say more
            except ValidationError as error:
                raise FailedError(f"{self.path} answered something else than expected: {error}") from error
        problem = _problem(response)
        said = problem.detail if problem else response.text[:200]
        kind: type[RemoteError] = FailedError if response.status_code >= 500 else RefusedError
        if response.status_code in _BUSY:
            kind = BusyError
        elif response.status_code in (401, 403):
            kind = KeyRefusedError
        where = f" (request {problem.request_id})" if problem else ""
        raise kind(f"{self.path} answered {response.status_code}: {said}{where}", problem)

    def wait_seconds(self, response: httpx.Response) -> float | None:
        """Return after which time to ask again, None where asking again is no use or not safe."""
        if not self.is_patient or response.status_code not in _BUSY or (self.is_edit and response.status_code != 429):
            return None
        if (problem := _problem(response)) is not None and problem.type == _TOO_LATE:
            return None
        given = response.headers.get("Retry-After", "1")
        wait = float(given) if given.isascii() and given.isdigit() else 1.0
        return wait if wait <= _LONGEST_WAIT_SECONDS else None


def recommend(arguments: Mapping[str, Any]) -> Call[RecommendResponse]:
    """Return the question after the best items of histories."""
    content = _without_self(arguments)
    _check(check_histories, content["histories"])
    content["histories"] = [list(history) for history in content["histories"]]
    content["factor_weights"] = _numbers(content["factor_weights"])
    return Call("POST", "/v1/recommend", RecommendResponse, _checked(RecommendRequest, content))


def explain(arguments: Mapping[str, Any]) -> Call[ExplainResponse]:
    """Return the question why an item is recommended."""
    content = _without_self(arguments)
    _check(check_list, content["history"], "history", "a list of items")
    content["history"] = list(content["history"])
    content["factor_weights"] = _numbers(content["factor_weights"])
    return Call("POST", "/v1/explain", ExplainResponse, _checked(ExplainRequest, content))


def items(arguments: Mapping[str, Any]) -> Call[ItemsResponse]:
    """Return the question after a page of items, or after items of some ids."""
    content = _without_self(arguments)
    item_ids = content.pop("item_ids")
    if item_ids is not None:
        content["item_id"] = _checked_ids(item_ids, "items", "ask for")
    return Call("GET", "/v1/items", ItemsResponse, query=content)


def attributes(arguments: Mapping[str, Any]) -> Call[AttributesResponse]:
    """Return the question after what filters can choose from."""
    return Call("GET", "/v1/attributes", AttributesResponse, query=_without_self(arguments))


def add_items(new: Sequence[NewItem | Mapping[str, Any]]) -> Call[EditResponse]:
    """Return the edit that adds items."""
    _check(check_list, new, "add_items", "a list of items")
    rows = [
        one.model_dump() if isinstance(one, NewItem) else dict(one) if isinstance(one, Mapping) else one for one in new
    ]
    return Call("POST", "/v1/items", EditResponse, _checked(AddItemsRequest, {"items": rows}))


def remove_items(item_ids: Sequence[str]) -> Call[EditResponse]:
    """Return the edit that removes items."""
    return Call(
        "DELETE", "/v1/items", EditResponse, query={"item_id": _checked_ids(item_ids, "remove_items", "remove")}
    )


MODEL: Final = Call("GET", "/v1/model", ModelResponse)
FACTORS: Final = Call("GET", "/v1/factors", FactorsResponse)
READY: Final = Call("GET", "/ready", State, is_patient=False)


def _without_self(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "self"}


def _checked_ids(item_ids: Sequence[str], what: str, to_do: str) -> list[str]:
    """Return ids that fit into a URL."""
    _check(check_list, item_ids, what)
    n_bytes = sum(len(f"item_id={quote(str(item_id), safe='')}&") for item_id in item_ids)
    if not item_ids:
        raise RefusedError(f"{what}: the list of ids is empty (not sent)")
    if n_bytes > _LONGEST_QUERY:
        raise RefusedError(
            f"{what}: {len(item_ids)} ids take {n_bytes:,} bytes of a URL, which holds {_LONGEST_QUERY:,}; "
            f"{to_do} them in parts (not sent)"
        )
    return list(item_ids)


def _numbers(weights: Sequence[float] | None) -> list[float] | None:
    if weights is None:
        return None
    _check(check_list, weights, "factor_weights", "a list of numbers")
    return [float(weight) for weight in weights]


def _check(check: Callable[..., None], *given: Any) -> None:
    try:
        check(*given)
    except RequestError as error:
        raise RefusedError(f"{error} (not sent)") from error


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return None


def _checked(kind: type[T], content: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RefusedError(f"{where}: {first['msg']} (not sent)") from error
