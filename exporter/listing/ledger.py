"""The ledger: what the list is known to hold, and which of its pages to ask for next. No I/O.

Theory of operation. The list has no filter and may hold years of items that are over, so reading it all at every scrape costs
more calls than there are. What is over can't change; so it is enough to know *how many* such items there are, and to read
again where something can change: the end at which new items arrive, and the pages on which live items lie. `chart` says
how; it believes nothing that the pages do not show: neither an order, nor what a cursor means, nor that a page stays.

    no chart ──a page──► walking ──the end──► charted ──every read──► open end, live segments
       ▲                    │                    │
       └────────────────────┴───contradiction────┘       a settled item alive again, a cursor that repeats, a list
                                                         that does not end, an order that flips, a refused cursor

- A read begins with `begin`; `wanted` answers the calls that may be made now, `told`, `missed`, `refused` or `shrink` what
  became of each. The read is over when nothing is wanted and nothing is in flight.
- An order that can't be learnt, or that was contradicted, means a walk through everything at every read. The last walk
  that got to the end is what is shown. After a `resync_interval` it is looked at anew.
- A list of one page is its own truth: it replaces whatever was known.
- Deletions among what is settled show nowhere. So every `resync_interval` a second chart is made in the background and
  replaces the first when it is complete.
- A chart may be thrown away at any time, because what was told about items is remembered elsewhere (`transition.Witness`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.bookmarks import CursorKind
from exporter.listing.index import Chart, Moment
from exporter.listing.lifecycle import CLOCK_ERROR_S, Witness
from exporter.listing.walk import Contradiction, Order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.api.wire import WorkItem, WorkPage
    from exporter.listing.index import Errand, Known
    from exporter.listing.lifecycle import Transition

__all__ = ["Call", "CursorKind", "Ledger", "Listing", "Order", "Worth"]

SMALL_PAGE_SIZE = 100
DISTRUST_S = 600.0
"""For so long at least a list whose order was broken is walked fully."""
LIVE_STATES = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING)
NEVER = float("-inf")


class Worth(enum.IntEnum):
    """What a call is worth; the least number is spent on first."""

    OPEN_END = 1
    SEGMENT = 2
    BACKFILL = 3
    RESYNC = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A list call the ledger wants. `cursor` None: from the start. `stale_since`: the oldest reading it would renew."""

    worth: Worth
    cursor: str | None
    limit: int
    stale_since: float
    serial: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed, frozen. Instants are the server's, except `oldest_read_at`, which is on the clock given to `begin`.

    `complete`: the walk has reached the end once, and everything that can have changed was read since. `oldest_read_at`: the
    oldest read that the counts rest on. `contradictions`: how often the ledger started over.
    """

    complete: bool
    count_by_state: Mapping[State, int]
    oldest_at_by_state: Mapping[State, float | None]
    heartbeats: tuple[float, ...]
    oldest_read_at: float | None
    order: Order = Order.UNKNOWN
    cursor_kind: CursorKind = CursorKind.UNKNOWN
    contradictions: int = 0
    live: int = 0
    sealed: int = 0
    segments: int = 0


class Ledger:
    """`now` is any clock of the exporter's, always the same; `server_now` that instant on the server's, within a second."""

    def __init__(self, *, page_size: int, resync_interval_s: float, settle_s: float = 10.0) -> None:
        self._limit = page_size
        self._resync_interval_s = resync_interval_s
        self._unsettled_s = settle_s + CLOCK_ERROR_S
        self._witness = Witness()
        self._chart = Chart(self._witness)
        self._spare: Chart | None = None
        self._read = 0
        self._began_at = 0.0
        self._serial = 0
        self._errand_by_serial: dict[int, tuple[Chart, Errand]] = {}
        self._contradictions = 0
        self._started_over_in = 0
        self._given_up = True
        self._tidied_after = 0
        self._ordered_from = NEVER
        self._resync_from: float | None = None

    def begin(self, *, now: float) -> None:
        """Begin a read. Calls of an earlier one that are still in flight are void."""
        self._read += 1
        self._began_at = now
        self._given_up = False
        self._errand_by_serial.clear()
        if self._spare is not None and self._spare.complete:
            self._replace(self._spare)
        for chart in self._charts():
            chart.begin(self._read)
        if self._spare is None and self._chart.ended_in is not None and (self._walks_fully() or self._resync_due()):
            self._spare = self._new_chart()

    def wanted(self) -> tuple[Call, ...]:
        """Answer the calls that may be made now, all at once, best first. Each is answered once and in flight from then on."""
        if self._given_up:
            return ()
        calls: list[Call] = []
        for chart in self._charts():
            if not self._asks(chart):
                continue
            try:
                calls += [self._call(chart, errand) for errand in chart.wanted()]
            except Contradiction as found:
                self._start_over(chart, found)
                return self.wanted()
        return tuple(sorted(calls, key=lambda call: (call.worth, call.stale_since)))

    def told(self, call: Call, page: WorkPage, *, now: float, server_now: float) -> None:
        """Take the answer, which arrived at `now`."""
        asked = self._errand_by_serial.pop(call.serial, None)
        if asked is None:
            return
        chart, errand = asked
        moment = Moment(now, server_now, self._began_at + (server_now - now) - self._unsettled_s)
        if call.cursor is None and page.next_cursor is None:
            chart = self._new_chart()
            (errand,) = chart.wanted()
            self._replace(chart)
        try:
            chart.told(errand, page, moment)
        except Contradiction as found:
            self._start_over(chart, found)
        else:
            self._take_stock(chart)

    def missed(self, call: Call) -> None:
        """Take note that the call was not made, or failed. What it is for is not wanted again in this read."""
        asked = self._errand_by_serial.pop(call.serial, None)
        if asked is not None:
            chart, errand = asked
            chart.missed(errand)

    def refused(self, call: Call) -> None:
        """Take note that the server does not take the call's cursor."""
        asked = self._errand_by_serial.pop(call.serial, None)
        if asked is None:
            return
        chart, errand = asked
        if not chart.refused(errand):
            self._start_over(chart, Contradiction("a cursor is refused"))

    def shrink(self, call: Call) -> bool:
        """Go on with small pages. False: the call's page was small already."""
        if call.limit <= SMALL_PAGE_SIZE:
            return False
        if self._limit > SMALL_PAGE_SIZE:
            # A cursor may count in pages, so those of large pages are worth nothing now.
            self._limit = SMALL_PAGE_SIZE
            self._replace(self._new_chart())
        return True

    def listing(self) -> Listing:
        chart = self._chart
        counts = dict.fromkeys(State, 0) | chart.sealed
        known = (*chart.live.values(), *chart.recent.values())
        for each in known:
            counts[each.item.state] += 1
        return Listing(
            complete=chart.complete,
            count_by_state=counts,
            oldest_at_by_state=_oldest_at_by_state(known),
            heartbeats=tuple(sorted(_heartbeats(known))),
            oldest_read_at=chart.oldest_read_at(),
            order=chart.order,
            cursor_kind=chart.cursor_kind,
            contradictions=self._contradictions,
            live=len(chart.live),
            sealed=sum(chart.sealed.values()),
            segments=chart.segments,
        )

    def drain(self) -> tuple[Transition, ...]:
        """Answer the transitions since the last time, each once for ever."""
        return self._witness.drain()

    # ---- charts

    def _charts(self) -> tuple[Chart, ...]:
        return (self._chart,) if self._spare is None else (self._chart, self._spare)

    def _new_chart(self) -> Chart:
        distrust = self._began_at < self._ordered_from
        chart = Chart(self._witness, order=Order.NEITHER if distrust else Order.UNKNOWN)
        chart.begin(self._read)
        return chart

    def _walks_fully(self) -> bool:
        return not self._chart.ordered or self._began_at < self._ordered_from

    def _resync_due(self) -> bool:
        return self._resync_from is not None and self._began_at >= self._resync_from

    def _asks(self, chart: Chart) -> bool:
        if chart is self._spare:
            return not chart.complete
        return chart.ended_in is None or not self._walks_fully()

    def _call(self, chart: Chart, errand: Errand) -> Call:
        self._serial += 1
        self._errand_by_serial[self._serial] = (chart, errand)
        return Call(self._worth(chart, errand), errand.cut.cursor, self._limit, errand.stale_since, self._serial)

    def _worth(self, chart: Chart, errand: Errand) -> Worth:
        if chart is self._spare and not self._walks_fully():
            return Worth.RESYNC
        if not errand.is_walk:
            return Worth.SEGMENT
        return Worth.BACKFILL if chart.ended_in is None and errand.cut.cursor is not None else Worth.OPEN_END

    def _take_stock(self, chart: Chart) -> None:
        """See whether the answer has made a chart complete."""
        if chart.ended_in is not None and chart.order is Order.NEITHER and self._ordered_from <= self._began_at:
            self._distrust_order()
        if chart is self._spare and chart.complete and (not chart.ordered or chart.current or self._walks_fully()):
            self._replace(chart)
        if chart is not self._chart or chart.ended_in is None:
            return
        if chart.complete and self._resync_from is None:
            self._resync_from = self._began_at + self._resync_interval_s
        if chart.complete:
            self._witness.baseline = False
        if chart.last_walk > self._tidied_after:
            self._tidied_after = chart.last_walk
            self._witness.tidy(chart.last_walk, known=chart.live.keys() | chart.recent.keys())
        if self._spare is None and self._walks_fully() and chart.walked_in != self._read:
            self._spare = self._new_chart()

    def _distrust_order(self) -> None:
        self._ordered_from = self._began_at + max(self._resync_interval_s, DISTRUST_S)

    def _replace(self, chart: Chart) -> None:
        self._chart, self._spare = chart, None
        self._resync_from = None
        self._errand_by_serial.clear()

    def _start_over(self, chart: Chart, found: Contradiction) -> None:
        self._contradictions += 1
        if found.disorder:
            self._distrust_order()
        if chart is self._spare and not self._walks_fully():
            self._spare = None
            self._resync_from = self._began_at + self._resync_interval_s
            return
        self._replace(self._new_chart())
        self._given_up = self._started_over_in == self._read
        self._started_over_in = self._read


def _oldest_at_by_state(known: tuple[Known, ...]) -> dict[State, float | None]:
    oldest: dict[State, float | None] = dict.fromkeys(LIVE_STATES)
    for each in known:
        at = _entered_at(each.item)
        if at is not None:
            so_far = oldest[each.item.state]
            oldest[each.item.state] = at if so_far is None else min(at, so_far)
    return oldest


def _entered_at(item: WorkItem) -> float | None:
    """Answer when a live item entered its state."""
    match item.state:
        case State.QUEUED:
            return item.created_at
        case State.STARTING:
            return item.acknowledged_at
        case State.ACTIVE:
            return item.started_at
        case State.STOPPING:
            return item.stop_requested_at
        case _:
            return None


def _heartbeats(known: tuple[Known, ...]) -> Iterator[float]:
    for each in known:
        if each.item.state is State.ACTIVE and each.item.latest_heartbeat_at is not None:
            yield each.item.latest_heartbeat_at
