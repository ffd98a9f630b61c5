"""Connections that know more of themselves than the library asks them for.

Whether an answer was there before its request: the library would take it for the answer.

Whether they are still good. After a network failover all idle connections are dead, and each says so only by a call that fails or, where
packets are dropped, that times out. So one that is found dead condemns all to the same address that have been idle since before it
was asked, those of other environments, too:

    A answers at 0 s, B at 1 s; failover; A is asked at 15 s and does not answer  →  B is condemned, and is asked over a new connection

unless another old connection has answered in the meantime: then the network is fine, and what hangs is A's own affair.

How many are open. There may be more environments than the process may have connections, so the idle ones used longest ago are closed.
"""

from __future__ import annotations

import math
import ssl
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import httpcore

from exporter.api.transport import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

Address = tuple[str, int]
CLOSING_S = 1.0


class Network(httpcore.AsyncNetworkBackend):
    """Makes the connections of all environments. It keeps `limit` at most, unless more are in use at once."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, *, limit: int) -> None:
        self._network = network
        self._limit = limit
        self._open: WeakSet[Connection] = WeakSet()
        self._close_by_idle_user: dict[object, Callable[[], Awaitable[None]]] = {}
        self._answered_at: dict[Address, float] = {}
        self._condemned_at: dict[Address, float] = {}

    def idle(self, user: object, close: Callable[[], Awaitable[None]]) -> None:
        """Note that nobody uses the connections that `close` would close."""
        self._close_by_idle_user[user] = close

    def in_use(self, user: object) -> None:
        self._close_by_idle_user.pop(user, None)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        while len(self._open) >= self._limit and self._close_by_idle_user:
            await self._close_by_idle_user.pop(next(iter(self._close_by_idle_user)))()
        stream = await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return Connection(stream, self, (host, port))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)

    def answered(self, address: Address) -> None:
        """Note that a connection that had been idle is good."""
        self._answered_at[address] = anyio.current_time()

    def found_dead(self, address: Address, asked_at: float) -> None:
        """Note that a connection that had been idle did not answer what it was asked at `asked_at`."""
        if self._answered_at.get(address, -math.inf) < asked_at:
            self._condemned_at[address] = asked_at

    def condemns(self, address: Address, answered_at: float) -> bool:
        """Whether a connection that answered last at `answered_at` can't be trusted any more."""
        return answered_at <= self._condemned_at.get(address, -math.inf)


class Connection(httpcore.AsyncNetworkStream):
    """`answering`: whether anything was received since the last request was sent."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, network: Network, address: Address) -> None:
        self._stream = stream
        self._network = network
        self._address = address
        self.answering = False
        self._answered_at = math.inf
        self._asked_again_at: float | None = None
        network.opened(self)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        if self.answering:
            return await self._stream.read(max_bytes, timeout)
        try:
            received = await self._stream.read(max_bytes, timeout)
        except httpcore.ReadError as problem:
            if caused_by_tls(problem):
                raise
            received = b""
        except BaseException:
            self._found_dead()
            raise
        if not received:
            self._found_dead()
            raise TransportError("protocol", "the connection was cut before an answer", unanswered=True)
        self._begin_answer()
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        if buffer and self.answering:
            self.answering = False
            self._asked_again_at = anyio.current_time()
        await self._stream.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            # httpcore closes after failures, not after a cancellation, and nobody else knows of the connection yet.
            with anyio.move_on_after(CLOSING_S, shield=True):
                await self.aclose()
            raise
        self._network.closed(self)
        return Connection(stream, self._network, self._address)

    async def aclose(self) -> None:
        self._network.closed(self)
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            condemned = self._network.condemns(self._address, self._answered_at)
            return condemned or self._stream.get_extra_info(info)
        return self._stream.get_extra_info(info)

    def _begin_answer(self) -> None:
        self.answering = True
        self._answered_at = anyio.current_time()
        if self._asked_again_at is not None:
            self._network.answered(self._address)

    def _found_dead(self) -> None:
        """Note that there was no answer, where one had been given to an earlier request."""
        if self._asked_again_at is not None:
            self._network.found_dead(self._address, self._asked_again_at)


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
