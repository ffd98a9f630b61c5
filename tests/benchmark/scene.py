"""What the simulated API holds while something is measured: finished history, and a steady load of live items."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.simulator import World

if TYPE_CHECKING:
    from exporter.simulator import Environment

WAITING, CLAIMED, STARTING, ACTIVE, STOPPING = 6, 2, 2, 8, 2
LIVE = WAITING + CLAIMED + STARTING + ACTIVE + STOPPING
NEVER_TAKEN_BACK_MS = 10**9
KEPT_TRANSITIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`history`: finished items per environment. `busy`: there are live items. `certificate`: PEM file of chain and key, where TLS is spoken."""

    environments: int
    history: int = 100
    latency_s: float = 0.0
    busy: bool = True
    certificate: str | None = None

    @property
    def environment_ids(self) -> tuple[str, ...]:
        return tuple(f"env_bench{number:04d}" for number in range(self.environments))


class Crew:
    """The workers of one environment: each second one item is created and one passes on from every station."""

    def __init__(self, queue: Environment) -> None:
        self._queue = queue
        self._waiting = 0
        self._claimed: deque[str] = deque()
        self._starting: deque[str] = deque()
        self._active: deque[str] = deque()
        self._stopping: deque[str] = deque()

    def second(self) -> None:
        queue = self._queue
        queue.create()
        self._waiting += 1
        if self._waiting > WAITING and (item := queue.poll(worker_id="w", reclaim_older_than_ms=NEVER_TAKEN_BACK_MS)):
            self._waiting -= 1
            self._claimed.append(item.id)
        if len(self._claimed) > CLAIMED:
            self._starting.append(queue.ack(self._claimed.popleft()).id)
        if len(self._starting) > STARTING:
            self._active.append(self._started(self._starting.popleft()))
        if len(self._active) > ACTIVE:
            self._stopping.append(queue.stop(self._active.popleft()).id)
        if len(self._stopping) > STOPPING:
            queue.stop(self._stopping.popleft(), force=True)

    def _started(self, item_id: str) -> str:
        self._queue.heartbeat(item_id)
        return item_id


class Play:
    """A world that stands still until it is advanced, so that what a scrape shows can be compared with the truth.

    The clock behind it runs on, and jumps when it is advanced: to its readers the server's clock is ahead of theirs.
    """

    def __init__(self, scene: Scene) -> None:
        self._ahead_s = 0.0
        self.world = World(lambda: time.time() + self._ahead_s, record_limit=KEPT_TRANSITIONS)
        self._crews: list[Crew] = []
        for environment_id in scene.environment_ids:
            queue = self.world.add_environment(environment_id)
            if scene.history:
                queue.add_finished(scene.history)
            if scene.busy:
                self._crews.append(Crew(queue))
        self.advance(LIVE)

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self._ahead_s += 1.0
            for crew in self._crews:
                crew.second()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the items per environment and state that a full walk would count."""
        return {
            each.id: {str(state): count for state, count in each.truth().listed.items()}
            for each in self.world.environments()
        }
