"""A connection knows whether it was answered, and whether something arrived that nobody asked for."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any

import httpcore
import pytest

from exporter.api.connection import Connection, Network, caused_by_tls, causes
from exporter.api.transport import TransportError

pytestmark = pytest.mark.anyio


@dataclass
class Scripted(httpcore.AsyncNetworkStream):
    """Answers each read with the next of `received`; an exception is raised."""

    received: list[bytes | BaseException] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    readable: bool = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 -- httpcore's signature
        del max_bytes, timeout
        answer = self.received.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- httpcore's signature
        del timeout
        self.written.append(buffer)

    async def aclose(self) -> None: ...

    def get_extra_info(self, info: str) -> Any:
        return self.readable if info == "is_readable" else None


def connection_over(stream: Scripted) -> Connection:
    return Connection(stream, Network(httpcore.AnyIOBackend(), limit=10), ("api.example", 443))


async def test_a_connection_is_answering_from_the_first_byte_to_the_next_request() -> None:
    stream = Scripted([b"HTTP/1.1 200"])
    connection = connection_over(stream)
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
async def test_an_end_before_the_answer_is_one_that_may_be_tried_again(end: bytes | Exception) -> None:
    connection = connection_over(Scripted([end]))
    await connection.write(b"GET")
    with pytest.raises(TransportError, match="cut before an answer") as caught:
        await connection.read(100)
    assert caught.value.unanswered


async def test_an_end_within_the_answer_is_none() -> None:
    connection = connection_over(Scripted([b"HTTP", b"", b"/1.1", httpcore.ReadError("reset")]))
    assert [await connection.read(100) for _ in range(3)] == [b"HTTP", b"", b"/1.1"]
    with pytest.raises(httpcore.ReadError):
        await connection.read(100)


def test_a_connection_is_readable_when_its_stream_is() -> None:
    stream = Scripted()
    connection = connection_over(stream)
    seen = [bool(connection.get_extra_info("is_readable"))]
    stream.readable = True
    seen.append(bool(connection.get_extra_info("is_readable")))
    assert seen == [False, True]


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


# ---- dead connections


@dataclass
class Clock:
    now: float = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("exporter.api.connection.anyio.current_time", lambda: clock.now)
    return clock


class Idle:
    """A connection of one network that was asked and has answered once."""

    def __init__(self, network: Network, port: int = 443) -> None:
        self.stream = Scripted()
        self.connection = Connection(self.stream, network, ("api.example", port))

    async def ask(self, outcome: bytes | BaseException = b"HTTP/1.1 200 OK") -> None:
        self.stream.received.append(outcome)
        await self.connection.write(b"GET / HTTP/1.1")
        await self.connection.read(100)

    @property
    def trusted(self) -> bool:
        return not self.connection.get_extra_info("is_readable")


DEATHS: dict[str, bytes | BaseException] = {
    "end": b"",
    "reset": httpcore.ReadError("reset"),
    "silence": asyncio.CancelledError(),
}


@pytest.mark.parametrize("death", DEATHS)
async def test_a_connection_found_dead_condemns_those_to_the_same_address_that_are_idle_for_as_long(
    death: str, clock: Clock
) -> None:
    network = Network(httpcore.AnyIOBackend(), limit=10)
    dead, idle, elsewhere = Idle(network), Idle(network), Idle(network, port=8443)
    for each in (dead, idle, elsewhere):
        await each.ask()
        clock.now += 1
    clock.now = 15
    with pytest.raises((TransportError, asyncio.CancelledError)):
        await dead.ask(DEATHS[death])
    clock.now = 20
    fresh = Idle(network)
    await fresh.ask()
    assert (idle.trusted, elsewhere.trusted, fresh.trusted) == (False, True, True)


async def test_a_hanging_call_condemns_nobody_while_another_old_connection_answers(clock: Clock) -> None:
    network = Network(httpcore.AnyIOBackend(), limit=10)
    hanging, answering, idle = (Idle(network) for _ in range(3))
    for each in (hanging, answering, idle):
        await each.ask()
    clock.now = 15
    hanging.stream.received.append(asyncio.CancelledError())
    await hanging.connection.write(b"GET / HTTP/1.1")
    clock.now = 16
    await answering.ask()
    clock.now = 20
    with pytest.raises(asyncio.CancelledError):
        await hanging.connection.read(100)
    assert idle.trusted


async def test_a_first_call_that_fails_says_nothing_of_other_connections(clock: Clock) -> None:
    network = Network(httpcore.AnyIOBackend(), limit=10)
    idle = Idle(network)
    await idle.ask()
    clock.now = 15
    with pytest.raises(TransportError):
        await Idle(network).ask(b"")
    assert idle.trusted
