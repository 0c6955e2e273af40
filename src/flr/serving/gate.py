"""The gate: what every request passes before and after the application, as one ASGI layer.

Request id, hosts, keys and scopes, rates, size and time of bodies, security headers, one line of log, metrics. Logs
hold no histories, no keys and no whole addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flr.serving.metrics import Metrics
from flr.serving.problems import ProblemError, too_many
from flr.serving.security import Key, RateLimit, find_key
from flr.serving.settings import host_of, is_loopback

_LOG = logging.getLogger("flr.serving.requests")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: In no path of ours, but routes may take a path for another one that ends with a line feed.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Asked by machines that watch, not by clients.
_OPEN = {"/health", "/ready"}
#: Sent with every answer.
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
)


@dataclass(frozen=True)
class GateSettings:
    """What the gate lets through.

    Attributes:
        keys: Known keys; None asks for none.
        rate: Requests per client.
        max_body_bytes, body_seconds: Largest body, and how long it may take to arrive.
        hosts: Names that requests may give this server beside its own addresses; None lets all through.
        public: Paths that are given without a key.
        needs_admin: Says of a method and a path whether the scope admin is needed.
        route_of: Gives the template of the path that a request is for, None where there is none.
    """

    keys: Mapping[str, Key] | None
    rate: RateLimit
    max_body_bytes: int
    body_seconds: float
    needs_admin: Callable[[str, str], bool]
    route_of: Callable[[Scope], str | None]
    hosts: frozenset[str] | None = None
    public: frozenset[str] = frozenset()


@dataclass
class _Passage:
    """One request on its way."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    status: int = 0
    n_sent: int = 0
    key_id: str | None = None


class Gate:
    """Wraps an application; see the module's docstring."""

    def __init__(self, app: ASGIApp, settings: GateSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        passage = _Passage(_request_id(headers.get(b"x-request-id", b"")))
        scope.setdefault("state", {})["request_id"] = passage.request_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.status = message["status"]
                given = {name.lower() for name, _ in message.get("headers", ())}
                added = [pair for pair in SAFE_HEADERS if pair[0] not in given]
                own = [(b"x-request-id", passage.request_id.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *added, *own]}
            elif message["type"] == "http.response.body":
                passage.n_sent += len(message.get("body", b""))
            await send(message)

        try:
            try:
                self._check_client(scope, headers, passage)
                body = await self._body(headers, receive)
            except ProblemError as problem:
                await problem.response(passage.request_id)(scope, receive, answer)
            else:
                await self._app(scope, _replayed(body, receive), answer)
        except GoneError:
            passage.status = 499
        except asyncio.CancelledError:  # the server stops and cannot wait any longer
            _LOG.warning("request %s was left unanswered when the server stopped", passage.request_id)
            if not passage.status:
                stopping = ProblemError(503, "stopping", "the server stopped before there was an answer")
                await stopping.response(passage.request_id)(scope, receive, answer)
        except Exception:
            _LOG.exception("request %s failed", passage.request_id)
            if not passage.status:
                failed = ProblemError(500, "internal", "the server failed; its log has the request id")
                await failed.response(passage.request_id)(scope, receive, answer)
        finally:
            self._note(scope, passage)

    def _check_client(self, scope: Scope, headers: Mapping[bytes, bytes], passage: _Passage) -> None:
        path, settings = scope["path"], self._settings
        if path in _OPEN:
            return
        if _CONTROL.search(path):
            raise ProblemError(404, "not-found", "there is nothing at a path with control characters")
        self._check_host(headers.get(b"host", b"").decode("latin-1"))
        client = bucket_of(scope["client"][0] if scope.get("client") else "unknown")
        key = None
        is_open = path in settings.public
        if settings.keys is not None and not is_open:
            key = find_key(dict(settings.keys), _given_key(headers))
            # Who has no key takes nothing of what others at the same address may ask, such as all behind one proxy.
            name = f"key {key.key_id}" if key else f"refused {client}"
        else:
            name = f"address {client}"
        passage.key_id = key.key_id if key else None
        if wait := settings.rate.wait_seconds(name):
            raise too_many("rate", f"too many requests; try again in {wait:.1f} s", wait)
        if settings.keys is None or is_open:
            return
        if key is None:
            given = b"authorization" in headers or b"x-api-key" in headers
            detail = "the key is not known" if given else "a key is needed"
            detail += "; send Authorization: Bearer KEY"
            raise ProblemError(401, "key", detail, {"WWW-Authenticate": "Bearer"})
        if key.scope != "admin" and settings.needs_admin(scope["method"], path):
            raise ProblemError(403, "scope", "this needs a key of scope admin; the key given has scope read")

    def _check_host(self, given: str) -> None:
        if self._settings.hosts is None:
            return
        host = host_of(given)
        if host is None or not (is_loopback(host) or host in self._settings.hosts):
            raise ProblemError(
                421,
                "host",
                f"this server does not answer to the host {given[:80]!r}; start it with --keys and --allowed-host",
            )

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        most = self._settings.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise GoneError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            seconds = self._settings.body_seconds
            raise ProblemError(
                408, "slow-body", f"the body did not arrive within {seconds:g} s", {"Connection": "close"}
            ) from None

    def _note(self, scope: Scope, passage: _Passage) -> None:
        seconds = time.perf_counter() - passage.started
        name = self._settings.route_of(scope) or "other"
        self._metrics.request(scope["method"], name, passage.status, seconds)
        _LOG.info(
            "request",
            extra={
                "fields": {
                    "request_id": passage.request_id,
                    "method": scope["method"],
                    "route": name,
                    "status": passage.status,
                    "milliseconds": round(seconds * 1000, 1),
                    "bytes": passage.n_sent,
                    "key": passage.key_id,
                    "network": network_of(scope["client"][0] if scope.get("client") else ""),
                }
            },
        )


class GoneError(Exception):
    """The client went away; counted with the status 499, which nobody is sent."""


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        413, "too-large", f"the body is larger than {most:,} bytes; ask in parts", {"Connection": "close"}
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receiver of a body that has arrived; afterwards it waits for the client to go away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _request_id(given: bytes) -> str:
    text = given.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else new_request_id()


def new_request_id() -> str:
    return secrets.token_hex(8)


def _given_key(headers: Mapping[bytes, bytes]) -> str:
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")


def bucket_of(address: str) -> str:
    """Return what an address shares the rate limit with: of IPv6, of which anybody has very many, a whole /64.

    >>> bucket_of("203.0.113.77"), bucket_of("2001:db8:1:2:3::4"), bucket_of("::ffff:203.0.113.77"), bucket_of("-")
    ('203.0.113.77', '2001:db8:1:2::/64', '203.0.113.77', '-')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))


def network_of(address: str) -> str:
    """Return the network of an address, which names no person.

    >>> network_of("203.0.113.77"), network_of("2001:db8:1:2::3"), network_of("testclient")
    ('203.0.113.0/24', '2001:db8:1::/48', '-')
    """
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return "-"
    return str(ipaddress.ip_network(f"{address}/{24 if version == 4 else 48}", strict=False))


class JsonLines(logging.Formatter):
    """Log records as JSON, one per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
