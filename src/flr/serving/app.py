"""The HTTP door: routes of version 1."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from anyio import fail_after
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flr import __version__
from flr.errors import ClosedError, FlrError, RequestError
from flr.serving.contract import (
    MOST_LISTED,
    AddItemsRequest,
    AttributesResponse,
    EditResponse,
    ExplainRequest,
    ExplainResponse,
    FactorsResponse,
    ItemIds,
    ItemsResponse,
    ModelResponse,
    RecommendedItem,
    RecommendedList,
    RecommendRequest,
    RecommendResponse,
    RemovedIds,
    State,
)
from flr.serving.cors import Cors
from flr.serving.document import PROBLEM_RESPONSES, complete_document
from flr.serving.edits import Edits
from flr.serving.gate import Gate, GateSettings, GoneError
from flr.serving.metrics import Metrics
from flr.serving.problems import ProblemError, invalid, problem_of
from flr.serving.security import RateLimit, load_keys
from flr.serving.service import Accepted, Service

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
Asked = TypeVar("Asked", RecommendRequest, ExplainRequest)
#: What the scope read may do; everything else needs the scope admin, what nobody has thought of too.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_QUESTIONS = frozenset({("POST", "/v1/recommend"), ("POST", "/v1/explain")})


def create_app(
    service: Service, *, warm_up: bool = True, pages: Callable[[FastAPI, Service], frozenset[str]] | None = None
) -> FastAPI:
    """Return the application that serves a service.

    Args:
        service: What is served; closed when the application stops.
        warm_up: Warm the engine up when the application starts; until then it is not ready.
        pages: Adds what a browser sees at ``/``, and returns the paths that need no key.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if warm_up:
            threading.Thread(target=_warm_up, args=(service,), name="flr-warm-up", daemon=True).start()
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="flr",
        version=__version__,
        summary="Recommendations by factorized latent reasoning, exactly ranked.",
        lifespan=lifespan,
        docs_url=None,  # their scripts come from elsewhere, which the security headers forbid
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
        redirect_slashes=False,
    )
    app.state.service = service
    metrics = Metrics(service.engine)
    _add_errors(app)
    _add_questions(app, service)
    _add_catalogue(app, service)
    _add_operations(app, service, metrics)
    public: frozenset[str] = frozenset() if pages is None else pages(app, service)
    complete_document(app)
    settings = service.settings
    gate = GateSettings(
        keys=None if settings.keys is None else load_keys(settings.keys),
        rate=RateLimit(settings.requests_per_second, settings.burst),
        max_body_bytes=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        hosts=settings.hosts,
        public=public,
        needs_admin=lambda method, path: method not in _READING and (method, path) not in _QUESTIONS,
        route_of=partial(_route_of, app),
    )
    app.add_middleware(_Naming, model_id=service.model_id)
    app.add_middleware(_Heads)
    app.add_middleware(Gate, settings=gate, metrics=metrics)
    if settings.cors_origins:
        # Outermost, so that a page can read what the gate refuses.
        app.add_middleware(Cors, origins=settings.cors_origins, settings=gate, metrics=metrics)
    return app


class _Naming:
    """Wraps an application: what it answers below ``/v1/`` names the model, so that clients see when it is another."""

    def __init__(self, app: ASGIApp, model_id: str) -> None:
        self._app, self._header = app, (b"x-flr-model", model_id.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"].startswith("/v1/"):
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        await self._app(scope, receive, answer)


class _Heads:
    """Wraps an application: answers HEAD as GET, without the body, as balancers and monitors ask."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, answer)


def _route_of(app: FastAPI, scope: Scope) -> str | None:
    """Return the template of a request's path, of one that never reached its route too."""
    return getattr(scope.get("route") or next(_routes_at(app, scope), None), "path", None)


def _methods_of(app: FastAPI, scope: Scope) -> set[str]:
    """Return what may be done at a request's path; see `_Heads`."""
    methods = {method for route in _routes_at(app, scope) for method in getattr(route, "methods", None) or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


def _routes_at(app: FastAPI, scope: Scope) -> Iterator[BaseRoute]:
    return (route for route in app.routes if route.matches(scope)[0] is not Match.NONE)


def _warm_up(service: Service) -> None:
    try:
        exact = service.engine.warm_up()
    except ClosedError:
        _LOG.warning("stopped before it was ready")
        return
    except Exception:
        _LOG.exception("warming up failed, so the server will not be ready; start it again")
        return
    if exact:
        _LOG.info("ready: answers are exact to the bit in any company")
    elif service.settings.batches == "fast":
        _LOG.info("ready: on this machine batches change the last bits, as --batches fast lets them")
    else:
        _LOG.warning(
            "ready: on this machine batches would change the last bits; computing one by one, without cache; "
            "--batches fast computes together all the same"
        )


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> Response:
        return error.response(request.state.request_id)

    @app.exception_handler(FlrError)
    async def _flr(request: Request, error: FlrError) -> Response:
        problem = problem_of(error)
        if problem.status == 500:
            _LOG.error("request %s failed", request.state.request_id, exc_info=error)
        return problem.response(request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        given = request.headers.get("content-type", "")
        if "json" not in given and any(tuple(one["loc"]) == ("body",) for one in error.errors()):
            said = f"the body is of type {given[:80]!r}" if given else "the body has no type"
            problem = ProblemError(415, "media-type", f"{said}; send Content-Type: application/json")
            return problem.response(request.state.request_id)
        return invalid(error.errors(), request.state.request_id)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        said = {
            400: "the body is not valid JSON in UTF-8; send one JSON object",
            404: "there is nothing at this path; see /openapi.json",
            405: "this path does not take this method; see the header Allow",
        }
        name = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        detail = said.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # starlette names the methods of one route; a path may have several
            headers["Allow"] = ", ".join(sorted(_methods_of(app, request.scope)))
        problem = ProblemError(error.status_code, name, detail, headers)
        return problem.response(request.state.request_id)


def _add_questions(app: FastAPI, service: Service) -> None:
    @app.post("/v1/recommend", response_model=RecommendResponse, tags=["questions"])
    async def recommend(request: Request, asked: RecommendRequest) -> Response:
        """Return the most probable items after each history, best first."""
        accepted, lists = await _answered(request, service.recommend, asked, service.settings.timeout_seconds)
        return _json(
            RecommendResponse(
                lists=[
                    RecommendedList(items=[RecommendedItem(**vars(item)) for item in items], skipped=without)
                    for items, without in zip(lists, accepted.skipped, strict=True)
                ],
                catalogue_version=accepted.version,
            )
        )

    @app.post("/v1/explain", response_model=ExplainResponse, tags=["questions"])
    async def explain(request: Request, asked: ExplainRequest) -> Response:
        """Explain why an item is recommended: what each purchase and each factor does to it, and whether it is true."""
        accepted, found = await _answered(request, service.explain, asked, service.settings.timeout_seconds)
        return _json(ExplainResponse(**found, skipped=accepted.skipped))


def _add_catalogue(app: FastAPI, service: Service) -> None:
    edits = Edits(service.settings.timeout_seconds)

    @app.get("/v1/items", response_model=ItemsResponse, tags=["catalogue"])
    async def items(
        search: Annotated[str, StringConstraints(max_length=200), Query(description="Words of a title.")] = "",
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
        item_id: Annotated[ItemIds | None, Query(description="These alone, and all of them; repeat it.")] = None,
    ) -> Response:
        """List the items that are recommended; those whose title begins with what is searched for come first.

        With ``item_id``: the items of these ids, in their order, without the ids that no item has.
        """
        if item_id is None:
            total, page = await run_in_threadpool(service.items, search, offset, limit)
            return _json(ItemsResponse(total=total, offset=offset, items=page))
        if search or offset:
            raise RequestError("give item_id, or search and offset")
        found = await run_in_threadpool(service.items_of, item_id)
        return _json(ItemsResponse(total=len(found), offset=0, items=found))

    @app.get("/v1/attributes", response_model=AttributesResponse, tags=["catalogue"])
    async def attributes(
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="Values per attribute.")] = 100,
    ) -> Response:
        """List the attributes that filters can choose by."""
        found = await run_in_threadpool(service.attributes, limit)
        return _json(AttributesResponse(attributes=found))

    @app.post("/v1/items", response_model=EditResponse, status_code=201, tags=["catalogue"])
    async def add(asked: AddItemsRequest) -> Response:
        """Recommend new items from now on, by their titles; all or none. Needs the scope admin."""
        edited = await edits.make(partial(service.add_items, asked.items))
        changed, notes = len(asked.items), list(edited.notes)
        return _json(EditResponse(changed=changed, notes=notes, catalogue_version=edited.version), 201)

    @app.delete("/v1/items", response_model=EditResponse, tags=["catalogue"])
    async def remove(
        item_id: Annotated[RemovedIds, Query(description="Repeat it for several.")],
    ) -> Response:
        """Recommend items no longer; histories may still hold them. Needs the scope admin."""
        edited = await edits.make(partial(service.remove_items, item_id))
        return _json(EditResponse(changed=len(set(item_id)), notes=[], catalogue_version=edited.version))


def _add_operations(app: FastAPI, service: Service, metrics: Metrics) -> None:
    settings = service.settings

    @app.get("/v1/model", response_model=ModelResponse, tags=["model"])
    async def model() -> Response:
        """Say what is served, and under which limits."""
        config, live = service.recommender.config, service.live
        return _json(
            ModelResponse(
                flr_version=__version__,
                model_id=service.model_id,
                n_items=live.n_recommended,
                n_factors=service.recommender.snapshot.n_factors,
                window=config.text.window,
                backbone=config.backbone.source,
                weights=settings.weights,
                overlap=service.overlap,
                knows_popular=service.recommender.model.memory is not None,
                batches=settings.batches,
                exact_batches=service.engine.is_exact,
                catalogue_version=service.version_of(live),
                limits={
                    "body_bytes": settings.max_body_bytes,
                    "history": settings.max_history,
                    "k": settings.max_k,
                    "requests_per_second": settings.requests_per_second,
                    "timeout_seconds": settings.timeout_seconds,
                },
            )
        )

    @app.get("/v1/factors", response_model=FactorsResponse, tags=["model"])
    async def factors() -> Response:
        """Return what each factor stands for, where `flr profile` has looked."""
        if service.profiles is None:
            raise ProblemError(
                404, "no-profiles", "this run has no profiles of its factors; make them with flr profile"
            )
        return _json(FactorsResponse(profiles=asdict(service.profiles)))

    @app.get("/health", response_model=State, tags=["operations"])
    async def health() -> Response:
        """Say that the process lives; 503 where it has to be started again, because it could not be warmed up."""
        if service.engine.has_failed:
            raise ProblemError(503, "failed", "the server cannot answer any more; its log says why; start it again")
        return _json(State(status="ok"))

    @app.get("/ready", response_model=State, tags=["operations"])
    async def ready() -> Response:
        """Say whether questions are answered; 503 before and after."""
        if not service.engine.is_ready:
            raise ProblemError(503, "not-ready", "the server is starting or stopping", {"Retry-After": "1"})
        return _json(State(status="ok"))

    @app.get("/metrics", tags=["operations"], response_class=PlainTextResponse)
    async def show_metrics() -> Response:
        """Return counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answered(
    request: Request, accept: Callable[[Asked], Accepted[T]], asked: Asked, timeout_seconds: float
) -> tuple[Accepted[T], T]:
    """Have a question accepted and wait for its answer, no longer than the time-out in all."""
    until = time.monotonic() + timeout_seconds
    try:
        with fail_after(timeout_seconds):
            accepted = await _accepted(accept, asked)
        return accepted, await _answer(request, accepted.answer, until - time.monotonic())
    except TimeoutError:
        raise ProblemError(
            503, "too-late", f"there was no answer within {timeout_seconds:g} s; try later", {"Retry-After": "1"}
        ) from None


async def _accepted(accept: Callable[[Asked], Accepted[T]], asked: Asked) -> Accepted[T]:
    """Have a question accepted: in a thread where titles are cleaned or attributes looked through, which takes time."""
    if asked.by == "id" and asked.filters is None:
        return accept(asked)
    return await run_in_threadpool(accept, asked)


async def _answer(request: Request, future: Future[T], timeout_seconds: float) -> T:
    """Wait for an answer as long as the client does, and no longer than the time-out.

    Raises:
        GoneError: The client went away.
        TimeoutError: There was no answer in time.
    """
    answer = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_until_gone(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        raise GoneError if gone.done() else TimeoutError
    finally:
        gone.cancel()
        answer.cancel()  # drops the question from the queue, if it is still there


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, media_type="application/json")
