"""What one complete way through the list has found, and how to find it again. No I/O.

The list is seen as a line. `offset` is an item's place on it, counted from the start of the list; `sort_key` is its creation time
with the sign that lets it grow along the line, whichever end the newest item is at.

    start ├─ open end ─┤├──────────────── settled ───────────────┤        newest first
          ├──────────────── settled ───────────────┤├─ open end ─┤        oldest first
                  ▲          ▲  ▲
                  └ cut      └──┴ live items: one call from the cut reads both

*Settled* is whatever was created before the last walk's `floor`: the time at which that walk's read began, less the time
that items take to become visible and what clocks may be wrong by. Nothing can be inserted among settled items any more, so
those that are over are a number (`sealed`) and only the live ones are kept. Items of the open end are kept by id.

A *walk* reads the open end: newest first from the start of the list down to the floor, oldest first from the last cut
before the floor to the end. What it meets below its own `watermark` becomes settled at once, so an interrupted walk loses
nothing. Without a floor, at the first time, it is the walk through everything. Where the order is not known there is no
open end: the chart is made by one walk through everything and then thrown away.

A *cut* is a cursor and its place. The live settled items that the walk did not meet are read through the nearest cut
before them; one page serves all that lie within its length. Places are a guess (deletions and position cursors move
things), what a page shows is the judge: an item beyond it is looked for behind it, one before it from an earlier cut, and
one that should be within it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.bookmarks import INFINITY, Bookmark, Bookmarks
from exporter.listing.intervals import BEFORE_EVERYTHING, IntervalSet
from exporter.listing.lifecycle import Observation, first_instant, is_finished
from exporter.listing.walk import Contradiction, Order, Walk

if TYPE_CHECKING:
    from exporter.api.wire import WorkItem, WorkPage
    from exporter.listing.bookmarks import CursorKind, Places
    from exporter.listing.lifecycle import TransitionDetector

FINAL_STATES = (State.STOPPED, State.UNKNOWN)
RANK_BY_STATE = {
    state: rank
    for rank, state in enumerate(
        (State.UNKNOWN, State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING, State.STOPPED)
    )
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """When an answer arrived. `watermark`: whatever was created before is visible since before the read began."""

    now: float
    server_now: float
    watermark: float


@dataclass(slots=True, eq=False)
class TrackedItem:
    """A listed item that is kept by id. `walk`: the last walk that met it."""

    item: WorkItem
    offset: int
    read: int
    read_at: float
    walk: int


@dataclass(slots=True, eq=False)
class PageRequest:
    """One page to be asked for. `expected`: the live items it is asked for; none for a walk."""

    bookmark: Bookmark
    stale_since: float
    expected: list[TrackedItem] = field(default_factory=list)

    @property
    def is_walk(self) -> bool:
        return not self.expected


@dataclass(frozen=True, slots=True)
class _PageRead:
    """A page that was read. `low` and `high`: every item listed with a `sort_key` between them has shown, on it or before it."""

    bookmark: Bookmark
    items: tuple[WorkItem, ...]
    ids: frozenset[str]
    offset: int
    low: float
    high: float
    next_cursor: str | None
    now: float
    observation: Observation

    @property
    def end(self) -> int:
        return self.offset + len(self.items)


class ListIndex:
    """Ask `requests_to_make` for errands, and tell it what became of each. Raises Contradiction: then the chart is worthless."""

    def __init__(self, detector: TransitionDetector, *, order: Order = Order.UNKNOWN) -> None:
        self.order = order
        self.live: dict[str, TrackedItem] = {}
        self.recent: dict[str, TrackedItem] = {}
        self.sealed = dict.fromkeys(FINAL_STATES, 0)
        self.complete = False
        self.ended_in: int | None = None
        self.walked_in = 0
        self.last_walk = 0
        self.walked_at: float | None = None
        self._detector = detector
        self._met = IntervalSet()
        self._settled_watermark = BEFORE_EVERYTHING
        self._read = 0
        self._page_length = 1
        self._first_settled = 0
        self._edge = -INFINITY
        self._start = self._start_before = Bookmark(None)
        self._bookmarks = Bookmarks(self._start)
        self._walk: Walk | None = None
        self._walks = 0
        self._walk_asked = self._walk_blocked = False
        self._segments_asked = 0
        self._rejected_in = 0
        self._births_of_live: set[float | None] = set()
        self._unclaimed_births: set[float | None] = set()

    # ---- what is known

    @property
    def ordered(self) -> bool:
        return self.order is Order.NEWEST_FIRST or self.order is Order.OLDEST_FIRST

    @property
    def cursor_kind(self) -> CursorKind:
        return self._bookmarks.kind

    @property
    def segments(self) -> int:
        return len(self._bookmarks)

    @property
    def current(self) -> bool:
        """Tell whether all of it was read in this read."""
        return self.complete and self.walked_in == self._read and all(k.read == self._read for k in self.live.values())

    def oldest_read_at(self) -> float | None:
        if self.walked_at is None:
            return None
        return min((self.walked_at, *(tracked.read_at for tracked in self.live.values())))

    # ---- what to ask

    def begin(self, read: int) -> None:
        self._read = read
        self._walk_asked = self._walk_blocked = False
        self._segments_asked = 0
        self._births_of_live = {tracked.item.created_at for tracked in self.live.values()}
        self._unclaimed_births.clear()
        if self._walk is not None and (not self._walk.pages or self.order is Order.OLDEST_FIRST):
            self._walk = None
        self._bookmarks.drop_useless((tracked.offset for tracked in self.live.values()), keep=self._start)

    def requests_to_make(self) -> list[PageRequest]:
        """Answer the pages that may be asked for now, each once."""
        requests = []
        if self._walk_due():
            self._walk_asked = True
            requests.append(
                PageRequest(self._this_walk().bookmark, -INFINITY if self.walked_at is None else self.walked_at)
            )
        if self._segments_due():
            segments = self._segments()
            self._segments_asked = len(segments)
            requests += segments
        return requests

    def skipped(self, request: PageRequest) -> None:
        if request.is_walk:
            self._walk_asked, self._walk_blocked = False, True
        else:
            self._segments_asked -= 1
            request.bookmark.skipped_in = self._read

    def cursor_rejected(self, request: PageRequest) -> bool:
        """Do without a cursor that the server refuses. False: there is no other way to go on."""
        if not request.is_walk:
            self._segments_asked -= 1
            self._bookmarks.remove(request.bookmark)
            return True
        if self.order is not Order.NEWEST_FIRST or self.ended_in is None or self._rejected_in == self._read:
            return False
        self._rejected_in = self._read
        self._walk, self._walk_asked = None, False
        return True

    def _walk_due(self) -> bool:
        return not self._walk_asked and not self._walk_blocked and self.walked_in != self._read

    def _segments_due(self) -> bool:
        """Newest first, the walk comes before: what it meets needs no call, and its last cut serves what it does not."""
        if self.ended_in is None or not self.ordered or self._segments_asked:
            return False
        return self.order is Order.OLDEST_FIRST or self.walked_in == self._read or self._walk_blocked

    def _this_walk(self) -> Walk:
        if self._walk is None:
            self._walks = self._detector.begin_walk()
            bookmark = self._start if self.order is Order.OLDEST_FIRST else Bookmark(None)
            self._walk = Walk(self._walks, started_in=self._read, bookmark=bookmark)
            if self.ended_in is None:
                self._walk.edge = self._edge
        return self._walk

    def _segments(self) -> list[PageRequest]:
        """Cover the live items that were not met yet with as few pages as possible."""
        by_walk = self.order is Order.OLDEST_FIRST and self.walked_in != self._read and not self._walk_blocked
        limit = self._start.offset if by_walk else INFINITY
        unread = [tracked for tracked in self.live.values() if tracked.read != self._read and tracked.offset < limit]
        if not unread:
            return []
        places = self._bookmarks.index()
        for tracked in unread:
            self._look_elsewhere(tracked, places)
        requests: list[PageRequest] = []
        for tracked in sorted(unread, key=lambda tracked: tracked.offset):
            if requests and tracked.offset < self._bookmarks.place(requests[-1].bookmark) + self._page_length:
                requests[-1].expected.append(tracked)
                requests[-1].stale_since = min(requests[-1].stale_since, tracked.read_at)
                continue
            bookmark = places.nearest(tracked.offset)
            if bookmark.skipped_in != self._read:
                requests.append(PageRequest(bookmark, tracked.read_at, [tracked]))
        return requests

    def _look_elsewhere(self, tracked: TrackedItem, places: Places) -> None:
        """Move an item's supposed offset off the pages that were read and don't show it."""
        sort_key, seen = self._sort_key(tracked.item), set[Bookmark]()
        while (bookmark := places.nearest(tracked.offset)).read_in == self._read:
            if bookmark in seen:
                raise Contradiction("a live item can't be found where it must be")
            seen.add(bookmark)
            tracked.offset = (
                max(tracked.offset, bookmark.page_end)
                if sort_key >= bookmark.page_high
                else self._bookmarks.place(bookmark) - 1
            )

    # ---- what was answered

    def receive_page(self, request: PageRequest, page: WorkPage, arrival: Arrival) -> None:
        request.bookmark.read_in = self._read
        if page.next_cursor is not None:
            if page.next_cursor == request.bookmark.cursor:
                raise Contradiction("a cursor leads to itself")
            self._page_length = len(page.items) or self._page_length
        if request.is_walk:
            self._go_on(self._this_walk(), page, arrival)
        else:
            self._segments_asked -= 1
            self._take_segment(request, page, arrival)
        self._check_complete()

    def _take_segment(self, request: PageRequest, page: WorkPage, arrival: Arrival) -> None:
        self._check_order(page.items)
        bookmark = request.bookmark
        if (
            self.order is Order.NEWEST_FIRST
            and bookmark.cursor is not None
            and bookmark.issued_in != self._read
            and page.items
        ):
            self._bookmarks.learn_kind(bookmark, self._sort_key(page.items[0]), {item.id for item in page.items})
        page_read = self._page_read(bookmark, page, arrival)
        for offset, item in enumerate(page_read.items, page_read.offset):
            tracked = self._tracked(item, page_read)
            if tracked is not None:
                self._renew(tracked, item, offset, page_read)
        if page.next_cursor is not None:
            self._bookmarks.add([self._next_bookmark(page_read, page.next_cursor)])
        self._dismiss_missing(page_read)

    def _go_on(self, walk: Walk, page: WorkPage, arrival: Arrival) -> None:
        self._walk_asked = False
        if not walk.pages:
            walk.began_at, walk.watermark = arrival.now, max(arrival.watermark, self._settled_watermark)
        walk.pages += 1
        self._learn_order(walk, page.items)
        page_read = self._page_read(walk.bookmark, page, replace(arrival, watermark=walk.watermark))
        if self.order is Order.OLDEST_FIRST and walk.pages == 1:
            self._check_gap(page_read)
        if page_read.items:
            page_read.bookmark.first_sort_key = self._sort_key(page_read.items[0])
        got_on = [
            self._pass(walk, item, offset, page_read) for offset, item in enumerate(page_read.items, page_read.offset)
        ]
        walk.check_progress(page.next_cursor, got_on=any(got_on))
        ends = page.next_cursor is None or walk.first_known is not None
        self._settle(walk, page_read, ends=ends)
        if self.ordered:
            self._dismiss_missing(page_read)
        self._move_on(walk, page_read)
        if ends:
            self._finish(walk, page_read)

    def _pass(self, walk: Walk, item: WorkItem, offset: int, page_read: _PageRead) -> bool:
        """Take one item of a walk. Tells whether the walk has not been there before."""
        created_at = first_instant(item)
        beyond = walk.advance(self._sort_key(item), item.id) if self.ordered else not walk.met_lately(item.id)
        if self.order is Order.NEWEST_FIRST:
            if walk.first_settled is None and created_at < walk.watermark:
                walk.first_settled = offset
            if walk.first_known is None and created_at < self._settled_watermark:
                walk.first_known = offset
        tracked = self._tracked(item, page_read)
        if tracked is not None:
            self._renew(tracked, item, offset, page_read)
            tracked.walk = walk.number
            if created_at < walk.watermark and self.recent.pop(item.id, None) is not None:
                self._keep(tracked)
        elif not walk.met_lately(item.id) and not self._met.cover(created_at, item.id):
            self._detector.observe(item, page_read.observation)
            tracked = TrackedItem(item, offset, self._read, page_read.now, walk.number)
            if created_at < walk.watermark:
                self._keep(tracked)
            else:
                self.recent[item.id] = tracked
        return beyond

    def _tracked(self, item: WorkItem, page_read: _PageRead) -> TrackedItem | None:
        tracked = self.live.get(item.id) or self.recent.get(item.id)
        if tracked is not None or not self._met.cover(first_instant(item), item.id):
            return tracked
        if is_finished(item):
            if item.created_at in self._births_of_live:
                self._unclaimed_births.add(item.created_at)
                self._detector.observe(item, page_read.observation)
            return None
        return self._under_its_old_id(item, page_read)

    def _under_its_old_id(self, item: WorkItem, page_read: _PageRead) -> TrackedItem:
        """Find the settled item that this one is: some servers give an item a new id when they hand it out again."""
        for old_id, tracked in self.live.items():
            if (
                tracked.item.created_at == item.created_at
                and tracked.read != self._read
                and old_id not in page_read.ids
            ):
                del self.live[old_id]
                self.live[item.id] = tracked
                self._detector.renamed(old_id, item.id)
                return tracked
        raise Contradiction("an item that was over is alive again")

    def _renew(self, tracked: TrackedItem, item: WorkItem, offset: int, page_read: _PageRead) -> None:
        tracked.offset = offset
        if tracked.read == self._read and RANK_BY_STATE[item.state] < RANK_BY_STATE[tracked.item.state]:
            return  # of two answers that were under way at once, this one is the older
        tracked.item, tracked.read, tracked.read_at = item, self._read, page_read.now
        self._detector.observe(item, page_read.observation)
        if is_finished(item) and self.live.pop(item.id, None) is not None:
            self.sealed[item.state] += 1

    def _keep(self, tracked: TrackedItem) -> None:
        if is_finished(tracked.item):
            self.sealed[tracked.item.state] += 1
        else:
            self.live[tracked.item.id] = tracked

    # ---- what a page proves

    def _page_read(self, bookmark: Bookmark, page: WorkPage, arrival: Arrival) -> _PageRead:
        items = tuple({item.id: item for item in page.items}.values())
        first = self._sort_key(items[0]) if items else INFINITY
        low = bookmark.low if bookmark.issued_in == self._read or bookmark.cursor is None else first
        high = INFINITY if page.next_cursor is None else self._sort_key(items[-1]) if items else low
        offset = self._bookmarks.place(bookmark)
        bookmark.page_high, bookmark.page_end = high, offset + len(items)
        ids = frozenset(item.id for item in items)
        observation = Observation(self._walks, arrival.server_now, arrival.watermark)
        return _PageRead(bookmark, items, ids, offset, low, high, page.next_cursor, arrival.now, observation)

    def _next_bookmark(self, page_read: _PageRead, cursor: str) -> Bookmark:
        last = page_read.items[-1] if page_read.items else None
        return Bookmark(
            cursor,
            offset=page_read.end,
            shift=self._bookmarks.shift,
            after_id=last.id if last else page_read.bookmark.after_id,
            after_sort_key=self._sort_key(last) if last else page_read.bookmark.after_sort_key,
            # What a page says of the items before it is void when the order is learnt only later.
            issued_in=self._read if self.ordered or page_read.low == -INFINITY else 0,
            low=page_read.low,
        )

    def _dismiss_missing(self, page_read: _PageRead) -> None:
        missing = [
            tracked
            for tracked in self.live.values()
            if tracked.read != self._read and page_read.low < self._sort_key(tracked.item) < page_read.high
        ]
        for tracked in missing:
            del self.live[tracked.item.id]
            self._check_successor(tracked.item)

    def _check_successor(self, gone: WorkItem) -> None:
        """Start over if the missing item may have been over already when it showed up under a new id.

        Whether what is there now was counted among the sealed can't be told, because their ids are forgotten.
        """
        if gone.created_at in self._unclaimed_births:
            raise Contradiction("an item may have got a new id")

    # ---- what a walk proves

    def _settle(self, walk: Walk, page_read: _PageRead, *, ends: bool) -> None:
        if not ends and not self.ordered:
            return
        low, high = BEFORE_EVERYTHING, walk.watermark
        edge = None if ends else walk.edge if self.order is Order.OLDEST_FIRST else -walk.edge
        if edge is not None and edge >= walk.watermark:
            edge = None
            low, high = (low, high) if self.order is Order.OLDEST_FIRST else (high, high)
        elif edge is not None:
            low, high = (low, edge) if self.order is Order.OLDEST_FIRST else (edge, high)
        for met in (self._met, self._detector.met):
            met.add(low, high, edge=edge, edge_ids=walk.edge_ids)
        for item in page_read.items:
            self._detector.forget_finished(item)

    def _move_on(self, walk: Walk, page_read: _PageRead) -> None:
        if not self.ordered:
            walk.remember(page_read.ids)
        elif self.order is Order.OLDEST_FIRST and page_read.bookmark.settled and page_read.items:
            self._start = page_read.bookmark
        if self.ended_in is not None or any(item_id in self.live for item_id in page_read.ids):
            walk.bookmarks.append(page_read.bookmark)
        if page_read.next_cursor is not None:
            walk.bookmark = self._next_bookmark(page_read, page_read.next_cursor)
            walk.bookmark.settled = bool(page_read.items) and first_instant(page_read.items[-1]) < walk.watermark
            self._go_ahead(walk, page_read)
        if self.order is Order.OLDEST_FIRST:
            self._bookmarks.add(walk.bookmarks)
            walk.bookmarks.clear()

    def _go_ahead(self, walk: Walk, page_read: _PageRead) -> None:
        """Let a first walk that is interrupted go on here."""
        if self.order is Order.OLDEST_FIRST and self.ended_in is None and walk.bookmark.settled:
            self._start_before, self._start = page_read.bookmark, walk.bookmark
            self._edge = walk.edge

    def _finish(self, walk: Walk, page_read: _PageRead) -> None:
        if self._start is page_read.bookmark and not page_read.items:
            self._start = self._start_before
        if self.order is Order.NEWEST_FIRST:
            self._move_frame(walk, page_read)
        self.recent = {item_id: tracked for item_id, tracked in self.recent.items() if tracked.walk == walk.number}
        self.ended_in = self._read if self.ended_in is None else self.ended_in
        self._settled_watermark, self.walked_in, self.walked_at = walk.watermark, walk.started_in, walk.began_at
        self.last_walk = walk.number
        self._walk = None

    def _check_gap(self, page_read: _PageRead) -> None:
        """Make sure that nothing slipped out of the open end at its near side, as positions let happen."""
        if (
            self.ended_in is not None
            and page_read.low >= self._settled_watermark
            and page_read.low > page_read.bookmark.first_sort_key
        ):
            raise Contradiction("the end of the list has slipped away")

    def _move_frame(self, walk: Walk, page_read: _PageRead) -> None:
        arrived = 0 if walk.first_known is None else walk.first_known - self._first_settled
        self._first_settled = page_read.end if walk.first_settled is None else walk.first_settled
        self._bookmarks.shift += arrived
        for tracked in self.live.values():
            if tracked.walk != walk.number:
                tracked.offset += arrived
        if page_read.next_cursor is not None:
            walk.bookmarks.append(walk.bookmark)
        for bookmark in walk.bookmarks:
            bookmark.shift = self._bookmarks.shift
        self._bookmarks.add(walk.bookmarks)

    def _check_complete(self) -> None:
        if self.complete or self.ended_in is None:
            return
        fresh = self.walked_in >= self.ended_in and all(tracked.read >= self.ended_in for tracked in self.live.values())
        self.complete = fresh or not self.ordered

    # ---- order and cursors

    def _sort_key(self, item: WorkItem) -> float:
        return first_instant(item) if self.order is Order.OLDEST_FIRST else -first_instant(item)

    def _learn_order(self, walk: Walk, items: tuple[WorkItem, ...]) -> None:
        if self.order is Order.UNKNOWN:
            self.order = walk.order_detector.learn(item for item in items if not walk.met_lately(item.id))
        else:
            self._check_order(items)

    def _check_order(self, items: tuple[WorkItem, ...]) -> None:
        if not self.ordered:
            return
        births = [item.created_at for item in items]
        if self.order is Order.NEWEST_FIRST:
            births.reverse()
        if any(one is None or other is None or other < one for one, other in pairwise([*births[:1], *births])):
            raise Contradiction("the list is not in the order it seemed to be in", disorder=True)
