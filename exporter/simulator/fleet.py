"""The demo: environments in recognisable situations, their workers and the sessions that arrive.

Workers act on the `World` itself, so that they cost no HTTP calls. A fleet is a function of its seed and of the instants
it is advanced to; only `run` knows the real time. Sessions are short, so that a minute of looking shows every number
move; waiting times, leases and polling keep their real proportions.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal

import anyio

from exporter.simulator.environment import NotFound, Refusal, Rules
from exporter.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.simulator.environment import Environment

WorkerMode = Literal["always_on", "webhook"]

REHEARSAL_S = 1200
"""How long the fleet has been at work when the demo opens: long enough for every trouble to have set in."""
TICK_S = 0.25
BEAT_S = 30.0
HEALTH_CHECK_S = 60.0
KEPT_STOPPED = 900
KEPT_TRANSITIONS = 10_000
ARRIVALS_PER_STEP = 20
NEVER = math.inf


@dataclass(frozen=True, slots=True)
class DemoEnvironment:
    id: str
    name: str
    key: str
    worker_mode: WorkerMode


@dataclass(frozen=True, slots=True)
class Scene:
    """One situation. Spans are drawn evenly between their two ends; chances are per item."""

    environment: DemoEnvironment
    arrival_s: float
    workers: int
    run_s: tuple[float, float] = (12.0, 50.0)
    waiting_max: int = 400
    """No session is started while so many wait: users give up before a backlog is endless."""
    finished_before: int = 0
    health_checks: bool = False
    acknowledges: bool = True
    workers_leave_after_s: float = NEVER
    given_up_after_s: float = NEVER
    """A session that has not been acknowledged for so long is stopped by its user."""
    wake_s: tuple[float, float] = (0.5, 2.5)
    """How long a worker that a webhook wakes needs until it polls."""
    lease_loss: float = 0.0
    quits_before_start: float = 0.0
    sticks_in_stopping: float = 0.0


def _environment(number: int, name: str, worker_mode: WorkerMode = "always_on") -> DemoEnvironment:
    return DemoEnvironment(f"env_demo{number:02d}_{name}", name, f"sk-ant-oat01-demo-{name}", worker_mode)


SCENES = (
    Scene(_environment(1, "production"), 4.0, 14, finished_before=600, health_checks=True),
    # Some seventeen workers are missing. Whoever started a session waits a quarter of an hour for it, and gives up.
    Scene(_environment(2, "batch"), 5.0, 2, run_s=(60.0, 120.0), finished_before=200, given_up_after_s=900.0),
    Scene(_environment(3, "staging"), 75.0, 2, workers_leave_after_s=240.0, given_up_after_s=7200.0),
    Scene(_environment(4, "research"), 40.0, 2, acknowledges=False, given_up_after_s=600.0),
    Scene(_environment(5, "preview"), 10.0, 6, lease_loss=0.2, quits_before_start=0.25, sticks_in_stopping=0.12),
    Scene(_environment(6, "support", "webhook"), 60.0, 3, run_s=(8.0, 25.0), finished_before=50),
)
DEMO_ENVIRONMENTS = tuple(scene.environment for scene in SCENES)
CLOUD_ENVIRONMENT_ID = "env_demo99_cloud"

ABANDONED_S = 420.0
"""How long an item whose worker is lost keeps its last heartbeat before somebody stops it."""


@dataclass(slots=True)
class Worker:
    id: str
    due_at: float
    step: Callable[[Worker, float], None]
    item_id: str = ""
    ends_at: float = 0.0
    last_heartbeat: str | None = None


@dataclass(slots=True)
class Crew:
    """The workers and the users of one environment."""

    scene: Scene
    queue: Environment
    random: Random
    opened_at: float
    workers: list[Worker] = field(default_factory=list)
    next_arrival_at: float = 0.0
    next_check_at: float = NEVER
    stops_due: list[tuple[float, str, bool]] = field(default_factory=list)
    """When, which item, and whether only while no worker has acknowledged it."""
    hired: int = 0

    def open(self) -> None:
        self.next_arrival_at = self._after(self.opened_at, 0.0, self.scene.arrival_s)
        if self.scene.health_checks:
            self.next_check_at = self.opened_at + HEALTH_CHECK_S
        for _ in range(self.scene.workers):
            self._hire(self._idle_until(self._after(self.opened_at, 0.0, 3.0)))

    def advance(self, now: float) -> None:
        self._let_sessions_arrive(now)
        self._stop_what_is_given_up(now)
        if now - self.opened_at >= self.scene.workers_leave_after_s:
            self.workers = [worker for worker in self.workers if worker.item_id]
        for worker in list(self.workers):
            if worker.due_at <= now:
                self._let_act(worker, now)

    def _let_act(self, worker: Worker, now: float) -> None:
        try:
            worker.step(worker, now)
        except Refusal:
            # Whoever plays with the API beside the fleet may have stopped or taken the item.
            worker.item_id = ""
            self._then(worker, self._poll, self._after(now, 1.0, 3.0))

    def _after(self, now: float, low_s: float, high_s: float) -> float:
        return now + self.random.uniform(low_s, high_s)

    def _happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def _let_sessions_arrive(self, now: float) -> None:
        for _ in range(ARRIVALS_PER_STEP):
            if self.next_arrival_at > now:
                break
            self.next_arrival_at += self.random.expovariate(1 / self.scene.arrival_s)
            if self.queue.stats().depth < self.scene.waiting_max:
                self._let_one_arrive(now)
        self.next_arrival_at = max(self.next_arrival_at, now)  # a clock that jumped leaves no debt of arrivals
        if now >= self.next_check_at:
            self.next_check_at = now + HEALTH_CHECK_S
            self.queue.create(kind="healthcheck")

    def _let_one_arrive(self, now: float) -> None:
        item = self.queue.create()
        if self.scene.given_up_after_s < NEVER:
            self._stop_at(now + self.scene.given_up_after_s, item.id, unless_acknowledged=True)
        if self.scene.environment.worker_mode == "webhook":
            asleep = next((worker for worker in self.workers if worker.due_at == NEVER), None)
            if asleep is not None:
                asleep.due_at = self._after(now, *self.scene.wake_s)

    def _stop_at(self, instant: float, item_id: str, *, unless_acknowledged: bool = False) -> None:
        heapq.heappush(self.stops_due, (instant, item_id, unless_acknowledged))

    def _stop_what_is_given_up(self, now: float) -> None:
        while self.stops_due and self.stops_due[0][0] <= now:
            _, item_id, unless_acknowledged = heapq.heappop(self.stops_due)
            try:
                if not unless_acknowledged or self.queue.item(item_id).acknowledged_at is None:
                    self.queue.stop(item_id, force=True)
            except NotFound:
                continue  # it had stopped long ago and is no longer kept

    def _hire(self, due_at: float) -> None:
        self.hired += 1
        name = f"{self.scene.environment.name}-worker-{self.hired}"
        self.workers.append(Worker(name, due_at, self._poll))

    def _lose(self, worker: Worker, now: float) -> None:
        """Let a worker die with its item; another one takes its place."""
        self._stop_at(self._after(now, ABANDONED_S, 2 * ABANDONED_S), worker.item_id)
        self.workers.remove(worker)
        self._hire(self._after(now, 5.0, 20.0))

    def _idle_until(self, next_poll_at: float) -> float:
        return NEVER if self.scene.environment.worker_mode == "webhook" else next_poll_at

    def _poll(self, worker: Worker, now: float) -> None:
        reclaim_older_than_ms = 5000 if self.scene.acknowledges else 86_400_000
        item = self.queue.poll(worker_id=worker.id, reclaim_older_than_ms=reclaim_older_than_ms)
        if item is None or not self.scene.acknowledges:
            worker.due_at = self._idle_until(self._after(now, 2.0, 4.0))
            return
        worker.item_id = item.id
        self._then(worker, self._acknowledge, self._after(now, 0.1, 0.6))

    def _then(self, worker: Worker, step: Callable[[Worker, float], None], due_at: float) -> None:
        worker.step, worker.due_at = step, due_at

    def _acknowledge(self, worker: Worker, now: float) -> None:
        self.queue.ack(worker.item_id)
        if self._happens(self.scene.quits_before_start):
            self._lose(worker, now)
            return
        self._then(worker, self._start, self._after(now, 0.8, 6.0))

    def _start(self, worker: Worker, now: float) -> None:
        worker.last_heartbeat = self.queue.heartbeat(worker.item_id, expected="NO_HEARTBEAT").last_heartbeat
        if self._happens(self.scene.lease_loss):
            self._lose(worker, now)
            return
        worker.ends_at = self._after(now, *self.scene.run_s)
        self._then(worker, self._work, min(worker.ends_at, now + BEAT_S))

    def _work(self, worker: Worker, now: float) -> None:
        if now < worker.ends_at:
            lease = self.queue.heartbeat(worker.item_id, expected=worker.last_heartbeat)
            worker.last_heartbeat = lease.last_heartbeat
            worker.due_at = min(worker.ends_at, now + BEAT_S)
            return
        self.queue.stop(worker.item_id)
        if self._happens(self.scene.sticks_in_stopping):
            self._lose(worker, now)
            return
        self._then(worker, self._confirm_stop, self._after(now, 0.5, 4.0))

    def _confirm_stop(self, worker: Worker, now: float) -> None:
        self.queue.stop(worker.item_id, force=True)
        worker.item_id = ""
        self._then(worker, self._poll, now)


class Fleet:
    def __init__(self, world: World, scenes: tuple[Scene, ...], seed: int) -> None:
        self.world = world
        self._crews = [
            Crew(scene, world.environment(scene.environment.id), _dice(seed, scene), world.time()) for scene in scenes
        ]
        for crew in self._crews:
            crew.open()

    def advance(self, now: float) -> None:
        """Let everything happen that is due. Call it about every `TICK_S`; a gap is not made up for."""
        for crew in self._crews:
            crew.advance(now)

    async def run(self) -> None:
        while True:
            self.advance(self.world.time())
            await anyio.sleep(TICK_S)


def _dice(seed: int, scene: Scene) -> Random:
    return Random(f"{seed} {scene.environment.id}")


def demo_world(now: Callable[[], float], seed: int = 0) -> tuple[World, Fleet]:
    """Return a world that has been busy for `REHEARSAL_S`, and the fleet that keeps it so."""
    opening_at = now()
    clock = opening_at - REHEARSAL_S
    world = World(lambda: clock, record_limit=KEPT_TRANSITIONS)
    world.add_environment(CLOUD_ENVIRONMENT_ID, name="cloud", kind="cloud")
    for scene in SCENES:
        demo = scene.environment
        rules = Rules(keep_stopped=KEPT_STOPPED)
        queue = world.add_environment(demo.id, name=demo.name, key=demo.key, rules=rules)
        queue.add_finished(scene.finished_before, spacing_s=scene.arrival_s, wait_s=0.7, run_s=31.0)
    fleet = Fleet(world, SCENES, seed)
    while clock < opening_at:
        clock = min(clock + 1.0, opening_at)
        fleet.advance(clock)
    world.now = now
    return world, fleet
