"""The HTTP server around the routes: uvicorn with time limits for clients, TLS that can change, and an orderly end.

uvicorn itself waits for ever for a request that does not arrive and for a client that does not read. Here each connection is in
one of four phases, and each phase that waits for the client has a limit. The number of connections is limited as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import h11
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

PIECE_BYTES = 4096
CLOSE_NOTIFY_S = 0.2
ACCEPT_AGAIN = "_start_serving("
ACCEPT_FAILED = "socket.accept() out of system resource"
"""What asyncio calls it, up to thousands of times a second, while the process has no descriptor left."""
ACCEPT_FAILED_AGAIN_S = 300.0
BODY_REJECTED = "No request here takes a body.\n"


class Phase(enum.Enum):
    RECEIVING = "receiving"
    """A new connection, a handshake, or a request that has arrived in part."""
    ANSWERING = "answering"
    IDLE = "idle"
    LEAVING = "leaving"
    """Closed by the server; the client has not yet read all that was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for clients. `stalled`: how many connections may wait for their client to read an answer."""

    connections: int = 256
    receive_s: float = 10.0
    keep_alive_s: float = 120.0
    read_s: float = 30.0
    leave_s: float = 5.0
    stalled: int = 16
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    drain_s: float = 3.0

    def time_limit_s(self, phase: Phase) -> float | None:
        """Return how long a phase may last, None for no limit: an answer under way has the scrape's deadline."""
        return {
            Phase.RECEIVING: self.receive_s,
            Phase.ANSWERING: None,
            Phase.IDLE: self.keep_alive_s + self.leave_s,  # uvicorn closes it before
            Phase.LEAVING: self.leave_s,
        }[phase]


class _Client(Protocol):
    """A connection as the table sees it. `since`: when its phase began, on the loop's clock."""

    phase: Phase
    since: float

    def abort(self) -> None: ...


class _ConnectionTable:
    """All open connections. When it is full, a new one replaces the one that has waited longest for its client."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.logger = logging.getLogger("uvicorn.error.client")
        # Warnings here are about what clients send. With a line for each, clients could fill the log.
        self.logger.setLevel(logging.ERROR)
        self.handshakes: set[asyncio.Task[None]] = set()
        self._connected: set[_Client] = set()
        self._stalled: dict[_Client, None] = {}

    def add(self, client: _Client) -> None:
        if len(self._connected) >= self.limits.connections:
            self._make_room()
        self._connected.add(client)

    def remove(self, client: _Client) -> None:
        self._connected.discard(client)
        self._stalled.pop(client, None)

    def add_stalled(self, client: _Client) -> None:
        """Note that a client does not read its answer. Their number is limited because each one holds its answer in memory."""
        self._stalled[client] = None
        if len(self._stalled) > self.limits.stalled:
            next(iter(self._stalled)).abort()

    def remove_stalled(self, client: _Client) -> None:
        self._stalled.pop(client, None)

    def abort_all(self) -> None:
        for client in list(self._connected):
            client.abort()

    def _make_room(self) -> None:
        for phase in (Phase.LEAVING, Phase.RECEIVING, Phase.IDLE, Phase.ANSWERING):
            waiting = [client for client in self._connected if client.phase is phase]
            if waiting:
                min(waiting, key=lambda client: client.since).abort()
                return


class _Connection(H11Protocol):
    """uvicorn's connection with a limit for each phase. It gives the parser headers in small pieces."""

    def __init__(self, table: _ConnectionTable, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.logger = table.logger
        self._table = table
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._made = False
        self._early: list[bytes] = []
        self.phase = Phase.RECEIVING
        self.since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self._made = True
        self._table.add(self)
        self._begin(Phase.RECEIVING)
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if not self._made:  # the client did not wait for the end of the handshake
            self._early.append(data)
            return
        # The parser checks the size of the headers only after each piece.
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                break
            super().data_received(data[start : start + PIECE_BYTES])
        self._observe()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._observe()

    def shutdown(self) -> None:
        if not self.transport.is_closing():  # a TLS transport that is closed twice can be neither asked nor aborted
            with contextlib.suppress(h11.LocalProtocolError):  # the client has broken the protocol before
                super().shutdown()
        self._observe()
        if self.phase is Phase.LEAVING and not self.transport.get_write_buffer_size():
            # TLS would wait for the client's close_notify, which an idle client does not send.
            self.loop.call_later(CLOSE_NOTIFY_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self)
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()
        if self._made:
            super().connection_lost(exc)
            self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self._reading or self.loop.call_later(self._table.limits.read_s, self.abort)
        self._table.add_stalled(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._table.remove_stalled(self)
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def abort(self) -> None:
        self._table.remove(self)
        _reset(self.transport)

    def _observe(self) -> None:
        phase = self._phase_now()
        if phase is not self.phase:
            self._begin(phase)

    def _phase_now(self) -> Phase:
        if self.transport.is_closing():
            return Phase.LEAVING
        if self.conn.their_state is h11.IDLE:
            return Phase.RECEIVING if self.conn.trailing_data[0] or self.cycle is None else Phase.IDLE
        return Phase.RECEIVING if self.conn.their_state is h11.SEND_BODY else Phase.ANSWERING

    def _begin(self, phase: Phase) -> None:
        self.phase, self.since = phase, self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        time_limit_s = self._table.limits.time_limit_s(phase)
        self._deadline = None if time_limit_s is None else self.loop.call_later(time_limit_s, self.abort)


class _Handshake(asyncio.Protocol):
    """A connection before TLS: in the table from its first moment on, and accepted with the certificate in force then."""

    def __init__(self, table: _ConnectionTable, tls: ssl.SSLContext, connection: _Connection) -> None:
        self._table = table
        self._tls = tls
        self._connection = connection
        self.phase = Phase.RECEIVING
        self.since = connection.since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a stream server hands out
        self._transport = transport
        self._table.add(self)
        handshake = self._connection.loop.create_task(self._handshake())
        self._table.handshakes.add(handshake)
        handshake.add_done_callback(self._table.handshakes.discard)

    def abort(self) -> None:
        self._table.remove(self)
        _reset(self._transport)

    async def _handshake(self) -> None:
        limits = self._table.limits
        try:
            encrypted = await self._connection.loop.start_tls(
                self._transport,
                self._connection,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=limits.receive_s,
                ssl_shutdown_timeout=limits.leave_s,
            )
        except OSError as failed:  # ssl.SSLError and the timeout are OSErrors
            self._table.logger.debug("TLS handshake failed: %s", failed)
            return
        finally:
            self._table.remove(self)
        if encrypted is not None and not encrypted.is_closing():
            self._connection.connection_made(encrypted)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection at once. The kernel, too, drops what the client has not read."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _BodyLimit:
    """Answers 413 to requests whose body is long or of unknown length. No route reads a body."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > self._limit:
            response = PlainTextResponse(BODY_REJECTED, 413, headers={"Connection": "close"})
            await response(scope, receive, send)
            return
        with contextlib.suppress(asyncio.CancelledError):  # the process ends, and no client waits any more
            await self._app(scope, receive, send)


class _LoopErrors:
    """Handles errors of the event loop: that no connection can be accepted is said once in a while, all else every time.

    asyncio tries a listener that could not accept again a second later, thousands of times at once, even if it is closed by then.
    """

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context.get("message", "")
        if ACCEPT_AGAIN in message:
            return
        if message != ACCEPT_FAILED:
            loop.default_exception_handler(context)
        elif loop.time() - self._said_at >= ACCEPT_FAILED_AGAIN_S:
            self._said_at = loop.time()
            logging.getLogger("uvicorn.error").error(
                "no connection can be accepted: %s; raise the limit of open files", context.get("exception")
            )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: with them SIGHUP ends the process, and SIGTERM ends it with 143."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    stop: anyio.Event,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    limits: Limits | None = None,
) -> None:
    """Serve on the sockets until `stop` is set. Then answers under way have `limits.drain_s` to end.

    `tls` is called for each new connection.
    """
    table = _ConnectionTable(limits or Limits())
    server = _Server(_uvicorn_config(app, table, tls))
    asyncio.get_running_loop().set_exception_handler(_LoopErrors())

    async def end() -> None:
        await stop.wait()
        server.should_exit = True
        await anyio.sleep(table.limits.drain_s - CLOSE_NOTIFY_S)
        table.abort_all()
        for answering in list(server.server_state.tasks):
            answering.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await server.serve(sockets=list(sockets))
        table.abort_all()
        tasks.cancel_scope.cancel()


def _uvicorn_config(app: ASGIApp, table: _ConnectionTable, tls: Callable[[], ssl.SSLContext | None]) -> uvicorn.Config:
    def accept(**uvicorns: Any) -> asyncio.Protocol:
        connection, context = _Connection(table, **uvicorns), tls()
        return connection if context is None else _Handshake(table, context, connection)

    return uvicorn.Config(
        _BodyLimit(app, table.limits.body_bytes),
        http=cast("type[asyncio.Protocol]", accept),  # uvicorn calls it and does nothing else with it
        h11_max_incomplete_event_size=table.limits.header_bytes,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(table.limits.keep_alive_s),
        timeout_graceful_shutdown=int(table.limits.drain_s),
    )
