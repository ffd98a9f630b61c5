"""One connection: one call at a time, kept while request and answer are complete and nothing follows, closed otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any

import httpcore
import pytest

from exporter.api.http11 import Http11Connection
from tests.simulated_time import SIMULATED_TIME

pytestmark = pytest.mark.anyio

ORIGIN = httpcore.Origin(b"http", b"api.example", 80)
URL = httpcore.URL(scheme=b"http", host=b"api.example", port=80, target=b"/v1?a=b")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: now\r\n\r\nab"
KEEPALIVE_S = 300.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


@dataclass
class Scripted(httpcore.AsyncNetworkStream):
    """Answers each read with the next of `received`, then with the end; an exception is raised, None hangs."""

    received: list[bytes | BaseException | None] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    readable: bool = False
    closed: bool = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        del max_bytes, timeout
        answer = self.received.pop(0) if self.received else b""
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        return answer or b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        del timeout
        self.written.append(buffer)

    async def aclose(self) -> None:
        self.closed = True

    def get_extra_info(self, info: str) -> Any:
        return self.readable if info == "is_readable" else None


def connection_over(stream: Scripted) -> Http11Connection:
    async def connect() -> httpcore.AsyncNetworkStream:
        return stream

    return Http11Connection(ORIGIN, connect, keepalive_s=KEEPALIVE_S)


def request(headers: list[tuple[bytes, bytes]] | None = None) -> httpcore.Request:
    return httpcore.Request("GET", URL, headers=[(b"host", b"api.example"), *(headers or [])])


async def body_of(connection: Http11Connection) -> bytes:
    """Make a call and read its answer to the end, as the transport does."""
    response = await connection.handle_async_request(request())
    try:
        stream: AsyncIterable[bytes] = response.stream  # type: ignore[assignment]  # what an async connection answers
        return b"".join([piece async for piece in stream])
    finally:
        await response.aclose()


def state_of(connection: Http11Connection) -> tuple[bool, bool, bool]:
    return connection.is_available(), connection.is_closed(), connection.has_expired()


KEPT, CLOSED = (True, False, False), (False, True, False)


async def test_a_request_is_written_in_one_piece_and_its_answer_is_read() -> None:
    stream = Scripted([ANSWER[:30], ANSWER[30:]])
    response = await connection_over(stream).handle_async_request(request([(b"x-key", b"value")]))
    assert stream.written == [b"GET /v1?a=b HTTP/1.1\r\nhost: api.example\r\nx-key: value\r\n\r\n"]
    assert (response.status, response.headers) == (200, [(b"content-length", b"2"), (b"date", b"now")])
    assert response.extensions["network_stream"] is stream


async def test_each_request_is_written_with_its_own_headers() -> None:
    stream = Scripted([ANSWER, ANSWER, ANSWER])
    connection = connection_over(stream)
    values = [b"old", b"new", b"old"]
    for value in values:
        response = await connection.handle_async_request(request([(b"x-key", value)]))
        assert isinstance(response.stream, AsyncIterable)
        assert [piece async for piece in response.stream] == [b"ab"]
        await response.aclose()
    head = b"GET /v1?a=b HTTP/1.1\r\nhost: api.example\r\nx-key: %s\r\n\r\n"
    assert stream.written == [head % value for value in values]


async def test_a_connection_is_kept_for_the_next_call_after_a_complete_answer() -> None:
    stream = Scripted([ANSWER, ANSWER])
    connection = connection_over(stream)
    assert state_of(connection) == (False, False, False)
    for _ in range(2):
        assert await body_of(connection) == b"ab"
        assert state_of(connection) == KEPT
    assert (len(stream.written), stream.closed) == (2, False)


@pytest.mark.parametrize(
    "received",
    [
        [ANSWER + b"HTTP/1.1 200 OK\r\n"],
        [ANSWER.replace(b"Date: now", b"Connection: close")],
        [b"HTTP/1.0 200 OK\r\n\r\nab", b""],
    ],
    ids=["more than the answer", "the server closes", "an end by the end"],
)
async def test_a_connection_is_not_kept_after(received: list[bytes | BaseException | None]) -> None:
    stream = Scripted(received)
    connection = connection_over(stream)
    assert await body_of(connection) == b"ab"
    assert (state_of(connection), stream.closed) == (CLOSED, True)


@pytest.mark.parametrize(
    ("received", "fault"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-"], httpcore.RemoteProtocolError),
        ([ANSWER[:-1]], httpcore.RemoteProtocolError),
        ([b"SSH-2.0\r\n\r\n"], httpcore.RemoteProtocolError),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], httpcore.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\n" + b"X-More: more\r\n" * 10_000, None], httpcore.RemoteProtocolError),
        ([httpcore.ReadError("cut")], httpcore.ReadError),
        ([ANSWER[:-1], httpcore.ReadError("cut")], httpcore.ReadError),
        ([ANSWER[:-1], asyncio.CancelledError()], asyncio.CancelledError),
        ([asyncio.CancelledError()], asyncio.CancelledError),
    ],
)
async def test_a_call_that_fails_closes_the_connection(
    received: list[bytes | BaseException | None], fault: type[BaseException]
) -> None:
    stream = Scripted(received)
    connection = connection_over(stream)
    with pytest.raises(fault):
        await body_of(connection)
    assert (state_of(connection), stream.closed) == (CLOSED, True)


async def test_an_answer_that_nobody_reads_to_its_end_closes_the_connection() -> None:
    stream = Scripted([ANSWER[:-1], None])
    connection = connection_over(stream)
    response = await connection.handle_async_request(request())
    await response.aclose()
    assert (state_of(connection), stream.closed) == (CLOSED, True)


async def test_provisional_answers_are_passed_over() -> None:
    stream = Scripted([b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + ANSWER])
    assert await body_of(connection_over(stream)) == b"ab"


async def test_a_header_that_cannot_be_sent_is_not_quoted() -> None:
    stream = Scripted()
    connection = connection_over(stream)
    with pytest.raises(httpcore.LocalProtocolError) as caught:
        await connection.handle_async_request(request([(b"x-key", b"canary\r\n")]))
    assert "canary" not in repr(caught.value)
    assert caught.value.__suppress_context__
    assert (stream.written, connection.is_closed()) == ([], True)


async def test_a_connection_has_one_call_at_a_time_and_none_once_closed() -> None:
    connection = connection_over(Scripted([None]))
    first = asyncio.ensure_future(connection.handle_async_request(request()))
    await asyncio.sleep(0)
    with pytest.raises(httpcore.ConnectionNotAvailable):
        await connection.handle_async_request(request())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(httpcore.ConnectionNotAvailable):
        await connection.handle_async_request(request())


async def test_a_connection_expires_with_time_and_with_what_came_unasked() -> None:
    stream = Scripted([ANSWER, ANSWER])
    connection = connection_over(stream)
    await body_of(connection)
    await asyncio.sleep(KEEPALIVE_S)
    seen = [connection.has_expired()]
    await asyncio.sleep(1)
    seen.append(connection.has_expired())
    await body_of(connection)
    seen.append(connection.has_expired())
    stream.readable = True
    seen.append(connection.has_expired())
    assert seen == [False, True, False, True]


async def test_a_connection_is_for_its_origin_alone_and_names_it() -> None:
    connection = connection_over(Scripted())
    assert connection.can_handle_request(ORIGIN)
    assert not connection.can_handle_request(httpcore.Origin(b"http", b"api.example", 81))
    assert connection.info() == "http://api.example:80, new"
