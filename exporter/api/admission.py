"""The scheduler of all API calls: it hands the budget's tokens and the concurrent slots to what is worth most.

Two things stand in its one queue: calls, and reads that have not been started and will call. When a slot is free for a read,
its task is started, and asks for its call within the same turn of the event loop; so a thousand reads wait without a thousand tasks,
which would hold 15 MB. A call takes its token when it gets the slot, so that none is sent on a token from before a 429.
Where no token is left, nobody waits: the calls are throttled at once, and the reads are started, some at a time, to learn that.

Whoever asks in one turn of the event loop is served in order of priority, the stalest first: the order in which tasks happen to
run decides nothing.

Environments whose last call timed out share half of the slots: however many of them hang, the others have the other half.
One that may hang, because it did or because it has never answered, keeps its slot for a time slice while others wait for it: so
a fleet of which most hang is sorted in a few scrapes, and one that has recovered is soon tried again. A slice is long enough for
the API as it is now: some times what a call usually takes, so a slow API or a busy machine is not taken for one that hangs.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exporter.api.budget import Budget, Priority

LEAST_SLICE_S = 1.0
CALLS_PER_SLICE = 4
ANSWERS = 15
"""How many calls tell what one usually takes: the median of the last ones that were answered."""


class Throttled(Exception):  # noqa: N818 -- no error: a call that is not made, which is shown as what there is
    """The call was not made: the budget is spent, or a 429 is being waited out."""


class Evicted(Exception):  # noqa: N818 -- an answer that has not come, while others waited for the slot
    """The call was cut short: it might have hung for ever, and others waited."""


class Health(enum.Enum):
    """How an environment has answered so far."""

    UNKNOWN = "unknown"
    """There has been no call yet."""
    HEALTHY = "healthy"
    """The last call was answered."""
    TIMING_OUT = "timing_out"
    """The last call was not answered in time."""

    @property
    def is_timing_out(self) -> bool:
        return self is Health.TIMING_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What a call is wanted for. `stale_since`: when what it renews was read; less is sooner among equals.

    `health`: of the environment that is asked.
    """

    priority: Priority
    stale_since: float = float("-inf")
    environment_id: str | None = None
    health: Health = Health.HEALTHY


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits. `granted` ends with None, or with Throttled."""

    request: CallRequest
    granted: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Read:
    """A read that has not been started. `request`: its first call."""

    request: CallRequest
    start: Callable[[], object]


@dataclass(slots=True)
class _TimeSlice:
    """A call's hold on its slot, where that has an end. `began`: on the loop's clock."""

    scope: anyio.CancelScope
    began: float
    review: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Lane:
    """The queue of the environments that are timing out, or of all others.

    `running`: calls under way. `started`: reads that were started just now and have not asked for their call yet.
    """

    heap: list[tuple[int, bool, float, int, _Call | _Read]] = field(default_factory=list)
    running: int = 0
    started: int = 0

    @property
    def busy(self) -> int:
        return self.running + self.started

    def drop_given_up(self) -> None:
        while self.heap and isinstance(call := self.heap[0][-1], _Call) and call.granted.done():
            heapq.heappop(self.heap)


class Admission:
    def __init__(self, budget: Budget, *, concurrency: int, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._concurrency = concurrency
        self._monotonic = monotonic
        self._timing_out, self._others = _Lane(), _Lane()
        self._arrivals = 0
        self._dispatching = False
        self._answered_in_s: deque[float] = deque(maxlen=ANSWERS)

    def configure(self, *, concurrency: int) -> None:
        self._concurrency = concurrency

    def submit(self, request: CallRequest, start: Callable[[], object]) -> None:
        """Start a read in its turn. `request`: its first call, which the task that `start` makes asks for before it waits."""
        self._enqueue(_Read(request, start))

    @asynccontextmanager
    async def slot(self, request: CallRequest) -> AsyncIterator[None]:
        """Hold a slot and spend a token for one call. Raises Throttled, Evicted; waits for a slot, never for a token."""
        call = _Call(request, asyncio.get_running_loop().create_future())
        self._enqueue(call)
        try:
            await call.granted
        except asyncio.CancelledError:
            # Whoever is cancelled while waiting has cancelled what it waits for, unless that was granted or refused just before.
            if not call.granted.cancelled() and call.granted.exception() is None:
                self._free(request)
            raise
        began = asyncio.get_running_loop().time()
        try:
            if request.health is Health.HEALTHY:
                yield
            else:
                with self._time_slice(began):
                    yield
            self._answered_in_s.append(asyncio.get_running_loop().time() - began)
        finally:
            self._free(request)

    def rate_limited(self, retry_after_s: float | None) -> bool:
        """Note a 429: nobody calls for `retry_after_s`, or for a growing time where it is None. Return whether that is news."""
        return self._budget.rate_limited(retry_after_s, now=self._monotonic())

    def overloaded(self, environment_id: str | None, retry_after_s: float | None) -> bool:
        """Note an environment's 529. Return whether everybody waits from now on."""
        return self._budget.overloaded(environment_id, retry_after_s, now=self._monotonic())

    def answered(self) -> None:
        """Note a good answer."""
        self._budget.answered()

    def back_off_s(self, retry_after_s: float | None, waits: int) -> float:
        """Return how long to leave an environment alone after its `waits`th 529 in a row."""
        return self._budget.wait_s(retry_after_s, waits)

    @property
    def wait_s(self) -> float:
        """How long no call is made from now on."""
        now = self._monotonic()
        return (self._budget.waits_until(now) or now) - now

    # ---- time slices

    @property
    def _slice_s(self) -> float:
        return max(LEAST_SLICE_S, CALLS_PER_SLICE * median(self._answered_in_s or (0.0,)))

    @contextmanager
    def _time_slice(self, began: float) -> Iterator[None]:
        """Bound the time of a call that may hang. Raises Evicted."""
        time_slice = _TimeSlice(anyio.CancelScope(), began)
        try:
            with time_slice.scope:
                self._review_in(LEAST_SLICE_S, time_slice)
                yield
        finally:
            if time_slice.review is not None:
                time_slice.review.cancel()
        if time_slice.scope.cancelled_caught:
            raise Evicted

    def _review_in(self, seconds: float, time_slice: _TimeSlice) -> None:
        time_slice.review = asyncio.get_running_loop().call_later(seconds, self._review, time_slice)

    def _review(self, time_slice: _TimeSlice) -> None:
        left_s = time_slice.began + self._slice_s - asyncio.get_running_loop().time()
        for lane in self._lanes:
            lane.drop_given_up()
        if left_s > 0:
            self._review_in(min(left_s, LEAST_SLICE_S), time_slice)
        elif any(lane.heap for lane in self._lanes):
            time_slice.scope.cancel()
        else:
            self._review_in(LEAST_SLICE_S, time_slice)

    # ---- the queue

    @property
    def _lanes(self) -> tuple[_Lane, _Lane]:
        return self._timing_out, self._others

    def _lane(self, request: CallRequest) -> _Lane:
        return self._timing_out if request.health.is_timing_out else self._others

    def _enqueue(self, what: _Call | _Read) -> None:
        self._arrivals += 1
        request = what.request
        # Calls go before the reads of their priority. Otherwise every read would be started, one task each, before the
        # first call of any were made, if only reads know better than their calls how old their numbers are.
        place = (request.priority, isinstance(what, _Read), request.stale_since, self._arrivals, what)
        heapq.heappush(self._lane(request).heap, place)
        self._schedule()

    def _free(self, request: CallRequest) -> None:
        self._lane(request).running -= 1
        if any(lane.heap for lane in self._lanes):
            self._schedule()

    def _schedule(self) -> None:
        if not self._dispatching:
            self._dispatching = True
            loop = asyncio.get_running_loop()
            # Not in the next turn but in the one after it: tasks that were started in this turn ask in the next one.
            loop.call_soon(loop.call_soon, self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        for lane in self._lanes:
            lane.started = 0
        while (what := self._next()) is not None:
            self._serve(what)
        if self._budget.available(self._monotonic()) < 1:
            self._throttle_all()

    def _next(self) -> _Call | _Read | None:
        """Take the best of those that a slot is free for."""
        timing_out, others = self._lanes
        if timing_out.busy + others.busy >= self._concurrency:
            return None
        for lane in self._lanes:
            lane.drop_given_up()
        # Half of the slots are theirs that time out; of a single one, what the others leave.
        share_of_timing_out = self._concurrency // 2 or int(not others.heap)
        heaps = [others.heap, timing_out.heap] if timing_out.busy < share_of_timing_out else [others.heap]
        heap = min(filter(None, heaps), default=None)
        return None if heap is None else heapq.heappop(heap)[-1]

    def _serve(self, what: _Call | _Read) -> None:
        if isinstance(what, _Read):
            self._start(what)
            return
        request = what.request
        if self._budget.take(request.priority, environment_id=request.environment_id, now=self._monotonic()):
            self._lane(request).running += 1
            what.granted.set_result(None)
        else:
            what.granted.set_exception(Throttled())

    def _start(self, read: _Read) -> None:
        self._lane(read.request).started += 1
        read.start()
        self._schedule()

    def _throttle_all(self) -> None:
        """Throttle every call that waits, and start as many reads as there are slots, which will be throttled, too."""
        left = self._concurrency
        for lane in self._lanes:
            waiting, lane.heap = sorted(lane.heap), []
            for place in waiting:
                what = place[-1]
                if isinstance(what, _Read) and left:
                    left -= 1
                    self._start(what)
                elif isinstance(what, _Read):
                    lane.heap.append(place)  # in order, so that it is a heap again
                elif not what.granted.done():
                    what.granted.set_exception(Throttled())
