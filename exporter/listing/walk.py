"""One walk along the list: a class for each order that the list may have.

A walk reads the end at which new items arrive, the *open end*; the first walk of an index has nothing to rest on and reads
everything. `sort_key` is an item's creation time with the sign that makes it grow along the walk, and `watermark` a creation
time: nothing created earlier can still be inserted into the list. It rises while pages show what time it is.

    newest first   from the start of the list to the first page that shows an item which the last walk had settled
    oldest first   from the last page that was settled as a whole to the end of the list
    no order       from the start to the end, at every read; nothing is ever settled on the way
    learning       the same, until the pages show what the order is
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from exporter.listing.bookmarks import INFINITY, Bookmark
from exporter.listing.intervals import BEFORE_EVERYTHING
from exporter.listing.lifecycle import first_instant
from exporter.listing.order import Order, OrderDetector
from exporter.listing.pages import Contradiction

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.api.wire import WorkItem
    from exporter.listing.bookmarks import Bookmarks
    from exporter.listing.pages import PageRead

    W = TypeVar("W", bound="Walk")

MAX_IDLE_PAGES = 3
"""Pages in a row that bring nothing new. Items that arrive push old ones onto the next page, but not for long."""
REMEMBERED = 2000
"""Ids of the last pages that are kept. It must exceed what one page holds."""


class Covered(NamedTuple):
    """Every listed item created between `low` and `high` has been met, and at the instant `edge` those with `edge_ids`."""

    low: float
    high: float
    edge: float | None = None
    edge_ids: Collection[str] = ()


class WalkStart(NamedTuple):
    """A walk's number, and the read in which it starts."""

    number: int
    started_in: int
    read_began_at: float


class CycleDetector:
    """Notices that cursors go round in circles, in the memory of one cursor (Brent's algorithm).

    cursors   a b c d b c d b …
    kept      a b b d d d d         compared with each that follows, and replaced after 1, 2, 4, 8 … of them
                            ▲ d again
    """

    def __init__(self) -> None:
        self._kept: str | None = None
        self._steps_left = 0
        self._lap = 1

    def closes(self, cursor: str) -> bool:
        if cursor == self._kept:
            return True
        if self._steps_left == 0:
            self._kept, self._steps_left = cursor, self._lap
            self._lap *= 2
        self._steps_left -= 1
        return False


@dataclass(slots=True, eq=False)
class Walk(ABC):
    """A walk under way. `bookmark`: where it goes on. `started_in`, `read_began_at`: the read in which it started.

    `known_watermark`: that of the last walk that ended; None if this is the first. `bookmarks`: those through which live
    items can be read again.
    """

    order: ClassVar[Order]
    is_ordered: ClassVar[bool] = False
    survives_reads: ClassVar[bool] = True
    """Whether a walk that a read could not finish goes on in the next one, or starts again."""
    comes_first: ClassVar[bool] = True
    """Whether segments wait for the walk: what it meets needs no call, and its last bookmark serves what it does not."""

    number: int
    started_in: int
    read_began_at: float
    bookmark: Bookmark
    known_watermark: float | None = None
    began_at: float = 0.0
    watermark: float = BEFORE_EVERYTHING
    pages: int = 0
    bookmarks: list[Bookmark] = field(default_factory=list)
    recent_ids: dict[str, None] = field(default_factory=dict)
    idle_pages: int = 0
    cycle_detector: CycleDetector = field(default_factory=CycleDetector)

    @staticmethod
    def sort_key(item: WorkItem) -> float:
        return -first_instant(item)

    @classmethod
    def starting(cls, bookmarks: Bookmarks, start: WalkStart, known_watermark: float | None) -> Walk:
        return cls(*start, bookmarks.start, known_watermark)

    def check_start(self, page: PageRead) -> None:  # noqa: B027 - most walks start where nothing can slip by
        """Raise Contradiction if the first page shows that items slipped by before it."""

    @abstractmethod
    def advance(self, item: WorkItem, offset: int) -> bool:
        """Take the next item. Tell whether the walk has not been there before."""

    @abstractmethod
    def covered(self, *, ended: bool) -> Covered | None:
        """Return what has been met so far."""

    @abstractmethod
    def finish(self, page: PageRead, bookmarks: Bookmarks) -> int:
        """Bring the bookmarks up to date at the end of the walk. Return how many items have arrived before what was settled."""

    @property
    def has_met_the_known(self) -> bool:
        """Tell whether all that follows was met by an earlier walk."""
        return False

    def has_passed(self, item: WorkItem) -> bool:  # noqa: ARG002 - without an order, no place is behind another
        """Tell whether an item that the walk has not met lies where the walk has been: then the list is in another order."""
        return False

    def met_lately(self, item_id: str) -> bool:
        return item_id in self.recent_ids

    def move_on(self, page: PageRead, bookmarks: Bookmarks, *, has_live: bool) -> None:  # noqa: ARG002 - some walks change them
        """Go on to the next page. `has_live`: this page shows live items, so its bookmark will be of use."""
        if has_live or self.known_watermark is not None:
            self.bookmarks.append(page.bookmark)
        self.recent_ids.update(dict.fromkeys(page.ids))
        for item_id in tuple(self.recent_ids)[:-REMEMBERED]:
            del self.recent_ids[item_id]
        if page.next_cursor is not None:
            self.bookmark = page.bookmark_behind(page.next_cursor, ordered=self.is_ordered)

    def check_progress(self, cursor: str | None, *, got_on: bool) -> None:
        """Raise Contradiction when the list does not seem to end."""
        self.idle_pages = 0 if got_on else self.idle_pages + 1
        if cursor is None:
            return
        if self.idle_pages >= MAX_IDLE_PAGES or self.cycle_detector.closes(cursor):
            raise Contradiction("the list does not end")

    def turned_into(self, kind: type[W]) -> W:
        """Return this walk as one of another kind, now that the order is known."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(Walk)})


@dataclass(slots=True, eq=False)
class UnorderedWalk(Walk):
    """Reads everything. Without an order, only the ids of the last pages tell what a page shows again.

    page 1: a b c      d arrives somewhere before c      page 2: c e f       c has moved, and is counted once
    """

    order: ClassVar[Order] = Order.NEITHER

    def advance(self, item: WorkItem, offset: int) -> bool:  # noqa: ARG002 - a place in no order says nothing
        return not self.met_lately(item.id)

    def covered(self, *, ended: bool) -> Covered | None:
        return Covered(BEFORE_EVERYTHING, self.watermark) if ended else None

    def finish(self, page: PageRead, bookmarks: Bookmarks) -> int:  # noqa: ARG002 - nothing is read again in parts
        return 0


@dataclass(slots=True, eq=False)
class LearningWalk(UnorderedWalk):
    order: ClassVar[Order] = Order.UNKNOWN

    order_detector: OrderDetector = field(default_factory=OrderDetector)

    def learn(self, items: tuple[WorkItem, ...]) -> Walk:
        """Return the walk with which to go on."""
        order = self.order_detector.learn(item for item in items if not self.met_lately(item.id))
        return self if order is self.order else self.turned_into(WALK_BY_ORDER[order])


@dataclass(slots=True, eq=False)
class OrderedWalk(Walk):
    """`edge`: the greatest `sort_key` met; `edge_ids`: the items met there. Many may share it, and a page may end among them."""

    is_ordered: ClassVar[bool] = True

    edge: float = -INFINITY
    edge_ids: set[str] = field(default_factory=set)

    def advance(self, item: WorkItem, offset: int) -> bool:  # noqa: ARG002 - only one order needs it
        sort_key = self.sort_key(item)
        if sort_key > self.edge:
            self.edge, self.edge_ids = sort_key, {item.id}
            return True
        if sort_key == self.edge and item.id not in self.edge_ids:
            self.edge_ids.add(item.id)
            return True
        return False

    def has_passed(self, item: WorkItem) -> bool:
        # What was read before the walk's first page is another walk's.
        return self.pages > 1 and self.sort_key(item) < self.edge and not self.met_lately(item.id)


@dataclass(slots=True, eq=False)
class NewestFirstWalk(OrderedWalk):
    """Reads from the start of the list until it meets what an earlier walk had settled.

        created at    95  93  91 │ 90  88  70  60 …        the last watermark was 90, this one's is 92
        walk           ●   ●   ●    ●                      first_settled = 2: the item of 91, first_known = 3: that of 90
                                                           so one item was settled since, and moved the rest by one place

    It is slow where the history is long and the budget small, and goes on in the next read then: items that arrive
    meanwhile do so before its start, where the next walk reads them.
    """

    order: ClassVar[Order] = Order.NEWEST_FIRST

    first_settled: int | None = None
    first_known: int | None = None

    @property
    def has_met_the_known(self) -> bool:
        return self.first_known is not None

    def advance(self, item: WorkItem, offset: int) -> bool:
        created_at = first_instant(item)
        if self.first_settled is None and created_at < self.watermark:
            self.first_settled = offset
        if self.first_known is None and self.known_watermark is not None and created_at < self.known_watermark:
            self.first_known = offset
        return OrderedWalk.advance(self, item, offset)

    def covered(self, *, ended: bool) -> Covered | None:
        reached = -self.edge
        if ended:
            return Covered(BEFORE_EVERYTHING, self.watermark)
        return Covered(reached, self.watermark, reached, self.edge_ids) if reached < self.watermark else None

    def finish(self, page: PageRead, bookmarks: Bookmarks) -> int:
        arrived = 0 if self.first_known is None else self.first_known - bookmarks.first_settled
        bookmarks.first_settled = page.end if self.first_settled is None else self.first_settled
        bookmarks.move(arrived)
        bookmarks.add(self.bookmarks)
        if page.next_cursor is not None:
            bookmarks.add([self.bookmark])
        return arrived


@dataclass(slots=True, eq=False)
class OldestFirstWalk(OrderedWalk):
    """Reads from the last page that was settled as a whole to the end of the list.

        created at    … 70  80 │ 85  90 │ 91  95          pages of two, watermark 92
        walk                      ●   ●    ●   ●          the next one starts at 91: everything before its page is settled

    Each page is settled for good, so the first walk, which takes many reads where the history is long, starts where the
    last page that it read was settled.
    """

    order: ClassVar[Order] = Order.OLDEST_FIRST
    survives_reads: ClassVar[bool] = False
    comes_first: ClassVar[bool] = False

    @staticmethod
    def sort_key(item: WorkItem) -> float:
        return first_instant(item)

    @classmethod
    def starting(cls, bookmarks: Bookmarks, start: WalkStart, known_watermark: float | None) -> Walk:
        edge = bookmarks.start_edge if known_watermark is None else -INFINITY
        return cls(*start, bookmarks.start, known_watermark, edge=edge)

    def check_start(self, page: PageRead) -> None:
        """Raise Contradiction if items have slipped before the start, as they do when others before them are deleted.

        started at offset 200: there was the item of 85, and the last watermark is 92
        now there is the item of 95: those between may have moved before offset 200, and nobody has read them there
        """
        first = page.bookmark.first_sort_key
        if (
            self.pages == 1
            and self.known_watermark is not None
            and page.low >= self.known_watermark
            and page.low > first
        ):
            raise Contradiction("the end of the list has slipped away")

    def covered(self, *, ended: bool) -> Covered | None:
        if ended or self.edge >= self.watermark:
            return Covered(BEFORE_EVERYTHING, self.watermark)
        return Covered(BEFORE_EVERYTHING, self.edge, self.edge, self.edge_ids)

    def move_on(self, page: PageRead, bookmarks: Bookmarks, *, has_live: bool) -> None:
        if page.bookmark.follows < self.watermark and page.items:
            bookmarks.start = page.bookmark
        OrderedWalk.move_on(self, page, bookmarks, has_live=has_live)
        if self.known_watermark is None and page.next_cursor is not None and self.bookmark.follows < self.watermark:
            bookmarks.start_before, bookmarks.start, bookmarks.start_edge = page.bookmark, self.bookmark, self.edge
        bookmarks.add(self.bookmarks)
        self.bookmarks.clear()

    def finish(self, page: PageRead, bookmarks: Bookmarks) -> int:
        if bookmarks.start is page.bookmark and not page.items:
            bookmarks.start = bookmarks.start_before
        return 0


WALK_BY_ORDER: dict[Order, type[Walk]] = {
    each.order: each for each in (LearningWalk, UnorderedWalk, NewestFirstWalk, OldestFirstWalk)
}
