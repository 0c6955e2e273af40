"""Everything that goes wrong, as problem+json (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from flr.errors import (
    ClosedError,
    DataError,
    DeadlineError,
    FlrError,
    OverloadedError,
    RequestError,
    StorageError,
    UnknownItemError,
)
from flr.serving.contract import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"
#: Problems with the fields told in full.
_TOLD = 10
#: Characters of a message; messages may quote what was sent.
_LONGEST = 500


class ProblemError(Exception):
    """A problem that is answered as it is.

    Args:
        status: HTTP status.
        name: Short name, the end of its type.
        detail: What was got, what was expected, what to do.
        headers: Further headers.
    """

    def __init__(self, status: int, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.headers = status, name, detail, dict(headers or {})

    def response(self, request_id: str, errors: Sequence[FieldProblem] | None = None) -> Response:
        problem = Problem(
            type=f"urn:flr:problem:{self.name}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=_readable(self.detail),
            request_id=request_id,
            errors=list(errors) if errors else None,
        )
        content = problem.model_dump_json(exclude_none=True)
        return Response(content, self.status, self.headers, MEDIA_TYPE)


def problem_of(error: FlrError) -> ProblemError:
    """Return how an error of the package is answered."""
    if isinstance(error, OverloadedError):
        return too_many("overloaded", str(error), error.retry_after_seconds)
    for kind, status, name in (
        (DeadlineError, 503, "too-late"),
        (ClosedError, 503, "stopping"),
        (StorageError, 507, "storage"),
        (UnknownItemError, 422, "unknown-item"),
        (RequestError, 422, "request"),
        (DataError, 422, "items"),
    ):
        if isinstance(error, kind):
            return ProblemError(status, name, str(error), {"Retry-After": "1"} if status == 503 else None)
    return ProblemError(500, "internal", "the server failed; its log has the request id")


def too_many(name: str, detail: str, seconds: float) -> ProblemError:
    """Return a refusal with the time after which to come back."""
    return ProblemError(429, name, detail, {"Retry-After": str(max(1, math.ceil(seconds)))})


def invalid(errors: Sequence[Mapping[str, Any]], request_id: str) -> Response:
    """Return what is wrong with the fields of a request, without repeating what they held."""
    if any(error.get("type") == "json_invalid" or _is_missing_body(error) for error in errors):
        return ProblemError(400, "json", "the body is not valid JSON; send one JSON object").response(request_id)
    found = [
        FieldProblem(
            where=_readable(".".join(str(part) for part in error.get("loc", ()))),
            problem=_readable(str(error.get("msg", "is wrong"))),
        )
        for error in errors[:_TOLD]
    ]
    more = f" ({len(errors) - _TOLD} more)" if len(errors) > _TOLD else ""
    first = f"{found[0].where}: {found[0].problem}{more}" if found else "the request is wrong"
    return ProblemError(422, "validation", first).response(request_id, found)


def _is_missing_body(error: Mapping[str, Any]) -> bool:
    return error.get("type") == "missing" and tuple(error.get("loc", ())) == ("body",)


def _readable(text: str) -> str:
    """Return text that can be sent: no halves of surrogate pairs, not too long."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 3] + "..."
