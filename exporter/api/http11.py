"""HTTP/1.1 over one connection, with h11's state machine.

The library's own, written for everything that HTTP can be, takes locks and opens cancel scopes and trace contexts at every step: as much
again as the parsing. Here a connection belongs to one call at a time, a request has no body, and whatever ends before the answer
is complete closes the connection at once.
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import TYPE_CHECKING

import h11
import httpcore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

READ_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 100 * 1024
SWITCHING_PROTOCOLS = 101
END = h11.EndOfMessage()


class _Phase(enum.Enum):
    NEW = "new"
    ACTIVE = "active"
    IDLE = "idle"
    CLOSED = "closed"


class Http11Connection(httpcore.AsyncConnectionInterface):
    """A connection to one origin, opened by its first request and kept for others, `keepalive_s` at most."""

    def __init__(
        self,
        origin: httpcore.Origin,
        connect: Callable[[], Awaitable[httpcore.AsyncNetworkStream]],
        *,
        keepalive_s: float,
    ) -> None:
        self._origin = origin
        self._connect = connect
        self._keepalive_s = keepalive_s
        self._phase = _Phase.NEW
        self._kept_until = math.inf
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT_BYTES)
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self._phase not in {_Phase.NEW, _Phase.IDLE}:
            raise httpcore.ConnectionNotAvailable
        self._phase = _Phase.ACTIVE
        try:
            self._stream = stream = self._stream or await self._connect()
            await stream.write(self._head_of(request))
            head = await self._receive_head(stream)
        except BaseException:
            await self.aclose()
            raise
        return httpcore.Response(
            head.status_code,
            headers=list(head.headers),
            content=_Body(self, stream),
            extensions={"network_stream": stream},
        )

    def _head_of(self, request: httpcore.Request) -> bytes:
        """Write a request without a body."""
        try:
            head = h11.Request(method=request.method, target=request.url.target, headers=request.headers)
            return (self._machine.send(head) or b"") + (self._machine.send(END) or b"")
        except h11.LocalProtocolError:  # its text quotes what is wrong, which may be a credential
            raise httpcore.LocalProtocolError from None

    async def next_event(self, stream: httpcore.AsyncNetworkStream) -> h11.Event:
        try:
            while (event := self._machine.next_event()) is h11.NEED_DATA:
                self._machine.receive_data(await stream.read(READ_BYTES))
        except h11.RemoteProtocolError:
            raise httpcore.RemoteProtocolError from None
        if not isinstance(event, h11.Event):
            raise httpcore.RemoteProtocolError
        return event

    async def end_answer(self) -> None:
        """Keep the connection if request and answer are complete and nothing has followed them."""
        machine = self._machine
        if machine.our_state is h11.DONE and machine.their_state is h11.DONE and not machine.trailing_data[0]:
            machine.start_next_cycle()
            self._phase = _Phase.IDLE
            self._kept_until = asyncio.get_running_loop().time() + self._keepalive_s
        else:
            await self.aclose()

    async def aclose(self) -> None:
        self._phase = _Phase.CLOSED
        if self._stream is not None:
            await self._stream.aclose()

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return origin == self._origin

    def is_available(self) -> bool:
        return self._phase is _Phase.IDLE

    def is_idle(self) -> bool:
        return self._phase is _Phase.IDLE

    def is_closed(self) -> bool:
        return self._phase is _Phase.CLOSED

    def has_expired(self) -> bool:
        """Tell whether an idle connection must not be used any more: it is old, or something has come that nobody asked for."""
        if self._phase is not _Phase.IDLE or self._stream is None:
            return False
        too_old = asyncio.get_running_loop().time() > self._kept_until
        return too_old or bool(self._stream.get_extra_info("is_readable"))

    def info(self) -> str:
        return f"{self._origin}, {self._phase.value}"

    async def _receive_head(self, stream: httpcore.AsyncNetworkStream) -> h11.Response:
        while not isinstance(event := await self.next_event(stream), h11.Response):
            if not isinstance(event, h11.InformationalResponse):
                raise httpcore.RemoteProtocolError
        return event


class _Body:
    """The body of an answer, piece by piece as it arrives."""

    def __init__(self, connection: Http11Connection, stream: httpcore.AsyncNetworkStream) -> None:
        self._connection = connection
        self._stream = stream
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._connection.next_event(self._stream), h11.Data):
            yield bytes(event.data)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._connection.end_answer()
