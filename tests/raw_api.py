"""The Work API as a raw server: right answers for most environments, and for each of the others what its script says."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from tests.faulty_server import Connection, answer, serving

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from tests.faulty_server import Server

    Body = Callable[[str, str], bytes]
    Behaviour = Callable[["Asked"], Awaitable[None]]

JSON_TYPE = "application/json"
PATH = re.compile(rb"GET /v1/environments/(\w+)/work(/stats)?[ ?]")


@dataclass
class Asked(Connection):
    """A connection on which a request has come. `right`: the body that answers it."""

    environment_id: str
    call: str
    right: bytes
    head: bytes | None

    async def request(self) -> bytes:
        """Return the head of the request that has come, and at the next call that of the next one."""
        head, self.head = self.head, None
        return head or await super().request()


@dataclass
class RawApi:
    """What every environment answers. A behaviour that returns leaves its connection closed."""

    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    body: Body = lambda environment_id, call: json.dumps(right(environment_id, call)).encode()

    async def serve(self, connection: Connection) -> None:
        while True:
            head = await connection.request()
            match = PATH.match(head)
            assert match is not None, head
            environment_id, call = match[1].decode(), "list" if match[2] is None else "stats"
            body = self.body(environment_id, call)
            if environment_id in self.behaviours:
                asked = Asked(connection.reader, connection.writer, connection.number, environment_id, call, body, head)
                return await self.behaviours[environment_id](asked)
            await connection.send(answer(body, Content_Type=JSON_TYPE))


def right(environment_id: str, call: str) -> dict[str, Any]:
    """Return an answer whose numbers are those of this environment: as many items as its name's number says."""
    count = int(re.sub(r"\D", "", environment_id) or 0)
    if call == "stats":
        return {
            "type": "work_queue_stats",
            "depth": count,
            "pending": 0,
            "oldest_queued_at": "2026-01-01T00:00:00Z" if count else None,
            "workers_polling": 1,
        }
    return {"data": [item(environment_id, number) for number in range(count)], "next_page": None}


def item(environment_id: str, number: int) -> dict[str, Any]:
    instants = ("acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at")
    return {
        "type": "work",
        "id": f"work_{environment_id}_{number}",
        "environment_id": environment_id,
        "state": "queued",
        "data": {"type": "session", "id": f"session_{number}"},
        "metadata": {},
        "secret": None,
        "created_at": f"2026-01-01T00:00:{59 - number % 60:02d}Z",
        **dict.fromkeys(instants),
    }


@contextmanager
def raw_api(api: RawApi, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve from a thread while the block runs."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(api.serve, tls)) as server:
        yield server
