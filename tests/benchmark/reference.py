"""What the machine allows: a call that is alone, and a scrape's calls made by the HTTP library with nothing around it."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from tests.benchmark.naive import HEADERS, PAGE_SIZE
from tests.benchmark.subject import environment_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmark.api import Api

CALLS = 20
TIMEOUT_S = 60.0


def latency_s(api: Api, ca_file: Path | None) -> float:
    """Measure what a call takes that is alone, over one connection: the API's latency, its own work and the way there."""
    address = urlsplit(api.base_url)
    host, port = str(address.hostname), address.port
    connection = (
        http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if ca_file is None
        else http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT_S, context=ssl.create_default_context(cafile=ca_file)
        )
    )
    url, headers = next(_stats(api))
    took_s = []
    try:
        for _ in range(CALLS):
            started = time.perf_counter()
            connection.request("GET", url.removeprefix(f"{address.scheme}://{address.netloc}"), headers=headers)
            connection.getresponse().read()
            took_s.append(time.perf_counter() - started)
    finally:
        connection.close()
    return median(took_s)


def library_wall_s(api: Api, ca_file: Path | None, *, concurrency: int) -> float:
    """Measure the calls of a warm scrape, made by httpx alone: one client, `concurrency` loops, and nothing looks at the answers."""
    return asyncio.run(_library_wall_s(api, ca_file, concurrency))


async def _library_wall_s(api: Api, ca_file: Path | None, concurrency: int) -> float:
    tls = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(verify=tls, timeout=TIMEOUT_S) as client:
        await _make(client, [*_stats(api)][: 2 * concurrency], concurrency)  # opens the connections
        calls = [call for pair in zip(_stats(api), _lists(api), strict=True) for call in pair]
        started = time.perf_counter()
        await _make(client, calls, concurrency)
        return time.perf_counter() - started


async def _make(client: httpx.AsyncClient, calls: list[tuple[str, dict[str, str]]], concurrency: int) -> None:
    left = iter(calls)

    async def make() -> None:
        for url, headers in left:
            (await client.get(url, headers=headers)).raise_for_status()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(make())


def _stats(api: Api) -> Iterator[tuple[str, dict[str, str]]]:
    return _calls(api, "work/stats")


def _lists(api: Api) -> Iterator[tuple[str, dict[str, str]]]:
    return _calls(api, f"work?limit={PAGE_SIZE}")


def _calls(api: Api, rest: str) -> Iterator[tuple[str, dict[str, str]]]:
    for each in api.scene.environment_ids:
        yield (
            f"{api.base_url}/environments/{each}/{rest}",
            {**HEADERS, "authorization": f"Bearer {environment_key(each)}"},
        )
