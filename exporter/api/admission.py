"""Who may call the API next: one place where the budget's tokens and the concurrent slots are handed out.

Requests are collected for one turn of the event loop and then served in order of worth, the stalest first, so that the
order in which tasks happen to run decides nothing. A request that finds no token is refused at once, also while all slots
are taken; one that finds no free slot waits, and takes its token when it gets the slot, so that no call is sent on a token from
before a 429.

Environments whose last call timed out share half of the slots: however many of them hang, the others have the other half.
One that may hang, because it did or because it has never answered, keeps its slot for a second at a time while others wait
for it: so a fleet of which most hang is told apart in a few scrapes, and one that has recovered is soon tried again.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exporter.api.budget import Budget, Priority

TIME_SLICE_S = 1.0
QUEUED_PER_SLOT = 4
"""With fewer in the queue a slot could find nobody; with more, only memory is spent."""


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


@dataclass(slots=True, order=True)
class _WaitingCall:
    rank: tuple[int, float, int]
    request: CallRequest = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


@dataclass(slots=True)
class _TimeSlice:
    """A call's hold on its slot, where that has an end."""

    scope: anyio.CancelScope
    review: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Lane:
    """The requests of environments that are timing out, or of all others.

    `heap` still holds some that were given up; `waiting_by_priority`: how many were not. `running`: calls under way. `shorter`: set each
    time somebody stops waiting.
    """

    heap: list[_WaitingCall] = field(default_factory=list)
    waiting_by_priority: Counter[Priority] = field(default_factory=Counter)
    running: int = 0
    shorter: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        return self.waiting_by_priority.total()

    def leave(self, priority: Priority) -> None:
        self.waiting_by_priority[priority] -= 1
        self.shorter.set()

    def ahead(self, priority: Priority) -> int:
        """Count those that are served before a new request for `priority`, or in turn with it."""
        return sum(waiting for other, waiting in self.waiting_by_priority.items() if other <= priority)


class Admission:
    def __init__(self, budget: Budget, *, concurrency: int, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._concurrency = concurrency
        self._monotonic = monotonic
        self._timing_out, self._others = _Lane(), _Lane()
        self._arrivals = 0
        self._dispatching = False

    def configure(self, *, concurrency: int) -> None:
        self._concurrency = concurrency

    @asynccontextmanager
    async def slot(self, request: CallRequest) -> AsyncIterator[None]:
        """Hold a slot and spend a token for one call. Raises Throttled, Evicted; waits for a slot, never for a token."""
        waiting_call = self._enqueue(request)
        try:
            await waiting_call.granted
        except asyncio.CancelledError:
            if (
                waiting_call.granted.done()
                and not waiting_call.granted.cancelled()
                and waiting_call.granted.exception() is None
            ):
                self._free(request)
            waiting_call.granted.cancel()
            raise
        finally:
            self._lane(request.health).leave(request.priority)
        try:
            if request.health is not Health.HEALTHY:
                with self._time_slice():
                    yield
            else:
                yield
        finally:
            self._free(request)

    async def room(self, priority: Callable[[], Priority], *, health: Health) -> None:
        """Wait until few requests are ahead of one for `priority`, which may change meanwhile, in the lane of `health`.

        Lesser ones don't count: however much history is being read again, what a scrape waits for is started.
        """
        lane = self._lane(health)
        while lane.ahead(priority()) >= self._concurrency * QUEUED_PER_SLOT:
            lane.shorter.clear()
            await lane.shorter.wait()

    def rate_limited(self, retry_after_s: float | None) -> bool:
        """Note a 429 or 529: no call is made for `retry_after_s`, or for a growing time where it is None. True: that is news."""
        return self._budget.rate_limited(retry_after_s, now=self._monotonic())

    @property
    def wait_s(self) -> float:
        """How long no call is made from now on."""
        now = self._monotonic()
        return (self._budget.waits_until(now) or now) - now

    def answered(self) -> None:
        """Note any other answer."""
        self._budget.answered()

    @contextmanager
    def _time_slice(self) -> Iterator[None]:
        """Bound the time of a call that may hang. Raises Evicted."""
        time_slice = _TimeSlice(anyio.CancelScope())
        try:
            with time_slice.scope:
                self._review_later(time_slice)
                yield
        finally:
            if time_slice.review is not None:
                time_slice.review.cancel()
        if time_slice.scope.cancelled_caught:
            raise Evicted

    def _review_later(self, time_slice: _TimeSlice) -> None:
        time_slice.review = asyncio.get_running_loop().call_later(TIME_SLICE_S, self._review, time_slice)

    def _review(self, time_slice: _TimeSlice) -> None:
        if any(lane.waiting for lane in (self._timing_out, self._others)):
            time_slice.scope.cancel()
        else:
            self._review_later(time_slice)

    def _lane(self, health: Health) -> _Lane:
        return self._timing_out if health.is_timing_out else self._others

    def _enqueue(self, request: CallRequest) -> _WaitingCall:
        self._arrivals += 1
        granted = asyncio.get_running_loop().create_future()
        waiting_call = _WaitingCall((request.priority, request.stale_since, self._arrivals), request, granted)
        lane = self._lane(request.health)
        heapq.heappush(lane.heap, waiting_call)
        lane.waiting_by_priority[request.priority] += 1
        self._schedule()
        return waiting_call

    def _free(self, request: CallRequest) -> None:
        self._lane(request.health).running -= 1
        self._schedule()

    def _schedule(self) -> None:
        if not self._dispatching:
            self._dispatching = True
            loop = asyncio.get_running_loop()
            # One turn later than the next: whoever is started by those that ask in this turn shall be heard as well.
            loop.call_soon(loop.call_soon, self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        while (waiting_call := self._next()) is not None:
            self._serve(waiting_call)
        if self._budget.available(self._monotonic()) < 1:
            self._refuse_all()

    def _refuse_all(self) -> None:
        for lane in (self._timing_out, self._others):
            for waiting_call in lane.heap:
                if not waiting_call.granted.done():
                    waiting_call.granted.set_exception(Throttled())
            lane.heap.clear()

    def _next(self) -> _WaitingCall | None:
        """Take the best request that a slot is free for."""
        timing_out, others = self._timing_out, self._others
        if timing_out.running + others.running >= self._concurrency:
            return None
        for lane in (timing_out, others):
            while lane.heap and lane.heap[0].granted.done():
                heapq.heappop(lane.heap)
        # Half of the slots are theirs that time out; of a single one, what the others leave.
        share_of_timing_out = self._concurrency // 2 or int(not others.heap)
        heaps = [others.heap, timing_out.heap] if timing_out.running < share_of_timing_out else [others.heap]
        heap = min(filter(None, heaps), default=None)
        return None if heap is None else heapq.heappop(heap)

    def _serve(self, waiting_call: _WaitingCall) -> None:
        request = waiting_call.request
        if self._budget.take(request.priority, environment_id=request.environment_id, now=self._monotonic()):
            self._lane(request.health).running += 1
            waiting_call.granted.set_result(None)
        else:
            waiting_call.granted.set_exception(Throttled())
