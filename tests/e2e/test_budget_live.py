"""The running exporter on a small budget, beside workers that share the organisation's rate limit."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.simulator import Call, Options, World
from tests.ample import AMPLE_S
from tests.api.budget_kept import (
    AGE_LIMIT_S,
    ENVIRONMENTS,
    LIMIT_PER_MINUTE,
    PER_MINUTE,
    POLLS_PER_MINUTE,
    SCRAPE_S,
    assert_never_above_budget,
)
from tests.exported import exporter_process, write_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

WATCHED_S = AGE_LIMIT_S + 4
"""Longer than the limit, or nothing could become too old."""
JITTER_S = 1.0
READ_AT = "managed_agents_data_timestamp_seconds"
UP = "managed_agents_up"
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}


def forty_environments() -> World:
    world = World(time.time)
    for number in range(ENVIRONMENTS):
        world.add_environment(f"env_{number}", key=f"key-{number}").create()
    return world


@dataclass
class Workers:
    """Polls one environment after the other, from a thread of its own."""

    base_url: str
    statuses: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        started = time.monotonic()
        with httpx.Client(headers=HEADERS, timeout=AMPLE_S) as client:
            while not self.over.wait(max(0.0, started + len(self.statuses) * 60 / POLLS_PER_MINUTE - time.monotonic())):
                number = len(self.statuses) % ENVIRONMENTS
                url = f"{self.base_url}/environments/env_{number}/work/poll"
                answer = client.get(url, headers={"authorization": f"Bearer key-{number}"})
                self.statuses.append(answer.status_code)


@contextmanager
def at_work(simulator: Running) -> Iterator[Workers]:
    workers = Workers(simulator.base_url)
    thread = threading.Thread(target=workers.work, name="workers")
    thread.start()
    try:
        yield workers
    finally:
        workers.over.set()
        thread.join(AMPLE_S)


def exporter_calls(simulator: Running) -> list[float]:
    return [record.at for record in simulator.calls.records if record.call != Call.POLL]


def test_budget_is_kept_stats_stay_young_and_workers_are_never_refused(tmp_path: Path) -> None:
    options = Options(requests_per_minute=LIMIT_PER_MINUTE)
    with running(forty_environments(), options) as simulator:
        config = write_config(tmp_path, simulator, api={"requests_per_minute": PER_MINUTE})
        with (
            exporter_process(f"--config.file={config}", directory=tmp_path) as exporter,
            at_work(simulator) as workers,
        ):
            oldest_s, ends_at = 0.0, time.monotonic() + WATCHED_S
            while time.monotonic() < ends_at:
                next_at = time.monotonic() + SCRAPE_S
                scrape = exporter.scrape(f"/metrics?name[]={UP}&name[]={READ_AT}")
                assert set(scrape.by(UP, "environment_id").values()) == {1}
                read_at = scrape.by(READ_AT, "environment_id", source="stats")
                assert len(read_at) == ENVIRONMENTS
                oldest_s = max(oldest_s, time.time() - min(read_at.values()))
                time.sleep(max(0.0, next_at - time.monotonic()))
        called_at = simulator.call(exporter_calls, simulator)
    assert_never_above_budget(called_at, jitter_s=JITTER_S)
    assert oldest_s <= AGE_LIMIT_S
    assert len(called_at) > WATCHED_S * PER_MINUTE / 60
    assert len(workers.statuses) > WATCHED_S * POLLS_PER_MINUTE / 60 * 0.9
    assert set(workers.statuses) == {200}
