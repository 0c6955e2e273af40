"""The process: uvicorn with limits of its own on slow and many connections, and a stop that loses no accepted request.

SIGTERM or Ctrl-C: the door closes, requests that have arrived are answered, then the process ends. Another Ctrl-C
ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flr.serving.app import create_app
from flr.serving.gate import SAFE_HEADERS, JsonLines, new_request_id
from flr.serving.pages import add_pages
from flr.serving.problems import ProblemError
from flr.serving.service import Service
from flr.serving.settings import ServeSettings

_LOG = logging.getLogger(__name__)
#: What a shell expects of a process that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT


def limited_protocol(header_seconds: float, write_seconds: float, max_connections: int) -> type[asyncio.Protocol]:
    """Return an HTTP protocol that drops connections that are slow, and those that are too many.

    Args:
        header_seconds: From the connection, or its last answer's end and the next bytes, to complete headers.
        write_seconds: In which a client must take what an answer has too much for the system's buffers.
        max_connections: Connections at a time.
    """

    class LimitedProtocol(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None
        _write_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            if len(self.connections) >= max_connections:
                transport.abort()
                return
            super().connection_made(transport)
            # Whatever waits to be written is told by `pause_writing`, a few bytes too: they would keep the connection.
            transport.set_write_buffer_limits(high=0)
            self._expect_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_answering():
                self._stop_timer()
            elif self._header_timer is None:
                self._expect_headers()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                for event in _not_http():
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_timer = self.loop.call_later(write_seconds, self._drop_unread)

        def resume_writing(self) -> None:
            self._stop_write_timer()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            self._stop_write_timer()
            if self.transport is not None:
                super().connection_lost(exc)

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _expect_headers(self) -> None:
            self._header_timer = self.loop.call_later(header_seconds, self._give_up)

        def _stop_timer(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _stop_write_timer(self) -> None:
            if self._write_timer is not None:
                self._write_timer.cancel()
                self._write_timer = None

        def _drop_unread(self) -> None:
            _LOG.warning("dropped a connection: its client did not take an answer within %g s", write_seconds)
            self.transport.abort()

        def _give_up(self) -> None:
            self._header_timer = None
            if not self._is_answering() and not self.transport.is_closing():
                self.transport.close()

    return LimitedProtocol


def _not_http() -> tuple[h11.Response, h11.Data, h11.EndOfMessage]:
    """Return the answer to what is no HTTP, which reaches no application."""
    request_id = new_request_id()
    problem = ProblemError(400, "http", "this is no HTTP/1.1, or its headers are too large", {"Connection": "close"})
    answer = problem.response(request_id)
    headers = [*answer.raw_headers, *SAFE_HEADERS, (b"x-request-id", request_id.encode())]
    response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
    return response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()


class _Server(uvicorn.Server):
    """A server that a second Ctrl-C ends at once, whatever its threads still compute or write.

    Args:
        config: As uvicorn has it.
        on_listening: Told the address that a browser can ask, once somebody answers there.
    """

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None] | None = None) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_listening is not None and self.started:  # a start that failed listens nowhere
            host, port = self.config.host, self.servers[0].sockets[0].getsockname()[1]
            self._on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            _LOG.warning("interrupted before all requests were answered")
            os._exit(INTERRUPTED)

    def stop_soon(self, *_: object) -> None:
        """Stop once started; nothing more where it has stopped."""
        self.should_exit = True


def serve(service: Service, settings: ServeSettings, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; call `log_json` before.

    Args:
        service: What is served.
        settings: Where and how.
        on_listening: Told the address once it can be asked.
    """
    torch.set_num_threads(settings.threads)
    _LOG.info("serving %s items%s", f"{service.n_items:,}", settings.weights_note(service.overlap))
    config = uvicorn.Config(
        create_app(service, pages=add_pages if settings.page else None),
        host=settings.host,
        port=settings.port,
        http=limited_protocol(settings.header_seconds, settings.write_seconds, settings.max_connections),
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=max(1, round(settings.most_drain_seconds)),
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config, on_listening)
    # After the last answer uvicorn raises the signal that stopped it once more; a stop that went well exits with 0.
    # And one that comes before uvicorn listens to signals is not passed over.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.stop_soon)
    server.run()


def log_json() -> None:
    """Send the log, and warnings of whatever library, to stderr, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    for name, level in (("flr", logging.INFO), ("uvicorn", logging.INFO), (None, logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
