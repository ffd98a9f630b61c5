"""The HTTP server around the routes: addresses to listen on, and an orderly end."""

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
GOODBYE_S = 0.2
BODY_REFUSED = "No request here takes a body.\n"


class Phase(enum.Enum):
    RECEIVING = "receiving"
    """A connection's start, a handshake, or a request of which something has arrived."""
    ANSWERING = "answering"
    IDLE = "idle"
    LEAVING = "leaving"
    """Closed by us; the client has not yet taken all that was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much patience there is with clients. `stalled`: connections that may wait for their client to read an answer."""

    connections: int = 256
    receive_s: float = 10.0
    keep_alive_s: float = 120.0
    read_s: float = 30.0
    leave_s: float = 5.0
    stalled: int = 16
    header_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    drain_s: float = 3.0

    def patience_s(self, phase: Phase) -> float | None:
        """Tell how long a phase may last. Our own answers have a deadline elsewhere: the scrape's."""
        return {
            Phase.RECEIVING: self.receive_s,
            Phase.ANSWERING: None,
            Phase.IDLE: self.keep_alive_s + self.leave_s,  # uvicorn closes it before
            Phase.LEAVING: self.leave_s,
        }[phase]


class _Client(Protocol):
    """A connection as the hall sees it. `since`: when its phase began, on the loop's clock."""

    phase: Phase
    since: float

    def abort(self) -> None: ...


class _ConnectionTable:
    """All open connections. When it is full, whoever has kept us waiting longest makes room for who comes in."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.logger = logging.getLogger("uvicorn.error.client")
        # Warnings here are about what clients send: a line for each would let them fill the log.
        self.logger.setLevel(logging.ERROR)
        self.handshakes: set[asyncio.Task[None]] = set()
        self._connected: set[_Client] = set()
        self._stalled: dict[_Client, None] = {}

    def enter(self, client: _Client) -> None:
        if len(self._connected) >= self.limits.connections:
            self._make_room()
        self._connected.add(client)

    def leave(self, client: _Client) -> None:
        self._connected.discard(client)
        self._stalled.pop(client, None)

    def stall(self, client: _Client) -> None:
        """Note that a client doesn't read its answer. The memory for answers is bounded by how many such there may be."""
        self._stalled[client] = None
        if len(self._stalled) > self.limits.stalled:
            next(iter(self._stalled)).abort()

    def flow(self, client: _Client) -> None:
        self._stalled.pop(client, None)

    def clear(self) -> None:
        for client in list(self._connected):
            client.abort()

    def _make_room(self) -> None:
        for phase in (Phase.LEAVING, Phase.RECEIVING, Phase.IDLE, Phase.ANSWERING):
            waiting = [client for client in self._connected if client.phase is phase]
            if waiting:
                min(waiting, key=lambda client: client.since).abort()
                return


class _Connection(H11Protocol):
    """uvicorn's connection with a deadline for all that waits for the client, and headers taken in small pieces."""

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
        self._table.enter(self)
        self._begin(Phase.RECEIVING)
        for data in self._early:
            self.data_received(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if not self._made:  # a client that did not wait for the handshake's end
            self._early.append(data)
            return
        if self.phase is Phase.IDLE:
            self._begin(Phase.RECEIVING)
        # In pieces, because the parser notices too many headers only between two of them.
        for start in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                break
            super().data_received(data[start : start + PIECE_BYTES])
        self._observe()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._observe()

    def shutdown(self) -> None:
        with contextlib.suppress(h11.LocalProtocolError):  # raised where the client broke the protocol before
            super().shutdown()
        self._observe()
        if self.phase is Phase.LEAVING and not self.transport.get_write_buffer_size():
            # TLS would wait for the client's goodbye, and an idle client does not look.
            self.loop.call_later(GOODBYE_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()
        if self._made:
            super().connection_lost(exc)
            self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self._reading or self.loop.call_later(self._table.limits.read_s, self.abort)
        self._table.stall(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._table.flow(self)
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def abort(self) -> None:
        self._table.leave(self)
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
        patience_s = self._table.limits.patience_s(phase)
        self._deadline = None if patience_s is None else self.loop.call_later(patience_s, self.abort)


class _Handshake(asyncio.Protocol):
    """A connection before TLS: counted from its first moment on, and accepted with the certificate that is in force then."""

    def __init__(self, table: _ConnectionTable, tls: ssl.SSLContext, connection: _Connection) -> None:
        self._table = table
        self._tls = tls
        self._connection = connection
        self.phase = Phase.RECEIVING
        self.since = connection.since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a stream server hands out
        self._transport = transport
        self._table.enter(self)
        shaking_hands = self._connection.loop.create_task(self._shake_hands())
        self._table.handshakes.add(shaking_hands)
        shaking_hands.add_done_callback(self._table.handshakes.discard)

    def abort(self) -> None:
        self._table.leave(self)
        _reset(self._transport)

    async def _shake_hands(self) -> None:
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
        except OSError as failed:  # ssl.SSLError and the timeout are such
            self._table.logger.debug("TLS handshake failed: %s", failed)
            return
        finally:
            self._table.leave(self)
        if encrypted is not None and not encrypted.is_closing():
            self._connection.connection_made(encrypted)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection and give back at once what the kernel keeps for it, too: answers that nobody reads."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _BodyLimit:
    """Refuses requests whose body is long or of unknown length: no route takes one."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > self._limit:
            refusal = PlainTextResponse(BODY_REFUSED, 413, headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        with contextlib.suppress(asyncio.CancelledError):  # only the end of the process cancels; nobody waits any more
            await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals to us: by itself it dies on SIGHUP and exits with 143 on SIGTERM."""

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
    """Serve on the sockets until `stop` is set, then let what is under way end within `limits.drain_s`.

    `tls`: asked for at each new connection.
    """
    table = _ConnectionTable(limits or Limits())
    server = _Server(_uvicorn_config(app, table, tls))

    async def end() -> None:
        await stop.wait()
        server.should_exit = True
        await anyio.sleep(table.limits.drain_s - GOODBYE_S)
        table.clear()
        for answering in list(server.server_state.tasks):
            answering.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await server.serve(sockets=list(sockets))
        table.clear()
        tasks.cancel_scope.cancel()


def _uvicorn_config(app: ASGIApp, table: _ConnectionTable, tls: Callable[[], ssl.SSLContext | None]) -> uvicorn.Config:
    def accept(**uvicorns: Any) -> asyncio.Protocol:
        connection, context = _Connection(table, **uvicorns), tls()
        return connection if context is None else _Handshake(table, context, connection)

    return uvicorn.Config(
        _BodyLimit(app, table.limits.body_bytes),
        http=cast("type[asyncio.Protocol]", accept),  # called, never looked at
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
