"""A server on loopback that does to a connection what its script says."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

STATS = b'{"type":"work_queue_stats","depth":3,"pending":1,"oldest_queued_at":null,"workers_polling":2}'


@dataclass
class Connection:
    """One connection, as the server has it. `number` counts the server's connections from 0."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> bytes:
        """Return the head of the next request; IncompleteReadError when there is none."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, *parts: bytes, gap_s: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            if gap_s:
                await asyncio.sleep(gap_s)

    async def send_for_ever(self, part: bytes, *, gap_s: float = 0.0) -> None:
        """Send until the other side has gone."""
        while not (self.writer.is_closing() or self.reader.at_eof()):
            await self.send(part, gap_s=gap_s)
            await asyncio.sleep(0)  # or the loop never learns that the other side has gone

    async def hang(self) -> None:
        await asyncio.Event().wait()

    def reset(self) -> None:
        """Close so that the other side sees a reset, not an end."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Server:
    base_url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)


def answer(body: bytes = STATS, status: int = 200, **headers: str) -> bytes:
    """Return a whole answer with its length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


async def well(connection: Connection) -> None:
    """Answer every request on the connection as it should be."""
    while True:
        await connection.request()
        await connection.send(answer())


@asynccontextmanager
async def serving(
    behave: Callable[[Connection], Awaitable[None]], tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Serve on a free port while the block runs; then drop every connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behave(Connection(reader, writer, server.connections - 1))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            tasks.discard(task)

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    server = Server(f"{'http' if tls is None else 'https'}://{shown}:{port}/v1")
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


@contextmanager
def refusing() -> Iterator[str]:
    """Yield the address of a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@contextmanager
def unreachable() -> Iterator[str]:
    """Yield the address of a port where connecting hangs: the queue of connections not yet accepted is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)  # noqa: FBT003 -- the socket's signature
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
