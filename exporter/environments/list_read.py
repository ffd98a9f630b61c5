"""Reading one environment's list: the calls that its ledger asks for, within a scrape and in the background.

The background goes on with what no scrape waits for: the slow walk through the whole list that notices deletions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import anyio

from exporter.api.admission import Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.environments.snapshot import Work
from exporter.environments.source_state import read_times
from exporter.listing.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from exporter.api.admission import CallRequest
    from exporter.api.client import ApiContext, Reading, Reason, WorkApi
    from exporter.api.wire import WorkPage
    from exporter.clock import Clock
    from exporter.environments.source_state import SourceState
    from exporter.listing.ledger import Call, Ledger, Listing, QueuedCount
    from exporter.listing.tally import TallyView

LEAST_TIME_FOR_HISTORY_S = 1.0
BACKGROUND_CALL_S = 5.0
MOST_CONTRADICTIONS = 1
"""A read survives one: its list is walked anew. At a second the ledger gives up until the next read."""
CURSOR_REFUSED = frozenset({400, 404, 410})
BAD_REQUEST = 400
NEVER_ENDS = "the list has no end: a cursor repeats, is refused or leads to nothing new, also when it is walked anew"


def wants_smaller_pages(reason: Reason | None, status: int | None) -> bool:
    """Return whether a list call failed in a way that a smaller page may cure."""
    return status == BAD_REQUEST or reason == "too_large"


class ListReader:
    """Reads the list into the ledger, and counts what happens to its items. One read at a time."""

    def __init__(
        self,
        ledger: Ledger,
        api: WorkApi,
        context: ApiContext,
        state: SourceState[Work],
        new_request: Callable[[Priority, float], CallRequest],
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._context = context
        self._state = state
        self._caller = _LedgerCaller(ledger, api, context.clock, new_request)
        self._lock = anyio.Lock(fast_acquire=True)
        self._tally = Tally(context.config().work.duration_buckets)
        self._has_been_complete = False
        self._contradictions = 0
        self._background: list[Call] = []

    @property
    def tally(self) -> TallyView | None:
        """What has been counted since the first complete listing; None before it."""
        return self._tally.view() if self._has_been_complete else None

    @property
    def has_background(self) -> bool:
        return bool(self._background)

    @property
    def compares_stats(self) -> bool:
        """Tell whether the list costs less when it is read after the stats."""
        return self._ledger.compares_stats

    async def read(self, *, deadline: Callable[[], float], queued: QueuedCount | None) -> None:
        """Read the list, and end the state's read; `deadline` is on the monotonic clock, and may be moved meanwhile.

        `queued`: what the stats counted last.
        """
        read = _ListRead(self._caller, deadline, self._state.began_at, queued)
        try:
            async with self._lock:
                self._abandon_background()
                with self._state.recording_calls(self._api):
                    await read.run()
        except anyio.get_cancelled_exc_class():
            if read.is_cut_short:
                read.failure = self._state.cut_short()
            raise
        finally:
            self._conclude(read)
            self._state.end()

    async def read_background(self) -> None:
        """Make the calls of the lowest priority, one after the other, until one is not answered."""
        while self._background:
            async with self._lock:
                if not self._background or not await self._make_background(self._background.pop()):
                    return
                self._background += [each for each in self._ledger.calls_to_make() if each.priority is Priority.RESYNC]

    async def _make_background(self, call: Call) -> bool:
        """Return whether the call was answered. No deadline of a scrape bounds it, but scrapes wait for the ledger meanwhile."""
        with anyio.move_on_after(BACKGROUND_CALL_S):
            try:
                return await self._caller.make(call) is not None
            except ApiError as failed:
                self._caller.shrink_or_skip(call, failed)
        return False

    def _abandon_background(self) -> None:
        for call in self._background:
            self._ledger.skipped(call)
        self._background = []

    def _conclude(self, read: _ListRead) -> None:
        self._background = read.background
        listing = self._ledger.listing()
        contradictions = listing.contradictions - self._contradictions
        self._contradictions = listing.contradictions
        self._has_been_complete = self._has_been_complete or listing.complete
        objective_s = self._state.environment().wait_objective_s
        drift = self._tally.observe(self._ledger.take_transitions(), wait_objective_s=objective_s)
        self._context.observer.schema_drifted(drift)
        if read.failure is not None:
            self._state.fail(read.failure)
        elif contradictions > MOST_CONTRADICTIONS and not listing.complete:
            self._state.fail(ApiError("protocol", NEVER_ENDS))
        elif read.newest is None:
            self._state.skip()
        else:
            self._state.succeed(_work(listing, read, read.newest) if listing.complete else None)


class _Answer(NamedTuple):
    page: Reading[WorkPage]
    at: float


@dataclass(frozen=True, slots=True)
class _LedgerCaller:
    """Makes a call that the ledger asks for, and gives it the answer."""

    ledger: Ledger
    api: WorkApi
    clock: Clock
    new_request: Callable[[Priority, float], CallRequest]

    async def make(self, call: Call) -> _Answer | None:
        """Return the answer, or None where there is none and the ledger goes on without. Raises ApiError, not yet skipped."""
        try:
            page = await self.api.page(call.cursor, call.limit, self.new_request(call.priority, call.stale_since))
        except ApiError as failed:
            if call.cursor is None or failed.status not in CURSOR_REFUSED:
                raise
            self.ledger.cursor_rejected(call)
            return None
        except Throttled:
            self.ledger.skipped(call)
            return None
        except anyio.get_cancelled_exc_class():
            self.ledger.skipped(call)
            raise
        now = self.clock.monotonic()
        self.ledger.receive_page(call, page.value, now=now)
        return _Answer(page, now)

    def shrink_or_skip(self, call: Call, failed: ApiError) -> bool:
        """Return whether smaller pages may cure the failure; otherwise the call is skipped."""
        if wants_smaller_pages(failed.reason, failed.status) and self.ledger.shrink(call):
            return True
        self.ledger.skipped(call)
        return False


@dataclass(slots=True)
class _ListRead:
    """One read under way: makes the ledger's calls until it asks for none, or one has failed."""

    caller: _LedgerCaller
    deadline: Callable[[], float]
    began_at: float
    queued: QueuedCount | None
    newest: _Answer | None = None
    failure: ApiError | None = None
    in_flight: list[Call] = field(default_factory=list)
    background: list[Call] = field(default_factory=list)

    @property
    def is_cut_short(self) -> bool:
        """Whether a read that ends now ends too early: what is in flight is more than history, which can wait."""
        waits = self.newest is None or any(call.priority < Priority.BACKFILL for call in self.in_flight)
        return self.failure is None and waits

    async def run(self) -> None:
        self.caller.ledger.begin(now=self.began_at, queued=self.queued)
        calls = self._next_calls()
        while len(calls) == 1:
            # By far the most frequent case. A task of its own would be half of what a call costs here, in time and memory.
            await self._make(calls[0])
            calls = self._next_calls()
        if calls:
            async with anyio.create_task_group() as tasks:
                self._start(calls, tasks)

    def _start(self, calls: list[Call], tasks: TaskGroup) -> None:
        async def make(call: Call) -> None:
            await self._make(call)
            self._start(self._next_calls(), tasks)

        for call in calls:
            tasks.start_soon(make, call)

    def _next_calls(self) -> list[Call]:
        """Return the calls that the scrape waits for, and keep those for the background."""
        if self.failure is not None:
            return []
        calls = self.caller.ledger.calls_to_make()
        self.background += [call for call in calls if call.priority is Priority.RESYNC]
        waited_for = [call for call in calls if call.priority is not Priority.RESYNC]
        self.in_flight += waited_for
        return waited_for

    async def _make(self, call: Call) -> None:
        time_left_s = self.deadline() - self.caller.clock.monotonic()
        if call.priority >= Priority.BACKFILL and time_left_s < LEAST_TIME_FOR_HISTORY_S:
            self.caller.ledger.skipped(call)
        else:
            try:
                self.newest = await self.caller.make(call) or self.newest
            except ApiError as failed:
                self._fail(call, failed)
        self.in_flight.remove(call)

    def _fail(self, call: Call, failed: ApiError) -> None:
        """Go on in smaller pages after a refused page size; end the read otherwise."""
        if not self.caller.shrink_or_skip(call, failed):
            self.failure = self.failure or failed


def _work(listing: Listing, read: _ListRead, newest: _Answer) -> Work:
    times = read_times(read.began_at, newest.page, newest.at)
    oldest = listing.oldest_read_at
    return Work(listing, times if oldest is None else times.moved_to(min(oldest, times.monotonic_at)))
