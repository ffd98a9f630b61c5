"""A connection's bytes: in order, none lost, not more than is read, and each end has its name."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import httpcore
import pytest
import trustme

from exporter.api.byte_stream import UNREAD_LIMIT_BYTES, ByteStream, ByteStreamBackend, Inbox
from exporter.api.connection import caused_by_tls
from tests.faulty_server import Connection, Server, refusing, serving
from tests.simulated_time import SIMULATED_TIME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

PIECE_BYTES = 64 * 1024


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


async def connected(server: Server) -> httpcore.AsyncNetworkStream:
    return await ByteStreamBackend().connect_tcp("127.0.0.1", port_of(server.base_url))


def port_of(base_url: str) -> int:
    return int(base_url.removesuffix("/v1").rpartition(":")[2])


def saying(*parts: bytes, then: str = "close") -> Callable[[Connection], Awaitable[None]]:
    """Send the parts one by one, and end as `then` says."""

    async def behave(connection: Connection) -> None:
        await connection.send(*parts, gap_s=0.01)
        if then == "reset":
            connection.reset()
        if then == "hang":
            await connection.hang()

    return behave


async def all_of(stream: httpcore.AsyncNetworkStream, max_bytes: int = PIECE_BYTES) -> list[bytes]:
    pieces = []
    while piece := await stream.read(max_bytes):
        pieces.append(piece)
    return pieces


async def test_what_is_sent_arrives_in_order_and_in_pieces_that_are_not_too_large() -> None:
    async with serving(saying(b"abcde", b"fg")) as server:
        stream = await connected(server)
        await asyncio.sleep(1)
        assert await all_of(stream, 2) == [b"ab", b"cd", b"e", b"fg"]
        await stream.aclose()


async def test_what_came_before_a_reset_is_read_before_it_is_a_fault() -> None:
    async with serving(saying(b"abc", then="reset")) as server:
        stream = await connected(server)
        assert await stream.read(PIECE_BYTES) == b"abc"
        with pytest.raises(httpcore.ReadError):
            await stream.read(PIECE_BYTES)
        await stream.aclose()


async def test_a_read_that_is_cut_short_loses_nothing() -> None:
    async with serving(saying(b"", b"abc", then="hang")) as server:
        stream = await connected(server)
        reading = asyncio.ensure_future(stream.read(PIECE_BYTES))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.sleep(1)
        assert await stream.read(PIECE_BYTES) == b"abc"
        await stream.aclose()


class Listening(asyncio.Transport):
    """Tells whether the server is listened to."""

    def __init__(self) -> None:
        super().__init__()
        self.listens = True

    def pause_reading(self) -> None:
        assert self.listens
        self.listens = False

    def resume_reading(self) -> None:
        assert not self.listens
        self.listens = True

    def is_closing(self) -> bool:
        return False


async def test_a_server_is_not_listened_to_while_much_is_unread_and_nothing_is_lost() -> None:
    inbox, transport = Inbox(), Listening()
    stream = ByteStream(transport, inbox)
    inbox.connection_made(transport)
    listened = []
    for _ in range(UNREAD_LIMIT_BYTES // PIECE_BYTES + 2):
        inbox.data_received(b"x" * PIECE_BYTES)
        listened.append(transport.listens)
    read_bytes = 0
    for _ in tuple(listened):
        read_bytes += len(await stream.read(2 * PIECE_BYTES))
        listened.append(transport.listens)
    assert listened == [True] * 4 + [False] * 2 + [False] + [True] * 5
    assert read_bytes == UNREAD_LIMIT_BYTES + 2 * PIECE_BYTES


async def test_what_came_unasked_and_every_end_make_a_connection_readable() -> None:
    async with serving(saying(b"", b"unasked", then="close")) as server:
        stream = await connected(server)
        seen = [stream.get_extra_info("is_readable")]
        await asyncio.sleep(0.015)
        seen.append(stream.get_extra_info("is_readable"))
        await stream.read(PIECE_BYTES)
        seen.append(stream.get_extra_info("is_readable"))
        await asyncio.sleep(1)
        seen.append(stream.get_extra_info("is_readable"))
    async with serving(saying(then="hang")) as server:
        stream = await connected(server)
        await stream.aclose()
        seen.append(stream.get_extra_info("is_readable"))
    assert seen == [False, True, False, True, True]


async def test_what_the_kernel_holds_and_the_loop_has_not_seen_makes_a_connection_readable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = await ByteStreamBackend().connect_tcp("127.0.0.1", listener.getsockname()[1])
        far, _ = listener.accept()
        assert not stream.get_extra_info("is_readable")
        far.send(b"unasked")
        assert stream.get_extra_info("is_readable")
        far.close()
        await stream.aclose()


async def test_a_host_whose_first_address_refuses_is_reached_by_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(b"abc")) as server:
        loop, port = asyncio.get_running_loop(), port_of(server.base_url)
        with refusing() as elsewhere:
            ports = port_of(elsewhere), port

            async def getaddrinfo(*_: object, **__: object) -> list[object]:
                return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", p)) for p in ports]

            monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
            stream = await ByteStreamBackend().connect_tcp("api.example", port)
        assert await all_of(stream) == [b"abc"]
        await stream.aclose()


async def test_a_refused_connection_is_a_fault_that_names_its_cause() -> None:
    with refusing() as base_url, pytest.raises(httpcore.ConnectError) as caught:
        await ByteStreamBackend().connect_tcp("127.0.0.1", port_of(base_url))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def close(connection: Connection) -> None:
    await connection.reader.read(1)
    connection.writer.close()


async def reset(connection: Connection) -> None:
    await connection.reader.read(1)
    raw: socket.socket = connection.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


@pytest.mark.parametrize(
    ("behave", "by_tls"),
    [(saying(b"HTTP/1.1 400", then="hang"), True), (close, True), (reset, False)],
    ids=["speaks first", "ends it", "resets it"],
)
async def test_a_handshake_that_fails_is_tls_s_fault_unless_the_connection_was_cut(
    behave: Callable[[Connection], Awaitable[None]], trusting: ssl.SSLContext, *, by_tls: bool
) -> None:
    async with serving(behave) as server:
        stream = await connected(server)
        with pytest.raises(httpcore.ConnectError) as caught:
            await stream.start_tls(trusting, "127.0.0.1")
        assert stream.get_extra_info("is_readable")
    assert caused_by_tls(caught.value) is by_tls


async def test_a_server_that_spoke_before_the_handshake_is_no_tls_server(trusting: ssl.SSLContext) -> None:
    async with serving(saying(b"SSH-2.0", then="hang")) as server:
        stream = await connected(server)
        await asyncio.sleep(1)
        with pytest.raises(httpcore.ConnectError) as caught:
            await stream.start_tls(trusting, "127.0.0.1")
    assert caused_by_tls(caught.value)


async def test_tls_can_be_spoken_within_tls(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "inner.example").configure_cert(context)

    async def behave(connection: Connection) -> None:
        await connection.writer.start_tls(context)
        await connection.send(await connection.reader.readexactly(3))
        await connection.hang()

    async with serving(behave, context) as server:
        outer = await (await connected(server)).start_tls(trusting, "127.0.0.1")
        inner = await outer.start_tls(trusting, "inner.example")
        await inner.write(b"abc")
        assert await inner.read(PIECE_BYTES) == b"abc"
        await inner.aclose()
