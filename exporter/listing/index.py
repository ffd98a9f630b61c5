"""What one complete way through the list has found, and how to find it again. No I/O.

The list is seen as a line. `offset` is an item's place on it, counted from the start of the list; `w` is its creation time
with the sign that lets it grow along the line, whichever end the newest item is at.

    start ├─ open end ─┤├──────────────── settled ───────────────┤        newest first
          ├──────────────── settled ───────────────┤├─ open end ─┤        oldest first
                  ▲          ▲  ▲
                  └ cut      └──┴ live items: one call from the cut reads both

*Settled* is whatever was created before the last walk's `floor`: the time at which that walk's read began, less the time
that items take to become visible and what clocks may be wrong by. Nothing can be inserted among settled items any more, so
those that are over are a number (`sealed`) and only the live ones are kept. Items of the open end are kept by id.

A *walk* reads the open end: newest first from the start of the list down to the floor, oldest first from the last cut
before the floor to the end. What it meets below its own `cutoff` becomes settled at once, so an interrupted walk loses
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
from exporter.listing.bookmarks import INFINITY, Cut, Cuts
from exporter.listing.intervals import BEFORE_EVERYTHING, Spans
from exporter.listing.lifecycle import Sight, born_at, over
from exporter.listing.walk import Contradiction, Order, Walk

if TYPE_CHECKING:
    from exporter.api.wire import WorkItem, WorkPage
    from exporter.listing.bookmarks import CursorKind, Places
    from exporter.listing.lifecycle import Witness

FINAL_STATES = (State.STOPPED, State.UNKNOWN)
RANK_BY_STATE = {
    state: rank
    for rank, state in enumerate(
        (State.UNKNOWN, State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING, State.STOPPED)
    )
}


@dataclass(frozen=True, slots=True)
class Moment:
    """When an answer arrived. `cutoff`: whatever was created before is visible since before the read began."""

    now: float
    server_now: float
    cutoff: float


@dataclass(slots=True, eq=False)
class Known:
    """A listed item that is kept by id. `walk`: the last walk that met it."""

    item: WorkItem
    offset: int
    read: int
    read_at: float
    walk: int


@dataclass(slots=True, eq=False)
class Errand:
    """One page to be asked for. `expected`: the live items it is asked for; none for a walk."""

    cut: Cut
    stale_since: float
    expected: list[Known] = field(default_factory=list)

    @property
    def is_walk(self) -> bool:
        return not self.expected


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A page that was read. `low` and `high`: every item listed with a `w` between them has shown, on it or before it."""

    cut: Cut
    items: tuple[WorkItem, ...]
    ids: frozenset[str]
    offset: int
    low: float
    high: float
    next_cursor: str | None
    now: float
    sight: Sight

    @property
    def end(self) -> int:
        return self.offset + len(self.items)


class Chart:
    """Ask `wanted` for errands, and tell it what became of each. Raises Contradiction: then the chart is worthless."""

    def __init__(self, witness: Witness, *, order: Order = Order.UNKNOWN) -> None:
        self.order = order
        self.live: dict[str, Known] = {}
        self.recent: dict[str, Known] = {}
        self.sealed = dict.fromkeys(FINAL_STATES, 0)
        self.complete = False
        self.ended_in: int | None = None
        self.walked_in = 0
        self.last_walk = 0
        self.walked_at: float | None = None
        self._witness = witness
        self._met = Spans()
        self._floor = BEFORE_EVERYTHING
        self._read = 0
        self._page_length = 1
        self._first_settled = 0
        self._edge = -INFINITY
        self._start = self._start_before = Cut(None)
        self._cuts = Cuts(self._start)
        self._walk: Walk | None = None
        self._walks = 0
        self._walk_asked = self._walk_blocked = False
        self._segments_asked = 0
        self._refused_in = 0
        self._births_of_live: set[float | None] = set()
        self._births_of_strangers: set[float | None] = set()

    # ---- what is known

    @property
    def ordered(self) -> bool:
        return self.order is Order.NEWEST_FIRST or self.order is Order.OLDEST_FIRST

    @property
    def cursor_kind(self) -> CursorKind:
        return self._cuts.kind

    @property
    def segments(self) -> int:
        return len(self._cuts)

    @property
    def current(self) -> bool:
        """Tell whether all of it was read in this read."""
        return self.complete and self.walked_in == self._read and all(k.read == self._read for k in self.live.values())

    def oldest_read_at(self) -> float | None:
        if self.walked_at is None:
            return None
        return min((self.walked_at, *(known.read_at for known in self.live.values())))

    # ---- what to ask

    def begin(self, read: int) -> None:
        self._read = read
        self._walk_asked = self._walk_blocked = False
        self._segments_asked = 0
        self._births_of_live = {known.item.created_at for known in self.live.values()}
        self._births_of_strangers.clear()
        if self._walk is not None and (not self._walk.pages or self.order is Order.OLDEST_FIRST):
            self._walk = None
        self._cuts.drop_useless((known.offset for known in self.live.values()), keep=self._start)

    def wanted(self) -> list[Errand]:
        """Answer the pages that may be asked for now, each once."""
        errands = []
        if self._walk_due():
            self._walk_asked = True
            errands.append(Errand(self._this_walk().cut, -INFINITY if self.walked_at is None else self.walked_at))
        if self._segments_due():
            segments = self._segments()
            self._segments_asked = len(segments)
            errands += segments
        return errands

    def missed(self, errand: Errand) -> None:
        if errand.is_walk:
            self._walk_asked, self._walk_blocked = False, True
        else:
            self._segments_asked -= 1
            errand.cut.missed_in = self._read

    def refused(self, errand: Errand) -> bool:
        """Do without a cursor that the server refuses. False: there is no other way to go on."""
        if not errand.is_walk:
            self._segments_asked -= 1
            self._cuts.remove(errand.cut)
            return True
        if self.order is not Order.NEWEST_FIRST or self.ended_in is None or self._refused_in == self._read:
            return False
        self._refused_in = self._read
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
            self._walks = self._witness.begin_walk()
            cut = self._start if self.order is Order.OLDEST_FIRST else Cut(None)
            self._walk = Walk(self._walks, started_in=self._read, cut=cut)
            if self.ended_in is None:
                self._walk.edge = self._edge
        return self._walk

    def _segments(self) -> list[Errand]:
        """Cover the live items that were not met yet with as few pages as possible."""
        by_walk = self.order is Order.OLDEST_FIRST and self.walked_in != self._read and not self._walk_blocked
        limit = self._start.offset if by_walk else INFINITY
        unread = [known for known in self.live.values() if known.read != self._read and known.offset < limit]
        if not unread:
            return []
        places = self._cuts.chart()
        for known in unread:
            self._look_elsewhere(known, places)
        errands: list[Errand] = []
        for known in sorted(unread, key=lambda known: known.offset):
            if errands and known.offset < self._cuts.place(errands[-1].cut) + self._page_length:
                errands[-1].expected.append(known)
                errands[-1].stale_since = min(errands[-1].stale_since, known.read_at)
                continue
            cut = places.nearest(known.offset)
            if cut.missed_in != self._read:
                errands.append(Errand(cut, known.read_at, [known]))
        return errands

    def _look_elsewhere(self, known: Known, places: Places) -> None:
        """Move an item's supposed offset off the pages that were read and don't show it."""
        w, seen = self._w(known.item), set[Cut]()
        while (cut := places.nearest(known.offset)).called_in == self._read:
            if cut in seen:
                raise Contradiction("a live item can't be found where it must be")
            seen.add(cut)
            known.offset = max(known.offset, cut.told_end) if w >= cut.told_high else self._cuts.place(cut) - 1

    # ---- what was answered

    def told(self, errand: Errand, page: WorkPage, moment: Moment) -> None:
        errand.cut.called_in = self._read
        if page.next_cursor is not None:
            if page.next_cursor == errand.cut.cursor:
                raise Contradiction("a cursor leads to itself")
            self._page_length = len(page.items) or self._page_length
        if errand.is_walk:
            self._go_on(self._this_walk(), page, moment)
        else:
            self._segments_asked -= 1
            self._take_segment(errand, page, moment)
        self._check_complete()

    def _take_segment(self, errand: Errand, page: WorkPage, moment: Moment) -> None:
        self._check_order(page.items)
        cut = errand.cut
        if self.order is Order.NEWEST_FIRST and cut.cursor is not None and cut.issued_in != self._read and page.items:
            self._cuts.learn_kind(cut, self._w(page.items[0]), {item.id for item in page.items})
        stretch = self._stretch(cut, page, moment)
        for offset, item in enumerate(stretch.items, stretch.offset):
            known = self._known(item, stretch)
            if known is not None:
                self._renew(known, item, offset, stretch)
        if page.next_cursor is not None:
            self._cuts.add([self._next_cut(stretch, page.next_cursor)])
        self._dismiss_missing(stretch)

    def _go_on(self, walk: Walk, page: WorkPage, moment: Moment) -> None:
        self._walk_asked = False
        if not walk.pages:
            walk.began_at, walk.cutoff = moment.now, max(moment.cutoff, self._floor)
        walk.pages += 1
        self._learn_order(walk, page.items)
        stretch = self._stretch(walk.cut, page, replace(moment, cutoff=walk.cutoff))
        if self.order is Order.OLDEST_FIRST and walk.pages == 1:
            self._check_gap(stretch)
        if stretch.items:
            stretch.cut.first_w = self._w(stretch.items[0])
        got_on = [self._pass(walk, item, offset, stretch) for offset, item in enumerate(stretch.items, stretch.offset)]
        walk.check_progress(page.next_cursor, got_on=any(got_on))
        ends = page.next_cursor is None or walk.first_known is not None
        self._settle(walk, stretch, ends=ends)
        if self.ordered:
            self._dismiss_missing(stretch)
        self._move_on(walk, stretch)
        if ends:
            self._finish(walk, stretch)

    def _pass(self, walk: Walk, item: WorkItem, offset: int, stretch: _Stretch) -> bool:
        """Take one item of a walk. Tells whether the walk has not been there before."""
        created_at = born_at(item)
        beyond = walk.advance(self._w(item), item.id) if self.ordered else not walk.met_lately(item.id)
        if self.order is Order.NEWEST_FIRST:
            if walk.first_settled is None and created_at < walk.cutoff:
                walk.first_settled = offset
            if walk.first_known is None and created_at < self._floor:
                walk.first_known = offset
        known = self._known(item, stretch)
        if known is not None:
            self._renew(known, item, offset, stretch)
            known.walk = walk.number
            if created_at < walk.cutoff and self.recent.pop(item.id, None) is not None:
                self._keep(known)
        elif not walk.met_lately(item.id) and not self._met.cover(created_at, item.id):
            self._witness.see(item, stretch.sight)
            known = Known(item, offset, self._read, stretch.now, walk.number)
            if created_at < walk.cutoff:
                self._keep(known)
            else:
                self.recent[item.id] = known
        return beyond

    def _known(self, item: WorkItem, stretch: _Stretch) -> Known | None:
        known = self.live.get(item.id) or self.recent.get(item.id)
        if known is not None or not self._met.cover(born_at(item), item.id):
            return known
        if over(item):
            if item.created_at in self._births_of_live:
                self._births_of_strangers.add(item.created_at)
                self._witness.see(item, stretch.sight)
            return None
        return self._under_its_old_id(item, stretch)

    def _under_its_old_id(self, item: WorkItem, stretch: _Stretch) -> Known:
        """Find the settled item that this one is: some servers give an item a new id when they hand it out again."""
        for old_id, known in self.live.items():
            if known.item.created_at == item.created_at and known.read != self._read and old_id not in stretch.ids:
                del self.live[old_id]
                self.live[item.id] = known
                self._witness.renamed(old_id, item.id)
                return known
        raise Contradiction("an item that was over is alive again")

    def _renew(self, known: Known, item: WorkItem, offset: int, stretch: _Stretch) -> None:
        known.offset = offset
        if known.read == self._read and RANK_BY_STATE[item.state] < RANK_BY_STATE[known.item.state]:
            return  # of two answers that were under way at once, this one is the older
        known.item, known.read, known.read_at = item, self._read, stretch.now
        self._witness.see(item, stretch.sight)
        if over(item) and self.live.pop(item.id, None) is not None:
            self.sealed[item.state] += 1

    def _keep(self, known: Known) -> None:
        if over(known.item):
            self.sealed[known.item.state] += 1
        else:
            self.live[known.item.id] = known

    # ---- what a page proves

    def _stretch(self, cut: Cut, page: WorkPage, moment: Moment) -> _Stretch:
        items = tuple({item.id: item for item in page.items}.values())
        first = self._w(items[0]) if items else INFINITY
        low = cut.low if cut.issued_in == self._read or cut.cursor is None else first
        high = INFINITY if page.next_cursor is None else self._w(items[-1]) if items else low
        offset = self._cuts.place(cut)
        cut.told_high, cut.told_end = high, offset + len(items)
        ids = frozenset(item.id for item in items)
        sight = Sight(self._walks, moment.server_now, moment.cutoff)
        return _Stretch(cut, items, ids, offset, low, high, page.next_cursor, moment.now, sight)

    def _next_cut(self, stretch: _Stretch, cursor: str) -> Cut:
        last = stretch.items[-1] if stretch.items else None
        return Cut(
            cursor,
            offset=stretch.end,
            shift=self._cuts.shift,
            after_id=last.id if last else stretch.cut.after_id,
            after_w=self._w(last) if last else stretch.cut.after_w,
            # What a page says of the items before it is void when the order is learnt only later.
            issued_in=self._read if self.ordered or stretch.low == -INFINITY else 0,
            low=stretch.low,
        )

    def _dismiss_missing(self, stretch: _Stretch) -> None:
        missing = [
            known
            for known in self.live.values()
            if known.read != self._read and stretch.low < self._w(known.item) < stretch.high
        ]
        for known in missing:
            del self.live[known.item.id]
            self._check_successor(known.item)

    def _check_successor(self, gone: WorkItem) -> None:
        """Start over if the missing item may have been over already when it showed up under a new id.

        Whether what is there now was counted among the sealed can't be told, because their ids are forgotten.
        """
        if gone.created_at in self._births_of_strangers:
            raise Contradiction("an item may have got a new id")

    # ---- what a walk proves

    def _settle(self, walk: Walk, stretch: _Stretch, *, ends: bool) -> None:
        if not ends and not self.ordered:
            return
        low, high = BEFORE_EVERYTHING, walk.cutoff
        edge = None if ends else walk.edge if self.order is Order.OLDEST_FIRST else -walk.edge
        if edge is not None and edge >= walk.cutoff:
            edge = None
            low, high = (low, high) if self.order is Order.OLDEST_FIRST else (high, high)
        elif edge is not None:
            low, high = (low, edge) if self.order is Order.OLDEST_FIRST else (edge, high)
        for met in (self._met, self._witness.met):
            met.add(low, high, edge=edge, edge_ids=walk.edge_ids)
        for item in stretch.items:
            self._witness.forget_finished(item)

    def _move_on(self, walk: Walk, stretch: _Stretch) -> None:
        if not self.ordered:
            walk.remember(stretch.ids)
        elif self.order is Order.OLDEST_FIRST and stretch.cut.settled and stretch.items:
            self._start = stretch.cut
        if self.ended_in is not None or any(item_id in self.live for item_id in stretch.ids):
            walk.cuts.append(stretch.cut)
        if stretch.next_cursor is not None:
            walk.cut = self._next_cut(stretch, stretch.next_cursor)
            walk.cut.settled = bool(stretch.items) and born_at(stretch.items[-1]) < walk.cutoff
            self._go_ahead(walk, stretch)
        if self.order is Order.OLDEST_FIRST:
            self._cuts.add(walk.cuts)
            walk.cuts.clear()

    def _go_ahead(self, walk: Walk, stretch: _Stretch) -> None:
        """Let a first walk that is interrupted go on here."""
        if self.order is Order.OLDEST_FIRST and self.ended_in is None and walk.cut.settled:
            self._start_before, self._start = stretch.cut, walk.cut
            self._edge = walk.edge

    def _finish(self, walk: Walk, stretch: _Stretch) -> None:
        if self._start is stretch.cut and not stretch.items:
            self._start = self._start_before
        if self.order is Order.NEWEST_FIRST:
            self._move_frame(walk, stretch)
        self.recent = {item_id: known for item_id, known in self.recent.items() if known.walk == walk.number}
        self.ended_in = self._read if self.ended_in is None else self.ended_in
        self._floor, self.walked_in, self.walked_at = walk.cutoff, walk.started_in, walk.began_at
        self.last_walk = walk.number
        self._walk = None

    def _check_gap(self, stretch: _Stretch) -> None:
        """Make sure that nothing slipped out of the open end at its near side, as positions let happen."""
        if self.ended_in is not None and stretch.low >= self._floor and stretch.low > stretch.cut.first_w:
            raise Contradiction("the end of the list has slipped away")

    def _move_frame(self, walk: Walk, stretch: _Stretch) -> None:
        arrived = 0 if walk.first_known is None else walk.first_known - self._first_settled
        self._first_settled = stretch.end if walk.first_settled is None else walk.first_settled
        self._cuts.shift += arrived
        for known in self.live.values():
            if known.walk != walk.number:
                known.offset += arrived
        if stretch.next_cursor is not None:
            walk.cuts.append(walk.cut)
        for cut in walk.cuts:
            cut.shift = self._cuts.shift
        self._cuts.add(walk.cuts)

    def _check_complete(self) -> None:
        if self.complete or self.ended_in is None:
            return
        fresh = self.walked_in >= self.ended_in and all(known.read >= self.ended_in for known in self.live.values())
        self.complete = fresh or not self.ordered

    # ---- order and cursors

    def _w(self, item: WorkItem) -> float:
        return born_at(item) if self.order is Order.OLDEST_FIRST else -born_at(item)

    def _learn_order(self, walk: Walk, items: tuple[WorkItem, ...]) -> None:
        if self.order is Order.UNKNOWN:
            self.order = walk.bearing.learn(item for item in items if not walk.met_lately(item.id))
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
