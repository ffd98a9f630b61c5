"""What one environment's reader shows: two sources that fail and age each by itself."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import anyio
import pytest

from exporter.api.admission import Health, Throttled
from exporter.api.client import ApiError
from exporter.api.wire import State, WorkStats
from exporter.config.model import Config, ListingConfig, ScrapeConfig
from exporter.environments.reader import NOT_SELF_HOSTED, Due
from exporter.listing.ledger import Ledger, QueuedCount
from tests.environments.fake_api import BLANK, HANG, STATS, Surroundings, item, page, read

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(Config(scrape=ScrapeConfig(min_interval_s=10, max_age_s=300)))


async def test_a_reader_shows_what_it_has_read(around: Surroundings) -> None:
    reader = around.reader()
    before = reader.snapshot(asked_at=around.now)
    assert (before.queue, before.work, before.queue_problem) == (None, None, None)
    await read(reader)
    after = reader.snapshot(asked_at=around.now)
    assert after.queue is not None
    assert after.queue.stats == STATS
    assert after.work is not None
    assert after.tally is not None


async def test_each_source_is_due_by_itself(around: Surroundings) -> None:
    reader = around.reader()
    assert reader.due(5) == Due(stats=True, list=True)
    around.api.pages = deque([Throttled()])
    await read(reader)
    assert reader.due(5) == Due(stats=False, list=True)
    around.config = replace(around.config, listing=ListingConfig(enabled=False))
    assert reader.due(5) == Due(stats=False, list=False)


async def test_numbers_older_than_max_age_are_hidden_unless_this_scrape_read_them(around: Surroundings) -> None:
    reader = around.reader()
    await read(reader)
    read_at = around.now
    around.now += 301
    old = reader.snapshot(asked_at=around.now)
    assert (old.queue, old.work) == (None, None)
    assert reader.snapshot(asked_at=read_at).queue is not None


async def test_a_cloud_environment_is_down_and_says_why_whichever_answer_came_first(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.api.stats_answers = deque([BLANK])
    around.api.pages = deque([ApiError("not_found", "the API answered 404", status=404)])
    for list_first in (False, True):
        reader = around.reader()
        reader.begin(Due(stats=True, list=True))
        if list_first:
            await reader.read_list(deadline=lambda: 1e9)
        await reader.read_stats()
        if not list_first:
            await reader.read_list(deadline=lambda: 1e9)
            assert NOT_SELF_HOSTED in str(vars(caplog.records[-1]))
        snapshot = reader.snapshot(asked_at=around.now)
        assert snapshot.queue is None
        assert snapshot.queue_problem is not None
        assert (snapshot.queue_problem.reason, snapshot.queue_problem.text) == ("not_found", NOT_SELF_HOSTED)


async def test_stats_with_work_and_a_missing_list_are_no_cloud_environment(around: Surroundings) -> None:
    around.api.pages = deque([ApiError("not_found", "the API answered 404", status=404)])
    reader = around.reader()
    await read(reader)
    snapshot = reader.snapshot(asked_at=around.now)
    assert snapshot.queue is not None
    assert snapshot.queue_problem is None
    assert snapshot.work_problem is not None
    assert snapshot.work_problem.text == "the API answered 404"


async def test_a_list_is_left_where_the_stats_have_timed_out(around: Surroundings) -> None:
    reader = around.reader()
    reader.begin(Due(stats=True, list=True))
    assert not reader.leave_list()
    around.api.stats_answers = deque([HANG])
    with anyio.move_on_after(0.01):
        await reader.read_stats()
    assert reader.leave_list()
    assert around.failed == [("stats", "timeout"), ("list", "timeout")]
    assert around.api.calls == []


async def test_health_is_unknown_until_a_call_was_sent(around: Surroundings) -> None:
    reader = around.reader()
    seen = [reader.health]
    around.api.timed_out = True
    seen.append(reader.health)
    around.api.timed_out = False
    await read(reader)
    seen.append(reader.health)
    assert seen == [Health.UNKNOWN, Health.TIMING_OUT, Health.HEALTHY]
    assert reader.stale_since == reader.list_stale_since == around.now


async def test_the_list_waits_for_the_stats_where_they_spare_it_calls(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = around.reader()
    await read(reader)
    assert not reader.reads_stats_first
    monkeypatch.setattr(type(reader.ledger), "compares_stats", True)
    assert reader.reads_stats_first


@pytest.mark.parametrize("age_s", [0.0, 3.0])
async def test_the_ledger_learns_what_the_stats_counted_unless_a_cache_had_kept_it(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, age_s: float
) -> None:
    learnt: list[QueuedCount | None] = []
    begin = Ledger.begin

    def noting(ledger: Ledger, *, now: float, queued: QueuedCount | None = None) -> None:
        learnt.append(queued)
        begin(ledger, now=now, queued=queued)

    monkeypatch.setattr(Ledger, "begin", noting)
    around.api.stats_answers = deque([WorkStats(depth=7, pending=2, oldest_queued_at=None, workers_polling=1)])
    around.api.age_s = age_s
    await read(around.reader())
    assert learnt == [None if age_s else QueuedCount(9, around.now, around.now)]


async def test_an_old_number_is_hidden_and_a_429_is_the_reason(around: Surroundings) -> None:
    reader = around.reader()
    await read(reader)
    around.api.stats_answers = deque([ApiError("rate_limited", "the API answered 429", status=429)])
    around.now += 60
    await read(reader)
    kept = reader.snapshot(asked_at=around.now)
    assert kept.queue is not None
    assert kept.queue_problem is not None
    around.now += 300
    old = reader.snapshot(asked_at=around.now)
    assert old.queue is None
    assert old.queue_problem is not None
    assert old.queue_problem.reason == "rate_limited"


async def test_a_server_that_counts_all_items_as_pending_is_logged_once(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.config = replace(around.config, scrape=ScrapeConfig(min_interval_s=0))
    around.api.stats_answers = deque([WorkStats(depth=1, pending=2, oldest_queued_at=None, workers_polling=1)])
    around.api.pages = deque([page(item(1), item(2, State.ACTIVE))])
    reader = around.reader()
    for _ in range(20):
        await read(reader)
        around.now += 15
    events = [record.getMessage() for record in caplog.records]
    assert events == ["pending_counts_all_items"]


async def test_a_defect_hides_both_sources_and_is_logged(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    reader = around.reader()
    await read(reader)
    reader.broke(ZeroDivisionError("a defect"))
    snapshot = reader.snapshot(asked_at=around.now)
    assert (snapshot.queue, snapshot.work) == (None, None)
    assert around.failed == [("stats", "internal"), ("list", "internal")]
    assert "read_broke" in [record.getMessage() for record in caplog.records]


async def test_closing_closes_the_connection(around: Surroundings) -> None:
    await around.reader().aclose()
    assert around.api.closed
