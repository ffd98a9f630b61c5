"""One GET over HTTP with a total deadline and a size limit. The only file that knows the HTTP library.

Each environment has a transport of its own: a pooled connection can carry a stray answer into the next request, and answers
of `stats` do not say whose they are. Whatever was cut short leaves a pool in doubt, so a pool is thrown away after a timeout, a
cancellation or a protocol error, and closed when the last call that uses it has ended. A connection knows besides whether
an answer was there before its request: the library would take it for the answer.

The connections speak the interface of httpx's own engine, httpcore; through a proxy they are its own. httpx reads the addresses and makes the
TLS context. The engine's pool, which looks through all its connections three times a call, and the client on top, which brings
redirects, cookies and authentication, are not wanted here and cost half of a call.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import anyio
import httpcore
import httpx

from exporter import __version__
from exporter.api.body_memory import BodyMemory
from exporter.api.byte_stream import ByteStreamBackend
from exporter.api.connection import CLOSING_S, Connection, Network, caused_by_tls, causes, unasked
from exporter.api.http11 import Http11Connection
from exporter.api.transport import Body, HttpResponse, TransportError
from exporter.process import descriptors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

KEEPALIVE_CONNECTIONS = 4
BODIES_IN_MEMORY = 2
"""As many of the largest size that is allowed: one environment alone can't take all of it."""
REMEMBERED_URLS = 2
PROXY_REFUSES, SERVER_ERROR = 407, 500
KEEPALIVE_S = 300.0
BASE_HEADERS = (
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"user-agent", f"managed-agents-exporter/{__version__}".encode()),
)
FAULTS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProxyError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)
"""All that the library raises; it has no name for it."""


def _new_network() -> Network:
    """Half of the process's descriptors are for connections that are kept; the others for scrapers, files, and calls under way."""
    return Network(ByteStreamBackend(), limit=descriptors.limit() // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How the API is reached: what the transports of all environments have in common."""

    tls: ssl.SSLContext
    proxy_url: str | None
    max_response_bytes: int
    network: Network = field(default_factory=_new_network, repr=False)
    bodies: BodyMemory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bodies", BodyMemory(BODIES_IN_MEMORY * self.max_response_bytes))


class _Place(NamedTuple):
    """Where a request goes. `host`: as the header of that name has it."""

    url: httpcore.URL
    origin: httpcore.Origin
    host: bytes


class _SharedPool:
    """The connections of one environment, how many calls are using it, and how to make another one."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._connect = _connector(options)
        self._idle: list[httpcore.AsyncConnectionInterface] = []
        self.calls = 0
        self.retired = False
        self._places: dict[object, _Place] = {}

    @asynccontextmanager
    async def connection(self, origin: httpcore.Origin) -> AsyncIterator[httpcore.AsyncConnectionInterface]:
        """Lend a connection to one call, the one used last if it is still good; keep it afterwards if it may be used again."""
        connection = await self._kept(origin) or self._connect(origin)
        try:
            yield connection
        finally:
            if connection.is_available() and len(self._idle) < KEEPALIVE_CONNECTIONS:
                self._idle.append(connection)
            else:
                await connection.aclose()

    async def aclose(self) -> None:
        """Close what no call is using."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _kept(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface | None:
        kept, self._idle = self._idle, []
        for connection in kept:
            if connection.can_handle_request(origin) and not connection.has_expired():
                self._idle.append(connection)
            else:
                await connection.aclose()
        return self._idle.pop() if self._idle else None

    def place(self, url: str, query: Mapping[str, str]) -> _Place:
        """Parse the URL: an environment asks for the same two again and again. Raises httpx.InvalidURL."""
        key = (url, *query.items())
        known = self._places.get(key)
        if known is None:
            if len(self._places) == REMEMBERED_URLS:
                self._places.clear()
            parsed = httpx.URL(url, params=query)
            target = _for_the_pool(parsed)
            known = self._places[key] = _Place(target, target.origin, parsed.netloc)
        return known


class HttpxTransport:
    def __init__(self, options: Callable[[], ConnectOptions]) -> None:
        self._options = options
        self._shared: _SharedPool | None = None
        self._closed = False

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        try:
            options = self._options()
        except OSError:
            raise TransportError("tls", "the CA or client certificate files are unreadable or do not match") from None
        if self._shared is not None and self._shared.options is not options:
            await self._drop()
        shared = self._shared = self._shared or _SharedPool(options)
        shared.calls += 1
        options.network.in_use(shared)
        try:
            return await _exchange(shared, url, query, headers, timeout_s)
        except BaseException:
            shared.retired = True
            raise
        finally:
            shared.calls -= 1
            if shared.retired or self._closed:
                if self._shared is shared:
                    self._shared = None
                await self._retire(shared)
            elif shared.calls == 0:
                options.network.idle(shared, shared.aclose)

    async def aclose(self) -> None:
        self._closed = True
        await self._drop()

    async def _drop(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await self._retire(shared)

    @staticmethod
    async def _retire(shared: _SharedPool) -> None:
        shared.retired = True
        shared.options.network.in_use(shared)
        if shared.calls == 0:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await shared.aclose()


def _connector(options: ConnectOptions) -> Callable[[httpcore.Origin], httpcore.AsyncConnectionInterface]:
    """Return what makes a connection to an origin: our own kind, or through a proxy the library's."""
    if options.proxy_url is not None:
        proxy = _proxy(options.proxy_url, options.tls)
        pool = httpcore.AsyncConnectionPool(
            ssl_context=options.tls, proxy=proxy, keepalive_expiry=KEEPALIVE_S, network_backend=options.network
        )
        return pool.create_connection

    def direct(origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        async def connect() -> httpcore.AsyncNetworkStream:
            host = origin.host.decode("ascii")
            stream = await options.network.connect_tcp(host, origin.port)
            return await stream.start_tls(options.tls, host) if origin.scheme == b"https" else stream

        return Http11Connection(origin, connect, keepalive_s=KEEPALIVE_S)

    return direct


def _proxy(url: str, tls: ssl.SSLContext) -> httpcore.Proxy:
    proxy = httpx.Proxy(url)
    # The library refuses a context for a proxy that is spoken to in plain HTTP.
    to_proxy = tls if proxy.url.scheme == "https" else None
    return httpcore.Proxy(_for_the_pool(proxy.url), auth=proxy.raw_auth, ssl_context=to_proxy)


def _for_the_pool(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


async def _exchange(
    shared: _SharedPool, url: str, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
) -> HttpResponse:
    try:
        # No timeouts of the library's: a total deadline stands around every call, and a dripping body trips no read timeout.
        place = shared.place(url, query)
        own = ((name.encode(), value.encode()) for name, value in headers.items())
        request = httpcore.Request("GET", place.url, headers=[(b"host", place.host), *BASE_HEADERS, *own])
        with anyio.move_on_after(timeout_s):
            async with (
                shared.connection(place.origin) as connection,
                aclosing(await connection.handle_async_request(request)) as response,
            ):
                return await _read(response, shared.options)
    except FAULTS as problem:
        raise _translated(problem, shared.options.proxy_url) from None
    except (httpx.InvalidURL, OSError):
        raise TransportError("connect", "no connection") from None
    raise TransportError("timeout", f"no complete answer within {timeout_s:.3g} s")


async def _read(response: httpcore.Response, options: ConnectOptions) -> HttpResponse:
    connection = response.extensions.get("network_stream")
    if isinstance(connection, Connection) and not connection.answering:
        raise unasked()
    if options.proxy_url is not None and response.status == PROXY_REFUSES:
        raise _refused_by(options.proxy_url, response.status)
    headers = _headers(response.headers)
    if _is_encoded(headers.get("content-encoding", "")):
        text = "the answer is compressed, which was not asked for"
        raise TransportError("protocol", text, status=response.status)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > options.max_response_bytes:
        raise _too_large(response, options.max_response_bytes)
    return HttpResponse(response.status, headers, await _read_limited(response, options))


def _is_encoded(encodings: str) -> bool:
    return any(encoding.strip().lower() not in {"", "identity"} for encoding in encodings.split(","))


def _headers(received: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in received:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _read_limited(response: httpcore.Response, options: ConnectOptions) -> Body:
    body = bytearray()
    try:
        await _receive(response, options, body)
    except BaseException:
        body.clear()  # a traceback holds it, in a cycle that the garbage collector may find much later
        raise
    return body


async def _receive(response: httpcore.Response, options: ConnectOptions, body: bytearray) -> None:
    assert isinstance(response.stream, AsyncIterable)  # noqa: S101 -- tells the type checker what an async pool answers
    try:
        # The caller parses the body before anybody else gets what is released here.
        with options.bodies.share() as share:
            async for chunk in response.stream:
                if len(body) + len(chunk) > options.max_response_bytes:
                    raise _too_large(response, options.max_response_bytes)
                await share.grow(len(chunk))
                body += chunk
    except FAULTS:
        raise TransportError("protocol", "the answer was cut short", status=response.status) from None


def _translated(problem: Exception, proxy_url: str | None) -> TransportError:
    """Name the fault without the library's text: it may quote headers, and with them a credential."""
    if caused_by_tls(problem):
        return TransportError("tls", "the TLS connection could not be made")
    if isinstance(problem, httpcore.TimeoutException):
        return TransportError("timeout", "no answer in time")
    if isinstance(problem, httpcore.ProxyError):
        status = str(problem)[:3]
        return _refused_by(proxy_url, int(status) if status.isdecimal() else None)
    if isinstance(problem, httpcore.ConnectError):
        return TransportError("connect", _unconnected(problem, proxy_url), unanswered=True)
    if isinstance(problem, httpcore.NetworkError):
        return TransportError("protocol", "the connection was cut in the middle of an answer")
    return TransportError("protocol", "the answer is not valid HTTP")


def _refused_by(proxy_url: str | None, status: int | None) -> TransportError:
    does = "makes no connection" if status is None else f"answered {status}"
    text = f"{_proxy_name(proxy_url)} {does}"
    return TransportError("connect", text, unanswered=status is None or status >= SERVER_ERROR)


def _proxy_name(proxy_url: str | None) -> str:
    """Name the proxy, never its credentials."""
    return f"the proxy {httpx.URL(proxy_url or '').netloc.decode('ascii')}"


def _in_units(size: int) -> str:
    """Write a size as somebody would configure it."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"


def _too_large(response: httpcore.Response, limit: int) -> TransportError:
    return TransportError("too_large", f"the answer is larger than {_in_units(limit)}", status=response.status)


def _unconnected(problem: Exception, proxy_url: str | None) -> str:
    where = "" if proxy_url is None else f" to {_proxy_name(proxy_url)}"
    for cause in causes(problem):
        if isinstance(cause, socket.gaierror):
            return f"no connection{where}: the host's name was not found"
        if isinstance(cause, ConnectionRefusedError):
            return f"no connection{where}: refused by the host"
    return "no connection"


def tls_context(
    *, ca_file: Path | None = None, client_cert_file: Path | None = None, client_key_file: Path | None = None
) -> ssl.SSLContext:
    """Trust the usual authorities, the system's and the file's; raises OSError, ssl.SSLError.

    One context serves all transports: each would cost 38 ms and a megabyte.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    # From Python 3.13 on it is set by default, and refuses private authorities without extensions that any 3.12 takes: another
    # Python in the image would make every environment unreadable. It checks form; names, dates and signatures are checked anyway.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    if client_cert_file is not None:
        context.load_cert_chain(client_cert_file, client_key_file)
    return context
