"""The demo shows what it says it shows, from its first second and for ever."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest

from exporter.simulator import DEMO_ENVIRONMENTS, Environment, Fleet, Truth, World, demo_world
from exporter.simulator.fleet import CLOUD_ENVIRONMENT_ID, KEPT_STOPPED, KEPT_TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENING_AT = 1_780_000_000.0
SEEDS = [0, 1]


class Demo:
    def __init__(self, seed: int) -> None:
        self.at = OPENING_AT
        self.world: World
        self.fleet: Fleet
        self.world, self.fleet = demo_world(lambda: self.at, seed)

    def pass_by(self, seconds: float, tick_s: float = 0.25) -> None:
        until = self.at + seconds
        while self.at < until:
            self.at += tick_s
            self.fleet.advance(self.at)

    def queue(self, name: str) -> Environment:
        return next(queue for queue in self.world.environments() if queue.profile.name == name)

    def truth(self, name: str) -> Truth:
        return self.queue(name).truth()

    def heartbeat_ages(self, name: str) -> list[float]:
        return [
            self.at - (item.latest_heartbeat_at or 0.0) for item in self.queue(name).items() if item.state == "active"
        ]

    def oldest_wait_s(self, name: str) -> float:
        oldest = self.truth(name).stats.oldest_queued_at
        return 0.0 if oldest is None else self.at - oldest


@pytest.fixture(params=SEEDS)
def demo(request: pytest.FixtureRequest) -> Demo:
    return Demo(request.param)


def moments(demo: Demo, seconds: int = 120) -> Iterator[None]:
    """Stop at the opening, and at some instants after it."""
    yield
    for _ in range(seconds // 10):
        demo.pass_by(10)
        yield


def test_every_environment_has_a_valid_id_a_name_and_a_key_of_its_own(demo: Demo) -> None:
    assert len(DEMO_ENVIRONMENTS) >= 6
    for field in ("id", "name", "key"):
        assert len({getattr(environment, field) for environment in DEMO_ENVIRONMENTS}) == len(DEMO_ENVIRONMENTS)
    for environment in DEMO_ENVIRONMENTS:
        assert re.fullmatch(r"env_[A-Za-z0-9_]{1,96}", environment.id)
        assert demo.world.owner(environment.key) == environment.id
        assert demo.world.environment(environment.id).profile.name == environment.name
    assert demo.world.environment(CLOUD_ENVIRONMENT_ID).profile.kind == "cloud"


def test_production_is_healthy_and_busy(demo: Demo) -> None:
    for _ in moments(demo):
        truth = demo.truth("production")
        assert truth.listed["active"] >= 2
        assert truth.stats.depth <= 20
        assert demo.oldest_wait_s("production") < 60
        assert (truth.stats.workers_polling or 0) >= 1
        assert max(demo.heartbeat_ages("production")) <= 31
    assert {item.kind for item in demo.queue("production").items()} == {"session", "healthcheck"}


def test_batch_is_short_of_workers_and_its_users_give_up(demo: Demo) -> None:
    for _ in range(10):
        truth = demo.truth("batch")
        assert 50 < truth.stats.depth <= 400
        assert sum(truth.listed[state] for state in ("starting", "active", "stopping")) >= 1
        assert 600 < demo.oldest_wait_s("batch") < 960
        demo.pass_by(180, tick_s=0.5)
    truth = demo.truth("batch")
    assert truth.finished()["never_acknowledged"] >= 100
    assert max(truth.durations("wait")) > 600


def test_nobody_gives_up_a_session_that_a_worker_has(demo: Demo) -> None:
    """It runs to its end, however long it had waited."""
    demo.pass_by(1800, tick_s=0.5)
    assert min(demo.truth("batch").durations("run")) >= 60


def test_nobody_polls_in_staging_while_work_waits(demo: Demo) -> None:
    for _ in moments(demo):
        stats = demo.truth("staging").stats
        assert (stats.workers_polling, stats.pending) == (0, 0)
        assert stats.depth >= 3
        assert demo.oldest_wait_s("staging") > 300


def test_research_claims_and_never_acknowledges(demo: Demo) -> None:
    for _ in moments(demo):
        truth = demo.truth("research")
        assert truth.stats.pending >= 3
        assert truth.stats.workers_polling == 2
        assert truth.durations("wait") == []
        assert demo.oldest_wait_s("research") > 300


def test_preview_loses_leases_from_the_first_second_on(demo: Demo) -> None:
    for _ in moments(demo):
        assert any(age > 90 for age in demo.heartbeat_ages("preview"))
        truth = demo.truth("preview")
        assert truth.listed["stopping"] >= 1
        assert truth.listed["starting"] >= 1
    assert truth.finished()["never_started"] >= 1


def test_support_sleeps_until_work_wakes_it(demo: Demo) -> None:
    idle = 0
    for _ in moments(demo, 600):
        stats = demo.truth("support").stats
        assert stats.depth + stats.pending <= 3
        assert demo.oldest_wait_s("support") < 60
        idle += stats == type(stats)(0, 0, None, 0)
    assert idle >= 5
    assert demo.truth("support").finished()["ran"] >= 1


def test_after_a_minute_every_metric_has_something_to_show(demo: Demo) -> None:
    known = {queue.id: len(queue.truth().transitions) for queue in demo.world.environments()}
    demo.pass_by(60)
    new = [step for queue in demo.world.environments() for step in queue.truth().transitions[known[queue.id] :]]
    assert {step.kind for step in new} >= {"created", "wait", "startup", "run", "stop", "finished"}
    assert {step.outcome for step in new} >= {"ran", "never_started", "never_acknowledged"}
    production = demo.truth("production")
    assert len(production.durations("run")) > 20
    assert 10 < sum(production.durations("run")) / len(production.durations("run")) < 60


def test_a_seed_and_the_instants_determine_everything() -> None:
    def seen(seed: int) -> list[object]:
        demo = Demo(seed)
        demo.pass_by(120)
        return [(queue.truth(), [item.id for item in queue.items()]) for queue in demo.world.environments()]

    assert seen(7) == seen(7)
    assert seen(7) != seen(8)


def test_hours_of_demo_keep_their_size() -> None:
    demo = Demo(0)
    demo.pass_by(4 * 3600, tick_s=4.0)
    for queue in demo.world.environments():
        truth = queue.truth()
        assert truth.existing["stopped"] <= KEPT_STOPPED
        assert sum(truth.existing.values()) <= KEPT_STOPPED + 600
        assert len(truth.transitions) <= KEPT_TRANSITIONS
    assert sum(len(crew.stops_due) + len(crew.workers) for crew in demo.fleet._crews) < 500


def test_a_sleeping_machine_wakes_up_without_a_flood() -> None:
    demo = Demo(0)
    demo.at += 8 * 3600
    demo.fleet.advance(demo.at)
    demo.pass_by(300)
    assert demo.truth("production").stats.depth <= 40


def test_somebody_else_at_the_api_does_not_end_the_fleet(demo: Demo) -> None:
    for _ in range(60):
        demo.pass_by(0.5)
        for queue in demo.world.environments():
            if queue.profile.kind == "cloud":
                continue
            for item in [item for item in queue.items() if item.state != "stopped"][:3]:
                queue.stop(item.id, force=True)
            stolen = queue.poll(reclaim_older_than_ms=1)
            if stolen is not None:
                queue.ack(stolen.id)
                queue.heartbeat(stolen.id)
    demo.pass_by(60)
    assert demo.truth("production").listed["active"] >= 1


@pytest.mark.anyio
async def test_the_fleet_runs_by_the_clock_until_it_is_cancelled() -> None:
    demo = Demo(0)
    before = sum(len(queue.truth().transitions) for queue in demo.world.environments())
    demo.at += 30
    with anyio.move_on_after(0.01):
        await demo.fleet.run()
    assert sum(len(queue.truth().transitions) for queue in demo.world.environments()) > before
