"""What the list is known to hold, and how to find it again. No I/O.

The list is seen as a line. `offset` is an item's place on it, counted from the start of the list; `sort_key` is its creation time
with the sign that makes it grow along the line, whichever end the newest item is at.

    start ├─ open end ─┤├──────────────── settled ───────────────┤        newest first
          ├──────────────── settled ───────────────┤├─ open end ─┤        oldest first
                  ▲          ▲  ▲
                  │          └──┴ live items: one call from the bookmark reads both
                  └ bookmark

*Settled* is what was created before the watermark of the last walk: nothing can be inserted there any more. So those that
are finished are a number (`sealed`), and only the live ones are kept. In the *open end* all are kept by id.

1. A walk reads the open end (`walk`). What it meets below its own watermark becomes settled at once, so an interrupted walk
   loses nothing.

       watermark 90      page: 95 93 88 85      88 and 85 become settled, 95 and 93 recent

2. The live settled items that the walk did not meet are read through bookmarks (`segments`).

3. A page speaks also of what it does not show: a live item that should be on it is not listed any more (`PageRead`).

4. Every item is met once. `_met` says of which creation times everything was met, so a settled item of which nothing is
   known by id is one of the sealed ones.

       met: everything before 90      b of 80, finished, met before       → it has been counted
                                      b of 80, and a of 80 is missing     → b is a, under a new id
                                      b of 80, never met                  → the clock that stamps items has stepped back:
                                                                            all of this is wrong (`Contradiction`)
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.backlog import FEW_PAGES, Backlog
from exporter.listing.bookmarks import INFINITY, Bookmarks
from exporter.listing.intervals import BEFORE_EVERYTHING, IntervalSet
from exporter.listing.items import ListedItems, TrackedItem
from exporter.listing.lifecycle import Observation, first_instant, is_finished
from exporter.listing.order import Order
from exporter.listing.pages import Contradiction, PageRead
from exporter.listing.segments import PageRequest, Segments
from exporter.listing.walk import WALK_BY_ORDER, LearningWalk, Walk, WalkStart

if TYPE_CHECKING:
    from exporter.api.wire import WorkItem, WorkPage
    from exporter.listing.bookmarks import Bookmark
    from exporter.listing.lifecycle import TransitionDetector
    from exporter.listing.queue_balance import QueueBalance, QueuedCount


class ListIndex:
    """Ask `requests_to_make` for pages, and hand in what became of each. Raises Contradiction: then the index is worthless.

    `ended_in`: the read in which a walk came to the end for the first time; None before. `walked_in`, `walked_at`, `last_walk`: of
    the last walk that came to the end, the read and the time at which it started, and its number.
    """

    def __init__(
        self,
        detector: TransitionDetector,
        balance: QueueBalance,
        *,
        page_size: int,
        allowed_lateness_s: float,
        order: Order = Order.UNKNOWN,
    ) -> None:
        self.page_size = page_size
        self.items = ListedItems()
        self.complete = False
        self.ended_in: int | None = None
        self.walked_in = 0
        self.walked_at: float | None = None
        self.last_walk = 0
        self._detector = detector
        self._allowed_lateness_s = allowed_lateness_s
        self._kind = WALK_BY_ORDER[order]
        self._walk: Walk | None = None
        self._walks = 0
        self._walk_asked = self._walk_blocked = False
        self._watermark: float | None = None
        self._met = IntervalSet()
        self._bookmarks = Bookmarks()
        self._segments = Segments(self._bookmarks)
        self._read = 0
        self._began_at = 0.0
        self._rejected_in = 0
        self._previous_began_at = -INFINITY
        self._live_created_at: frozenset[float] = frozenset()
        self._perhaps_renamed_at: set[float] = set()
        self._backlog = Backlog(self.items, balance)

    # ---- what is known

    @property
    def order(self) -> Order:
        return self._kind.order

    @property
    def ordered(self) -> bool:
        return self._kind.is_ordered

    @property
    def segments(self) -> int:
        return len(self._bookmarks)

    @property
    def current(self) -> bool:
        """Tell whether all of it was read in this read."""
        return self.complete and self.walked_in == self._read and self.items.are_live_read_since(self._read)

    def oldest_read_at(self) -> float | None:
        if self.walked_at is None:
            return None
        return min((self.walked_at, *map(self._backlog.known_at, self.items.live.values())))

    @property
    def compares_stats(self) -> bool:
        """Tell whether the stats' count of queued items would spare it pages."""
        return self.complete and self.ordered and self.segments > FEW_PAGES

    def inherit(self, other: ListIndex) -> None:
        """Take over what the other one has proved of the items that are queued in both."""
        for tracked in self.items.live.values():
            known = other.items.live.get(tracked.item.id)
            if known is not None and tracked.item.state is known.item.state is State.QUEUED:
                tracked.read_at = max(tracked.read_at, other._backlog.known_at(known))

    # ---- what to ask

    def begin(self, read: int, now: float, queued: QueuedCount | None = None) -> None:
        self._previous_began_at = self._began_at
        self._read, self._began_at = read, now
        self._walk_asked = self._walk_blocked = False
        self._segments.in_flight = 0
        self._live_created_at = self.items.created_at_of_live()
        self._perhaps_renamed_at.clear()
        if self._walk is not None and not (self._walk.pages and self._walk.survives_reads):
            self._walk = None
        self._bookmarks.drop_useless(tracked.offset for tracked in self.items.live.values())
        self._backlog.begin(now, queued, pages=self.segments if self.complete else 0)

    def requests_to_make(self) -> list[PageRequest]:
        """Return the pages that may be asked for now, each once."""
        requests = []
        if self._walk_pending and not self._walk_asked:
            self._walk_asked = True
            stale_since = -INFINITY if self.walked_at is None else self.walked_at
            requests.append(PageRequest(self._this_walk().bookmark, stale_since))
        if self._segments_due():
            # The walk will meet what lies behind its start.
            limit = self._bookmarks.start.offset if self._walk_pending else INFINITY
            live = self.items.live.values()
            unread = [tracked for tracked in live if tracked.read != self._read and tracked.offset < limit]
            requests += self._segment_requests(unread)
        return requests

    def _segment_requests(self, unread: list[TrackedItem]) -> list[PageRequest]:
        is_open_end_read = self.walked_in == self._read
        due, can_wait = self._backlog.due(unread, is_open_end_read=is_open_end_read)
        requests = self._segments.requests([*due, *can_wait], self._kind.sort_key, read=self._read)
        for request in requests:
            request.can_wait = all(each in can_wait for each in request.expected)
        if is_open_end_read and not requests:
            self._backlog.conclude(unread)
        return requests

    def skipped(self, request: PageRequest) -> None:
        if request.is_walk:
            self._walk_asked, self._walk_blocked = False, True
        else:
            self._segments.skipped(request, read=self._read)

    def cursor_rejected(self, request: PageRequest) -> bool:
        """Do without a cursor that the server refuses. False: there is no other way to go on."""
        if not request.is_walk:
            self._segments.cursor_rejected(request)
            return True
        needs_cursor = self._bookmarks.start.cursor is not None
        if self.ended_in is None or needs_cursor or self._rejected_in == self._read:
            return False
        self._rejected_in = self._read
        self._walk, self._walk_asked = None, False
        return True

    @property
    def _walk_pending(self) -> bool:
        return not self._walk_blocked and self.walked_in != self._read

    def _segments_due(self) -> bool:
        if self.ended_in is None or not self.ordered or self._segments.in_flight:
            return False
        return not (self._kind.comes_first and self._walk_pending)

    def _this_walk(self) -> Walk:
        if self._walk is None:
            self._walks = self._detector.begin_walk()
            start = WalkStart(self._walks, self._read, self._began_at)
            self._walk = self._kind.starting(self._bookmarks, start, self._watermark)
        return self._walk

    # ---- what was answered

    def receive_page(self, request: PageRequest, page: WorkPage, now: float) -> None:
        request.bookmark.read_in = self._read
        self._backlog.balance.page_arrived(now)
        if page.next_cursor is not None:
            if page.next_cursor == request.bookmark.cursor:
                raise Contradiction("a cursor leads to itself")
            self._segments.page_length = len(page.items) or self._segments.page_length
        if request.is_walk:
            self._take_walk_page(page, now)
        else:
            self._segments.in_flight -= 1
            self._take_segment(request.bookmark, page, now)
        self._check_complete()

    def _take_segment(self, bookmark: Bookmark, page: WorkPage, now: float) -> None:
        self._check_order(page)
        page_read = self._page_read(bookmark, page, now, self._settled_before(self._began_at))
        for offset, item in enumerate(page_read.items, page_read.offset):
            tracked = self._tracked(item, page_read)
            if tracked is not None:
                self._renew(tracked, item, offset, page_read)
        if page_read.next_cursor is not None:
            self._bookmarks.add([page_read.bookmark_behind(page_read.next_cursor, ordered=self.ordered)])
        self._dismiss_missing(page_read)

    def _take_walk_page(self, page: WorkPage, now: float) -> None:
        self._walk_asked = False
        walk = self._oriented(self._this_walk(), page)
        if not walk.pages:
            walk.began_at = now
        walk.pages += 1
        known = BEFORE_EVERYTHING if self._watermark is None else self._watermark
        walk.watermark = max(walk.watermark, known, self._settled_before(walk.read_began_at))
        page_read = self._page_read(walk.bookmark, page, now, walk.watermark)
        walk.check_start(page_read)
        if page_read.items:
            page_read.bookmark.first_sort_key = page_read.first_sort_key
        got_on = [
            self._pass(walk, item, offset, page_read) for offset, item in enumerate(page_read.items, page_read.offset)
        ]
        walk.check_progress(page.next_cursor, got_on=any(got_on))
        self._conclude(walk, page_read, ended=page.next_cursor is None or walk.has_met_the_known)

    def _oriented(self, walk: Walk, page: WorkPage) -> Walk:
        """Return the walk as one of the kind that the order asks for, as soon as it is known."""
        if isinstance(walk, LearningWalk):
            self._walk = walk = walk.learn(page.items)
            self._kind = type(walk)
        else:
            self._check_order(page)
        return walk

    def _check_order(self, page: WorkPage) -> None:
        if not self.ordered:
            return
        keys = [self._kind.sort_key(item) for item in page.items]
        illegible = any(item.created_at is None for item in page.items)
        if illegible or any(other < one for one, other in pairwise(keys)):
            raise Contradiction("the list is not in the order it seemed to be in", disorder=True)

    def _pass(self, walk: Walk, item: WorkItem, offset: int, page: PageRead) -> bool:
        """Take one item of a walk. Tell whether the walk has not been there before."""
        created_at = first_instant(item)
        got_on = walk.advance(item, offset)
        settled = created_at < walk.watermark
        tracked = self._tracked(item, page)
        if tracked is not None:
            self._renew(tracked, item, offset, page)
            tracked.walk = walk.number
        elif walk.has_passed(item):
            raise Contradiction("an item lies where the walk has been before", unexpected_item=True)
        elif not walk.met_lately(item.id) and not self._met.cover(created_at, item.id):
            self._detector.observe(item, page.observation)
            if self._backlog.is_long:
                self._backlog.balance.saw(None, item, shown_at=page.observation.now, not_before=-INFINITY)
            self.items.add(TrackedItem(item, offset, self._read, page.observation.now, walk.number), settled=settled)
        return got_on

    def _tracked(self, item: WorkItem, page: PageRead) -> TrackedItem | None:
        """Return what is known of the item by id; None for a new one and for one that is sealed."""
        tracked = self.items.get(item.id)
        if tracked is not None or not self._met.cover(first_instant(item), item.id):
            return tracked
        tracked = self._under_its_old_id(item, page)
        if tracked is not None:
            return tracked
        if not self._detector.has_met(item):
            self._detector.observe(item, page.observation)
            raise Contradiction("an item has appeared among settled ones", unexpected_item=True)
        if not is_finished(item):
            raise Contradiction("an item that was finished is alive again", unexpected_item=True)
        return None

    def _under_its_old_id(self, item: WorkItem, page: PageRead) -> TrackedItem | None:
        """Find the settled item that this one is: some servers give an item a new id when they hand it out again.

        known      a, created at 80, active           no page of this read has shown it
        shown      b, created at 80                   b is a; or, finished, it is one of the sealed items
        """
        if first_instant(item) not in self._live_created_at:
            return None
        for old_id, tracked in self.items.live.items():
            same = first_instant(tracked.item) == first_instant(item)
            if not same or tracked.read == self._read or old_id in page.ids:
                continue
            become = self._detector.has_become(old_id, item)
            if become:
                self._detector.renamed(old_id, item.id)
                return self.items.rename(old_id, item.id)
            if become is None:
                self._perhaps_renamed_at.add(first_instant(item))
        return None

    def _renew(self, tracked: TrackedItem, item: WorkItem, offset: int, page: PageRead) -> None:
        before, not_before = tracked.item, self._known_before(tracked)
        if self.items.renew(tracked, item, offset, page):
            self._detector.observe(item, page.observation)
            if self._backlog.is_long:
                self._backlog.balance.saw(before, item, shown_at=page.observation.now, not_before=not_before)

    def _known_before(self, tracked: TrackedItem) -> float:
        """Return an instant at which the item was still as it is known, as far as that is certain."""
        if tracked.read == self._read - 1:
            return self._previous_began_at
        return self._backlog.balance.proven_at if tracked.item.state is State.QUEUED else -INFINITY

    # ---- what a page proves

    def _settled_before(self, read_began_at: float) -> float:
        """Return the creation time before which every item has been visible since the read began."""
        return self._detector.clock.at(read_began_at) - self._allowed_lateness_s

    def _page_read(self, bookmark: Bookmark, page: WorkPage, now: float, watermark: float) -> PageRead:
        return PageRead.of(page, bookmark, self._kind.sort_key, Observation(self._read, self._walks, now, watermark))

    def _dismiss_missing(self, page: PageRead) -> None:
        """Drop the live items that are not listed any more. Start over if one of them may be a sealed item by now."""
        for gone in self.items.drop_missing(page, self._kind.sort_key):
            self._backlog.balance.gone(gone)
            self._detector.gone(gone.id)
            if first_instant(gone) in self._perhaps_renamed_at:
                raise Contradiction("an item may have got a new id")

    # ---- what a walk proves

    def _conclude(self, walk: Walk, page: PageRead, *, ended: bool) -> None:
        covered = walk.covered(ended=ended)
        if covered is not None:
            for met in (self._met, self._detector.met):
                met.add(covered.low, covered.high, edge=covered.edge, edge_ids=covered.edge_ids)
            # A later page may show that more time has passed: then items of the pages before it are settled as well.
            for item in (*page.items, *self.items.settle(walk.watermark, met_by=walk.number)):
                self._detector.forget_finished(item)
        if self.ordered:
            self._dismiss_missing(page)
        walk.move_on(page, self._bookmarks, has_live=any(item_id in self.items.live for item_id in page.ids))
        if ended:
            self._finish(walk, page)

    def _finish(self, walk: Walk, page: PageRead) -> None:
        arrived = walk.finish(page, self._bookmarks)
        self.items.move(arrived, except_met_by=walk.number)
        for gone in self.items.drop_recent(unless_met_by=walk.number):
            self._backlog.balance.gone(gone)
        self.ended_in = self._read if self.ended_in is None else self.ended_in
        self._watermark, self.walked_in, self.walked_at = walk.watermark, walk.started_in, walk.began_at
        self.last_walk = walk.number
        self._walk = None

    def _check_complete(self) -> None:
        """Complete it once a walk has ended and everything that can have changed since that read began was read again."""
        if self.complete or self.ended_in is None:
            return
        fresh = self.walked_in >= self.ended_in and self.items.are_live_read_since(self.ended_in)
        self.complete = fresh or not self.ordered
