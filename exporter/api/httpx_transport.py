"""One GET over HTTP with a total deadline and a size limit. The only file that knows the HTTP library.

Each environment has a transport of its own: a pooled connection can carry a stray answer into the next request, and answers
of `stats` do not say whose they are. Whatever was cut short leaves a pool in doubt, so a client is thrown away after a timeout, a
cancellation or a protocol error, and closed when the last call that uses it has ended. A connection knows besides whether
an answer was there before its request: httpcore would take it for the answer.

What is called a client here is httpx's transport, without the `AsyncClient` around it: redirects, cookies and authentication are not
wanted, and cost a third of a call's processor time and 7 kB an environment.
"""

from __future__ import annotations

import socket
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import httpx

from exporter import __version__
from exporter.api.connection import CLOSING_S, Connection, Network, caused_by_tls, causes, unasked
from exporter.api.transport import HttpResponse, TransportError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

KEEPALIVE_CONNECTIONS = 4
REMEMBERED_URLS = 2
KEEPALIVE_S = 300.0
BASE_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": f"managed-agents-exporter/{__version__}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How the API is reached: what the clients of all environments have in common."""

    tls: ssl.SSLContext
    proxy_url: str | None
    max_response_bytes: int


class _SharedClient:
    """A client and how many calls are using it."""

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self.client = _client(options)
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
    def __init__(self, options: Callable[[], ConnectOptions]) -> None:
        self._options = options
        self._shared: _SharedClient | None = None
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
        shared = self._shared = self._shared or _SharedClient(options)
        shared.calls += 1
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

    async def aclose(self) -> None:
        self._closed = True
        await self._drop()

    async def _drop(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await self._retire(shared)

    @staticmethod
    async def _retire(shared: _SharedClient) -> None:
        shared.retired = True
        if shared.calls == 0:
            with anyio.move_on_after(CLOSING_S, shield=True):
                await shared.client.aclose()


def _client(options: ConnectOptions) -> httpx.AsyncHTTPTransport:
    proxy = None
    if options.proxy_url is not None:
        # httpcore refuses a context for a proxy that is spoken to in plain HTTP.
        to_proxy = options.tls if options.proxy_url.lower().startswith("https:") else None
        proxy = httpx.Proxy(options.proxy_url, ssl_context=to_proxy)
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=KEEPALIVE_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
    )
    transport = httpx.AsyncHTTPTransport(verify=options.tls, trust_env=False, proxy=proxy, limits=limits)
    # httpx has no argument for it, httpcore has; the test of stray answers notices if the name changes.
    transport._pool._network_backend = Network(transport._pool._network_backend)  # noqa: SLF001 -- as just said
    return transport


async def _exchange(
    shared: _SharedClient, url: str, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
) -> HttpResponse:
    try:
        # No timeouts of httpx's: a total deadline stands around every call, and a dripping body trips no read timeout.
        request = httpx.Request("GET", shared.url(url, query), headers={**BASE_HEADERS, **headers})
        with anyio.move_on_after(timeout_s):
            async with aclosing(await shared.client.handle_async_request(request)) as response:
                return await _read(response, shared.options.max_response_bytes)
    except httpx.HTTPError as problem:
        raise _translated(problem) from None
    except (httpx.InvalidURL, OSError):
        raise TransportError("connect", "no connection") from None
    raise TransportError("timeout", f"no complete answer within {timeout_s:.3g} s")


async def _read(response: httpx.Response, limit: int) -> HttpResponse:
    connection = response.extensions.get("network_stream")
    if isinstance(connection, Connection) and not connection.answering:
        raise unasked()
    headers = dict(response.headers)
    if headers.get("content-encoding", "identity").lower() != "identity":
        text = "the answer is compressed, which was not asked for"
        raise TransportError("protocol", text, status=response.status_code)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(response, limit)
    return HttpResponse(response.status_code, headers, await _read_limited(response, limit))


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
    if caused_by_tls(problem):
        return TransportError("tls", "the TLS connection could not be made")
    if isinstance(problem, httpx.TimeoutException):
        return TransportError("timeout", "no answer in time")
    if isinstance(problem, httpx.ConnectError | httpx.ProxyError):
        return TransportError("connect", _unconnected(problem), unanswered=True)
    if isinstance(problem, httpx.NetworkError):
        return TransportError("protocol", "the connection was cut in the middle of an answer")
    return TransportError("protocol", "the answer is not valid HTTP")


def _too_large(response: httpx.Response, limit: int) -> TransportError:
    return TransportError("too_large", f"the answer is larger than {limit} bytes", status=response.status_code)


def _unconnected(problem: httpx.HTTPError) -> str:
    for cause in causes(problem):
        if isinstance(cause, socket.gaierror):
            return "no connection: the host's name was not found"
        if isinstance(cause, ConnectionRefusedError):
            return "no connection: refused by the host"
    return "no connection"


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
