"""A connection knows whether it was answered, and whether something arrived that nobody asked for."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from exporter.api.connection import Connection, caused_by_tls, causes
from exporter.api.transport import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@dataclass
class Scripted(httpcore.AsyncNetworkStream):
    """Answers each read with the next of `received`; an exception is raised."""

    socket_: socket.socket
    received: list[bytes | Exception] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        del max_bytes, timeout
        answer = self.received.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        del timeout
        self.written.append(buffer)

    async def aclose(self) -> None: ...

    def get_extra_info(self, info: str) -> Any:
        return self.socket_ if info == "socket" else None


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


async def test_a_connection_is_answering_from_the_first_byte_to_the_next_request(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    stream = Scripted(pair[0], [b"HTTP/1.1 200"])
    connection = Connection(stream)
    states = [connection.answering]
    await connection.write(b"GET / HTTP/1.1\r\n\r\n")
    states.append(connection.answering)
    await connection.read(100)
    states.append(connection.answering)
    await connection.write(b"")
    states.append(connection.answering)
    await connection.write(b"GET / HTTP/1.1\r\n\r\n")
    states.append(connection.answering)
    assert states == [False, False, True, True, False]
    assert stream.written == [b"GET / HTTP/1.1\r\n\r\n", b"", b"GET / HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("end", [b"", httpcore.ReadError("reset")])
async def test_an_end_before_the_answer_is_one_that_may_be_tried_again(
    end: bytes | Exception, pair: tuple[socket.socket, socket.socket]
) -> None:
    connection = Connection(Scripted(pair[0], [end]))
    await connection.write(b"GET")
    with pytest.raises(TransportError, match="cut before an answer") as caught:
        await connection.read(100)
    assert caught.value.unanswered


async def test_an_end_within_the_answer_is_none(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = Connection(Scripted(pair[0], [b"HTTP", b"", b"/1.1", httpcore.ReadError("reset")]))
    assert [await connection.read(100) for _ in range(3)] == [b"HTTP", b"", b"/1.1"]
    with pytest.raises(httpcore.ReadError):
        await connection.read(100)


def test_what_came_unasked_makes_an_idle_connection_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    connection = Connection(Scripted(near))
    seen = [connection.get_extra_info("is_readable")]
    far.send(b"HTTP/1.1 200 OK")
    seen.append(connection.get_extra_info("is_readable"))
    near.recv(100)
    seen.append(connection.get_extra_info("is_readable"))
    far.close()
    seen.append(connection.get_extra_info("is_readable"))
    near.close()
    seen.append(connection.get_extra_info("is_readable"))
    assert seen == [False, True, False, True, True]


def test_what_caused_a_fault_is_found_however_it_was_chained() -> None:
    root, middle, fault = ssl.SSLError("untrusted"), OSError(), httpcore.ConnectError()
    middle.__context__, fault.__cause__ = root, middle
    assert list(causes(fault)) == [fault, middle, root]


@pytest.mark.parametrize(
    ("cause", "by_tls"),
    [
        (ssl.SSLError("untrusted"), True),
        (ssl.SSLCertVerificationError("expired"), True),
        (ssl.SSLWantReadError(), False),
        (ssl.SSLWantWriteError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_tls_is_at_fault_where_it_failed_itself(cause: Exception, *, by_tls: bool) -> None:
    fault = httpcore.ConnectError()
    fault.__cause__ = cause
    assert caused_by_tls(fault) is by_tls
