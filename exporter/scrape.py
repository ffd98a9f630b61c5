"""Many environments within one deadline: each is read once for everybody who asks at the same time.

A read runs in a task of its own, not in that of the scrape which caused it, so a scraper that goes away cancels nobody else's
numbers. A scrape that joins with a later deadline extends the read's.

The tasks are started as the API takes their calls, the stalest environment's first: a thousand that stand in a queue together would
hold 15 MB, and would all be made before the first call is sent. Those that may hang are started beside the others, and so hold
nobody up.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anyio.abc import TaskGroup

    from exporter.admission import Admission
    from exporter.budget import Budget
    from exporter.clock import Clock
    from exporter.collector import Due, EnvironmentReader
    from exporter.log import Log
    from exporter.snapshot import Snapshot


STARTED_AT_ONCE = 8


@dataclass(slots=True, order=True)
class _Flight:
    """A read under way, or about to be. `deadline`: monotonic clock; the scope's is kept equal to it."""

    rank: tuple[float, int]
    reader: EnvironmentReader = field(compare=False)
    due: Due = field(compare=False)
    deadline: float = field(compare=False)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, compare=False)
    done: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    def extend(self, deadline: float, *, now: float) -> None:
        if deadline > self.deadline:
            self.deadline = deadline
            self.scope.deadline = anyio.current_time() + (deadline - now)


class Scraper:
    """Owns the reads under way; they run in `tasks`."""

    def __init__(self, tasks: TaskGroup, *, admission: Admission, budget: Budget, clock: Clock, log: Log) -> None:
        self._tasks = tasks
        self._admission = admission
        self._budget = budget
        self._clock = clock
        self._log = log
        # By reader, not by environment: after a reload a new reader must not wait for what the old one is reading.
        self._flight_by_reader: dict[EnvironmentReader, _Flight] = {}
        self._in_background: set[EnvironmentReader] = set()
        self._waiting: dict[bool, list[_Flight]] = {True: [], False: []}
        self._starting: set[bool] = set()
        self._departures = 0

    async def scrape(self, readers: Sequence[EnvironmentReader], *, timeout_s: float) -> tuple[Snapshot, ...]:
        """Read what is due, wait `timeout_s` at most, and tell what may be shown, in the order of `readers`."""
        asked_at = self._clock.monotonic()
        self._budget.expect([reader.environment.id for reader in readers], now=asked_at)
        flight_by_reader = self._join(readers, asked_at, asked_at + timeout_s)
        with anyio.move_on_after(timeout_s):
            for flight in flight_by_reader.values():
                await flight.done.wait()
        late = {reader for reader, flight in flight_by_reader.items() if not flight.done.is_set()}
        return tuple(reader.snapshot(asked_at=asked_at, late=reader in late) for reader in readers)

    def _join(
        self, readers: Iterable[EnvironmentReader], now: float, deadline: float
    ) -> dict[EnvironmentReader, _Flight]:
        flight_by_reader = {}
        for reader in sorted(readers, key=lambda reader: reader.stale_since):
            flight = self._flight_by_reader.get(reader)
            if flight is None and any(due := reader.due()):
                flight = self._depart(reader, due, now, deadline)
            if flight is not None:
                flight.extend(deadline, now=now)
                flight_by_reader[reader] = flight
        return flight_by_reader

    def _depart(self, reader: EnvironmentReader, due: Due, now: float, deadline: float) -> _Flight:
        self._departures += 1
        flight = _Flight((reader.stale_since, self._departures), reader, due, deadline)
        flight.scope.deadline = anyio.current_time() + (deadline - now)
        self._flight_by_reader[reader] = flight
        reader.begin(due)
        heapq.heappush(self._waiting[reader.suspect], flight)
        if reader.suspect not in self._starting:
            self._starting.add(reader.suspect)
            self._tasks.start_soon(self._start, reader.suspect)
        return flight

    async def _start(self, suspect: bool) -> None:  # noqa: FBT001 -- one of two lanes
        """Start what waits in a lane, as long as the queue in front of the API is short."""
        waiting = self._waiting[suspect]
        while waiting:
            await self._admission.room(suspect=suspect)
            for _ in range(min(STARTED_AT_ONCE, len(waiting))):
                self._tasks.start_soon(self._fly, heapq.heappop(waiting))
            await asyncio.sleep(0)
        self._starting.discard(suspect)

    async def _fly(self, flight: _Flight) -> None:
        reader = flight.reader
        try:
            with flight.scope:
                await reader.read(flight.due, deadline=lambda: flight.deadline)
        except Exception as defect:  # noqa: BLE001 -- the boundary of a task: one environment's defect must not end the others
            reader.broke(defect)
        finally:
            del self._flight_by_reader[reader]
            flight.done.set()
        self._go_on(reader)

    def _go_on(self, reader: EnvironmentReader) -> None:
        if reader.has_background and reader not in self._in_background:
            self._in_background.add(reader)
            self._tasks.start_soon(self._work_in_background, reader)

    async def _work_in_background(self, reader: EnvironmentReader) -> None:
        try:
            await reader.read_background()
        except Exception as defect:  # noqa: BLE001 -- the boundary of a task, as above
            reader.broke(defect)
        finally:
            self._in_background.discard(reader)
