"""Many environments within one deadline: each is read once for everybody who asks at the same time.

A read runs in a task of its own, not in that of the scrape which caused it, so a scraper that goes away cancels nobody else's
numbers. A scrape that joins with a later deadline extends the read's.

The tasks are started by the scheduler of the API's calls, each when there is a slot for its first one. The stats of all environments
come before the list of any, so that a deadline too short for everything takes lists away and no queue; among equals the stalest
environment's come first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from exporter.api.admission import CallRequest
from exporter.api.budget import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anyio.abc import TaskGroup

    from exporter.api.admission import Admission
    from exporter.api.budget import Budget
    from exporter.clock import Clock
    from exporter.environments.reader import Due, EnvironmentReader
    from exporter.environments.snapshot import Snapshot
    from exporter.log import Log

NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class _InFlightRead:
    """A read under way, or about to be. `deadline`: monotonic clock; `ends_at`: the same on the loop's.

    `under_way`: the scopes of its sources that have been started; `sources_left`: how many have not ended. `list_waits`: the list is
    asked for when the stats have been answered, not before.
    """

    reader: EnvironmentReader
    sources_left: int
    list_waits: bool
    deadline: float = NEVER
    ends_at: float = NEVER
    under_way: list[anyio.CancelScope] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def extend(self, deadline: float, *, now: float) -> None:
        if deadline > self.deadline:
            self.deadline = deadline
            self.ends_at = anyio.current_time() + (deadline - now)
            for scope in self.under_way:
                scope.deadline = self.ends_at


class Scraper:
    """Owns the reads under way; they run in `tasks`."""

    def __init__(self, tasks: TaskGroup, *, admission: Admission, budget: Budget, clock: Clock, log: Log) -> None:
        self._tasks = tasks
        self._admission = admission
        self._budget = budget
        self._clock = clock
        self._log = log
        # By reader, not by environment: after a reload a new reader must not wait for what the old one is reading.
        self._read_by_reader: dict[EnvironmentReader, _InFlightRead] = {}
        self._in_background: set[EnvironmentReader] = set()

    async def scrape(self, readers: Sequence[EnvironmentReader], *, timeout_s: float) -> tuple[Snapshot, ...]:
        """Read what is due, wait `timeout_s` at most, and return what may be shown, in the order of `readers`."""
        asked_at = self._clock.monotonic()
        self._budget.register_demand([reader.environment.id for reader in readers], now=asked_at)
        read_by_reader = self._attach(readers, asked_at, asked_at + timeout_s)
        with anyio.move_on_after(timeout_s):
            for read in read_by_reader.values():
                await read.done.wait()
        late = {reader for reader, read in read_by_reader.items() if not read.done.is_set()}
        return tuple(reader.snapshot(asked_at=asked_at, late=reader in late) for reader in readers)

    def _attach(
        self, readers: Iterable[EnvironmentReader], now: float, deadline: float
    ) -> dict[EnvironmentReader, _InFlightRead]:
        read_by_reader = {}
        for reader in sorted(readers, key=lambda reader: reader.stale_since):
            read = self._read_by_reader.get(reader)
            if read is None and any(due := reader.due(deadline - now)):
                read = self._begin(reader, due)
            if read is not None:
                read.extend(deadline, now=now)
                read_by_reader[reader] = read
        return read_by_reader

    def _begin(self, reader: EnvironmentReader, due: Due) -> _InFlightRead:
        reader.begin(due)
        list_waits = due.stats and due.list and reader.reads_stats_first
        read = self._read_by_reader[reader] = _InFlightRead(reader, sources_left=sum(due), list_waits=list_waits)
        if due.stats:
            self._queue(read, of_list=False)
        if due.list and not list_waits:
            self._queue(read, of_list=True)
        return read

    def _queue(self, read: _InFlightRead, *, of_list: bool) -> None:
        reader = read.reader
        request = CallRequest(
            priority=Priority.OPEN_END if of_list else Priority.STATS,
            stale_since=reader.list_stale_since if of_list else reader.stale_since,
            health=reader.health,
        )
        self._admission.submit(request, lambda: self._tasks.start_soon(self._run, read, of_list))

    async def _run(self, read: _InFlightRead, of_list: bool) -> None:  # noqa: FBT001 -- a task's arguments have no names
        reader = read.reader
        try:
            with anyio.CancelScope(deadline=read.ends_at) as scope:
                read.under_way.append(scope)
                if of_list:
                    await reader.read_list(deadline=lambda: read.deadline)
                else:
                    await reader.read_stats()
        except Exception as defect:  # noqa: BLE001 -- the boundary of a task: one environment's defect must not end the others
            reader.broke(defect)
        finally:
            self._end(read)

    def _end(self, read: _InFlightRead) -> None:
        """Go on after one source: with the list that waited for the stats, or with the end of the read."""
        read.sources_left -= 1
        if read.list_waits:
            read.list_waits = False
            if not read.reader.leave_list():
                self._queue(read, of_list=True)
                return
            read.sources_left -= 1
        if not read.sources_left:
            del self._read_by_reader[read.reader]
            read.done.set()
            self._go_on(read.reader)

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
