"""Whatever a server does: a reason of the closed set, in time, little memory, and the neighbours notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import os
import resource
import ssl
import traceback
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from exporter.api.client import ApiError, WorkApi
from exporter.api.connection import Network
from exporter.api.httpx_transport import ConnectOptions, HttpxTransport, tls_context
from exporter.api.transport import TransportError
from tests.api.api_context import API_KEY, STATS_CALL, Surroundings
from tests.faulty_server import STATS, Connection, answer, refusing, serving, unreachable, well
from tests.simulated_time import SIMULATED_TIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from exporter.api.client import Reason
    from exporter.api.wire import WorkStats

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.5
LIMIT_BYTES = 256 * 1024
MEBIBYTE = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
OTHER_STATS = STATS.replace(b'"depth":3', b'"depth":999')


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = tls_context()
    authority.configure_trust(context)
    return context


def tls_server(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


def as_https(base_url: str) -> str:
    return base_url.replace("http:", "https:")


@dataclass
class Reader:
    """One environment's client, and what became of its reads."""

    around: Surroundings
    api: WorkApi

    async def read(self) -> WorkStats | ApiError:
        self.api.begin("stats")
        try:
            return (await self.api.stats(STATS_CALL)).value
        except ApiError as failed:
            return failed

    async def reason(self) -> Reason:
        failed = await self.read()
        assert isinstance(failed, ApiError), failed
        return failed.reason

    async def depth(self) -> int:
        stats = await self.read()
        assert not isinstance(stats, ApiError), stats
        return stats.depth


@asynccontextmanager
async def reader(base_url: str, options: ConnectOptions, *, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Reader]:
    around = Surroundings()
    around.change(base_url=base_url, timeout_s=timeout_s)
    transport = HttpxTransport(lambda: options)
    api = WorkApi("env_a", around.context, transport, environment_key=None)
    try:
        yield Reader(around, api)
    finally:
        await api.aclose()


@pytest.fixture
def options(trusting: ssl.SSLContext) -> ConnectOptions:
    return ConnectOptions(tls=trusting, proxy_url=None, max_response_bytes=LIMIT_BYTES)


def now() -> float:
    """Return the loop's time, which passes only while everybody waits."""
    return asyncio.get_running_loop().time()


# ---- one fault at a time, beside a healthy neighbour


def once(*parts: bytes, then: str = "close", gap_s: float = 0.0) -> Callable[[Connection], Awaitable[None]]:
    """Send the parts after a request, then close, reset or hang."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(*parts, gap_s=gap_s)
        if then == "hang":
            await connection.hang()
        if then == "reset":
            await asyncio.sleep(0.01)
            connection.reset()

    return behave


def endless(start: bytes, part: bytes, *, gap_s: float = 0.0) -> Callable[[Connection], Awaitable[None]]:
    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(start)
        await connection.send_for_ever(part, gap_s=gap_s)

    return behave


async def close_at_once(connection: Connection) -> None:
    connection.writer.close()


async def reset_at_once(connection: Connection) -> None:
    connection.reset()


async def hang_at_once(connection: Connection) -> None:
    await connection.hang()


async def greet_first(connection: Connection) -> None:
    await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await connection.hang()


NESTED_BOMB = gzip.compress(gzip.compress(b"0" * 4 * MEBIBYTE))
FAULTS: dict[str, tuple[Callable[[Connection], Awaitable[None]], Reason, int]] = {
    # name: what the server does, the reason, how many calls are made
    "closes at once": (close_at_once, "protocol", 2),
    "resets at once": (reset_at_once, "protocol", 2),
    "closes after the request": (once(), "protocol", 2),
    "resets after the request": (once(then="reset"), "protocol", 2),
    "accepts and is silent": (hang_at_once, "timeout", 1),
    "is silent after the request": (once(then="hang"), "timeout", 1),
    "closes in the middle of the head": (once(b"HTTP/1.1 200 OK\r\nContent-"), "protocol", 1),
    "resets in the middle of the head": (once(b"HTTP/1.1 200 OK\r\n", then="reset"), "protocol", 1),
    "stalls in the middle of the head": (once(HEAD, then="hang"), "timeout", 1),
    "stalls after the head": (once(HEAD + b"Content-Length: 20\r\n\r\n", then="hang"), "timeout", 1),
    "stalls in the middle of the body": (once(HEAD + b"Content-Length: 20\r\n\r\n{", then="hang"), "timeout", 1),
    "drips the head": (endless(HEAD, b"X-Drip: 1\r\n", gap_s=0.02), "timeout", 1),
    "drips the body": (endless(HEAD + b"Content-Length: 9999\r\n\r\n", b" ", gap_s=0.02), "timeout", 1),
    "drips chunks": (endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", gap_s=0.02), "timeout", 1),
    "never ends the body": (endless(HEAD + b"\r\n", b" " * 16384), "too_large", 1),
    "never ends the chunks": (
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
        "too_large",
        1,
    ),
    "never ends a chunk's size": (endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 4096), "protocol", 1),
    "never ends the headers": (endless(HEAD, b"X-More: more\r\n" * 512), "protocol", 1),
    "never ends a header": (endless(HEAD + b"X-More: ", b"more" * 1024), "protocol", 1),
    "never ends the status line": (endless(b"HTTP/1.1 200 ", b"OK" * 1024), "protocol", 1),
    "never ends its provisional answers": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", gap_s=0.001), "timeout", 1),
    "announces too much": (once(HEAD + b"Content-Length: 9000000\r\n\r\n", then="hang"), "too_large", 1),
    "announces beyond numbers": (once(HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"), "protocol", 1),
    "truncates by length": (once(HEAD + b"Content-Length: 99\r\n\r\n" + STATS[:20]), "protocol", 1),
    "truncates a chunk": (once(HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\n" + STATS[:20]), "protocol", 1),
    "truncates by end of file": (once(HEAD + b"\r\n" + STATS[:20]), "bad_payload", 1),
    "resets in the middle of the body": (
        once(HEAD + b"Content-Length: 99\r\n\r\n" + STATS[:20], then="reset"),
        "protocol",
        1,
    ),
    "speaks no HTTP": (greet_first, "timeout", 1),
    "speaks HTTP 0.9": (once(STATS), "protocol", 1),
    "speaks HTTP 2": (once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "protocol", 1),
    "sends nothing but zeros": (endless(b"", b"\0" * 4096), "protocol", 1),
    "gives two lengths": (once(HEAD + b"Content-Length: 2\r\nContent-Length: 93\r\n\r\n" + STATS), "protocol", 1),
    "gives a negative length": (once(HEAD + b"Content-Length: -1\r\n\r\n" + STATS), "protocol", 1),
    "gives an unknown coding": (once(HEAD + b"Transfer-Encoding: rot13\r\n\r\n" + STATS), "protocol", 1),
    "gives a nonsense chunk size": (once(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "protocol", 1),
    "upgrades": (
        once(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", then="hang"),
        "protocol",
        1,
    ),
    "sends a bomb": (
        once(answer(gzip.compress(b"0" * 16 * MEBIBYTE), Content_Encoding="gzip"), then="hang"),
        "protocol",
        1,
    ),
    "sends a nested bomb": (once(answer(NESTED_BOMB, Content_Encoding="gzip, gzip"), then="hang"), "protocol", 1),
    "sends a bomb without a word": (once(answer(NESTED_BOMB), then="hang"), "bad_payload", 1),
    "sends a page of HTML": (
        once(answer(b"<html>sign in</html>", Content_Type="text/html"), then="hang"),
        "bad_payload",
        1,
    ),
    "sends a page of HTML as 502": (once(answer(b"<html>bad gateway</html>", 502, Connection="close")), "server", 2),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_has_its_reason_and_the_neighbour_is_exact_and_in_time(
    fault: str, options: ConnectOptions
) -> None:
    behave, reason, calls = FAULTS[fault]
    async with (
        serving(behave) as broken,
        serving(well) as sound,
        reader(broken.base_url, options) as sick,
        reader(sound.base_url, options) as healthy,
    ):
        started_at = now()
        sick_task = asyncio.ensure_future(sick.reason())
        depths = [await healthy.depth() for _ in range(5)]
        healthy_s = now() - started_at
        assert await sick_task == reason
        sick_s = now() - started_at
        assert len(sick.around.observer.sent) == calls
    assert depths == [3] * 5
    assert healthy_s < 0.1
    assert sick_s == pytest.approx(TIMEOUT_S) if reason == "timeout" else sick_s < 0.1


async def test_a_server_that_recovers_is_read_at_once_after_any_fault(options: ConnectOptions) -> None:
    behaviours = [behave for behave, _, _ in FAULTS.values()]

    async def behave(connection: Connection) -> None:
        await (behaviours.pop() if behaviours else well)(connection)

    async with serving(behave) as server, reader(server.base_url, options, timeout_s=0.05) as sick:
        while behaviours:
            await sick.read()
        await sick.read()
        assert [await sick.depth() for _ in range(3)] == [3] * 3


# ---- no connection


async def test_a_refused_connection_is_a_fault_of_connecting(options: ConnectOptions) -> None:
    with refusing() as base_url:
        async with reader(base_url, options) as sick:
            assert await sick.reason() == "connect"
            assert sick.around.observer.sent == [("stats", "connect")] * 2


async def test_a_connection_that_hangs_times_out(options: ConnectOptions) -> None:
    with unreachable() as base_url:
        async with reader(base_url, options) as sick:
            started_at = now()
            assert await sick.reason() == "timeout"
            assert now() - started_at == pytest.approx(TIMEOUT_S)


async def test_a_host_that_does_not_exist_is_a_fault_of_connecting(options: ConnectOptions) -> None:
    async with reader("http://nowhere.invalid/v1", options, timeout_s=5) as sick:
        assert await sick.reason() == "connect"


@pytest.mark.parametrize("status", [403, 407, 502])
@pytest.mark.parametrize("credentials", ["", "user:canary@"])
async def test_a_proxy_that_refuses_is_named_with_its_status_and_without_credentials(
    status: int, credentials: str, trusting: ssl.SSLContext
) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(b"", status))

    async with serving(refuse) as proxy:
        address = proxy.base_url.removeprefix("http://").removesuffix("/v1")
        options = ConnectOptions(
            tls=trusting, proxy_url=f"http://{credentials}{address}", max_response_bytes=LIMIT_BYTES
        )
        async with reader("https://api.example/v1", options) as proxied:
            failed = await proxied.read()
        assert isinstance(failed, ApiError)
        assert (failed.reason, str(failed)) == ("connect", f"the proxy {address} answered {status}")
        assert proxy.connections == (2 if status >= 500 else 1)


async def test_a_proxy_that_demands_a_login_is_named_also_where_it_only_forwards(trusting: ssl.SSLContext) -> None:
    async with serving(once(answer(b"", 407), then="hang")) as proxy:
        address = proxy.base_url.removeprefix("http://").removesuffix("/v1")
        options = ConnectOptions(tls=trusting, proxy_url=f"http://{address}", max_response_bytes=LIMIT_BYTES)
        async with reader("http://api.example/v1", options) as proxied:
            failed = await proxied.read()
        assert isinstance(failed, ApiError)
        assert (failed.reason, str(failed)) == ("connect", f"the proxy {address} answered 407")


def bytes_held(failed: BaseException | None) -> int:
    """Return how much the exception keeps in memory with the variables of its traceback and of those before it."""
    held = 0
    while failed is not None:
        for frame, _ in traceback.walk_tb(failed.__traceback__):
            held += sum(len(each) for each in frame.f_locals.values() if isinstance(each, bytearray))
        failed = failed.__cause__ or failed.__context__
    return held


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * (LIMIT_BYTES - 1), b"xx"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x" * 500),
    ],
    ids=["too large", "cut short"],
)
async def test_a_body_that_is_given_up_is_kept_by_nobody(parts: Sequence[bytes], options: ConnectOptions) -> None:
    async with serving(once(*parts)) as server:
        transport = HttpxTransport(lambda: options)
        with pytest.raises(TransportError) as caught:
            await transport.get(server.base_url, query={}, headers={}, timeout_s=TIMEOUT_S)
        assert bytes_held(caught.value) == 0
        await transport.aclose()


@pytest.mark.parametrize("credentials", ["", "user:canary@"])
async def test_a_proxy_that_cannot_be_reached_is_named(credentials: str, trusting: ssl.SSLContext) -> None:
    with refusing() as base_url:
        refuses = base_url.removeprefix("http://").removesuffix("/v1")
        for address, why in ((refuses, "refused by the host"), ("no.invalid:3128", "the host's name was not found")):
            url = f"http://{credentials}{address}"
            options = ConnectOptions(tls=trusting, proxy_url=url, max_response_bytes=LIMIT_BYTES)
            async with reader("https://api.example/v1", options, timeout_s=5) as proxied:
                failed = await proxied.read()
            assert isinstance(failed, ApiError)
            assert (failed.reason, str(failed)) == ("connect", f"no connection to the proxy {address}: {why}")


async def test_an_http_proxy_is_used_and_its_refusal_is_a_fault_of_connecting(trusting: ssl.SSLContext) -> None:
    heads = []

    async def refuse(connection: Connection) -> None:
        heads.append(await connection.request())
        await connection.send(answer(b"", 407))

    async def forward(connection: Connection) -> None:
        heads.append(await connection.request())
        await connection.send(answer())

    for behave, base_url in ((forward, "http://api.example/v1"), (refuse, "https://api.example/v1")):
        async with serving(behave) as proxy:
            options = ConnectOptions(
                tls=trusting, proxy_url=proxy.base_url.removesuffix("/v1"), max_response_bytes=LIMIT_BYTES
            )
            async with reader(base_url, options) as proxied:
                read = await proxied.read()
                assert read.reason == "connect" if isinstance(read, ApiError) else read.depth == 3
    assert heads[0].startswith(b"GET http://api.example/v1/environments/env_a/work/stats HTTP/1.1\r\n")
    assert heads[1].startswith(b"CONNECT api.example:443 HTTP/1.1\r\n")
    assert API_KEY.encode() not in heads[1]


@pytest.mark.parametrize("death", ["silence", "reset"])
async def test_after_a_failover_one_dead_connection_is_enough_to_renew_those_of_all_environments(
    death: str, options: ConnectOptions
) -> None:
    failed_over = asyncio.Event()

    async def behave(connection: Connection) -> None:
        before = not failed_over.is_set()
        while True:
            await connection.request()
            if before and failed_over.is_set():
                if death == "silence":
                    await connection.hang()
                connection.reset()
                return
            await connection.send(answer())

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(behave))
        readers = [await stack.enter_async_context(reader(server.base_url, options)) for _ in range(5)]
        for each in readers:
            await each.depth()
        failed_over.set()
        await asyncio.sleep(15)
        first = await readers[0].read()
        assert isinstance(first, ApiError) is (death == "silence")
        for each in readers[1:]:
            assert await each.depth() == 3
            assert each.around.observer.sent == [("stats", "200")] * 2
        assert server.connections <= 11


async def test_there_are_never_more_idle_connections_than_the_limit_whatever_the_number_of_environments(
    trusting: ssl.SSLContext,
) -> None:
    network = Network(httpcore.AnyIOBackend(), limit=5)
    options = ConnectOptions(tls=trusting, proxy_url=None, max_response_bytes=LIMIT_BYTES, network=network)
    before = descriptors()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(well))
        readers = [await stack.enter_async_context(reader(server.base_url, options)) for _ in range(30)]
        for _ in range(3):
            for each in readers:
                assert await each.depth() == 3
                assert descriptors() - before <= 2 * 5 + 4  # both ends are in this process
        fresh = server.connections
        assert [await each.depth() for each in readers[-5:]] == [3] * 5
        assert server.connections == fresh


async def test_a_server_is_reached_by_its_ipv6_address(options: ConnectOptions) -> None:
    heads = []

    async def behave(connection: Connection) -> None:
        heads.append(await connection.request())
        await connection.send(answer())

    async with serving(behave, host="::1") as server, reader(server.base_url, options) as healthy:
        assert await healthy.depth() == 3
    host = server.base_url.removeprefix("http://").removesuffix("/v1").encode()
    assert heads[0].startswith(b"GET /v1/environments/env_a/work/stats HTTP/1.1\r\nhost: " + host)


# ---- TLS


async def test_a_trusted_server_is_read_over_tls(options: ConnectOptions, authority: trustme.CA) -> None:
    async with serving(well, tls_server(authority)) as server, reader(server.base_url, options) as healthy:
        assert [await healthy.depth() for _ in range(3)] == [3] * 3
        assert server.connections == 1


@pytest.mark.parametrize("flaw", ["untrusted", "wrong host", "plain text"])
async def test_a_server_that_cannot_prove_itself_is_a_fault_of_tls(
    options: ConnectOptions, authority: trustme.CA, flaw: str
) -> None:
    context = {
        "untrusted": tls_server(trustme.CA()),
        "wrong host": tls_server(authority, "elsewhere.example"),
        "plain text": None,
    }[flaw]
    requests: list[bytes] = []

    async def behave(connection: Connection) -> None:
        if context is None:
            await connection.send(answer(b"", 400))
        requests.append(await connection.request())

    async with serving(behave, context) as server, reader(as_https(server.base_url), options) as sick:
        assert await sick.reason() == "tls"
        assert sick.around.observer.sent == [("stats", "tls")]
    assert requests == []


async def test_a_server_that_demands_a_certificate_is_a_fault_of_tls(
    options: ConnectOptions, authority: trustme.CA
) -> None:
    context = tls_server(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = (
        ssl.TLSVersion.TLSv1_2
    )  # the refusal is part of the handshake, so no reset can overtake it
    authority.configure_trust(context)
    async with serving(well, context) as server, reader(server.base_url, options) as sick:
        assert await sick.reason() == "tls"


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_cut_under_tls_is_a_cut_and_is_tried_again(
    options: ConnectOptions, authority: trustme.CA, then: str
) -> None:
    async with serving(once(then=then), tls_server(authority)) as server, reader(server.base_url, options) as sick:
        assert await sick.reason() == "protocol"
        assert sick.around.observer.sent == [("stats", "protocol")] * 2


async def test_a_handshake_that_hangs_times_out(options: ConnectOptions) -> None:
    async with serving(hang_at_once) as server, reader(as_https(server.base_url), options) as sick:
        before = descriptors()
        assert await sick.reason() == "timeout"
        await asyncio.sleep(0.02)
        assert descriptors() <= before + 1  # the server still has its end


async def test_files_that_make_no_context_are_a_fault_of_tls(tmp_path: Path) -> None:
    def no_route() -> ConnectOptions:
        return ConnectOptions(tls=tls_context(ca_file=tmp_path / "absent"), proxy_url=None, max_response_bytes=1)

    with pytest.raises(TransportError) as caught:
        await HttpxTransport(no_route).get("http://127.0.0.1/", query={}, headers={}, timeout_s=1)
    assert caught.value.fault == "tls"


# ---- stray answers


def stray(*, gap_s: float) -> Callable[[Connection], Awaitable[None]]:
    """Answer the first request twice, the rest well."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())
        await asyncio.sleep(gap_s)
        await connection.send(answer(OTHER_STATS))
        await well(connection)

    return behave


async def stray_in_one_piece(connection: Connection) -> None:
    await connection.request()
    await connection.send(answer() + answer(OTHER_STATS))
    await well(connection)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "behave", [stray_in_one_piece, stray(gap_s=0), stray(gap_s=0.02)], ids=["in one piece", "at once", "later"]
)
async def test_a_stray_answer_never_becomes_the_next_one(
    behave: Callable[[Connection], Awaitable[None]], options: ConnectOptions, authority: trustme.CA, *, tls: bool
) -> None:
    context = tls_server(authority) if tls else None
    async with serving(behave, context) as server, reader(server.base_url, options) as sick:
        outcomes = []
        for _ in range(6):
            outcomes.append(await sick.read())
            await asyncio.sleep(0.05)
    for outcome in outcomes:
        assert outcome.reason == "protocol" if isinstance(outcome, ApiError) else outcome.depth == 3
    assert sum(not isinstance(outcome, ApiError) for outcome in outcomes) >= 3


# ---- where a credential does not go


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirection_to_another_host_carries_nothing(status: int, options: ConnectOptions) -> None:
    async with serving(well) as elsewhere:
        redirecting = once(answer(b"", status, Location=f"{elsewhere.base_url}/environments"), then="hang")
        async with serving(redirecting) as server, reader(server.base_url, options) as sick:
            failed = await sick.read()
            assert isinstance(failed, ApiError)
            assert (failed.reason, failed.status) == ("protocol", status)
        assert elsewhere.connections == 0


async def test_a_request_carries_the_credential_once_and_nothing_of_the_answers(options: ConnectOptions) -> None:
    heads: list[bytes] = []

    async def behave(connection: Connection) -> None:
        while True:
            heads.append(await connection.request())
            await connection.send(answer(Set_Cookie="canary=1", Location="/canary", Refresh="0; url=/canary"))

    async with serving(behave) as server, reader(server.base_url, options) as healthy:
        for _ in range(2):
            await healthy.depth()
    for head in heads:
        assert head.count(API_KEY.encode()) == 1
        assert head.lower().count(b"canary") == 1


# ---- memory, slots, descriptors


async def test_bodies_of_all_environments_share_their_memory_and_none_is_lost(options: ConnectOptions) -> None:
    large = STATS.ljust(LIMIT_BYTES)
    parts = [large[start : start + LIMIT_BYTES // 8] for start in range(0, LIMIT_BYTES, LIMIT_BYTES // 8)]

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(large).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        await connection.send(*parts, gap_s=0.001)
        await connection.hang()

    async def most_held_bytes() -> int:
        most = 0
        while not ended.is_set():
            most = max(most, options.bodies.held_bytes)
            await asyncio.sleep(0.001)
        return most

    ended = asyncio.Event()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(behave))
        readers = [await stack.enter_async_context(reader(server.base_url, options, timeout_s=60)) for _ in range(20)]
        watching = asyncio.ensure_future(most_held_bytes())
        assert await asyncio.gather(*(each.depth() for each in readers)) == [3] * 20
        ended.set()
        assert LIMIT_BYTES < await watching <= 3 * LIMIT_BYTES
    assert options.bodies.held_bytes == 0


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def peak_of(sick: Reader) -> int:
    tracemalloc.start()
    try:
        assert isinstance(await sick.read(), ApiError)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "fault",
    ["sends a bomb", "sends a nested bomb", "never ends the body", "never ends the chunks", "never ends the headers"],
)
async def test_no_answer_takes_much_memory(fault: str, options: ConnectOptions) -> None:
    async with serving(FAULTS[fault][0]) as server, reader(server.base_url, options) as sick:
        await sick.read()
        assert await peak_of(sick) < 3 * MEBIBYTE


async def test_after_a_thousand_timeouts_a_healthy_answer_comes_at_once(options: ConnectOptions) -> None:
    hanging = True

    async def behave(connection: Connection) -> None:
        while True:
            await connection.request()
            if hanging:
                await connection.hang()
            await connection.send(answer())

    async with serving(behave) as server, reader(server.base_url, options, timeout_s=0.02) as sick:
        for _ in range(10):
            reasons = await asyncio.gather(*(sick.reason() for _ in range(100)))
            assert set(reasons) <= {"timeout"}
        hanging = False
        sick.around.change(timeout_s=5.0)
        started_at = now()
        assert await sick.depth() == 3
        assert now() - started_at < 0.1
        assert sick.around.observer.sent.count(("stats", "timeout")) == 1000


async def test_a_call_cut_short_by_the_scrape_s_deadline_harms_neither_its_sibling_nor_the_next(
    options: ConnectOptions,
) -> None:
    async def behave(connection: Connection) -> None:
        if connection.number == 0:
            await connection.hang()
        await connection.request()
        await asyncio.sleep(0.1)
        await connection.send(answer())
        await well(connection)

    async with serving(behave) as server, reader(server.base_url, options, timeout_s=5) as sick:

        async def cut_short() -> None:
            with anyio.move_on_after(0.05):
                await sick.read()

        cut_task = asyncio.ensure_future(cut_short())
        await asyncio.sleep(0.02)
        sibling = asyncio.ensure_future(sick.depth())
        await cut_task
        assert await sibling == 3
        assert await sick.depth() == 3
        assert sick.around.observer.sent[0] == ("stats", "timeout")


async def test_without_file_descriptors_reads_fail_to_connect_and_recover_after(options: ConnectOptions) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(well) as server, reader(server.base_url, options) as sick:
        held: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        try:
            assert await sick.reason() == "connect"
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await sick.depth() == 3


async def test_connections_are_kept_and_none_is_left_open(options: ConnectOptions) -> None:
    before = descriptors()
    async with serving(well) as server, reader(server.base_url, options) as healthy:
        for _ in range(20):
            await healthy.depth()
        assert server.connections == 1
        await asyncio.gather(*(healthy.depth() for _ in range(12)))
        await healthy.depth()
    await asyncio.sleep(0.02)
    assert descriptors() <= before


async def test_a_read_that_goes_on_after_the_end_leaves_no_connection_open(options: ConnectOptions) -> None:
    before = descriptors()
    async with serving(well) as server, reader(server.base_url, options) as removed:
        await removed.depth()
        open_before = descriptors()
        await removed.api.aclose()
        assert await asyncio.gather(*(removed.depth() for _ in range(3))) == [3] * 3
        assert await removed.depth() == 3
        await asyncio.sleep(0.02)
        assert before < descriptors() < open_before
    await asyncio.sleep(0.02)
    assert descriptors() <= before


async def test_a_new_route_is_taken_from_the_next_call_on(trusting: ssl.SSLContext) -> None:
    routes = [ConnectOptions(tls=trusting, proxy_url=None, max_response_bytes=limit) for limit in (LIMIT_BYTES, 10)]
    async with serving(well) as server:
        transport = HttpxTransport(lambda: routes[0])
        arguments: dict[str, Any] = {"query": {}, "headers": {}, "timeout_s": TIMEOUT_S}
        assert (await transport.get(server.base_url, **arguments)).body == STATS
        del routes[0]
        with pytest.raises(TransportError) as caught:
            await transport.get(server.base_url, **arguments)
        await transport.aclose()
        assert (caught.value.fault, server.connections) == ("too_large", 2)


# ---- private authorities


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    """Make a certificate as a few openssl commands do: without key usage and without key identifiers."""
    now = dt.datetime.now(dt.UTC)
    subject, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Shake hands in memory. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


@pytest.mark.parametrize(("host", "trusted"), [("gateway.internal", True), ("other.internal", False)])
def test_a_plain_private_authority_is_trusted_on_every_python_and_names_are_still_checked(
    tmp_path: Path, host: str, *, trusted: bool
) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("root", root_key, "root", root_key, ca=True)
    leaf = _certificate("gateway.internal", key, "root", root_key, ca=False)
    pem, ca_file, chain_file = serialization.Encoding.PEM, tmp_path / "ca.pem", tmp_path / "server.pem"
    ca_file.write_bytes(root.public_bytes(pem))
    plain = serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    chain_file.write_bytes(private + leaf.public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain_file)
    with contextlib.nullcontext() if trusted else pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, tls_context(ca_file=ca_file), host)
