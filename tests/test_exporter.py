"""The exporter as a process, against the simulated API: what a scrape shows, whatever the environments do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, get_args

import pytest

from exporter.simulator import Rules, World
from exporter.simulator.item import State
from tests.exported import Exposition, assert_monotone, exporter_process, long_call_s, write_config
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS_AT_ONCE = 16
LISTED_STATES: tuple[State, ...] = get_args(State)


def populated_world(count: int) -> World:
    """Make environments `env_0` to `env_<count-1>`, each with another number of items in each state.

    The world's clock stands still: who polls and what waits is the same however long a test takes.
    """
    now = time.time()
    world = World(lambda: now)
    for number in range(count):
        environment = world.add_environment(f"env_{number}", name=f"name-{number}", key=f"key-{number}")
        environment.add_finished(number, spacing_s=1.0)
        for _ in range(number % 5 + 3):
            environment.create()
        for _ in range(number % 3):
            item = environment.poll(worker_id=f"worker-{number}")
            assert item is not None
            environment.ack(item.id)
    return world


@pytest.fixture
def simulator() -> Iterator[Running]:
    with running(populated_world(20)) as simulator:
        yield simulator


def config_without_waiting(directory: Path, simulator: Running, **sections: dict[str, Any]) -> Path:
    """Write a configuration with a slot for every call: one that takes a busy machine a second is not given up for others that wait."""
    slots = 2 * len(simulator.world.environments())
    api = {"concurrency": slots} | sections.pop("api", {})
    return write_config(directory, simulator, api=api, **sections)


def assert_exact(scrape: Exposition, simulator: Running, environment_id: str) -> None:
    """Everything that the environment shows equals the simulator's truth, and nothing is missing."""
    truth = simulator.call(simulator.world.truth, environment_id)
    here = {"environment_id": environment_id}
    assert scrape.value("managed_agents_up", **here) == 1
    assert scrape.value("managed_agents_list_up", **here) == 1
    assert scrape.value("managed_agents_queue_depth", **here) == truth.stats.depth
    assert scrape.value("managed_agents_queue_pending", **here) == truth.stats.pending
    assert scrape.value("managed_agents_workers_polling", **here) == truth.stats.workers_polling
    listed = {state: truth.listed.get(state, 0) for state in LISTED_STATES} | {"unknown": 0}
    assert scrape.by("managed_agents_work_items", "state", **here) == listed


def test_every_environment_is_exported_exactly(simulator: Running, tmp_path: Path) -> None:
    config = config_without_waiting(tmp_path, simulator)
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        scrape = exporter.scrape()
        for environment in simulator.world.environments():
            assert_exact(scrape, simulator, environment.id)


def test_five_broken_environments_leave_twenty_healthy_ones_exact_and_in_time(tmp_path: Path) -> None:
    world = populated_world(25)
    world.add_environment("env_cloud", name="cloud", key="key-cloud", kind="cloud")
    with running(world) as simulator:
        hang_s = long_call_s(config_without_waiting(tmp_path, simulator), tmp_path)
        for number, fault in ((20, "hang"), (21, "status-500"), (22, "status-403"), (23, "status-404")):
            simulator.call(simulator.faults.inject, fault, environment_id=f"env_{number}")
        simulator.call(world.delete_environment, "env_24")
        config = config_without_waiting(tmp_path, simulator, api={"timeout": duration(hang_s)})
        broken = ("env_20", "env_21", "env_22", "env_23", "env_cloud")
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            for _ in range(2):
                scrape = exporter.scrape(timeout_s=3 * hang_s)
                for number in range(20):
                    assert_exact(scrape, simulator, f"env_{number}")
                for environment_id in broken:
                    assert scrape.names(environment_id=environment_id) == {
                        "managed_agents_up",
                        "managed_agents_list_up",
                        "managed_agents_read_failure",
                        "managed_agents_environment_info",
                    }
                    assert scrape.value("managed_agents_up", environment_id=environment_id) == 0


def duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def test_an_environment_whose_list_hangs_still_shows_its_queue(simulator: Running, tmp_path: Path) -> None:
    hang_s = long_call_s(config_without_waiting(tmp_path, simulator), tmp_path)
    simulator.call(simulator.faults.inject, "hang", environment_id="env_3", call="list")
    config = config_without_waiting(tmp_path, simulator, api={"timeout": duration(hang_s)})
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        scrape = exporter.scrape(timeout_s=3 * hang_s)
        here = {"environment_id": "env_3"}
        assert scrape.value("managed_agents_up", **here) == 1
        assert scrape.value("managed_agents_list_up", **here) == 0
        assert not [name for name in scrape.names(**here) if name.startswith("managed_agents_work_")]
        assert_exact(scrape, simulator, "env_4")


def test_a_fleet_that_mostly_hangs_does_not_keep_the_healthy_from_being_read(tmp_path: Path) -> None:
    with running(populated_world(46)) as simulator:
        hang_s = long_call_s(write_config(tmp_path, simulator), tmp_path)
        for number in range(40):
            simulator.call(simulator.faults.inject, "hang", environment_id=f"env_{number}")
        config = write_config(tmp_path, simulator, api={"timeout": duration(5 * hang_s)})
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            for _ in range(2):  # they tell who hangs; 46 times two calls do not fit into 16 slots
                exporter.scrape(timeout_s=3 * hang_s)
            scrape = exporter.scrape(timeout_s=3 * hang_s)
            for number in range(40, 46):
                assert_exact(scrape, simulator, f"env_{number}")
            simulator.call(simulator.faults.heal, "env_0")
            recovered = [exporter.scrape(timeout_s=3 * hang_s) for _ in range(5)][-1]
            assert_exact(recovered, simulator, "env_0")


def test_environments_are_read_at_the_same_time(simulator: Running, tmp_path: Path) -> None:
    simulator.call(simulator.faults.inject, "hang")
    config = write_config(tmp_path, simulator, api={"timeout": "2s"})
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter, ThreadPoolExecutor() as pool:
        scrape = pool.submit(exporter.scrape)
        # One after the other, they would take 2 s each.
        deadline = time.monotonic() + CALLS_AT_ONCE * 2 - 2
        while simulator.calls.count("stats") < CALLS_AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert set(scrape.result().by("managed_agents_up", "environment_id")) == {f"env_{n}" for n in range(20)}


def test_an_outage_hides_numbers_at_once_and_recovery_shows_exact_ones(simulator: Running, tmp_path: Path) -> None:
    config = config_without_waiting(tmp_path, simulator)
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        before = exporter.scrape()
        simulator.call(simulator.faults.inject, "status-503")
        during = exporter.scrape()
        assert set(during.by("managed_agents_up", "environment_id").values()) == {0.0}
        assert not [name for name in during.names() if name.startswith("managed_agents_queue_")]
        simulator.call(simulator.faults.heal)
        simulator.call(simulator.world.environment("env_7").create)
        after = exporter.scrape()
        for environment in simulator.world.environments():
            assert_exact(after, simulator, environment.id)
        assert_monotone(before, during)
        assert_monotone(during, after)
        assert after.value("managed_agents_work_created_total", environment_id="env_7") == 1


def test_a_revoked_key_says_auth_once_in_the_log(simulator: Running, tmp_path: Path) -> None:
    config = config_without_waiting(tmp_path, simulator)
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        simulator.call(simulator.faults.inject, "status-401", environment_id="env_5")
        for _ in range(3):
            scrape = exporter.scrape()
        assert scrape.value("managed_agents_up", environment_id="env_5") == 0
        errors = scrape.value("managed_agents_exporter_api_errors_total", source="stats", reason="auth")
        assert errors == 3
        lines = [line for line in exporter.log().splitlines() if "event=read_failed" in line and "source=stats" in line]
        assert [line for line in lines if "environment_id=env_5" not in line] == []
        assert len(lines) == 1


def test_scrapes_within_the_minimal_interval_share_one_read(simulator: Running, tmp_path: Path) -> None:
    config = config_without_waiting(tmp_path, simulator, scrape={"min_interval": "60s"})
    with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
        first = exporter.scrape()
        calls = simulator.calls.count()
        second = exporter.scrape()
        assert simulator.calls.count() == calls == 40
        name = "managed_agents_data_timestamp_seconds"
        assert first.by(name, "environment_id", source="stats") == second.by(name, "environment_id", source="stats")
        age = "managed_agents_queue_oldest_age_seconds"
        assert first.value(age, environment_id="env_1") == second.value(age, environment_id="env_1")
        age = "managed_agents_data_age_seconds"
        grown = [scrape.value(age, environment_id="env_1", source="stats") or 0 for scrape in (first, second)]
        assert grown[0] < grown[1]


def test_a_page_size_the_server_refuses_is_asked_again_with_100(tmp_path: Path) -> None:
    world = World(time.time)
    environment = world.add_environment("env_small", name="small", key="key", rules=Rules(page_max=100))
    environment.add_finished(250, spacing_s=1.0)
    with running(world) as simulator:
        config = config_without_waiting(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            assert_exact(exporter.scrape(), simulator, "env_small")
