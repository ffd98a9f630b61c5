"""The API goes away and comes back: series go and return, and nothing that happened meanwhile is lost or counted twice."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import World
from tests.exported import Exporter, Exposition, assert_monotone, exporter_process, free_port, write_config
from tests.simulated import running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Environment

pytestmark = pytest.mark.e2e

ENVIRONMENTS = tuple(f"env_{number}" for number in range(5))
HISTORY = 2_500
"""More than two pages, so that a complete listing takes more than one call."""
OUTAGE_S = 5.0
SCRAPE_S = 0.5
WITHOUT_API = {
    "managed_agents_up",
    "managed_agents_list_up",
    "managed_agents_read_failure",
    "managed_agents_environment_info",
}
COUNTING = ("_total", "_bucket", "_count", "_sum")


def busy_world() -> World:
    world = World(time.time)
    for environment_id in ENVIRONMENTS:
        environment = world.add_environment(environment_id)
        environment.add_finished(HISTORY)
        for _ in range(4):
            let_one_begin(environment)
            environment.create()
    return world


def let_one_begin(environment: Environment) -> None:
    environment.create()
    item = environment.poll(worker_id="worker")
    assert item is not None
    environment.ack(item.id)
    environment.heartbeat(item.id)


def let_time_pass(world: World) -> None:
    """Let workers do something of everything while nobody is watching; some items come and go unseen."""
    for environment in world.environments():
        active = [item.id for item in environment.items() if item.state == "active"]
        for item_id in active[:2]:
            environment.stop(item_id, force=True)
        environment.stop(active[2])
        let_one_begin(environment)
        environment.stop(environment.create().id, force=True)


def assert_exact(scrape: Exposition, world: World) -> None:
    for environment in world.environments():
        truth, here = environment.truth(), environment.id
        assert scrape.value("managed_agents_up", environment_id=here) == 1
        assert scrape.value("managed_agents_list_up", environment_id=here) == 1
        assert scrape.value("managed_agents_queue_depth", environment_id=here) == truth.stats.depth
        assert scrape.value("managed_agents_queue_pending", environment_id=here) == truth.stats.pending
        items = scrape.by("managed_agents_work_items", "state", environment_id=here)
        assert items == {"unknown": 0} | {str(state): count for state, count in truth.listed.items()}


def assert_gone(scrape: Exposition) -> None:
    """Nothing is shown of the queue and of the items; what was counted stays."""
    for environment_id in ENVIRONMENTS:
        assert scrape.value("managed_agents_up", environment_id=environment_id) == 0
        assert scrape.value("managed_agents_list_up", environment_id=environment_id) == 0
        names = scrape.names(environment_id=environment_id)
        assert {name for name in names if not name.endswith(COUNTING)} == WITHOUT_API
        assert scrape.value("managed_agents_work_created_total", environment_id=environment_id) is not None


def assert_counted_once(first: Exposition, last: Exposition, created: dict[str, int], finished: dict[str, int]) -> None:
    """Since the first complete listing, so many items came and went."""
    for environment_id in ENVIRONMENTS:
        name, here = "managed_agents_work_created_total", {"environment_id": environment_id}
        assert (last.value(name, **here) or 0) - (first.value(name, **here) or 0) == created[environment_id]
        before = first.by("managed_agents_work_finished_total", "outcome", **here)
        after = last.by("managed_agents_work_finished_total", "outcome", **here)
        assert sum(after.values()) - sum(before.values()) == finished[environment_id]


def counted(world: World, kind: str) -> dict[str, int]:
    return {
        each.id: sum(transition.kind == kind for transition in each.truth().transitions)
        for each in world.environments()
    }


def scrape_through_the_outage(exporter: Exporter) -> list[Exposition]:
    scrapes, ends_at = [], time.monotonic() + OUTAGE_S
    while time.monotonic() < ends_at:
        scrapes.append(exporter.scrape(timeout_s=5.0))
        time.sleep(SCRAPE_S)
    return scrapes


def test_series_go_with_the_api_and_are_exact_again_at_the_first_scrape_after_it(tmp_path: Path) -> None:
    world, port = busy_world(), free_port()
    with ExitStack() as api:
        simulator = api.enter_context(running(world, port=port))
        config = write_config(tmp_path, simulator)
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            first = exporter.scrape()
            assert_exact(first, world)
            created, finished = counted(world, "created"), counted(world, "finished")

            api.close()
            during = scrape_through_the_outage(exporter)
            for scrape in during:
                assert_gone(scrape)
            for earlier, later in pairwise([first, *during]):
                assert_monotone(earlier, later)

            let_time_pass(world)
            api.enter_context(running(world, port=port))
            after = exporter.scrape()
            assert_exact(after, world)
            assert_monotone(during[-1], after)
            assert_counted_once(
                first,
                after,
                {each: count - created[each] for each, count in counted(world, "created").items()},
                {each: count - finished[each] for each, count in counted(world, "finished").items()},
            )
            assert exporter.log().count("event=read_recovered") == 2 * len(ENVIRONMENTS)
