"""Bodies in memory are bounded together, wait for each other, and never for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from exporter.api.body_memory import BodyMemory
from tests.simulated_time import SIMULATED_TIME

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


class Bodies:
    """Bodies that arrive a byte every second, and end when they are whole."""

    def __init__(self, limit_bytes: int) -> None:
        self.memory = BodyMemory(limit_bytes)
        self.most_bytes = 0
        self.ended: list[str] = []

    async def arrive(self, name: str, size: int, *, then_s: float = 0.0) -> None:
        with self.memory.share() as share:
            for _ in range(size):
                await share.grow(1)
                self.most_bytes = max(self.most_bytes, self.memory.held_bytes)
                await asyncio.sleep(1)
            await asyncio.sleep(then_s)
        self.ended.append(name)


async def test_bodies_that_fit_together_do_not_wait() -> None:
    bodies = Bodies(10)
    await asyncio.gather(*(bodies.arrive(name, 5) for name in "ab"))
    assert (asyncio.get_running_loop().time(), bodies.most_bytes) == (5, 10)
    assert bodies.memory.held_bytes == 0


@pytest.mark.parametrize("count", [2, 3, 20, 200])
async def test_any_number_of_bodies_holds_the_limit_and_one_body_more_at_most_and_all_end(count: int) -> None:
    bodies = Bodies(20)
    await asyncio.gather(*(bodies.arrive(str(number), 10) for number in range(count)))
    assert len(bodies.ended) == count
    assert bodies.most_bytes <= 20 + 10
    assert bodies.memory.held_bytes == 0


async def test_a_body_that_hangs_holds_only_what_has_arrived() -> None:
    bodies = Bodies(20)
    hanging = asyncio.ensure_future(bodies.arrive("hanging", 10, then_s=1000))
    for number in range(10):
        await bodies.arrive(str(number), 10)
    assert len(bodies.ended) == 10
    assert asyncio.get_running_loop().time() == 100
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    assert bodies.memory.held_bytes == 0


async def test_a_body_that_is_given_up_while_it_waits_leaves_nothing_behind() -> None:
    bodies = Bodies(4)
    tasks = [asyncio.ensure_future(bodies.arrive(str(number), 6)) for number in range(6)]
    await asyncio.sleep(3.5)
    for task in tasks[1::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (len(bodies.ended), bodies.memory.held_bytes) == (3, 0)


async def test_a_body_larger_than_the_limit_arrives_alone() -> None:
    bodies = Bodies(4)
    await bodies.arrive("large", 9)
    assert (bodies.ended, bodies.most_bytes) == (["large"], 9)
