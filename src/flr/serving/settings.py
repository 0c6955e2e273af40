"""How a server is set up; no torch, so that the command line can check settings at once."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flr.errors import ConfigError
from flr.serving.contract import MOST_HISTORY_ITEMS, MOST_K

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]*)?")


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server.

    Attributes:
        host, port: Where it listens; port 0 takes a free one.
        keys: File of API keys; None asks for none, which is allowed on this machine's own address only.
        journal: File of catalogue edits; None forgets edits when the server stops.
        threads: Threads that one computation uses.
        max_batch, wait_ms, max_queued, cache_tokens, batches: See `flr.serving.questions.EngineSettings`.
        timeout_seconds: After which a request is given up.
        weights: Numbers that the backbone computes with.
        min_overlap: Share of the top 10 that reduced weights must have in common with full ones.
        max_body_bytes: Longer bodies are refused unread.
        body_seconds, header_seconds: In which a body, or the headers of a request, must have arrived.
        keep_alive_seconds: How long a connection is kept open for another request.
        write_seconds: In which a client must have taken an answer that waits for it.
        max_connections: Connections at a time.
        requests_per_second, burst: Of one key, or of one address where there are no keys; 0 sets no limit.
        max_history, max_k: Items of a history, and of a list, that may be asked for; at most the contract's.
        allowed_hosts: Names that requests may give this server, beside its own addresses; none: any. Without keys
            there are no others.
        forwarded_allow_ips: Addresses or networks of proxies whose header ``X-Forwarded-For`` says who asks; none: who
            connects does.
        cors_origins: Origins that browsers may call from.
        page: Whether a browser gets a page at ``/``.
        drain_seconds: How long a stopping server waits for accepted requests, at least; never less than they may take.
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
    batches: Literal["exact", "fast"] = "exact"
    timeout_seconds: float = 10.0
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    min_overlap: float = 0.9
    max_body_bytes: int = 1_000_000
    body_seconds: float = 10.0
    header_seconds: float = 10.0
    keep_alive_seconds: int = 75
    write_seconds: float = 30.0
    max_connections: int = 512
    requests_per_second: float = 0.0
    burst: int = 100
    max_history: int = MOST_HISTORY_ITEMS
    max_k: int = MOST_K
    allowed_hosts: tuple[str, ...] = ()
    forwarded_allow_ips: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    page: bool = True
    drain_seconds: float = 30.0

    def check(self) -> None:
        """Raise what is wrong before anything is loaded.

        Raises:
            ConfigError: Others could reach a server without keys, on its host or by a name, a host is no name, a proxy
                no address, an origin no origin, a limit is above the contract's, or int8 weights were to be fast.
        """
        if self.keys is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} can be reached by others, and there are no keys; make one with "
                "`flr key --file keys.json --scope read` and give --keys keys.json, or listen on 127.0.0.1"
            )
        if self.batches == "fast" and self.weights == "int8":
            raise ConfigError(
                "--weights int8 with --batches fast: int8 scales by the largest number of a batch, so histories of "
                "others would change an answer by more than rounding; leave one of the two out"
            )
        for option, given, most in (
            ("--max-history", self.max_history, MOST_HISTORY_ITEMS),
            ("--max-k", self.max_k, MOST_K),
        ):
            if not 1 <= given <= most:
                raise ConfigError(f"{option} {given}, expected a number from 1 to {most:,}")
        for name in self.allowed_hosts:
            if host_of(name) != _bare(name):
                raise ConfigError(f"--allowed-host {name!r}, expected a name without scheme or port: shop.example")
            if self.keys is None and not is_loopback(_bare(name)):
                raise ConfigError(
                    f"--allowed-host {name} lets others ask, and there are no keys, so that all of them could edit the "
                    "catalogue; make one with `flr key --file keys.json --scope read` and give --keys keys.json"
                )
        for address in self.forwarded_allow_ips:
            if not _is_network(address):
                raise ConfigError(
                    f"--forwarded-allow-ips {address!r}, expected the address or network of a proxy: 127.0.0.1"
                )
        for origin in self.cors_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ConfigError(
                    f"--cors-origin {origin!r}, expected a scheme and a host such as https://shop.example"
                )

    def check_port(self) -> None:
        """Raise what keeps the server from listening, before a model is loaded that nobody could ask.

        Raises:
            ConfigError: The port is in use or not allowed, or the host is no address of this machine.
        """
        try:
            found = socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            said = f"--host {self.host!r} cannot be found: {error}; give an address of this machine"
            raise ConfigError(said) from error
        refusals = [_refusal(socket.AddressFamily(family), address) for family, _, _, _, address in found]
        refused = [one for one in refusals if one is not None]
        # Of several addresses of one name, such as `localhost`, a machine may lack some.
        lacking = [one for one in refused if one.errno == errno.EADDRNOTAVAIL]
        if refused == lacking and len(lacking) < len(refusals):
            return
        first = next((one for one in refused if one not in lacking), refused[0])
        where = f"port {self.port} of {self.host}"
        said = {
            errno.EADDRINUSE: f"{where} is in use; stop what listens there, or give another --port (0: a free one)",
            errno.EACCES: f"{where} is not allowed to this user; give a --port above 1023",
            errno.EADDRNOTAVAIL: f"--host {self.host} is no address of this machine; give one, such as 127.0.0.1",
        }.get(first.errno or 0, f"cannot listen on {where}: {first.strerror}")
        raise ConfigError(said) from first

    @property
    def most_drain_seconds(self) -> float:
        """How long a stopping server waits for accepted requests: until the last of them is given up, and told so."""
        return max(self.drain_seconds, self.timeout_seconds + 5)

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


def _refusal(family: socket.AddressFamily, address: Any) -> OSError | None:
    """Return why the system lets nobody listen at an address, None where it does."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if os.name == "posix":  # as servers do: connections that have just ended do not count
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            error.errno = errno.EADDRNOTAVAIL
        return error
    return None


def host_of(header: str) -> str | None:
    """Return the host of a Host header in lower case, without its port; None where it is none.

    >>> host_of("Shop.example:8000"), host_of("127.0.0.1"), host_of("[::1]:8000"), host_of("a@b"), host_of("")
    ('shop.example', '127.0.0.1', '::1', None, None)
    """
    found = _HOST.fullmatch(header)
    return None if found is None else (found["v6"] or found["name"]).lower()


def _is_network(address: str) -> bool:
    try:
        ipaddress.ip_network(address)
    except ValueError:
        return False
    return True


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
