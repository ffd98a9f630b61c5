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
import heapq
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exporter.budget import Budget, Spend

LEASE_S = 1.0


class Throttled(Exception):  # noqa: N818 -- no error: a call that is not made, which is shown as what there is
    """The call was not made: the budget is spent, or a 429 is being waited out."""


class Evicted(Exception):  # noqa: N818 -- an answer that has not come, while others waited for the slot
    """The call was cut short: it might have hung for ever, and others waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a call is wanted for. `stale_since`: when what it renews was read; less is sooner among equals.

    `suspect`: the last call timed out. `unproven`: there has not been an answer yet.
    """

    spend: Spend
    stale_since: float = float("-inf")
    environment_id: str | None = None
    suspect: bool = False
    unproven: bool = False


@dataclass(slots=True, order=True)
class _Request:
    rank: tuple[int, float, int]
    turn: Turn = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, compare=False)
    review: asyncio.TimerHandle | None = field(default=None, compare=False)


class Admission:
    def __init__(self, budget: Budget, *, concurrency: int, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._concurrency = concurrency
        self._monotonic = monotonic
        self._waiting: dict[bool, list[_Request]] = {True: [], False: []}
        self._running: dict[bool, int] = {True: 0, False: 0}
        self._arrivals = 0
        self._dispatching = False

    def configure(self, *, concurrency: int) -> None:
        self._concurrency = concurrency

    @asynccontextmanager
    async def turn(self, turn: Turn) -> AsyncIterator[None]:
        """Hold a slot and spend a token for one call. Raises Throttled, Evicted; waits for a slot, never for a token."""
        request = self._enqueue(turn)
        try:
            await request.granted
        except asyncio.CancelledError:
            if request.granted.done() and not request.granted.cancelled() and request.granted.exception() is None:
                self._release(turn)
            request.granted.cancel()
            raise
        try:
            with self._leased(request):
                yield
        finally:
            self._release(turn)
        if request.scope.cancelled_caught:
            raise Evicted

    def refused(self, retry_after_s: float | None) -> bool:
        """Note a 429 or 529: no call is made for `retry_after_s`, or for a growing time where it is None. True: that is news."""
        return self._budget.refused(retry_after_s, now=self._monotonic())

    @property
    def wait_s(self) -> float:
        """How long no call is made from now on."""
        now = self._monotonic()
        return (self._budget.waits_until(now) or now) - now

    def answered(self) -> None:
        """Note any other answer."""
        self._budget.answered()

    @contextmanager
    def _leased(self, request: _Request) -> Iterator[None]:
        """Bound the call's time where it may hang."""
        if not (request.turn.suspect or request.turn.unproven):
            yield
            return
        try:
            with request.scope:
                self._review_later(request)
                yield
        finally:
            if request.review is not None:
                request.review.cancel()

    def _review_later(self, request: _Request) -> None:
        request.review = asyncio.get_running_loop().call_later(LEASE_S, self._review, request)

    def _review(self, request: _Request) -> None:
        if any(not other.granted.done() for heap in self._waiting.values() for other in heap):
            request.scope.cancel()
        else:
            self._review_later(request)

    def _enqueue(self, turn: Turn) -> _Request:
        self._arrivals += 1
        granted = asyncio.get_running_loop().create_future()
        request = _Request((turn.spend, turn.stale_since, self._arrivals), turn, granted)
        heapq.heappush(self._waiting[turn.suspect], request)
        self._schedule()
        return request

    def _release(self, turn: Turn) -> None:
        self._running[turn.suspect] -= 1
        self._schedule()

    def _schedule(self) -> None:
        if not self._dispatching:
            self._dispatching = True
            loop = asyncio.get_running_loop()
            # One turn later than the next: whoever is started by those that ask in this turn shall be heard as well.
            loop.call_soon(loop.call_soon, self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        while (request := self._next()) is not None:
            self._serve(request)
        if self._budget.available(self._monotonic()) < 1:
            self._refuse_all()

    def _refuse_all(self) -> None:
        for heap in self._waiting.values():
            for request in heap:
                if not request.granted.done():
                    request.granted.set_exception(Throttled())
            heap.clear()

    def _next(self) -> _Request | None:
        """Take the best request that a slot is free for."""
        if self._running[True] + self._running[False] >= self._concurrency:
            return None
        for heap in self._waiting.values():
            while heap and heap[0].granted.done():
                heapq.heappop(heap)
        suspects_full = self._running[True] >= self._share_of_suspects()
        heaps = [heap for suspect, heap in self._waiting.items() if heap and not (suspect and suspects_full)]
        return heapq.heappop(min(heaps)) if heaps else None

    def _share_of_suspects(self) -> int:
        """Half of the slots; of a single one, what the others leave."""
        return self._concurrency // 2 or int(not self._waiting[False])

    def _serve(self, request: _Request) -> None:
        turn = request.turn
        if self._budget.take(turn.spend, environment_id=turn.environment_id, now=self._monotonic()):
            self._running[turn.suspect] += 1
            request.granted.set_result(None)
        else:
            request.granted.set_exception(Throttled())
