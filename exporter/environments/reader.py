"""One environment: what to read now, what came of it, and what may be shown.

`stats` and `list` are two sources that fail, age and are throttled each by itself. A read ends in a value, in a problem, or, where
the budget did not allow it, in nothing: then what was known stays, until it is too old.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import anyio

from exporter.api.admission import CallRequest, Health, Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Ledger, Listing
from exporter.listing.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from exporter.api.client import ApiContext, Reading, Reason, Source, WorkApi
    from exporter.api.wire import WorkPage, WorkStats
    from exporter.listing.ledger import Call

NEVER = float("-inf")
MIN_INTERVAL_TOLERANCE_S = 0.05
"""Prometheus is punctual to some milliseconds: a scrape that early for a new read gets one nevertheless."""
LEAST_TIME_FOR_HISTORY_S = 1.0
BACKGROUND_CALL_S = 5.0
MOST_CONTRADICTIONS = 1
"""A read survives one: its list is walked anew. At a second the ledger gives up until the next read."""
CURSOR_REFUSED = frozenset({400, 404, 410})
BAD_REQUEST = 400
NEVER_ENDS = "the list has no end: a cursor repeats, is refused or leads to nothing new, also when it is walked anew"
NOT_SELF_HOSTED = "not a self-hosted environment: its queue is blank and it has no list of work"

V = TypeVar("V", Queue, Work)


class Due(NamedTuple):
    """What a read of an environment is to read."""

    stats: bool
    list: bool


@dataclass(slots=True)
class _Track(Generic[V]):
    """What one source is known to say.

    On the monotonic clock, `began_at`: the last read's start; `tried_at`: the start of the last one that got as far as a call.
    `cut_after_s`: the time that the last read was given, where that was too little.
    """

    value: V | None = None
    problem: Problem | None = None
    began_at: float = NEVER
    tried_at: float = NEVER
    cut_after_s: float = math.inf
    reading: bool = False
    told: Reason | None = None

    def shown(self, *, late: bool) -> V | None:
        return None if (late and self.reading) or self.problem is not None else self.value


@dataclass(slots=True)
class _ListRead:
    """One read of the list under way."""

    began_at: float
    newest: Reading[WorkPage] | None = None
    failure: ApiError | None = None
    answered_at: float = 0.0
    in_flight: list[Call] = field(default_factory=list)
    background: list[Call] = field(default_factory=list)


class EnvironmentReader:
    """Reads one environment and remembers what it found. All of it runs in one event loop."""

    def __init__(self, environment: Environment, api: WorkApi, context: ApiContext) -> None:
        self.environment = environment
        self.api = api
        self._config = context.config
        self._observer = context.observer
        self._clock = context.clock
        self._log = context.log
        self._stats: _Track[Queue] = _Track()
        self._list: _Track[Work] = _Track()
        settings = context.config()
        self.ledger = Ledger(page_size=settings.listing.page_size, resync_interval_s=settings.listing.resync_interval_s)
        self._ledger_lock = anyio.Lock(fast_acquire=True)
        self._tally = Tally(settings.work.duration_buckets)
        self._baseline = False
        self._contradictions = 0
        self._background: list[Call] = []

    @property
    def stale_since(self) -> float:
        """When the stats were last asked for, on the monotonic clock; the stalest is read first.

        The last try counts, not the last success: many that fail would otherwise keep each other from being tried again.
        """
        return self._stats.tried_at

    @property
    def list_stale_since(self) -> float:
        """When the list was last asked for, likewise."""
        return self._list.tried_at

    @property
    def health(self) -> Health:
        """How it has answered so far. One that is not healthy is asked for one thing after the other: so it holds one slot, not two."""
        if self.api.timed_out:
            return Health.TIMING_OUT
        return Health.UNKNOWN if self._stats.tried_at == NEVER else Health.HEALTHY

    def due(self, within_s: float) -> Due:
        """Tell what a read that is given `within_s` would tell something new about.

        A read that was cut short says nothing to somebody who has more time than it had.
        """
        last = self._clock.monotonic() - self._config().scrape.min_interval_s + MIN_INTERVAL_TOLERANCE_S
        listing_enabled = self._config().listing.enabled

        def again(track: _Track[V]) -> bool:
            return track.began_at <= last or within_s > track.cut_after_s

        return Due(stats=again(self._stats), list=listing_enabled and again(self._list))

    def begin(self, due: Due) -> None:
        """Note that a read has begun: its numbers are as old as this, and who waits for it in vain gets none."""
        if due.stats:
            self._begin(self._stats)
        if due.list:
            self._begin(self._list)

    def leave_list(self) -> bool:
        """Give the list up, where the stats have timed out: it would, too. Tells whether it was."""
        if self._stats.problem is None or self._stats.problem.reason != "timeout":
            return False
        self._list.reading, self._list.cut_after_s = False, self._stats.cut_after_s
        self._fail("list", self._list, ApiError("timeout", "not asked for, since the stats timed out"))
        return True

    async def read_background(self) -> None:
        """Go on with what no scrape waits for: noticing deletions, under the budget's last priority."""
        while self._background:
            async with self._ledger_lock:
                if not self._background:
                    return
                call = self._background.pop()
                if not await self._make_background(call):
                    return
                self._background += [each for each in self.ledger.calls_to_make() if each.priority is Priority.RESYNC]

    def snapshot(self, *, asked_at: float, late: bool = False) -> Snapshot:
        """Tell what may be shown to somebody who asked at `asked_at` (monotonic).

        `late`: they have waited in vain for the read under way. Without it that read is somebody else's, and changes nothing yet.
        """
        queue, work = self._stats.shown(late=late), self._list.shown(late=late)
        queue = queue if queue and self._current(queue.times.monotonic_at, asked_at) else None
        listing_enabled = self._config().listing.enabled
        work = work if work and listing_enabled and self._current(self._oldest_read(work), asked_at) else None
        problem = self._stats.problem
        if self._list.problem is not None and self._not_self_hosted():
            problem, queue = replace(self._list.problem, text=NOT_SELF_HOSTED), None
        return Snapshot(
            environment=self.environment,
            listing_enabled=listing_enabled,
            queue=queue,
            work=work,
            tally=self._tally.view() if self._baseline else None,
            queue_problem=problem,
            work_problem=self._list.problem,
        )

    @property
    def has_background(self) -> bool:
        return bool(self._background)

    def broke(self, defect: Exception) -> None:
        """Take note of a defect of ours: there are no numbers, and the log says where."""
        self._log.error("read_broke", environment_id=self.environment.id, exception=defect)
        broken = ApiError("protocol", "a defect of the exporter; its log says more")
        self._stats.reading = self._list.reading = False
        self._fail("stats", self._stats, broken)
        self._fail("list", self._list, broken)

    async def aclose(self) -> None:
        await self.api.aclose()

    def _current(self, read_at: float, asked_at: float) -> bool:
        age_s = self._clock.monotonic() - read_at
        return read_at >= asked_at or age_s <= self._config().scrape.max_age_s

    @staticmethod
    def _oldest_read(work: Work) -> float:
        oldest = work.listing.oldest_read_at
        return work.times.monotonic_at if oldest is None else oldest

    def _not_self_hosted(self) -> bool:
        """Recognise a cloud environment: it answers `stats` with nothing at all, and its list with 404."""
        queue, problem = self._stats.value, self._list.problem
        if queue is None or problem is None or problem.reason != "not_found":
            return False
        stats = queue.stats
        return not (stats.depth or stats.pending) and stats.oldest_queued_at is None and stats.workers_polling is None

    def _begin(self, track: _Track[V]) -> None:
        track.reading = True
        track.began_at = self._clock.monotonic()
        track.cut_after_s = math.inf

    def _cut_short(self, track: _Track[V]) -> ApiError:
        track.cut_after_s = self._clock.monotonic() - track.began_at
        return ApiError("timeout", "no answer before the scrape's deadline")

    # ---- stats

    async def read_stats(self) -> None:
        """Read the stats, after `begin`. Ends with a value or a problem."""
        track = self._stats
        self.api.begin("stats")
        sent_before = self.api.sent("stats")
        turn = self._turn(Priority.STATS, self.stale_since)
        try:
            reading = await self.api.stats(turn)
        except Throttled:
            track.began_at = NEVER
        except ApiError as failed:
            self._fail("stats", track, failed)
        except anyio.get_cancelled_exc_class():
            self._fail("stats", track, self._cut_short(track))
            raise
        else:
            times = self._times(track.began_at, reading, self._clock.monotonic())
            track.value, track.problem = Queue(reading.value, times), None
            self._tell("stats", track)
        finally:
            track.reading = False
            if self.api.sent("stats") > sent_before:
                track.tried_at = track.began_at

    # ---- list

    async def read_list(self, *, deadline: Callable[[], float]) -> None:
        """Read the list, after `begin`. Ends with a value or a problem; `deadline` is on the monotonic clock."""
        track = self._list
        self.api.begin("list")
        read = _ListRead(began_at=track.began_at)
        try:
            async with self._ledger_lock:
                sent_before = self.api.sent("list")
                try:
                    await self._walk(read, deadline)
                finally:
                    if self.api.sent("list") > sent_before:
                        track.tried_at = track.began_at
        except anyio.get_cancelled_exc_class():
            in_vain = read.newest is None or any(call.priority < Priority.BACKFILL for call in read.in_flight)
            if read.failure is None and in_vain:
                read.failure = self._cut_short(track)
            raise
        finally:
            self._conclude(read)
            track.reading = False

    async def _walk(self, read: _ListRead, deadline: Callable[[], float]) -> None:
        for call in self._background:
            self.ledger.skipped(call)
        self._background = []
        self.ledger.begin(now=read.began_at)
        calls = self._wanted(read)
        while len(calls) == 1:
            # By far the most frequent case. A task of its own would be half of what a call costs here, in time and memory.
            await self._make(calls[0], read, deadline)
            calls = self._wanted(read)
        if calls:
            async with anyio.create_task_group() as tasks:
                self._start(calls, read, tasks, deadline)

    def _start(self, calls: list[Call], read: _ListRead, tasks: TaskGroup, deadline: Callable[[], float]) -> None:
        async def make(call: Call) -> None:
            await self._make(call, read, deadline)
            self._start(self._wanted(read), read, tasks, deadline)

        for call in calls:
            tasks.start_soon(make, call)

    def _wanted(self, read: _ListRead) -> list[Call]:
        """Take note of the calls that the scrape waits for from now on, and return them."""
        if read.failure is not None:
            return []
        wanted = self.ledger.calls_to_make()
        read.background += [call for call in wanted if call.priority is Priority.RESYNC]
        calls = [call for call in wanted if call.priority is not Priority.RESYNC]
        read.in_flight += calls
        return calls

    async def _make(self, call: Call, read: _ListRead, deadline: Callable[[], float]) -> None:
        time_left_s = deadline() - self._clock.monotonic()
        try:
            if call.priority >= Priority.BACKFILL and time_left_s < LEAST_TIME_FOR_HISTORY_S:
                self.ledger.skipped(call)
            else:
                await self._ask(call, read)
        except anyio.get_cancelled_exc_class():
            self.ledger.skipped(call)
            raise
        read.in_flight.remove(call)

    async def _ask(self, call: Call, read: _ListRead) -> None:
        try:
            reading = await self.api.page(call.cursor, call.limit, self._turn(call.priority, call.stale_since))
        except Throttled:
            self.ledger.skipped(call)
        except ApiError as failed:
            self._take_failure(call, failed, read)
        else:
            read.newest, read.answered_at = reading, self._clock.monotonic()
            self._tell_ledger(call, reading)

    def _take_failure(self, call: Call, failed: ApiError, read: _ListRead) -> None:
        """Walk anew after a refused cursor, in smaller pages after a refused page size; end the read otherwise."""
        if call.cursor is not None and failed.status in CURSOR_REFUSED:
            self.ledger.cursor_rejected(call)
            return
        too_much = failed.status == BAD_REQUEST or failed.reason == "too_large"
        if too_much and self.ledger.shrink(call):
            return
        self.ledger.skipped(call)
        read.failure = read.failure or failed

    def _tell_ledger(self, call: Call, reading: Reading[WorkPage]) -> None:
        now = self._clock.monotonic()
        self.ledger.receive_page(call, reading.value, now=now, server_now=reading.received_at + reading.server_ahead_s)

    def _conclude(self, read: _ListRead) -> None:
        track = self._list
        self._background = read.background
        listing = self.ledger.listing()
        contradictions = listing.contradictions - self._contradictions
        self._contradictions = listing.contradictions
        self._baseline = self._baseline or listing.complete
        self._observer.schema_drifted(self._tally.observe(self.ledger.take_transitions()))
        if read.failure is not None:
            self._fail("list", track, read.failure)
            return
        if contradictions > MOST_CONTRADICTIONS and not listing.complete:
            self._fail("list", track, ApiError("protocol", NEVER_ENDS))
            return
        if read.newest is None:
            track.began_at = NEVER
            return
        track.value, track.problem = self._work(listing, read), None
        self._tell("list", track)

    def _work(self, listing: Listing, read: _ListRead) -> Work | None:
        if not listing.complete or read.newest is None:
            return None
        times = self._times(read.began_at, read.newest, read.answered_at)
        oldest = times.monotonic_at if listing.oldest_read_at is None else listing.oldest_read_at
        rests_on = round(times.read_at - (times.monotonic_at - oldest), 3)
        return Work(
            listing,
            ReadTimes(
                read_at=rests_on,
                server_at=times.server_at,
                monotonic_at=times.monotonic_at,
                duration_s=times.duration_s,
            ),
        )

    async def _make_background(self, call: Call) -> bool:
        """Make a call that no scrape's deadline bounds, while scrapes of this environment wait for the ledger."""
        with anyio.move_on_after(BACKGROUND_CALL_S):
            return await self._ask_in_background(call)
        return False

    async def _ask_in_background(self, call: Call) -> bool:
        try:
            reading = await self.api.page(call.cursor, call.limit, self._turn(Priority.RESYNC, call.stale_since))
        except ApiError as failed:
            if call.cursor is not None and failed.status in CURSOR_REFUSED:
                self.ledger.cursor_rejected(call)
            else:
                self.ledger.skipped(call)
            return False
        except Throttled:
            self.ledger.skipped(call)
            return False
        except anyio.get_cancelled_exc_class():
            self.ledger.skipped(call)
            raise
        self._tell_ledger(call, reading)
        return True

    # ---- both

    def _turn(self, priority: Priority, stale_since: float) -> CallRequest:
        return CallRequest(
            priority=priority,
            stale_since=stale_since,
            environment_id=self.environment.id,
            health=self.health,
        )

    @staticmethod
    def _times(began_at: float, reading: Reading[WorkStats] | Reading[WorkPage], monotonic_at: float) -> ReadTimes:
        """Tell when a read took place, of which `reading` is the last answer and came at `monotonic_at`."""
        return ReadTimes(
            read_at=round(reading.received_at, 3),
            server_at=reading.received_at + reading.server_ahead_s,
            monotonic_at=monotonic_at,
            duration_s=monotonic_at - began_at,
        )

    def _fail(self, source: Source, track: _Track[V], failed: ApiError) -> None:
        self._observer.read_failed(source, failed.reason)
        if failed.reason == "rate_limited":
            return  # the wait concerns everybody: what was known stays, as for all others
        since = self._clock.wall() if track.problem is None else track.problem.since
        track.value = None
        track.problem = Problem(failed.reason, str(failed), since, failed.status, failed.request_id)
        self._tell(source, track)

    def _tell(self, source: Source, track: _Track[V]) -> None:
        """Log when a source starts to fail, fails differently, or recovers; not at every read."""
        problem = track.problem
        reason = None if problem is None else problem.reason
        if reason == track.told:
            return
        track.told = reason
        fields = {"environment_id": self.environment.id, "environment_name": self.environment.name, "source": source}
        if problem is None:
            self._log.info("read_recovered", **fields)
        else:
            text = NOT_SELF_HOSTED if source == "list" and self._not_self_hosted() else problem.text
            self._log.warning(
                "read_failed",
                **fields,
                reason=reason,
                status=problem.status,
                request_id=problem.request_id,
                detail=text,
            )
