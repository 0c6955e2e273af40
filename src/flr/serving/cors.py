"""Pages of other origins: what browsers ask before they let one ask, and what they may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from flr.serving.gate import Gate, GateSettings
from flr.serving.metrics import Metrics
from flr.serving.problems import ProblemError

_METHODS: Final = ("GET", "POST", "DELETE")
_HEADERS: Final = ("Authorization", "Content-Type", "X-API-Key", "X-Request-ID")


class Cors(CORSMiddleware):
    """Wraps an application and its gate, so that pages of named origins can read what the gate refuses.

    A preflight that is refused passes a gate of its own, without keys, which browsers send with none.

    Args:
        app: The gate.
        origins: Origins that are named.
        settings, metrics: Of the gate.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], settings: GateSettings, metrics: Metrics) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=["X-Request-ID", "X-Flr-Model", "Retry-After"],
        )
        self._refusing = Gate(self._refuse, settings=replace(settings, keys=None), metrics=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._refusing if self._refusal(scope) else super().__call__)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        """Return why a preflight is refused; None of one that is not, and of what is none."""
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            return None
        headers = Headers(scope=scope)
        if "origin" not in headers or "access-control-request-method" not in headers:
            return None
        answer = self.preflight_response(headers)
        if answer.status_code == 200:
            return None
        said = f"{bytes(answer.body).decode()}: got {headers['origin'][:80]!r}; origins are named by --cors-origin, "
        said += f"methods are {', '.join(_METHODS)}, headers {', '.join(_HEADERS)}"
        return ProblemError(400, "cors", said, {"Vary": answer.headers["vary"]})

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (problem := self._refusal(scope)) is not None:
            await problem.response(scope["state"]["request_id"])(scope, receive, send)
