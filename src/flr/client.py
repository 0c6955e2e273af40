"""A client of `flr serve`, for programs that load no model: typed questions in, typed answers out.

```
RemoteError           what a server answered with a problem, or not at all
├── UnreachableError  no server there, or it did not answer in time
├── BusyError         429 or 503, still so after all retries
├── KeyRefusedError   401 or 403: the key is missing, unknown, or of another scope
├── RefusedError      other 4xx: the request is wrong, the detail says how
└── FailedError       5xx: the server failed, its log has the request id
```

A question is asked again after 429 and 503, when the server says; an edit after 429 only: then nothing was done.

    >>> from flr.client import Client
    >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     answer = client.recommend([["1", "95"]], k=5)
    ...     [item.title for item in answer.lists[0].items]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from flr.errors import FlrError
from flr.serving.contract import (
    AddItemsRequest,
    EditResponse,
    ExplainRequest,
    ExplainResponse,
    FactorsResponse,
    Filters,
    ItemsResponse,
    ModelResponse,
    NewItem,
    Problem,
    RecommendRequest,
    RecommendResponse,
)

T = TypeVar("T", bound=BaseModel)
_BUSY = {429, 503}
#: Waits longer than this are left to the caller.
_LONGEST_WAIT_SECONDS = 30.0


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
    """429 or 503, still so after all retries."""


class KeyRefusedError(RemoteError):
    """401 or 403: the key is missing, unknown, or of another scope."""


class RefusedError(RemoteError):
    """Other 4xx: the request is wrong, the detail says how."""


class FailedError(RemoteError):
    """5xx: the server failed, its log has the request id."""


@dataclass(frozen=True)
class _Call(Generic[T]):
    """One request, and what its answer is."""

    method: str
    path: str
    answer: type[T]
    body: BaseModel | None = None
    query: Mapping[str, Any] | None = None

    @property
    def is_edit(self) -> bool:
        return self.path == "/v1/items" and self.method != "GET"

    def request(self) -> dict[str, Any]:
        content = None if self.body is None else self.body.model_dump_json()
        headers = {} if self.body is None else {"Content-Type": "application/json"}
        return {"content": content, "headers": headers, "params": self.query}

    def read(self, response: httpx.Response) -> T:
        """Return the answer, or raise what the server said."""
        if response.is_success:
            try:
                return self.answer.model_validate_json(response.content)
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
        if response.status_code not in _BUSY or (self.is_edit and response.status_code != 429):
            return None
        given = response.headers.get("Retry-After", "1")
        wait = float(given) if given.isdigit() else 1.0
        return wait if wait <= _LONGEST_WAIT_SECONDS else None


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None


def _recommend(histories: Sequence[Sequence[str]], options: Mapping[str, Any]) -> _Call[RecommendResponse]:
    body = _checked(RecommendRequest, {"histories": [list(history) for history in histories], **options})
    return _Call("POST", "/v1/recommend", RecommendResponse, body)


def _explain(history: Sequence[str], options: Mapping[str, Any]) -> _Call[ExplainResponse]:
    return _Call(
        "POST", "/v1/explain", ExplainResponse, _checked(ExplainRequest, {"history": list(history), **options})
    )


def _items(search: str, offset: int, limit: int) -> _Call[ItemsResponse]:
    return _Call("GET", "/v1/items", ItemsResponse, query={"search": search, "offset": offset, "limit": limit})


def _add_items(items: Sequence[NewItem | Mapping[str, Any]]) -> _Call[EditResponse]:
    rows = [one.model_dump() if isinstance(one, NewItem) else dict(one) for one in items]
    return _Call("POST", "/v1/items", EditResponse, _checked(AddItemsRequest, {"items": rows}))


def _remove_items(item_ids: Sequence[str]) -> _Call[EditResponse]:
    return _Call("DELETE", "/v1/items", EditResponse, query={"item_id": list(item_ids)})


_MODEL = _Call("GET", "/v1/model", ModelResponse)
_FACTORS = _Call("GET", "/v1/factors", FactorsResponse)


def _checked(kind: type[T], content: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RefusedError(f"{where}: {first['msg']} (not sent)") from error


class _Base:
    def __init__(self, url: str, key: str | None, max_retries: int) -> None:
        self.url, self.max_retries = url.rstrip("/"), max_retries
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def _unreachable(self, error: httpx.HTTPError) -> UnreachableError:
        said = str(error) or type(error).__name__
        return UnreachableError(f"no answer from {self.url} ({said}); check the address, and that `flr serve` runs")


class Client(_Base):
    """Asks a server, waiting for each answer.

    Args:
        url: Where it is, such as ``"http://127.0.0.1:8000"``.
        key: API key; None sends none.
        timeout_seconds: How long to wait for an answer.
        max_retries: How often to ask again when the server is busy.
        transport: Carries requests in another way, as tests do.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 30.0,
        max_retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, max_retries)
        self._http = httpx.Client(
            base_url=self.url, headers=self._headers, timeout=timeout_seconds, transport=transport
        )

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        by: Literal["id", "title"] = "id",
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        factor_weights: Sequence[float] | None = None,
        diversify: Literal["factors"] | None = None,
        filters: Filters | None = None,
    ) -> RecommendResponse:
        """Return the k most probable items after each history; arguments as `flr.Recommender.recommend`."""
        return self._ask(_recommend(histories, _without(locals(), "self", "histories")))

    def explain(
        self,
        history: Sequence[str],
        item: str | None = None,
        *,
        by: Literal["id", "title"] = "id",
        k: int = 10,
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
    ) -> ExplainResponse:
        """Return why an item is recommended; None explains the best."""
        return self._ask(_explain(history, _without(locals(), "self", "history")))

    def items(self, search: str = "", *, offset: int = 0, limit: int = 50) -> ItemsResponse:
        """Return a page of the items that are recommended."""
        return self._ask(_items(search, offset, limit))

    def add_items(self, items: Sequence[NewItem | Mapping[str, Any]]) -> EditResponse:
        """Recommend new items from now on; all or none."""
        return self._ask(_add_items(items))

    def remove_items(self, item_ids: Sequence[str]) -> EditResponse:
        """Recommend items no longer."""
        return self._ask(_remove_items(item_ids))

    def model(self) -> ModelResponse:
        """Return what is served."""
        return self._ask(_MODEL)

    def factors(self) -> FactorsResponse:
        """Return what each factor stands for."""
        return self._ask(_FACTORS)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: _Call[T]) -> T:
        for attempt in range(self.max_retries + 1):
            try:
                response = self._http.request(call.method, call.path, **call.request())
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            wait = call.wait_seconds(response)
            if wait is None or attempt == self.max_retries:
                break
            time.sleep(wait)
        return call.read(response)


class AsyncClient(_Base):
    """The same as `Client` for asynchronous programs."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 30.0,
        max_retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, max_retries)
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=self._headers, timeout=timeout_seconds, transport=transport
        )

    async def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        by: Literal["id", "title"] = "id",
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        factor_weights: Sequence[float] | None = None,
        diversify: Literal["factors"] | None = None,
        filters: Filters | None = None,
    ) -> RecommendResponse:
        """See `Client.recommend`."""
        return await self._ask(_recommend(histories, _without(locals(), "self", "histories")))

    async def explain(
        self,
        history: Sequence[str],
        item: str | None = None,
        *,
        by: Literal["id", "title"] = "id",
        k: int = 10,
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
    ) -> ExplainResponse:
        """See `Client.explain`."""
        return await self._ask(_explain(history, _without(locals(), "self", "history")))

    async def items(self, search: str = "", *, offset: int = 0, limit: int = 50) -> ItemsResponse:
        """See `Client.items`."""
        return await self._ask(_items(search, offset, limit))

    async def add_items(self, items: Sequence[NewItem | Mapping[str, Any]]) -> EditResponse:
        """See `Client.add_items`."""
        return await self._ask(_add_items(items))

    async def remove_items(self, item_ids: Sequence[str]) -> EditResponse:
        """See `Client.remove_items`."""
        return await self._ask(_remove_items(item_ids))

    async def model(self) -> ModelResponse:
        """See `Client.model`."""
        return await self._ask(_MODEL)

    async def factors(self) -> FactorsResponse:
        """See `Client.factors`."""
        return await self._ask(_FACTORS)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: _Call[T]) -> T:
        for attempt in range(self.max_retries + 1):
            try:
                response = await self._http.request(call.method, call.path, **call.request())
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            wait = call.wait_seconds(response)
            if wait is None or attempt == self.max_retries:
                break
            await asyncio.sleep(wait)
        return call.read(response)


def _without(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if name not in names}
    weights = kept.get("factor_weights")
    return kept if weights is None else {**kept, "factor_weights": [float(weight) for weight in weights]}
