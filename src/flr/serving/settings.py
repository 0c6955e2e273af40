"""How a server is set up; no torch, so that the command line can check settings at once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flr.errors import ConfigError

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]*)?")


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        host, port: Where it listens; port 0 takes a free one.
        keys: File of API keys; None asks for none, which is allowed on this machine's own address only.
        journal: File of catalogue edits; None forgets edits when the server stops.
        threads: Threads that one computation uses.
        max_batch, wait_ms, max_queued, cache_tokens: See `flr.serving.questions.EngineSettings`.
        timeout_seconds: After which a request is given up.
        weights: Numbers that the backbone computes with.
        min_overlap: Share of the top 10 that reduced weights must have in common with full ones.
        max_body_bytes: Longer bodies are refused unread.
        body_seconds, header_seconds: In which a body, or the headers of a request, must have arrived.
        write_seconds: In which a client must have taken an answer that waits for it.
        max_connections: Connections at a time.
        requests_per_second, burst: Of one key, or of one address where there are no keys; 0 sets no limit.
        max_history, max_k: Lower limits than the contract's.
        allowed_hosts: Names that requests may give this server, beside its own addresses; none: any where there are
            keys, and none else where there are none.
        cors_origins: Origins that browsers may call from.
        page: Whether a browser gets a page at ``/``.
        drain_seconds: How long a stopping server waits for accepted requests.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    journal: Path | None = None
    threads: int = 1
    max_batch: int = 16
    wait_ms: float = 0.0
    max_queued: int = 256
    cache_tokens: int = 32_768
    timeout_seconds: float = 10.0
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    min_overlap: float = 0.9
    max_body_bytes: int = 1_000_000
    body_seconds: float = 10.0
    header_seconds: float = 10.0
    write_seconds: float = 30.0
    max_connections: int = 512
    requests_per_second: float = 0.0
    burst: int = 100
    max_history: int = 1_000
    max_k: int = 200
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    page: bool = True
    drain_seconds: float = 30.0

    def check(self) -> None:
        """Raise what is wrong before anything is loaded.

        Raises:
            ConfigError: Others could reach a server without keys, or a host is no name or an origin is no origin.
        """
        if self.keys is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} can be reached by others, and there are no keys; make one with "
                "`flr key --file keys.json --scope read` and give --keys keys.json, or listen on 127.0.0.1"
            )
        for name in self.allowed_hosts:
            if host_of(name) != _bare(name):
                raise ConfigError(f"--allowed-host {name!r}, expected a name without scheme or port: shop.example")
        for origin in self.cors_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ConfigError(
                    f"--cors-origin {origin!r}, expected a scheme and a host such as https://shop.example"
                )

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that requests may give this server beside its own addresses; None lets all through.

        Without keys a page in somebody's browser could ask by a name of its own that is made to point here. Where
        there are keys it does not have one.
        """
        if self.keys is not None and not self.allowed_hosts:
            return None
        return frozenset(map(_bare, self.allowed_hosts))

    def weights_note(self, overlap: float | None) -> str:
        """Return what to say of reduced weights, given the share of the top 10 that they keep; nothing of full ones."""
        return "" if overlap is None else f"; {self.weights} weights keep {overlap:.1%} of the top 10"


def host_of(header: str) -> str | None:
    """Return the host of a Host header in lower case, without its port; None where it is none.

    >>> host_of("Shop.example:8000"), host_of("127.0.0.1"), host_of("[::1]:8000"), host_of("a@b"), host_of("")
    ('shop.example', '127.0.0.1', '::1', None, None)
    """
    found = _HOST.fullmatch(header)
    return None if found is None else (found["v6"] or found["name"]).lower()


def _bare(name: str) -> str:
    return name.lower().removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("shop.example")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
