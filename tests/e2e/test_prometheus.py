"""A real Prometheus scrapes the exporter, and PromQL answers what is true."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, get_args

import pytest

from exporter.simulator import DEMO_ENVIRONMENTS, Fleet, demo_world
from exporter.simulator.item import State
from tests.exported import exporter_process, write_config
from tests.prometheus_server import Prometheus, prometheus_server, scrape_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e
LISTED_STATES: tuple[State, ...] = get_args(State)


def assert_prometheus_knows_the_truth(prometheus: Prometheus, simulator: Running, *, since: float) -> None:
    """Every environment's numbers in Prometheus, read after `since`, equal the simulator's while nothing happens there."""
    read = 'managed_agents_data_timestamp_seconds{source="list"}'
    prometheus.wait_for(lambda: min(prometheus.by(read, "environment_id").values(), default=0.0) > since)
    for demo in DEMO_ENVIRONMENTS:
        truth = simulator.call(simulator.world.truth, demo.id)
        here = f'{{environment_id="{demo.id}"}}'
        stats = truth.stats
        assert prometheus.by(f"managed_agents_queue_depth{here}", "environment_id") == {demo.id: stats.depth}
        assert prometheus.by(f"managed_agents_queue_pending{here}", "environment_id") == {demo.id: stats.pending}
        workers = {} if stats.workers_polling is None else {demo.id: stats.workers_polling}
        assert prometheus.by(f"managed_agents_workers_polling{here}", "environment_id") == workers
        listed = {state: truth.listed.get(state, 0) for state in LISTED_STATES} | {"unknown": 0}
        assert prometheus.by(f"managed_agents_work_items{here}", "state") == listed


def advance(fleet: Fleet, clock: list[float], seconds: float) -> None:
    for _ in range(int(seconds)):
        clock[0] += 1.0
        fleet.advance(clock[0])


def test_promql_answers_what_the_api_knows(tmp_path: Path) -> None:
    # The world's clock stands still between two steps, so that what is true does not change while it is compared.
    clock = [time.time()]
    world, fleet = demo_world(lambda: clock[0])
    with running(world) as simulator:
        config = write_config(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            target = exporter.base_url.removeprefix("http://")
            with prometheus_server(scrape_config(target), tmp_path) as prometheus:
                prometheus.wait_for(lambda: prometheus.query('up{job="managed-agents"} == 1'))
                for _ in range(3):
                    simulator.call(advance, fleet, clock, 20)
                    assert_prometheus_knows_the_truth(prometheus, simulator, since=time.time())
                assert not prometheus.complaints()


def test_the_demo_is_scraped_without_a_complaint(tmp_path: Path) -> None:
    with exporter_process("--demo", directory=tmp_path) as exporter:
        first = exporter.scrape()
        assert len(first.by("managed_agents_up", "environment_id")) >= 6
        target = exporter.base_url.removeprefix("http://")
        with prometheus_server(scrape_config(target), tmp_path) as prometheus:
            prometheus.wait_for(lambda: len(prometheus.query("count_over_time(managed_agents_up[1m]) >= 4")) >= 6)
            assert set(prometheus.by("managed_agents_up", "environment_id").values()) == {1.0}
            assert not prometheus.complaints()
            health = {target["health"] for target in prometheus.api("targets")["activeTargets"]}
            assert health == {"up"}
