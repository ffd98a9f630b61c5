"""The bytes of a connection, on asyncio itself.

The library's own stream opens a cancel scope for each read and each write, and stops listening in between: a sixth of what a call
cost. No time limits here, for a total deadline stands around every call, and nothing is lost if that cuts a read short.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    from collections.abc import Iterable

UNREAD_LIMIT_BYTES = 256 * 1024
"""From so many bytes on that nobody has read, the server is not listened to. One piece more may arrive."""
SECOND_ADDRESS_AFTER_S = 0.25
"""Happy eyeballs (RFC 8305): a host's next address is tried beside one that has not answered by then."""
HANDSHAKE_LIMIT_S = 3600.0
"""Longer than any call, so that it is the call's own limit which ends it."""


class Inbox(asyncio.Protocol):
    """What has arrived and is not read yet."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.fault: Exception | None = None
        self.pieces: deque[bytes] = deque()
        self._unread_bytes = 0
        self._paused = False
        self._arrival: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a stream connection hands out
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._unread_bytes += len(data)
        self._listen_within_limit()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.fault = exc
        self._wake()

    async def take(self, max_bytes: int) -> bytes:
        """Return what has arrived, as soon as there is something; nothing at the end. Raises the connection's fault."""
        while not self.pieces:
            if self.fault is not None:
                raise self.fault
            if self.ended:
                return b""
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        piece = self.pieces.popleft()
        if len(piece) > max_bytes:
            self.pieces.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._unread_bytes -= len(piece)
        self._listen_within_limit()
        return piece

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _listen_within_limit(self) -> None:
        too_much = self._unread_bytes > UNREAD_LIMIT_BYTES
        if too_much is self._paused or self.transport is None or self.transport.is_closing():
            return
        self._paused = too_much
        if too_much:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class ByteStream(httpcore.AsyncNetworkStream):
    def __init__(self, transport: asyncio.Transport, inbox: Inbox) -> None:
        self._transport = transport
        self._inbox = inbox

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        del timeout
        try:
            return await self._inbox.take(max_bytes)
        except OSError as problem:
            raise httpcore.ReadError(str(problem)) from problem

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        """Send, without waiting until it is sent: a request is small, and what becomes of it shows when its answer is read."""
        del timeout
        if buffer and not self._transport.is_closing():
            self._transport.write(buffer)

    async def aclose(self) -> None:
        # At once: an orderly end of TLS would wait for the server's, and nothing that is still unsent matters.
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        del timeout
        inbox = Inbox()
        try:
            encrypted = await self._encrypted(inbox, ssl_context, server_hostname)
        except OSError as problem:
            await self.aclose()
            raise httpcore.ConnectError(str(problem)) from problem
        inbox.connection_made(encrypted)
        return ByteStream(encrypted, inbox)

    async def _encrypted(self, inbox: Inbox, context: ssl.SSLContext, host: str | None) -> asyncio.Transport:
        """Shake hands. Raises ssl.SSLError, OSError."""
        if self._inbox.pieces:
            raise ssl.SSLError("the server spoke before the handshake")
        start_tls = asyncio.get_running_loop().start_tls
        try:
            encrypted = await start_tls(
                self._transport, inbox, context, server_hostname=host, ssl_handshake_timeout=HANDSHAKE_LIMIT_S
            )
        except ConnectionResetError as problem:
            if problem.errno is None:
                # asyncio's own: the server ended the connection in good order, which is its refusal.
                raise ssl.SSLEOFError("the server ended the handshake") from None
            raise
        if encrypted is None or encrypted.is_closing():
            raise ConnectionResetError
        return encrypted

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._is_readable()
        return self._transport.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Tell whether there is something to read, be it the end."""
        if self._inbox.pieces or self._inbox.ended or self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))


class ByteStreamBackend(httpcore.AsyncNetworkBackend):
    """Opens connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del timeout, local_address, socket_options
        try:
            transport, inbox = await asyncio.get_running_loop().create_connection(
                Inbox, host, port, happy_eyeballs_delay=SECOND_ADDRESS_AFTER_S
            )
        except OSError as problem:
            raise httpcore.ConnectError(str(problem)) from problem
        return ByteStream(transport, inbox)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
