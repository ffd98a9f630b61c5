"""Connections that know whether an answer was there before its request: httpcore would take it for the answer."""

from __future__ import annotations

import select
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import httpcore

from exporter.api.transport import TransportError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator


CLOSING_S = 1.0


class Network(httpcore.AsyncNetworkBackend):
    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return Connection(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class Connection(httpcore.AsyncNetworkStream):
    """`answering`: whether anything was received since the last request was sent."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        # Asked for at every call, and anyio makes all that can be known of a connection anew each time.
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._tls: ssl.SSLObject | None = stream.get_extra_info("ssl_object")
        self.answering = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        try:
            received = await self._stream.read(max_bytes, timeout)
        except httpcore.ReadError as problem:
            if self.answering or caused_by_tls(problem):
                raise
            received = b""
        if not received and not self.answering:
            raise TransportError("protocol", "the connection was cut before an answer", unanswered=True)
        self.answering = True
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        if buffer and self.answering:
            self._check_nothing_left()
            self.answering = False
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return Connection(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            # httpcore closes after failures, not after a cancellation, and nobody else knows of the connection yet.
            with anyio.move_on_after(CLOSING_S, shield=True):
                await self.aclose()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return _is_readable(self._socket)
        return self._tls if info == "ssl_object" else self._stream.get_extra_info(info)

    def _check_nothing_left(self) -> None:
        """Look for a TLS record that came with the last answer: it shows neither in httpcore's buffer nor at the socket."""
        try:
            left = b"" if self._tls is None else self._tls.read(1)
        except ssl.SSLError:
            return
        if left:
            raise unasked()


def _is_readable(connected: socket.socket) -> bool:
    """Tell whether there is something to read, be it the end; a closed socket counts as at its end."""
    if connected.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def unasked() -> TransportError:
    return TransportError("protocol", "an answer was there before its request")


def caused_by_tls(problem: Exception) -> bool:
    """Tell whether TLS itself failed. That it wanted to read when the connection was cut is no fault of its own."""
    innocent = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    return any(isinstance(cause, ssl.SSLError) and not isinstance(cause, innocent) for cause in causes(problem))


def causes(problem: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = problem
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
