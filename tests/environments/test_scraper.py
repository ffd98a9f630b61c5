"""Sharing, deadlines and throttling of reads, over an API that answers when the test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from exporter.api.admission import Admission, CallRequest
from exporter.api.budget import Budget, Priority
from exporter.api.client import ApiContext, WorkApi
from exporter.api.transport import HttpResponse, TransportError
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, ListingConfig, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.environments.reader import NOT_SELF_HOSTED, EnvironmentReader
from exporter.environments.scraper import Scraper
from exporter.environments.snapshot import Environment
from exporter.log import Log
from tests.simulated_time import SIMULATED_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.api.client import Reason, Source
    from exporter.environments.snapshot import Snapshot
    from exporter.listing.ledger import Listing

pytestmark = pytest.mark.anyio
STATS = b'{"depth": 2, "pending": 1, "oldest_queued_at": null, "workers_polling": 1}'
LIST = b'{"data": [], "next_page": null}'


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return SIMULATED_TIME


@dataclass
class Server:
    """Answers at once, or once `open_` is set; counts the calls."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    open_: anyio.Event | None = None
    hangs: Callable[[str], bool] = lambda _: True
    """Of which URLs `open_` holds the answers back."""

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        del query, headers
        self.calls.append(url)
        if self.open_ is not None and self.hangs(url):
            with anyio.move_on_after(timeout_s):
                await self.open_.wait()
            if not self.open_.is_set():
                raise TransportError("timeout", "too late")
        return HttpResponse(self.status, self.headers, STATS if url.endswith("/stats") else LIST)

    async def aclose(self) -> None: ...

    def count(self, ending: str) -> int:
        return sum(url.endswith(ending) for url in self.calls)


@dataclass
class Seen:
    """What the observer has received."""

    failed: list[tuple[str, str]] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)

    def request_sent(self, source: Source, code: str, duration_s: float) -> None: ...

    def request_throttled(self, source: Source) -> None:
        self.throttled.append(source)

    def read_failed(self, source: Source, reason: Reason) -> None:
        self.failed.append((source, reason))

    def schema_drifted(self, fields: Sequence[str]) -> None: ...
    def clock_compared(self, offset_s: float) -> None: ...


@dataclass
class Rig:
    """One environment behind a server, on clocks that the test moves."""

    config: Config
    server: Server = field(default_factory=Server)
    seen: Seen = field(default_factory=Seen)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.clock = Clock(wall=lambda: 1_700_000_000 + self.now, monotonic=lambda: self.now)
        self.budget = Budget(
            per_minute=self.config.api.requests_per_minute,
            min_interval_s=self.config.scrape.min_interval_s,
            now=self.now,
            jitter=lambda: 1.0,
        )
        self.admission = Admission(self.budget, concurrency=16, monotonic=self.clock.monotonic)
        self.upstream = ApiContext(
            config=lambda: self.config, admission=self.admission, observer=self.seen, clock=self.clock, log=Log()
        )
        self.reader = self.new_reader("env_1")

    def new_reader(self, environment_id: str) -> EnvironmentReader:
        api = WorkApi(environment_id, self.upstream, self.server, environment_key=EnvSecret("K", {"K": "key"}))
        return EnvironmentReader(Environment(id=environment_id, name=environment_id), api, self.upstream)

    def scraper(self, tasks: anyio.abc.TaskGroup) -> Scraper:
        return Scraper(tasks, admission=self.admission, budget=self.budget, clock=self.clock, log=Log())

    async def scraper_that_knows(self, readers: Sequence[EnvironmentReader], tasks: anyio.abc.TaskGroup) -> Scraper:
        scraper = self.scraper(tasks)
        await scraper.scrape(readers, timeout_s=30)
        self.now += 1
        return scraper

    async def scrape(self, timeout_s: float = 5.0) -> Snapshot:
        async with anyio.create_task_group() as tasks:
            (snapshot,) = await self.scraper(tasks).scrape([self.reader], timeout_s=timeout_s)
        return snapshot


def rig(*, min_interval_s: float = 10, max_age_s: float = 300, per_minute: int = 1000, listing: bool = True) -> Rig:
    return Rig(
        Config(
            api=ApiConfig(base_url="http://127.0.0.1/v1", requests_per_minute=per_minute),
            scrape=ScrapeConfig(min_interval_s=min_interval_s, max_age_s=max_age_s),
            listing=ListingConfig(enabled=listing),
        )
    )


def crowd() -> tuple[Rig, list[EnvironmentReader]]:
    one = rig(min_interval_s=0, per_minute=1_000_000)
    return one, [one.new_reader(f"env_{number}") for number in range(150)]


async def test_25_simultaneous_scrapes_cause_one_read() -> None:
    one = rig()
    snapshots: list[Snapshot] = []
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)

        async def scrape() -> None:
            snapshots.extend(await scraper.scrape([one.reader], timeout_s=5))

        for _ in range(25):
            tasks.start_soon(scrape)
    assert (one.server.count("/stats"), one.server.count("/work")) == (1, 1)
    assert len(snapshots) == 25
    assert all(snapshot.queue is not None and snapshot.work is not None for snapshot in snapshots)


async def test_a_waiter_that_gives_up_cancels_nobody_elses_read() -> None:
    one = rig()
    one.server.open_ = anyio.Event()
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)
        (impatient,) = await scraper.scrape([one.reader], timeout_s=0.01)
        assert impatient.queue is None

    one = rig()
    one.server.open_ = anyio.Event()
    patient: list[Snapshot] = []
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)

        async def wait_long() -> None:
            patient.extend(await scraper.scrape([one.reader], timeout_s=5))

        async def leave_early() -> None:
            with anyio.CancelScope() as scope:
                tasks.start_soon(wait_long)
                scope.cancel()
                await scraper.scrape([one.reader], timeout_s=5)

        await leave_early()
        (impatient,) = await scraper.scrape([one.reader], timeout_s=0.01)
        assert impatient.queue is None
        assert one.server.open_ is not None
        one.server.open_.set()
    assert patient[0].queue is not None
    assert one.server.count("/stats") == 1


async def test_a_read_cut_short_by_an_impatient_scraper_is_none_for_who_has_more_time() -> None:
    one = rig(min_interval_s=10)
    one.server.open_ = anyio.Event()
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)

        async def scrape(timeout_s: float) -> Snapshot:
            (snapshot,) = await scraper.scrape([one.reader], timeout_s=timeout_s)
            return snapshot

        tasks.start_soon(scrape, 0.05)
        for _ in range(20):
            await asyncio.sleep(0)
        one.now += 0.06
        await asyncio.sleep(0.1)
        calls = len(one.server.calls)
        assert calls > 0
        assert (await scrape(0.05)).queue is None
        assert len(one.server.calls) == calls, "as little time again is no reason to ask again"
        one.server.open_.set()
        patient = await scrape(5)
    assert patient.queue is not None
    assert patient.work is not None


async def test_the_list_s_times_are_those_of_its_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    listing, answered_at = one.reader.ledger.listing, one.now

    def later() -> Listing:
        one.now = answered_at + 4
        return listing()

    monkeypatch.setattr(one.reader.ledger, "listing", later)
    snapshot = await one.scrape()
    assert snapshot.work is not None
    assert (snapshot.work.times.monotonic_at, snapshot.work.times.duration_s) == (answered_at, 0)


async def test_scrapes_closer_than_the_minimal_interval_share_a_read() -> None:
    one = rig(min_interval_s=10)
    first = await one.scrape()
    one.now += 9.9
    second = await one.scrape()
    assert one.server.count("/stats") == 1
    assert first.queue == second.queue
    one.now += 0.1
    await one.scrape()
    assert one.server.count("/stats") == 2


async def test_a_read_that_somebody_else_begins_hides_nothing_from_who_has_its_answer() -> None:
    one = rig(min_interval_s=0)
    slow_server = Server(open_=anyio.Event())
    key = EnvSecret("K", {"K": "key"})
    slow_api = WorkApi("env_2", one.upstream, slow_server, environment_key=key)
    slow = EnvironmentReader(Environment(id="env_2", name="env_2"), slow_api, one.upstream)
    answered: list[Snapshot] = []
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)

        async def scrape_both() -> None:
            answered.extend(await scraper.scrape([one.reader, slow], timeout_s=5))

        tasks.start_soon(scrape_both)
        await anyio.wait_all_tasks_blocked()
        one.server.open_ = anyio.Event()
        tasks.start_soon(scrape_again, scraper, one.reader)
        await anyio.wait_all_tasks_blocked()
        assert slow_server.open_ is not None
        slow_server.open_.set()
        await anyio.wait_all_tasks_blocked()
        one.server.open_.set()
    assert [snapshot.environment.id for snapshot in answered if snapshot.queue is not None] == ["env_1", "env_2"]


async def scrape_again(scraper: Scraper, reader: EnvironmentReader) -> None:
    await scraper.scrape([reader], timeout_s=5)


async def test_a_throttled_read_keeps_the_numbers_until_they_are_too_old() -> None:
    one = rig(per_minute=4, max_age_s=60)
    fresh = await one.scrape()
    assert fresh.queue is not None
    one.server.status, one.server.headers = 429, {"retry-after": "200"}
    one.now += 30
    refused = await one.scrape()
    assert refused.queue == fresh.queue
    assert refused.work == fresh.work
    calls = len(one.server.calls)
    one.now += 29
    assert (await one.scrape()).queue == fresh.queue
    one.now += 2
    aged = await one.scrape()
    assert (aged.queue, aged.work) == (None, None)
    assert len(one.server.calls) == calls
    assert ("stats", "rate_limited") in one.seen.failed
    assert "stats" in one.seen.throttled


async def test_a_failed_read_hides_the_numbers_at_once() -> None:
    one = rig()
    await one.scrape()
    one.server.status = 404
    one.now += 10
    failed = await one.scrape()
    assert (failed.queue, failed.work) == (None, None)
    assert failed.queue_problem is not None
    assert failed.queue_problem.reason == "not_found"


async def test_a_hanging_list_costs_only_the_listing() -> None:
    one = rig()
    one.reader.api._caller._transport = StatsOnly(one.server)
    snapshot = await one.scrape(timeout_s=0.05)
    assert snapshot.queue is not None
    assert snapshot.work is None
    problem = one.reader.snapshot(asked_at=one.now).work_problem
    assert problem is not None
    assert problem.reason == "timeout"


class RepeatingCursor(Server):
    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        response = await super().get(url, query=query, headers=headers, timeout_s=timeout_s)
        return response if url.endswith("/stats") else HttpResponse(200, {}, b'{"data": [], "next_page": "again"}')


async def test_a_list_that_never_ends_fails_and_says_why() -> None:
    one = rig()
    one.server = RepeatingCursor()
    one.reader = one.new_reader("env_1")
    snapshot = await one.scrape()
    assert snapshot.queue is not None
    assert snapshot.work is None
    assert snapshot.work_problem is not None
    assert "a cursor repeats" in snapshot.work_problem.text
    assert one.seen.failed == [("list", "protocol")]


@dataclass
class StatsOnly:
    """Answers stats; a list hangs until it is cancelled."""

    server: Server

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        if not url.endswith("/stats"):
            await anyio.sleep_forever()
        return await self.server.get(url, query=query, headers=headers, timeout_s=timeout_s)

    async def aclose(self) -> None: ...


async def test_max_age_0_shows_only_what_this_scrape_has_read() -> None:
    one = rig(max_age_s=0, min_interval_s=10)
    assert (await one.scrape()).queue is not None
    one.now += 1
    assert (await one.scrape()).queue is None


@pytest.mark.parametrize("age_s", [0, 100, 299])
async def test_what_a_cache_had_kept_is_shown_as_old_as_it_is(age_s: int) -> None:
    one = rig(max_age_s=300)
    one.server.headers = {"age": str(age_s)}
    snapshot = await one.scrape()
    assert snapshot.queue is not None
    assert snapshot.work is not None
    for shown in (snapshot.queue, snapshot.work):
        assert shown.times.read_at == one.clock.wall() - age_s
        assert shown.times.monotonic_at == one.now - age_s
        assert shown.times.duration_s == 0


async def test_what_a_cache_had_kept_for_too_long_is_not_shown() -> None:
    one = rig(max_age_s=300)
    one.server.headers = {"age": "301"}
    snapshot = await one.scrape()
    assert (snapshot.queue, snapshot.work) == (None, None)


async def test_an_environment_that_answers_529_has_failed_until_it_answers() -> None:
    one = rig()
    await one.scrape()
    one.server.status = 529
    for _ in range(3):
        one.now += 10
        failed = await one.scrape()
        assert (failed.queue, failed.work) == (None, None)
        assert failed.queue_problem is not None
        assert (failed.queue_problem.reason, failed.queue_problem.status) == ("server", 529)
    one.server.status = 200
    one.now += 300
    assert (await one.scrape()).queue is not None


async def test_a_cloud_environment_is_not_shown_as_an_empty_queue() -> None:
    class Cloud(Server):
        async def get(
            self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
        ) -> HttpResponse:
            answer = await super().get(url, query=query, headers=headers, timeout_s=timeout_s)
            if url.endswith("/stats"):
                return HttpResponse(200, {}, b'{"depth":0,"pending":0,"oldest_queued_at":null,"workers_polling":null}')
            return HttpResponse(404, {}, answer.body)

    one = rig()
    one.server = Cloud()
    one.reader = one.new_reader("env_1")
    snapshot = await one.scrape()
    assert (snapshot.queue, snapshot.work) == (None, None)
    assert snapshot.queue_problem is not None
    assert snapshot.queue_problem.reason == "not_found"
    assert snapshot.queue_problem.text == NOT_SELF_HOSTED


async def test_a_defect_in_one_reader_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    broken, healthy = one.new_reader("env_broken"), one.new_reader("env_healthy")

    async def fail(**_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(broken, "read_stats", fail)
    async with anyio.create_task_group() as tasks:
        first, second = await one.scraper(tasks).scrape([broken, healthy], timeout_s=5)
    assert first.queue is None
    assert first.queue_problem is not None
    assert first.queue_problem.reason == "internal"
    assert second.queue is not None


async def test_only_as_many_reads_are_started_as_the_api_takes() -> None:
    one, readers = crowd()
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        one.server.calls.clear()
        one.server.open_ = anyio.Event()
        before = len(asyncio.all_tasks())
        snapshots: list[Snapshot] = []

        async def scrape() -> None:
            snapshots.extend(await scraper.scrape(readers, timeout_s=30))

        tasks.start_soon(scrape)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(one.server.calls) == 16
        assert len(asyncio.all_tasks()) - before < 100
        one.server.open_.set()
    assert len(snapshots) == 150
    assert all(snapshot.queue is not None and snapshot.work is not None for snapshot in snapshots)
    assert (one.server.count("/stats"), one.server.count("/work")) == (150, 150)


async def test_the_stats_of_all_environments_come_before_the_list_of_any_also_at_the_first_scrape() -> None:
    one, readers = crowd()
    async with anyio.create_task_group() as tasks:
        scraper = one.scraper(tasks)
        for _ in range(2):
            one.server.calls.clear()
            await scraper.scrape(readers, timeout_s=30)
            one.now += 1
            assert [url.endswith("/stats") for url in one.server.calls] == [True] * 150 + [False] * 150


async def test_a_deadline_too_short_for_everything_takes_lists_away_and_no_queue() -> None:
    one, readers = crowd()
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        one.server.open_, one.server.hangs = anyio.Event(), lambda url: url.endswith("/work")
        snapshots = await scraper.scrape(readers, timeout_s=0.2)
        one.server.open_.set()
    assert all(snapshot.queue is not None for snapshot in snapshots)
    assert all(snapshot.work is None for snapshot in snapshots)


async def test_history_that_is_read_again_in_the_background_keeps_no_scrape_waiting() -> None:
    one, readers = crowd()
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        history = one.new_reader("env_history")

        async def read_history() -> None:
            while True:
                await history.api.page(None, 1000, CallRequest(priority=Priority.RESYNC))
                await asyncio.sleep(0)

        async with anyio.create_task_group() as background:
            for _ in range(100):
                background.start_soon(read_history)
            snapshots = await scraper.scrape(readers, timeout_s=2)
            background.cancel_scope.cancel()
    assert [snapshot for snapshot in snapshots if snapshot.queue is None] == []


async def test_lists_that_there_were_no_calls_for_come_first_the_next_time() -> None:
    one, readers = crowd()
    listed: list[str] = []
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        one.budget.configure(per_minute=400, min_interval_s=0, now=one.now)
        for _ in range(3):
            one.now += 60
            one.server.calls.clear()
            await scraper.scrape(readers, timeout_s=30)
            assert one.server.count("/stats") == 150
            listed += [url for url in one.server.calls if url.endswith("/work")]
    assert len(listed) == len(set(listed)) == 150


async def test_a_read_that_was_not_started_in_time_has_timed_out_like_any_other() -> None:
    one, readers = crowd()
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        one.server.open_ = anyio.Event()
        snapshots = await scraper.scrape(readers, timeout_s=0.05)
        assert [snapshot for snapshot in snapshots if snapshot.queue is not None or snapshot.work is not None] == []
    after = [reader.snapshot(asked_at=one.now) for reader in readers]
    problems = [(each.queue_problem, each.work_problem) for each in after]
    assert {problem and problem.reason for pair in problems for problem in pair} == {"timeout"}


async def test_whoever_may_hang_holds_nobody_up() -> None:
    one, readers = crowd()
    one.config = replace(one.config, api=replace(one.config.api, timeout_s=0.05))
    *hanging, healthy = readers
    one.server.hangs = lambda url: f"/{healthy.environment.id}/" not in url
    async with anyio.create_task_group() as tasks:
        scraper = await one.scraper_that_knows(readers, tasks)
        one.server.open_ = anyio.Event()
        for _ in range(3):
            await scraper.scrape(readers, timeout_s=30)
            one.now += 1
        assert all(reader.health.is_timing_out for reader in hanging)
        one.config = replace(one.config, api=replace(one.config.api, timeout_s=30))
        one.server.calls.clear()
        tasks.start_soon(lambda: scraper.scrape(hanging, timeout_s=30))
        for _ in range(100):
            await asyncio.sleep(0)
        with anyio.fail_after(1):
            (snapshot,) = await scraper.scrape([healthy], timeout_s=30)
        assert snapshot.queue is not None
        # Eight of those that time out, half of the slots, and the two calls of the healthy one.
        assert len(one.server.calls) == 10
        one.server.open_.set()
