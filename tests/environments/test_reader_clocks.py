"""Every clock of the world is set by itself: the one that stamps items, each edge's `Date`, our wall clock. Nothing is counted wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from email.utils import formatdate
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter.api.admission import Admission
from exporter.api.budget import Budget
from exporter.api.client import ApiContext, WorkApi
from exporter.api.transport import HttpResponse
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.environments.reader import EnvironmentReader
from exporter.environments.snapshot import Environment
from exporter.log import Log
from exporter.simulator.environment import Rules
from exporter.simulator.item import rendered
from exporter.simulator.world import World
from tests.api.api_context import API_KEY, BASE_URL, RecordingObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

ENVIRONMENT_ID = "env_clocks"
EDGES = 3
ITEMS = 30
SCRAPE_S = 15.0
CALL_S = 0.2


@dataclass
class Clocks:
    stamps: float = 1_780_000_000.0
    wall: float = 1_780_000_000.0
    monotonic: float = 5000.0
    date_by_edge: list[float | None] = field(default_factory=lambda: [1_780_000_000.0] * EDGES)

    def pass_time(self, seconds: float) -> None:
        self.stamps += seconds
        self.wall += seconds
        self.monotonic += seconds
        self.date_by_edge = [None if at is None else at + seconds for at in self.date_by_edge]


class Server:
    """The transport: answers from the store, through one edge after the other."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.store = World(lambda: clocks.stamps).add_environment(ENVIRONMENT_ID, rules=Rules())
        self.calls = 0
        self.during_call: Callable[[], None] = lambda: None

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        del headers, timeout_s
        self.clocks.pass_time(CALL_S / 2)
        answer = self._stats() if url.endswith("stats") else self._page(query)
        date = self.clocks.date_by_edge[self.calls % EDGES]
        self.calls += 1
        self.during_call()
        self.clocks.pass_time(CALL_S / 2)
        dated = {} if date is None else {"date": formatdate(int(date), usegmt=True)}
        return HttpResponse(200, dated, json.dumps(answer).encode())

    async def aclose(self) -> None: ...

    def _stats(self) -> dict[str, object]:
        stats = self.store.stats()
        oldest = stats.oldest_queued_at
        text = None if oldest is None else self.store.timestamp(oldest)
        return {"depth": stats.depth, "pending": stats.pending, "oldest_queued_at": text, "workers_polling": None}

    def _page(self, query: Mapping[str, str]) -> dict[str, object]:
        page = self.store.page(limit=int(query["limit"]), cursor=query.get("page"))
        return {"data": [rendered(item, "micros") for item in page.items], "next_page": page.next_cursor}


class Fleet:
    """A server, and the reader of its one environment."""

    def __init__(self) -> None:
        self.clocks = clocks = Clocks()
        self.server = Server(clocks)
        config = Config(
            api=ApiConfig(base_url=BASE_URL, api_key=EnvSecret("API_KEY", {"API_KEY": API_KEY})),
            scrape=ScrapeConfig(min_interval_s=0),
        )
        budget = Budget(per_minute=1_000_000, min_interval_s=0, now=clocks.monotonic, jitter=lambda: 0.5)
        context = ApiContext(
            config=lambda: config,
            admission=Admission(budget, concurrency=16, monotonic=lambda: clocks.monotonic),
            observer=RecordingObserver(),
            clock=Clock(wall=lambda: clocks.wall, monotonic=lambda: clocks.monotonic),
            log=Log(),
        )
        api = WorkApi(ENVIRONMENT_ID, context, self.server, environment_key=None)
        self.reader = EnvironmentReader(Environment(id=ENVIRONMENT_ID, name="clocks"), api, context)
        self.ended = 0

    async def read(self) -> None:
        self.reader.begin(self.reader.due(SCRAPE_S))
        await self.reader.read_stats()
        await self.reader.read_list(deadline=lambda: float("inf"))

    async def live(self, disturb: Callable[[int], None]) -> None:
        """Let 30 items be created, and every other one end, with a read after each."""
        await self.read()
        for number in range(ITEMS):
            disturb(number)
            self.clocks.pass_time(SCRAPE_S / 2)
            item = self.server.store.create()
            if number % 2:
                self.server.store.stop(item.id, force=True)
                self.ended += 1
            self.clocks.pass_time(SCRAPE_S / 2)
            await self.read()
            self.check()

    def check(self) -> None:
        snapshot = self.reader.snapshot(asked_at=0.0)
        assert snapshot.work is not None, "the listing is not complete"
        shown = {state.value: count for state, count in snapshot.work.listing.count_by_state.items()}
        listed = {str(word): count for word, count in self.server.store.truth().listed.items()}
        assert shown == listed | {"unknown": 0}

    def counted(self) -> tuple[int, int]:
        tally = self.reader.snapshot(asked_at=0.0).tally
        assert tally is not None
        return tally.created, sum(tally.finished_by_outcome.values())

    def age_error_s(self) -> float:
        """Return how wrong the server's clock is taken to be in ages."""
        work = self.reader.snapshot(asked_at=0.0).work
        assert work is not None
        return work.times.server_at - self.clocks.stamps


def _lead(clocks: Clocks, edge: int, seconds: float) -> None:
    at = clocks.date_by_edge[edge]
    assert at is not None
    clocks.date_by_edge[edge] = at + seconds


async def _one_leading_answer(fleet: Fleet) -> float:
    def disturb(number: int) -> None:
        if number in {10, 11}:
            for edge in range(EDGES):
                _lead(fleet.clocks, edge, 20.0 if number == 10 else -20.0)

    await fleet.live(disturb)
    return 1.0


async def _dates_that_always_lead(fleet: Fleet) -> float:
    fleet.clocks.date_by_edge = [fleet.clocks.stamps + 15.0] * EDGES
    await fleet.live(lambda _: None)
    return 16.0


async def _every_third_date_leads(fleet: Fleet) -> float:
    _lead(fleet.clocks, 1, 20.0)
    await fleet.live(lambda _: None)
    return 1.0


async def _a_server_that_steps_back(fleet: Fleet) -> float:
    def disturb(number: int) -> None:
        if number == 10:
            fleet.clocks.stamps -= 60
            for edge in range(EDGES):
                _lead(fleet.clocks, edge, -60.0)

    await fleet.live(disturb)
    return 1.0


async def _no_date_and_a_wall_clock_that_is_set(fleet: Fleet) -> float:
    fleet.clocks.date_by_edge = [None] * EDGES

    def disturb(number: int) -> None:
        if number in {10, 20}:
            fleet.clocks.wall += 60 if number == 10 else -60

    await fleet.live(disturb)
    return 1.0


async def _a_wall_clock_that_is_set_during_a_call(fleet: Fleet) -> float:
    def set_once() -> None:
        fleet.clocks.wall += 3600
        fleet.server.during_call = lambda: None

    def disturb(number: int) -> None:
        if number == ITEMS - 1:
            fleet.server.during_call = set_once

    await fleet.live(disturb)
    return 1.0


@pytest.mark.parametrize(
    "world",
    [
        _one_leading_answer,
        _dates_that_always_lead,
        _every_third_date_leads,
        _a_server_that_steps_back,
        _no_date_and_a_wall_clock_that_is_set,
        _a_wall_clock_that_is_set_during_a_call,
    ],
)
def test_thirty_of_thirty_items_are_counted(world: Callable[[Fleet], Coroutine[None, None, float]]) -> None:
    fleet = Fleet()
    allowed_s = asyncio.run(world(fleet))
    assert fleet.counted() == (ITEMS, ITEMS // 2)
    assert abs(fleet.age_error_s()) <= allowed_s + CALL_S


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_clocks_do_every_item_is_counted_once(seed: int) -> None:
    dice, fleet = Random(seed), Fleet()  # noqa: S311 - a test's dice
    clocks = fleet.clocks

    def step() -> float:
        return dice.choice([-900.0, -60.0, -3.0, 3.0, 60.0, 3600.0])

    def disturb(_: int) -> None:
        kind = dice.randrange(8)
        if kind == 0:
            clocks.stamps += step()
        elif kind == 1:
            clocks.wall += step()
        elif kind == 2:
            edge = dice.randrange(EDGES)
            clocks.date_by_edge[edge] = dice.choice([None, clocks.stamps + step()])
        elif kind == 3:
            jump_s = step()

            def set_wall() -> None:
                clocks.wall += jump_s
                fleet.server.during_call = lambda: None

            fleet.server.during_call = set_wall

    asyncio.run(fleet.live(disturb))
    assert fleet.counted() == (ITEMS, fleet.ended)
