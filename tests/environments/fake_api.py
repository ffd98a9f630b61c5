"""An environment's API as a queue of answers, and what a reader needs around it, on a clock that the test moves."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from exporter.api.client import ApiContext, Reading
from exporter.api.wire import State, WorkItem, WorkPage, WorkStats
from exporter.clock import Clock
from exporter.config.model import Config
from exporter.environments.reader import EnvironmentReader
from exporter.environments.snapshot import Environment
from exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.admission import CallRequest
    from exporter.api.client import Reason, Source

WALL_AHEAD_S = 1_700_000_000.0
STATS = WorkStats(depth=2, pending=1, oldest_queued_at=None, workers_polling=1)
BLANK = WorkStats(depth=0, pending=0, oldest_queued_at=None, workers_polling=None)


def item(number: int, state: State = State.QUEUED, *, created_at: float = WALL_AHEAD_S) -> WorkItem:
    return WorkItem(f"work_{number}", state, created_at=created_at)


def page(*items: WorkItem, cursor: str | None = None) -> WorkPage:
    return WorkPage(items, cursor)


HANG = object()
"""An answer that never comes."""


@dataclass
class FakeApi:
    """Gives the answers in order, the last for ever; raises those that are exceptions."""

    clock: Clock
    stats_answers: deque[Any] = field(default_factory=lambda: deque([STATS]))
    pages: deque[Any] = field(default_factory=lambda: deque([page(item(1))]))
    calls: list[tuple[str | None, int, CallRequest]] = field(default_factory=list)
    sent_by_source: Counter[Source] = field(default_factory=Counter)
    timed_out: bool = False
    age_s: float = 0.0
    closed: bool = False

    def begin(self, source: Source) -> None: ...

    def sent(self, source: Source) -> int:
        return self.sent_by_source[source]

    async def stats(self, request: CallRequest) -> Reading[WorkStats]:
        del request
        return await self._answer("stats", self.stats_answers)

    async def page(self, cursor: str | None, limit: int, request: CallRequest) -> Reading[WorkPage]:
        self.calls.append((cursor, limit, request))
        return await self._answer("list", self.pages)

    async def aclose(self) -> None:
        self.closed = True

    async def _answer(self, source: Source, answers: deque[Any]) -> Reading[Any]:
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if type(answer).__name__ != "Throttled":
            self.sent_by_source[source] += 1
        if answer is HANG:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        return Reading(answer, self.clock.wall(), 0.0, self.age_s)


@dataclass
class Surroundings:
    """An observer that remembers, a configuration that the test may replace, and clocks that stand still."""

    config: Config = field(default_factory=Config)
    now: float = 1000.0
    failed: list[tuple[str, str]] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock(wall=lambda: WALL_AHEAD_S + self.now, monotonic=lambda: self.now)
        self.context = ApiContext(
            config=lambda: self.config,
            admission=None,  # type: ignore[arg-type]  # the fake API asks nobody
            observer=self,
            clock=self.clock,
            log=Log(),
        )
        self.api = FakeApi(self.clock)

    def reader(self, environment_id: str = "env_1") -> EnvironmentReader:
        return EnvironmentReader(Environment(id=environment_id, name="one"), self.api, self.context)  # type: ignore[arg-type]  # WorkApi's face

    def request_sent(self, source: Source, code: str, duration_s: float) -> None: ...
    def request_throttled(self, source: Source) -> None: ...

    def read_failed(self, source: Source, reason: Reason) -> None:
        self.failed.append((source, reason))

    def schema_drifted(self, fields: Sequence[str]) -> None:
        self.drifted += fields

    def clock_compared(self, offset_s: float) -> None: ...


async def read(reader: EnvironmentReader, *, timeout_s: float = 5.0) -> None:
    """Read both sources, one after the other."""
    reader.begin(reader.due(timeout_s))
    await reader.read_stats()
    await reader.read_list(deadline=lambda: float("inf"))
