"""One GET over HTTP with a total deadline and a size limit. The only file that knows the HTTP library.

Each environment has a transport of its own: a pooled connection can carry a stray answer into the next request, and answers
of `stats` do not say whose they are. Whatever was cut short leaves a pool in doubt, so a client is thrown away after a timeout, a
cancellation or a protocol error, and closed when the last call that uses it has ended. A connection knows besides whether
an answer was there before its request: httpcore would take it for the answer.

What is called a client here is httpx's transport, without the `AsyncClient` around it: redirects, cookies and authentication are not
wanted, and cost a third of a call's processor time and 7 kB an environment.
"""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
import httpcore
import httpx

from exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

Fault = Literal["timeout", "connect", "tls", "protocol", "too_large"]
KEEPALIVE_CONNECTIONS = 4
REMEMBERED_URLS = 2
KEEPALIVE_S = 300.0
CLOSING_S = 1.0
BASE_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"managed-agents-exporter/{__version__}",
}


class TransportError(Exception):
    """No usable answer. `unanswered`: no answer had begun, so the call may be repeated; `status`: of one that had."""

    def __init__(self, fault: Fault, text: str, *, unanswered: bool = False, status: int | None = None) -> None:
        super().__init__(text)
        self.fault: Fault = fault
        self.unanswered = unanswered
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    async def get(self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Send one GET and read all of the answer within `timeout_s`. Raises TransportError. Follows no redirect."""
        ...

    async def aclose(self) -> None:
        """Close what is open. A read that goes on, because it began before its environment was removed, leaves nothing open either."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the API is reached: what the clients of all environments have in common."""

    tls: ssl.SSLContext
    proxy_url: str | None
    max_response_bytes: int


class _Lease:
    """A client and how many calls are using it."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.client = _client(route)
        self.calls = 0
        self.retired = False
        self._urls: dict[object, httpx.URL] = {}

    def url(self, url: str, query: Mapping[str, str]) -> httpx.URL:
        """Parse the URL, or remember it: an environment asks for the same two again and again. Raises httpx.InvalidURL."""
        key = (url, *query.items())
        known = self._urls.get(key)
        if known is None:
            if len(self._urls) == REMEMBERED_URLS:
                self._urls.clear()
            known = self._urls[key] = httpx.URL(url, params=query)
        return known


class HttpxTransport:
    def __init__(self, route: Callable[[], Route]) -> None:
        self._route = route
        self._lease: _Lease | None = None
        self._closed = False

    async def get(self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float) -> Answer:
        try:
            route = self._route()
        except OSError:
            raise TransportError("tls", "the CA or client certificate files are unreadable or do not match") from None
        if self._lease is not None and self._lease.route is not route:
            await self._drop()
        lease = self._lease = self._lease or _Lease(route)
        lease.calls += 1
        try:
            return await _exchange(lease, url, query, headers, timeout_s)
        except BaseException:
            lease.retired = True
            raise
        finally:
            lease.calls -= 1
            if lease.retired or self._closed:
                if self._lease is lease:
                    self._lease = None
                await self._retire(lease)

    async def aclose(self) -> None:
        self._closed = True
        await self._drop()

    async def _drop(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._retire(lease)

    @staticmethod
    async def _retire(lease: _Lease) -> None:
        lease.retired = True
        if lease.calls == 0:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await lease.client.aclose()


def _client(route: Route) -> httpx.AsyncHTTPTransport:
    proxy = None
    if route.proxy_url is not None:
        # httpcore refuses a context for a proxy that is spoken to in plain HTTP.
        to_proxy = route.tls if route.proxy_url.lower().startswith("https:") else None
        proxy = httpx.Proxy(route.proxy_url, ssl_context=to_proxy)
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=KEEPALIVE_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
    )
    transport = httpx.AsyncHTTPTransport(verify=route.tls, trust_env=False, proxy=proxy, limits=limits)
    # httpx has no argument for it, httpcore has; the test of stray answers notices if the name changes.
    transport._pool._network_backend = _Network(transport._pool._network_backend)  # noqa: SLF001 -- as just said
    return transport


class _Network(httpcore.AsyncNetworkBackend):
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
        return _Connection(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class _Connection(httpcore.AsyncNetworkStream):
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
            if self.answering or _caused_by_tls(problem):
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
            return _Connection(await self._stream.start_tls(ssl_context, server_hostname, timeout))
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
            raise _unasked()


async def _exchange(
    lease: _Lease, url: str, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
) -> Answer:
    try:
        # No timeouts of httpx's: a total deadline stands around every call, and a dripping body trips no read timeout.
        request = httpx.Request("GET", lease.url(url, query), headers={**BASE_HEADERS, **headers})
        with anyio.move_on_after(timeout_s):
            async with aclosing(await lease.client.handle_async_request(request)) as response:
                return await _read(response, lease.route.max_response_bytes)
    except httpx.HTTPError as problem:
        raise _translated(problem) from None
    except (httpx.InvalidURL, OSError):
        raise TransportError("connect", "no connection") from None
    raise TransportError("timeout", f"no complete answer within {timeout_s:.3g} s")


async def _read(response: httpx.Response, limit: int) -> Answer:
    connection = response.extensions.get("network_stream")
    if isinstance(connection, _Connection) and not connection.answering:
        raise _unasked()
    headers = dict(response.headers)
    if headers.get("content-encoding", "identity").lower() != "identity":
        text = "the answer is compressed, which was not asked for"
        raise TransportError("protocol", text, status=response.status_code)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(response, limit)
    return Answer(response.status_code, headers, await _read_limited(response, limit))


async def _read_limited(response: httpx.Response, limit: int) -> bytes:
    stream = response.stream  # aiter_raw() adds two generators to each of the three below
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 -- tells the type checker what an async transport answers
    body = bytearray()
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > limit:
                raise _too_large(response, limit)
    except httpx.HTTPError:
        raise TransportError("protocol", "the answer was cut short", status=response.status_code) from None
    return bytes(body)


def _translated(problem: httpx.HTTPError) -> TransportError:
    """Name the fault without the library's text: it may quote headers, and with them a credential."""
    if _caused_by_tls(problem):
        return TransportError("tls", "the TLS connection could not be made")
    if isinstance(problem, httpx.TimeoutException):
        return TransportError("timeout", "no answer in time")
    if isinstance(problem, httpx.ConnectError | httpx.ProxyError):
        return TransportError("connect", _unconnected(problem), unanswered=True)
    if isinstance(problem, httpx.NetworkError):
        return TransportError("protocol", "the connection was cut in the middle of an answer")
    return TransportError("protocol", "the answer is not valid HTTP")


def _is_readable(connected: socket.socket) -> bool:
    """Tell whether there is something to read, be it the end; a closed socket counts as at its end."""
    if connected.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _too_large(response: httpx.Response, limit: int) -> TransportError:
    return TransportError("too_large", f"the answer is larger than {limit} bytes", status=response.status_code)


def _unasked() -> TransportError:
    return TransportError("protocol", "an answer was there before its request")


def _unconnected(problem: httpx.HTTPError) -> str:
    for cause in _causes(problem):
        if isinstance(cause, socket.gaierror):
            return "no connection: the host's name was not found"
        if isinstance(cause, ConnectionRefusedError):
            return "no connection: refused by the host"
    return "no connection"


def _caused_by_tls(problem: Exception) -> bool:
    """Tell whether TLS itself failed. That it wanted to read when the connection was cut is no fault of its own."""
    innocent = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    return any(isinstance(cause, ssl.SSLError) and not isinstance(cause, innocent) for cause in _causes(problem))


def _causes(problem: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = problem
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def tls_context(
    *, ca_file: Path | None = None, client_cert_file: Path | None = None, client_key_file: Path | None = None
) -> ssl.SSLContext:
    """Trust the usual authorities, the system's and the file's; raises OSError, ssl.SSLError.

    One context serves all clients: each would cost 38 ms and a megabyte.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    if client_cert_file is not None:
        context.load_cert_chain(client_cert_file, client_key_file)
    return context
