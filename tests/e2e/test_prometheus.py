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


def wait_until_prometheus_knows_the_truth(prometheus: Prometheus, simulator: Running, *, since: float) -> None:
    """Every environment's numbers in Prometheus, read after `since`, equal the simulator's while nothing happens there.

    On a busy machine a scrape may end before it has every list; the next one has it.
    """
    read = 'managed_agents_data_timestamp_seconds{source="list"}'
    prometheus.wait_for(lambda: min(prometheus.by(read, "environment_id").values(), default=0.0) > since)
    for demo in DEMO_ENVIRONMENTS:
        truth = simulator.call(simulator.world.truth, demo.id)
        stats, here = truth.stats, f'{{environment_id="{demo.id}"}}'
        expected = {
            ("queue_depth", "environment_id"): {demo.id: stats.depth},
            ("queue_pending", "environment_id"): {demo.id: stats.pending},
            ("workers_polling", "environment_id"): {}
            if stats.workers_polling is None
            else {demo.id: stats.workers_polling},
            ("work_items", "state"): {state: truth.listed.get(state, 0) for state in LISTED_STATES} | {"unknown": 0},
        }
        for (name, label), values in expected.items():
            prometheus.wait_for(lambda: prometheus.by(f"managed_agents_{name}{here}", label) == values)  # noqa: B023 -- called at once


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
                    wait_until_prometheus_knows_the_truth(prometheus, simulator, since=time.time())
                assert not prometheus.complaints()


def test_the_demo_is_scraped_without_a_complaint(tmp_path: Path) -> None:
    with exporter_process("--demo", directory=tmp_path) as exporter:
        first = exporter.scrape()
        assert len(first.by("managed_agents_up", "environment_id")) >= 6
        target = exporter.base_url.removeprefix("http://")
        with prometheus_server(scrape_config(target), tmp_path) as prometheus:
            prometheus.wait_for(lambda: len(prometheus.query("count_over_time(managed_agents_up[1m]) >= 4")) >= 6)
            prometheus.wait_for(lambda: set(prometheus.by("managed_agents_up", "environment_id").values()) == {1.0})
            prometheus.wait_for(
                lambda: [each["health"] for each in prometheus.api("targets")["activeTargets"]] == ["up"]
            )
            assert not prometheus.complaints()
