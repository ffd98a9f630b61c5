"""The ledger: what the list is known to hold, and which of its pages to ask for next. No I/O.

Theory of operation. The list has no filter and may hold years of finished items, so reading all of it at every scrape costs
more calls than there are. What is finished can't change; so it is enough to know *how many* such items there are, and to
read again where something can change: the end at which new items arrive, and the pages on which live items lie. `index` says
how; it believes nothing that the pages do not show: neither an order, nor what a cursor means, nor that a page stays.

    no index ──a page──► walking ──the end──► indexed ──every read──► open end, live segments
       ▲                    │                    │
       └────────────────────┴───contradiction────┘       a settled item alive again, a cursor that repeats, a list
                                                         that does not end, an order that flips, a refused cursor

- A read begins with `begin`; `calls_to_make` returns the calls that may be made now, and `receive_page`, `skipped`,
  `cursor_rejected` or `shrink` take what became of each. The read ends when there is no call to make and none in flight.
- An order that can't be learnt, or that was contradicted, means a walk through everything at every read. The last walk
  that got to the end is what is shown. After a `resync_interval` the order is learnt anew.
- A list of one page needs no memory: the page replaces whatever was known.
- Deletions among what is settled show nowhere. So every `resync_interval` a second index is made in the background and
  replaces the first when it is complete.
- An index may be thrown away at any time, because the transitions of items are remembered elsewhere
  (`lifecycle.TransitionDetector`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.api.budget import Priority
from exporter.listing.clock_bounds import ClockBounds
from exporter.listing.index import ListIndex
from exporter.listing.lifecycle import CLOCK_ERROR_S, TransitionDetector
from exporter.listing.order import Order
from exporter.listing.pages import Contradiction
from exporter.listing.queue_balance import QueueBalance, QueuedCount, QueuedMeaning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.api.wire import State, WorkItem, WorkPage
    from exporter.listing.lifecycle import Transition
    from exporter.listing.segments import PageRequest

__all__ = ["Call", "Ledger", "Listing", "Order", "Priority", "QueuedCount"]

SMALL_PAGE_SIZE = 100
DISTRUST_S = 600.0
"""For so long at least a list whose order was broken is walked fully."""
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Call:
    """A list call to make. `cursor` None: from the start. `stale_since`: the oldest reading it would renew."""

    priority: Priority
    cursor: str | None
    limit: int
    stale_since: float
    serial: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed. Instants are the server's, except `oldest_read_at`, which is on the clock given to `begin`.

    `complete`: a walk has reached the end once, and everything that can have changed was read since. `oldest_read_at`: the
    oldest read that the counts rest on. `contradictions`: how often the ledger started over. `unfinished`: the items that can
    still change, in no order.
    """

    complete: bool
    count_by_state: Mapping[State, int]
    oldest_at_by_state: Mapping[State, float | None]
    heartbeats: tuple[float, ...]
    oldest_read_at: float | None
    order: Order = Order.UNKNOWN
    contradictions: int = 0
    live: int = 0
    sealed: int = 0
    segments: int = 0
    unfinished: tuple[WorkItem, ...] = ()


class Ledger:
    """`now` is on the exporter's monotonic clock."""

    def __init__(self, *, page_size: int, resync_interval_s: float, allowed_lateness_s: float = 10.0) -> None:
        self._page_size = page_size
        self._resync_interval_s = resync_interval_s
        self._allowed_lateness_s = allowed_lateness_s + CLOCK_ERROR_S
        self._detector = TransitionDetector()
        self._meaning, self._clock_bounds = QueuedMeaning(), ClockBounds()
        self._index = self._made_index(page_size, Order.UNKNOWN)
        self._spare: ListIndex | None = None
        self._read = 0
        self._began_at = 0.0
        self._serial = 0
        self._request_by_serial: dict[int, tuple[ListIndex, PageRequest]] = {}
        self._contradictions = 0
        self._started_over_in = 0
        self._given_up = True
        self._tidied_after = 0
        self._ordered_from = NEVER
        self._resync_from: float | None = None

    @property
    def compares_stats(self) -> bool:
        """Tell whether a read costs less when `begin` is given a count that the stats made after the read before."""
        return self._index.compares_stats

    def begin(self, *, now: float, queued: QueuedCount | None = None) -> None:
        """Begin a read. Calls of an earlier one that are still in flight are void."""
        self._read += 1
        self._began_at = now
        self._given_up = False
        self._request_by_serial.clear()
        if self._spare is not None and self._spare.complete:
            self._take_spare(self._spare)
        self._index.begin(self._read, now, queued)
        if self._spare is not None:
            self._spare.begin(self._read, now)
        if self._spare is None and self._index.ended_in is not None and (self._walks_fully() or self._resync_due()):
            self._spare = self._new_index()

    def calls_to_make(self) -> tuple[Call, ...]:
        """Return the calls that may be made now, the best first. Each is returned once, and in flight from then on."""
        if self._given_up:
            return ()
        calls: list[Call] = []
        for index in self._indexes():
            if not self._asks(index):
                continue
            try:
                calls += [self._call(index, request) for request in index.requests_to_make()]
            except Contradiction as found:
                self._start_over(index, found)
                return self.calls_to_make()
        return tuple(sorted(calls, key=lambda call: (call.priority, call.stale_since)))

    def receive_page(self, call: Call, page: WorkPage, *, now: float) -> None:
        """Take the page that the call was answered with at `now`."""
        asked = self._request_by_serial.pop(call.serial, None)
        if asked is None:
            return
        index, request = asked
        self._detector.learn_clock(page.items, now)
        if call.cursor is None and page.next_cursor is None:
            index = self._new_index()
            (request,) = index.requests_to_make()
            self._replace(index)
        try:
            index.receive_page(request, page, now)
        except Contradiction as found:
            self._start_over(index, found)
        else:
            self._take_stock(index)

    def skipped(self, call: Call) -> None:
        """Note that the call was not made, or failed. It is not to be made again in this read."""
        asked = self._request_by_serial.pop(call.serial, None)
        if asked is not None:
            index, request = asked
            index.skipped(request)

    def cursor_rejected(self, call: Call) -> None:
        """Note that the server refuses the call's cursor."""
        asked = self._request_by_serial.pop(call.serial, None)
        if asked is None:
            return
        index, request = asked
        if not index.cursor_rejected(request):
            self._start_over(index, Contradiction("a cursor is refused"))

    def shrink(self, call: Call) -> bool:
        """Go on with small pages, since the call's was too large. False: it was small already."""
        if call.limit <= SMALL_PAGE_SIZE:
            return False
        asked = self._request_by_serial.get(call.serial)
        if asked is not None:
            # A cursor may count in pages, so those of large pages are worth nothing now. The next index tries large ones again.
            self._put(self._new_index(page_size=SMALL_PAGE_SIZE), asked[0])
        return True

    def listing(self) -> Listing:
        index, items = self._index, self._index.items
        return Listing(
            complete=index.complete,
            count_by_state=items.count_by_state(),
            oldest_at_by_state=items.oldest_at_by_state(),
            heartbeats=items.heartbeats(),
            oldest_read_at=index.oldest_read_at(),
            order=index.order,
            contradictions=self._contradictions,
            live=len(items.live),
            sealed=sum(items.sealed.values()),
            segments=index.segments,
            unfinished=items.unfinished(),
        )

    def take_transitions(self) -> tuple[Transition, ...]:
        """Return the transitions since the last time. Each is returned once."""
        return self._detector.take_transitions()

    # ---- indexes

    def _indexes(self) -> tuple[ListIndex, ...]:
        return (self._index,) if self._spare is None else (self._index, self._spare)

    def _new_index(self, *, page_size: int | None = None) -> ListIndex:
        order = Order.UNKNOWN if self._trusts_order else Order.NEITHER
        index = self._made_index(page_size or self._page_size, order)
        index.begin(self._read, self._began_at)
        return index

    def _made_index(self, page_size: int, order: Order) -> ListIndex:
        lateness_s = self._allowed_lateness_s
        balance = QueueBalance(self._meaning, self._clock_bounds, lateness_s=lateness_s)
        return ListIndex(self._detector, balance, page_size=page_size, allowed_lateness_s=lateness_s, order=order)

    def _walks_fully(self) -> bool:
        return not self._index.ordered or not self._trusts_order

    def _resync_due(self) -> bool:
        return self._resync_from is not None and self._began_at >= self._resync_from

    def _asks(self, index: ListIndex) -> bool:
        if index is self._spare:
            return not index.complete
        return index.ended_in is None or not self._walks_fully()

    def _call(self, index: ListIndex, request: PageRequest) -> Call:
        self._serial += 1
        self._request_by_serial[self._serial] = (index, request)
        return Call(
            self._priority(index, request), request.bookmark.cursor, index.page_size, request.stale_since, self._serial
        )

    def _priority(self, index: ListIndex, request: PageRequest) -> Priority:
        if index is self._spare and not self._walks_fully():
            return Priority.RESYNC
        if not request.is_walk:
            return Priority.BACKFILL if request.can_wait else Priority.SEGMENT
        return (
            Priority.BACKFILL if index.ended_in is None and request.bookmark.cursor is not None else Priority.OPEN_END
        )

    def _take_stock(self, index: ListIndex) -> None:
        """See what the page has brought to an end: a walk, an index, the baseline."""
        if index.ended_in is not None and index.order is Order.NEITHER and self._trusts_order:
            self._distrust_order()
        if index is self._spare and index.complete and (not index.ordered or index.current or self._walks_fully()):
            self._take_spare(index)
        if index is not self._index or index.ended_in is None:
            return
        if index.complete and self._resync_from is None:
            self._resync_from = self._began_at + self._resync_interval_s
        if index.complete:
            self._detector.baseline = False
        if index.last_walk > self._tidied_after:
            self._tidied_after = index.last_walk
            self._detector.tidy(index.last_walk, tracked=index.items.ids())
        if self._spare is None and self._walks_fully() and index.walked_in != self._read:
            self._spare = self._new_index()

    @property
    def _trusts_order(self) -> bool:
        return self._began_at >= self._ordered_from

    def _distrust_order(self) -> None:
        self._ordered_from = self._began_at + max(self._resync_interval_s, DISTRUST_S)

    def _put(self, index: ListIndex, instead_of: ListIndex) -> None:
        if instead_of is not self._spare:
            self._replace(index)
            return
        self._spare = index
        self._request_by_serial = {
            serial: asked for serial, asked in self._request_by_serial.items() if asked[0] is not instead_of
        }

    def _take_spare(self, spare: ListIndex) -> None:
        spare.inherit(self._index)
        self._replace(spare)

    def _replace(self, index: ListIndex) -> None:
        self._index, self._spare = index, None
        self._resync_from = None
        self._request_by_serial.clear()

    def _start_over(self, index: ListIndex, found: Contradiction) -> None:
        self._contradictions += 1
        again, self._started_over_in = self._started_over_in == self._read, self._read
        disorder = found.disorder or (again and found.unexpected_item)
        self._given_up = again and not (disorder and self._trusts_order)
        if disorder:
            self._distrust_order()
        if index is self._spare and not self._walks_fully():
            self._spare = None
            self._resync_from = self._began_at + self._resync_interval_s
            return
        self._replace(self._new_index())
