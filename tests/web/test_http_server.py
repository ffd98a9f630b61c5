"""The server around the routes, against clients that are slow, hostile or gone. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import re
import select
import socket
import ssl
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.web.addresses import listen
from exporter.web.http_server import ACCEPT_FAILED, Limits, _LoopErrors, serve
from tests.ample import AMPLE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import trustme
    from starlette.requests import Request

GET = b"GET / HTTP/1.1\r\nHost: exporter\r\n\r\n"
BIG = 16 * 1024 * 1024
"""Bytes: more than the kernel keeps for a connection on either side."""
QUICK = Limits(receive_s=0.4, keep_alive_s=600, read_s=0.5, leave_s=0.4)
PATIENT = Limits(receive_s=600, keep_alive_s=600, read_s=600, leave_s=600)
SOON_S = AMPLE_S
"""Far less than a patient server waits, far more than a busy machine needs for anything here."""


@dataclass
class Served:
    """A server in a thread. `release` lets `/slow` answer; `stop` ends the server and tells how long that took."""

    port: int
    release: threading.Event = field(default_factory=threading.Event)
    stop: Callable[[], float] = lambda: 0.0


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello\n")


async def _big(_: Request) -> Response:
    return Response(bytes(BIG))


@contextmanager
def served(
    limits: Limits = PATIENT,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    listener: socket.socket | None = None,
) -> Iterator[Served]:
    listener = listener or listen("127.0.0.1:0")[0]
    running = Served(listener.getsockname()[1])

    async def slow(_: Request) -> Response:
        await anyio.to_thread.run_sync(running.release.wait, abandon_on_cancel=True)
        return PlainTextResponse("at last\n")

    app = Starlette(routes=[Route("/", _hello), Route("/big", _big), Route("/slow", slow)])
    with anyio.from_thread.start_blocking_portal() as portal:
        stop = portal.call(anyio.Event)
        ending = portal.start_task_soon(partial(serve, app, [listener], stop=stop, tls=tls, limits=limits))

        def end() -> float:
            started = time.monotonic()
            portal.call(stop.set)
            ending.result(timeout=2 * SOON_S)
            return time.monotonic() - started

        running.stop = end
        try:
            yield running
        finally:
            running.release.set()
            if not ending.done():
                end()


def connected(running: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=SOON_S)


def closed_after_s(client: socket.socket) -> float:
    """Tell how long it takes the server to close the connection; what it sends until then is read."""
    started = time.monotonic()
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


def answer(client: socket.socket, request: bytes = GET) -> bytes:
    """Send the request and return the answer's headers; its body is read as well."""
    client.sendall(request)
    with client.makefile("rb") as stream:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (line := stream.readline()):
            head += line
        length = re.search(rb"content-length: ([0-9]+)", head)
        stream.read(int(length[1]) if length else 0)
    return head


def timed_answer(running: Served) -> float:
    """Tell how long a well-behaved client waits, from its connection on."""
    started = time.monotonic()
    with connected(running) as client:
        assert answer(client).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - started


# ---- slow clients


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HT", id="half a request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: exporter\r\n", id="headers without an end"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: exporter\r\nContent-Length: 10\r\n\r\n12345", id="half a body"),
        pytest.param(GET + b"GET / HTTP/1.1\r\n", id="half a second request"),
    ],
)
def test_a_request_that_does_not_arrive_in_time_ends_its_connection(sent: bytes) -> None:
    with served(QUICK) as running, connected(running) as client:
        client.sendall(sent)
        assert 0.2 < closed_after_s(client) < SOON_S


def test_dripping_does_not_renew_the_deadline() -> None:
    with served(QUICK) as running, connected(running) as client:
        client.settimeout(0.05)
        client.sendall(b"GET / HTTP/1.1\r\n")
        started = time.monotonic()
        while time.monotonic() - started < SOON_S and _drip(client):
            pass
        assert time.monotonic() - started < SOON_S


def _drip(client: socket.socket) -> bool:
    """Send a little more of a request; tell whether the connection is still open."""
    try:
        client.sendall(b"X: y\r\n")
        return bool(client.recv(1))
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_a_connection_is_kept_between_requests_longer_than_a_request_may_take() -> None:
    with served(QUICK) as running, connected(running) as client:
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        client.settimeout(QUICK.receive_s * 1.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SOON_S)
        assert answer(client).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_is_closed_in_the_end() -> None:
    with served(Limits(receive_s=600, keep_alive_s=1)) as running, connected(running) as client:
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        assert closed_after_s(client) < SOON_S


def test_an_answer_under_way_has_all_the_time_it_needs() -> None:
    with served(QUICK) as running, connected(running) as client:
        client.sendall(GET.replace(b" / ", b" /slow "))
        client.settimeout(QUICK.receive_s * 2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        running.release.set()
        client.settimeout(SOON_S)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_does_not_read_its_answer_is_dropped() -> None:
    with served(QUICK) as running, connected(running) as client:
        client.sendall(GET.replace(b" / ", b" /big "))
        assert reset_within(client, s=SOON_S)


def reset_within(client: socket.socket, *, s: float) -> bool:
    """Tell whether the connection is reset, without reading anything from it."""
    waiting = select.poll()
    waiting.register(client, 0)
    return bool(waiting.poll(s * 1000))


# ---- what is not taken


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 65537", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked"],
)
def test_a_long_body_is_rejected_before_it_is_read(framing: bytes) -> None:
    with served() as running, connected(running) as client:
        request = b"POST / HTTP/1.1\r\nHost: exporter\r\n" + framing + b"\r\n\r\n"
        assert answer(client, request).startswith(b"HTTP/1.1 413 ")
        assert closed_after_s(client) < SOON_S


def test_a_short_body_is_ignored() -> None:
    with served() as running, connected(running) as client:
        request = b"GET / HTTP/1.1\r\nHost: exporter\r\nContent-Length: 5\r\n\r\n12345"
        assert answer(client, request).startswith(b"HTTP/1.1 200 ")
        assert answer(client).startswith(b"HTTP/1.1 200 ")


def test_another_method_gets_the_allowed_ones() -> None:
    with served() as running, connected(running) as client:
        got = answer(client, GET.replace(b"GET", b"DELETE"))
    assert got.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: HEAD, GET\r\n" in got or b"\r\nallow: GET, HEAD\r\n" in got


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"X: " + b"y" * 1_000_000 + b"\r\n", id="one endless header"),
        pytest.param(b"a:\r\n" * 250_000, id="endlessly many headers"),
        pytest.param(b"x" * 1_000_000, id="no header at all"),
    ],
)
def test_a_flood_of_headers_is_cut_off_and_delays_nobody(flood: bytes) -> None:
    with served(PATIENT) as running, ExitStack() as stack:
        floods = [stack.enter_context(connected(running)) for _ in range(10)]
        for client in floods:
            threading.Thread(target=_pour, args=(client, flood), daemon=True).start()
        assert timed_answer(running) < SOON_S
        assert all(closed_after_s(client) < SOON_S for client in floods)


def _pour(client: socket.socket, flood: bytes) -> None:
    try:
        client.sendall(b"GET / HTTP/1.1\r\nHost: exporter\r\n" + flood)
    except OSError:
        return


def test_what_is_not_http_gets_400() -> None:
    with served() as running, connected(running) as client:
        assert answer(client, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")


# ---- many clients


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: exporter\r\nX: ", id="in the middle of a header"),
        pytest.param(GET, id="idle after a request"),
    ],
)
def test_when_the_table_is_full_a_new_connection_is_served(start: bytes) -> None:
    with served(Limits(connections=20, receive_s=600)) as running, ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(connected(running))
            client.sendall(start)
        for _ in range(5):
            assert timed_answer(running) < SOON_S


def test_the_connection_that_has_waited_longest_for_its_client_makes_room() -> None:
    with served(Limits(connections=3, receive_s=600)) as running, ExitStack() as stack:
        scraper = stack.enter_context(connected(running))
        assert answer(scraper).startswith(b"HTTP/1.1 200 ")
        slow = [stack.enter_context(connected(running)) for _ in range(2)]
        for client in slow:
            client.sendall(b"GET")
        assert timed_answer(running) < SOON_S
        assert closed_after_s(slow[0]) < SOON_S
        assert answer(scraper).startswith(b"HTTP/1.1 200 ")


def test_only_so_many_clients_may_leave_their_answers_unread() -> None:
    with served(Limits(stalled=2, read_s=600)) as running, ExitStack() as stack:
        clients = [stack.enter_context(connected(running)) for _ in range(6)]
        for client in clients:
            client.sendall(GET.replace(b" / ", b" /big "))
            client.recv(1)
        assert timed_answer(running) < SOON_S
        assert all(reset_within(client, s=SOON_S) for client in clients[:4])
        assert not any(reset_within(client, s=0.2) for client in clients[4:])


# ---- TLS


def server_side(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(authority: trustme.CA) -> None:
    context = server_side(authority)
    with served(tls=lambda: context) as running:
        for _ in range(5):
            with connected(running) as plain:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = client_side(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
                _handshake(tls, incoming, outgoing, plain)
                tls.write(GET)
                plain.sendall(outgoing.read())  # the handshake's last message and the request in one piece
                assert _decrypted(tls, incoming, plain).startswith(b"HTTP/1.1 200 ")


def _handshake(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: socket.socket) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65536))
        else:
            return


def _decrypted(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: socket.socket) -> bytes:
    while True:
        try:
            return tls.read(65536)
        except ssl.SSLWantReadError:
            incoming.write(plain.recv(65536))


def test_each_connection_gets_the_certificate_in_force_when_it_comes(authority: trustme.CA) -> None:
    context = [server_side(authority)]
    with served(tls=lambda: context[0]) as running, connected(running) as first:
        kept = client_side(authority).wrap_socket(first, server_hostname="localhost")
        context[0] = server_side(authority, "elsewhere")
        with connected(running) as second, pytest.raises(ssl.SSLCertVerificationError):
            client_side(authority).wrap_socket(second, server_hostname="localhost")
        with connected(running) as third:
            renewed = client_side(authority).wrap_socket(third, server_hostname="elsewhere")
            assert answer(renewed).startswith(b"HTTP/1.1 200 ")
            assert answer(kept).startswith(b"HTTP/1.1 200 ")
            renewed.close()
        kept.close()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", GET])
def test_a_handshake_that_does_not_happen_ends_its_connection(sent: bytes, authority: trustme.CA) -> None:
    context = server_side(authority)
    with served(QUICK, tls=lambda: context) as running, connected(running) as client:
        client.sendall(sent)
        assert closed_after_s(client) < SOON_S


def test_handshakes_that_do_not_happen_count_as_connections(authority: trustme.CA) -> None:
    context = server_side(authority)
    with (
        served(Limits(connections=20, receive_s=600), tls=lambda: context) as running,
        ExitStack() as stack,
    ):
        for _ in range(60):
            stack.enter_context(connected(running))
        started = time.monotonic()
        plain = stack.enter_context(connected(running))
        client = client_side(authority).wrap_socket(plain, server_hostname="localhost")
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - started < SOON_S
        client.close()


# ---- the end


def test_the_end_lets_an_answer_under_way_be_finished() -> None:
    with served() as running, connected(running) as client:
        client.sendall(GET.replace(b" / ", b" /slow "))
        threading.Timer(0.5, running.release.set).start()
        assert running.stop() < SOON_S
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_takes_longer_is_cut_short_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with served(Limits(drain_s=1)) as running, connected(running) as client:
        client.sendall(GET.replace(b" / ", b" /slow "))
        client.sendall(GET)
        assert timed_answer(running) < SOON_S
        assert running.stop() < SOON_S
    assert [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_clients_do_not_hold_up_the_end() -> None:
    with served(Limits(receive_s=600, keep_alive_s=600, drain_s=1)) as running, ExitStack() as stack:
        for start in (b"", b"GET", GET, b"\r\r\r\r nonsense\r\n\r\n", GET.replace(b" / ", b" /big "), GET * 50):
            client = stack.enter_context(connected(running))
            client.sendall(start)
        assert timed_answer(running) < SOON_S
        assert running.stop() < SOON_S


def test_handshakes_do_not_hold_up_the_end(authority: trustme.CA) -> None:
    context = server_side(authority)
    with served(Limits(receive_s=600, drain_s=1), tls=lambda: context) as running, connected(running):
        assert running.stop() < SOON_S


def test_the_end_comes_while_a_connection_is_being_closed(authority: trustme.CA) -> None:
    """Over TLS that lasts until the client says that it closes too; asyncio forgets a connection that is closed twice."""
    context = server_side(authority)
    with served(Limits(leave_s=600), tls=lambda: context) as running, connected(running) as plain:
        client = client_side(authority).wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert running.stop() < SOON_S
        client.close()


# ---- out of descriptors


class _Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left for the first `failures` connections."""

    failures = 5000

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_that_no_descriptor_is_left_is_said_once_and_ends_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    (listener,) = listen("127.0.0.1:0")
    exhausted = _Exhausted(fileno=listener.detach())
    with served(listener=exhausted) as server, connected(server) as client:
        client.sendall(GET)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "no connection can be accepted: [Errno 24] Too many open files; raise the limit of open files"
    ]


def test_a_listener_that_is_closed_before_it_is_tried_again_fills_no_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.01)
    (listener,) = listen("127.0.0.1:0")
    exhausted = _Exhausted(fileno=listener.detach())
    exhausted.failures = sys.maxsize

    async def serve_and_close() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_LoopErrors())
        server = await loop.create_server(asyncio.Protocol, sock=exhausted)
        with socket.create_connection(exhausted.getsockname()):
            while exhausted.failures == sys.maxsize:  # noqa: ASYNC110 -- the loop itself accepts, and tells nobody
                await asyncio.sleep(0)
            server.close()
            await asyncio.sleep(0.1)

    asyncio.run(serve_and_close())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "no connection can be accepted: [Errno 24] Too many open files; raise the limit of open files"
    ]


def test_other_errors_of_the_loop_are_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    loop, handle = asyncio.new_event_loop(), _LoopErrors()
    for _ in range(2):
        handle(loop, {"message": "a defect"})
        handle(loop, {"message": ACCEPT_FAILED, "exception": OSError(errno.ENFILE, "Too many open files in system")})
    loop.close()
    assert [record.getMessage() for record in caplog.records] == [
        "a defect",
        "no connection can be accepted: [Errno 23] Too many open files in system; raise the limit of open files",
        "a defect",
    ]
