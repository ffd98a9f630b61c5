"""Forty environments on a budget that covers a third of them a scrape: minutes of it, on clocks that the test moves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from exporter.api.admission import Admission
from exporter.api.budget import Budget
from exporter.api.client import ApiContext, WorkApi
from exporter.api.transport import HttpResponse
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.environments.reader import EnvironmentReader
from exporter.environments.scraper import Scraper
from exporter.environments.snapshot import Environment
from exporter.log import Log
from exporter.simulator import Call, Options, World, make_app
from tests.ample import AMPLE_S
from tests.api.api_context import RecordingObserver
from tests.api.budget_kept import (
    AGE_LIMIT_S,
    BURST,
    ENVIRONMENTS,
    LEAST_AGE_S,
    LIMIT_PER_MINUTE,
    PER_MINUTE,
    POLLS_PER_MINUTE,
    SCRAPE_S,
    assert_never_above_budget,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.anyio
BASE_URL = "http://127.0.0.1/v1"
VIRTUAL_S = 60.0
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


class InProcess:
    """Calls the simulated API without a network, and counts its refusals."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.statuses: list[int] = []

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        del timeout_s
        response = await self._client.get(url, params=query, headers=headers)
        self.statuses.append(response.status_code)
        return HttpResponse(response.status_code, dict(response.headers), response.content)

    async def aclose(self) -> None: ...


@dataclass
class Organisation:
    """The exporter and the workers of one organisation, which share its rate limit."""

    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.clock = Clock(wall=lambda: 1_700_000_000 + self.now, monotonic=lambda: self.now)
        self.world = World(self.clock.wall)
        for number in range(ENVIRONMENTS):
            self.world.add_environment(f"env_{number}", key=f"key-{number}").create()
        self.api = make_app(self.world, Options(requests_per_minute=LIMIT_PER_MINUTE))
        self.polls = 0
        self.config = Config(
            api=ApiConfig(base_url=BASE_URL, requests_per_minute=PER_MINUTE), scrape=ScrapeConfig(min_interval_s=0)
        )
        self.budget = Budget(per_minute=PER_MINUTE, min_interval_s=0, now=self.now, jitter=lambda: 0.5)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[InProcess]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.api)) as client:
            yield InProcess(client)

    def readers(self, wire: InProcess) -> list[EnvironmentReader]:
        self.admission = Admission(self.budget, concurrency=16, monotonic=self.clock.monotonic)
        context = ApiContext(
            config=lambda: self.config,
            admission=self.admission,
            observer=RecordingObserver(),
            clock=self.clock,
            log=Log(),
        )
        readers = []
        for each in self.world.environments():
            api = WorkApi(each.id, context, wire, environment_key=EnvSecret("K", {"K": each.profile.key}))
            readers.append(EnvironmentReader(Environment(id=each.id, name=each.id), api, context))
        return readers

    async def let_workers_poll(self, wire: InProcess) -> None:
        """Let those poll who are due by now, each environment's in its turn."""
        while self.polls < (self.now - 1_000.0) * POLLS_PER_MINUTE / 60:
            number = self.polls % ENVIRONMENTS
            self.polls += 1
            headers = {**HEADERS, "authorization": f"Bearer key-{number}"}
            url = f"{BASE_URL}/environments/env_{number}/work/poll"
            await wire.get(url, query={"block_ms": "1"}, headers=headers, timeout_s=AMPLE_S)

    def exporter_calls(self) -> list[float]:
        return [record.at for record in self.api.calls.records if record.call != Call.POLL]


async def test_a_minute_of_scrapes_four_times_a_second_stay_within_the_budget_and_as_young_as_it_allows() -> None:
    organisation = Organisation()
    oldest_s = 0.0
    async with organisation.connected() as wire, anyio.create_task_group() as tasks:
        readers = organisation.readers(wire)
        scraper = Scraper(
            tasks, admission=organisation.admission, budget=organisation.budget, clock=organisation.clock, log=Log()
        )
        for _ in range(int(VIRTUAL_S / SCRAPE_S)):
            organisation.now += SCRAPE_S
            await organisation.let_workers_poll(wire)
            for snapshot in await scraper.scrape(readers, timeout_s=AMPLE_S):
                assert snapshot.queue is not None, snapshot.queue_problem
                oldest_s = max(oldest_s, organisation.now - snapshot.queue.times.monotonic_at)
    called_at = organisation.exporter_calls()
    assert_never_above_budget(called_at)
    assert LEAST_AGE_S - SCRAPE_S <= oldest_s <= AGE_LIMIT_S
    assert len(called_at) > VIRTUAL_S * PER_MINUTE / 60, "a budget that is not used explains nothing"
    assert len(called_at) <= BURST + VIRTUAL_S * PER_MINUTE / 60
    assert organisation.polls > VIRTUAL_S * POLLS_PER_MINUTE / 60 - 1
    assert 429 not in wire.statuses
