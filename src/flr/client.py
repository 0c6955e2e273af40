"""A client of `flr serve`, for programs that load no model: typed questions in, typed answers out.

```
RemoteError           what a server answered with a problem, or not at all
├── UnreachableError  no server there, or it did not answer in time
├── BusyError         429 or 503, still so after all retries, or no answer within the server's time-out
├── KeyRefusedError   401 or 403: the key is missing, unknown, or of another scope
├── RefusedError      other 4xx: the request is wrong, the detail says how
└── FailedError       5xx: the server failed, its log has the request id
```

A question is asked again after 429 and 503, when the server says, but not after one that took too long (too-late); an
edit after 429 only: then nothing was done.

    >>> from flr.client import Client
    >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     answer = client.recommend([["1", "95"]], k=5)
    ...     [item.title for item in answer.lists[0].items]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel

from flr import calls
from flr.calls import BusyError, Call, FailedError, KeyRefusedError, RefusedError, RemoteError, UnreachableError
from flr.serving.contract import (
    AttributesResponse,
    EditResponse,
    ExplainResponse,
    FactorsResponse,
    Filters,
    ItemsResponse,
    ModelResponse,
    NewItem,
    RecommendResponse,
)

__all__ = [
    "AsyncClient",
    "BusyError",
    "Client",
    "FailedError",
    "KeyRefusedError",
    "RefusedError",
    "RemoteError",
    "UnreachableError",
]
T = TypeVar("T", bound=BaseModel)


class _Base:
    """What both clients know of their server; how a request is sent is theirs."""

    def __init__(self, url: str, key: str | None, max_retries: int) -> None:
        self.url, self.max_retries = url.rstrip("/"), max_retries
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise UnreachableError(
                f"no answer from {self.url} ({said}); check the address, and that `flr serve` runs"
            ) from error


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
        empty: Literal["error", "popular"] = "error",
        factor_weights: Sequence[float] | None = None,
        diversify: Literal["factors"] | None = None,
        filters: Filters | None = None,
    ) -> RecommendResponse:
        """Return the k most probable items after each history; arguments as `flr.Recommender.recommend`."""
        return self._ask(calls.recommend(locals()))

    def explain(
        self,
        history: Sequence[str],
        item: str | None = None,
        *,
        by: Literal["id", "title"] = "id",
        k: int = 10,
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        factor_weights: Sequence[float] | None = None,
        filters: Filters | None = None,
        fidelity: bool = False,
    ) -> ExplainResponse:
        """Return why an item is recommended, by a list that is steered like this; None explains the best.

        With `fidelity` the explanation is tested, too, which takes longer than it does.
        """
        return self._ask(calls.explain(locals()))

    def items(
        self, search: str = "", *, offset: int = 0, limit: int = 50, item_ids: Sequence[str] | None = None
    ) -> ItemsResponse:
        """Return a page of the items that are recommended.

        Args:
            search: Words of a title; "" finds all.
            offset, limit: Which of them.
            item_ids: Instead, the items of these ids (at most 100), in their order, without the ids that no item has.
        """
        return self._ask(calls.items(locals()))

    def attributes(self, *, limit: int = 100) -> AttributesResponse:
        """Return what filters can choose from, with at most so many values of each attribute."""
        return self._ask(calls.attributes(locals()))

    def add_items(self, items: Sequence[NewItem | Mapping[str, Any]]) -> EditResponse:
        """Recommend new items from now on; all or none, at most 1,000.

        Args:
            items: Each with ``item_id`` and ``title``, and what else the catalogue knows of its items under
                ``attributes``, as in ``{"item_id": "n1", "title": "...", "attributes": {"category": "Drama"}}``.
        """
        return self._ask(calls.add_items(items))

    def remove_items(self, item_ids: Sequence[str]) -> EditResponse:
        """Recommend items no longer; all or none, at most 1,000."""
        return self._ask(calls.remove_items(item_ids))

    def model(self) -> ModelResponse:
        """Return what is served."""
        return self._ask(calls.MODEL)

    def factors(self) -> FactorsResponse:
        """Return what each factor stands for."""
        return self._ask(calls.FACTORS)

    def ready(self) -> bool:
        """Return at once whether questions are answered: not while the server starts or stops.

        Raises:
            UnreachableError: There is no server, or not yet.
        """
        try:
            return self._ask(calls.READY).status == "ok"
        except BusyError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[T]) -> T:
        for attempt in range(self.max_retries + 1):
            with self._reaching():
                response = self._http.request(**call.request())
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
        empty: Literal["error", "popular"] = "error",
        factor_weights: Sequence[float] | None = None,
        diversify: Literal["factors"] | None = None,
        filters: Filters | None = None,
    ) -> RecommendResponse:
        """See `Client.recommend`."""
        return await self._ask(calls.recommend(locals()))

    async def explain(
        self,
        history: Sequence[str],
        item: str | None = None,
        *,
        by: Literal["id", "title"] = "id",
        k: int = 10,
        exclude_seen: bool = True,
        unknown: Literal["error", "skip"] = "error",
        factor_weights: Sequence[float] | None = None,
        filters: Filters | None = None,
        fidelity: bool = False,
    ) -> ExplainResponse:
        """See `Client.explain`."""
        return await self._ask(calls.explain(locals()))

    async def items(
        self, search: str = "", *, offset: int = 0, limit: int = 50, item_ids: Sequence[str] | None = None
    ) -> ItemsResponse:
        """See `Client.items`."""
        return await self._ask(calls.items(locals()))

    async def attributes(self, *, limit: int = 100) -> AttributesResponse:
        """See `Client.attributes`."""
        return await self._ask(calls.attributes(locals()))

    async def add_items(self, items: Sequence[NewItem | Mapping[str, Any]]) -> EditResponse:
        """See `Client.add_items`."""
        return await self._ask(calls.add_items(items))

    async def remove_items(self, item_ids: Sequence[str]) -> EditResponse:
        """See `Client.remove_items`."""
        return await self._ask(calls.remove_items(item_ids))

    async def model(self) -> ModelResponse:
        """See `Client.model`."""
        return await self._ask(calls.MODEL)

    async def factors(self) -> FactorsResponse:
        """See `Client.factors`."""
        return await self._ask(calls.FACTORS)

    async def ready(self) -> bool:
        """See `Client.ready`."""
        try:
            return (await self._ask(calls.READY)).status == "ok"
        except BusyError:
            return False

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: Call[T]) -> T:
        for attempt in range(self.max_retries + 1):
            with self._reaching():
                response = await self._http.request(**call.request())
            wait = call.wait_seconds(response)
            if wait is None or attempt == self.max_retries:
                break
            await asyncio.sleep(wait)
        return call.read(response)
