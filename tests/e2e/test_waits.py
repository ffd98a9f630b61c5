"""What Prometheus says of waiting times is what the simulated API's own record says."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

import pytest

from exporter.config.model import WorkConfig
from exporter.simulator import DEMO_ENVIRONMENTS, Fleet, World, demo_world
from tests.exported import exporter_process, write_config
from tests.prometheus_server import prometheus_server, scrape_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e
BOUNDS_S = WorkConfig().duration_buckets
SPEED = 20
STEP_S = 0.25
REAL_S = 12
BUSY = tuple(demo.id for demo in DEMO_ENVIRONMENTS if demo.name in {"production", "batch", "preview"})


def test_quantiles_of_the_wait_are_within_a_bucket_of_the_truth(tmp_path: Path) -> None:
    clock = [time.time()]
    world, fleet = demo_world(lambda: clock[0])
    opened_at = clock[0]
    with running(world) as simulator:
        config = write_config(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            exporter.scrape()  # what is over by now is history, and not counted
            target = exporter.base_url.removeprefix("http://")
            with prometheus_server(scrape_config(target), tmp_path) as prometheus:
                live(simulator, fleet, clock)
                stopped_at = time.time()
                read = 'min(managed_agents_data_timestamp_seconds{source="list"})'
                prometheus.wait_for(lambda: [s for s in prometheus.query(read) if float(s["value"][1]) > stopped_at])
                for environment_id in BUSY:
                    waits = sorted(waits_since(world, environment_id, opened_at))
                    assert waits
                    for share in (0.5, 0.9):
                        found = prometheus.query(
                            f"histogram_quantile({share}, sum by (le) "
                            f'(managed_agents_work_queue_wait_seconds_bucket{{environment_id="{environment_id}"}}))'
                        )
                        assert_within_a_bucket(float(found[0]["value"][1]), waits[int(share * (len(waits) - 1))])


def live(simulator: Running, fleet: Fleet, clock: list[float]) -> None:
    """Let the fleet live SPEED times as fast as the clock on the wall."""

    def step() -> None:
        for _ in range(SPEED):
            clock[0] += STEP_S
            fleet.advance(clock[0])

    end = time.monotonic() + REAL_S
    while time.monotonic() < end:
        simulator.call(step)
        time.sleep(STEP_S)


def waits_since(world: World, environment_id: str, opened_at: float) -> list[float]:
    return [
        transition.duration_s
        for transition in world.truth(environment_id).transitions
        if transition.kind == "wait" and transition.at > opened_at
    ]


def assert_within_a_bucket(found_s: float, true_s: float) -> None:
    assert abs(bisect_left(BOUNDS_S, found_s) - bisect_left(BOUNDS_S, true_s)) <= 1, (found_s, true_s)
