"""One walk along the list: where it is, which way the list is ordered, whether it gets anywhere."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.wire import WorkItem
    from exporter.listing.bookmarks import Bookmark

MIN_ORDERED_PAIRS = 8
"""Pairs of items that agree before an order is believed: by chance that happens to one unordered list in 180,000."""
MAX_IDLE_PAGES = 3
"""Pages in a row that bring nothing new. Items that arrive push old ones onto the next page, but not for long."""
REMEMBERED = 2000
INFINITY = float("inf")


class Order(enum.Enum):
    UNKNOWN = "unknown"
    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
    NEITHER = "neither"


class Contradiction(Exception):  # noqa: N818 - the list contradicts itself; nothing here is in error
    """The list can't be as it was understood. `disorder`: its order is not what it seemed."""

    def __init__(self, text: str, *, disorder: bool = False) -> None:
        super().__init__(text)
        self.disorder = disorder


class OrderDetector:
    """Learns the order of the list from the creation times on its pages."""

    def __init__(self) -> None:
        self._rising = 0
        self._falling = 0
        self._last: float | None = None
        self._illegible = False

    def learn(self, items: Iterable[WorkItem]) -> Order:
        for item in items:
            if item.created_at is None:
                self._illegible = True
                continue
            if self._last is not None:
                self._rising += item.created_at > self._last
                self._falling += item.created_at < self._last
            self._last = item.created_at
        return self._order()

    def _order(self) -> Order:
        if self._illegible or (self._rising and self._falling):
            return Order.NEITHER
        if max(self._rising, self._falling) < MIN_ORDERED_PAIRS:
            return Order.UNKNOWN
        return Order.OLDEST_FIRST if self._rising else Order.NEWEST_FIRST


class CycleDetector:
    """Notices that cursors go round in circles, in the memory of one cursor (Brent's algorithm)."""

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
class Walk:
    """`bookmark`: where it goes on. `watermark`: nothing can be inserted any more among what was created earlier.

    `edge` and `edge_ids`: the greatest `sort_key` met and the items met there.
    `first_settled`, `first_known`: the offsets of the first item created before `watermark`, and of the first that an earlier
    walk had settled. `bookmarks`: those through which live items can be read again.
    """

    number: int
    started_in: int
    bookmark: Bookmark
    began_at: float = 0.0
    watermark: float = -INFINITY
    pages: int = 0
    edge: float = -INFINITY
    edge_ids: set[str] = field(default_factory=set)
    first_settled: int | None = None
    first_known: int | None = None
    bookmarks: list[Bookmark] = field(default_factory=list)
    order_detector: OrderDetector = field(default_factory=OrderDetector)
    cycle_detector: CycleDetector = field(default_factory=CycleDetector)
    recent_ids: dict[str, None] = field(default_factory=dict)
    idle_pages: int = 0

    def advance(self, sort_key: float, item_id: str) -> bool:
        """Move the edge over an item of an ordered list. Tells whether the item lies beyond what was met."""
        if sort_key > self.edge:
            self.edge, self.edge_ids = sort_key, {item_id}
            return True
        if sort_key == self.edge and item_id not in self.edge_ids:
            self.edge_ids.add(item_id)
            return True
        return False

    def met_lately(self, item_id: str) -> bool:
        return item_id in self.recent_ids

    def remember(self, ids: Iterable[str]) -> None:
        """Keep the ids of the last pages: without an order, nothing else tells what a moving page shows again."""
        self.recent_ids.update(dict.fromkeys(ids))
        for item_id in tuple(self.recent_ids)[:-REMEMBERED]:
            del self.recent_ids[item_id]

    def check_progress(self, cursor: str | None, *, got_on: bool) -> None:
        """Raise Contradiction when the list does not seem to end."""
        self.idle_pages = 0 if got_on else self.idle_pages + 1
        if cursor is None:
            return
        if self.idle_pages >= MAX_IDLE_PAGES or self.cycle_detector.closes(cursor):
            raise Contradiction("the list does not end")
