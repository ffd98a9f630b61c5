"""The loop that the tests of limits in seconds run in."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import anyio
import pytest

from tests.simulated_time import SIMULATED_TIME

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


async def test_waiting_takes_simulated_time_and_work_takes_none() -> None:
    loop, order = asyncio.get_running_loop(), []
    started_at = loop.time()

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((seconds, loop.time() - started_at))

    async with anyio.create_task_group() as tasks:
        for seconds in (86_400, 5, 30):
            tasks.start_soon(sleep, seconds)
        time.sleep(0.01)  # noqa: ASYNC251 -- work, as the loop sees it
    assert order == [(5, 5), (30, 30), (86_400, 86_400)]


async def test_a_deadline_is_met_by_whatever_need_not_wait_and_by_nothing_else() -> None:
    with anyio.move_on_after(0.001) as scope:
        for _ in range(10_000):
            await asyncio.sleep(0)
    assert not scope.cancelled_caught
    with anyio.move_on_after(0.001) as scope:
        await asyncio.sleep(0.002)
    assert scope.cancelled_caught


async def test_what_is_sent_within_the_loop_arrives_before_any_deadline() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)  # noqa: FBT003 -- the socket's signature
        started_at = loop.time()
        for _ in range(100):
            with anyio.fail_after(0.001):
                receiving = asyncio.ensure_future(loop.sock_recv(theirs, 1))
                await asyncio.sleep(0)
                await loop.sock_sendall(ours, b"x")
                assert await receiving == b"x"
        assert loop.time() == started_at


async def test_no_time_passes_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    with anyio.fail_after(0.001):
        await loop.run_in_executor(None, time.sleep, 0.2)
    assert loop.time() == started_at
