"""A page of the list that has arrived, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.listing.bookmarks import INFINITY, Bookmark
from exporter.listing.lifecycle import first_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.wire import WorkItem, WorkPage
    from exporter.listing.lifecycle import Observation


class Contradiction(Exception):  # noqa: N818 - the list contradicts itself; nothing here is in error
    """The list can't be as it was understood. `disorder`: its order is not what it seemed. `unexpected_item`: or it may be that."""

    def __init__(self, text: str, *, disorder: bool = False, unexpected_item: bool = False) -> None:
        super().__init__(text)
        self.disorder = disorder
        self.unexpected_item = unexpected_item


@dataclass(frozen=True, slots=True)
class PageRead:
    """A page that was read.

    Every item listed with a `sort_key` between `low` and `high` has been shown, on this page or on one before it.

        low = 30 ─┤ items at 31, 34, 40, and a next page ├─ high = 40        an item known at 35 is not listed any more
        at 40 itself nothing is known: the next page may begin with others created at the same instant
    """

    bookmark: Bookmark
    items: tuple[WorkItem, ...]
    ids: frozenset[str]
    offset: int
    low: float
    high: float
    first_sort_key: float
    next_cursor: str | None
    observation: Observation

    @property
    def read(self) -> int:
        return self.observation.read

    @property
    def end(self) -> int:
        return self.offset + len(self.items)

    @classmethod
    def of(
        cls, page: WorkPage, bookmark: Bookmark, sort_key: Callable[[WorkItem], float], observation: Observation
    ) -> PageRead:
        items = tuple({item.id: item for item in page.items}.values())
        first = sort_key(items[0]) if items else INFINITY
        # What was read up to an old bookmark may have changed since; then a page speaks from its first item on.
        low = bookmark.low if bookmark.issued_in == observation.read or bookmark.cursor is None else first
        high = INFINITY if page.next_cursor is None else sort_key(items[-1]) if items else low
        ids = frozenset(item.id for item in items)
        bookmark.page_high, bookmark.page_end = high, bookmark.offset + len(items)
        return cls(bookmark, items, ids, bookmark.offset, low, high, first, page.next_cursor, observation)

    def bookmark_behind(self, cursor: str, *, ordered: bool) -> Bookmark:
        # What a page says of the items before it is void when the order is learnt only later.
        issued_in = self.read if ordered or self.low == -INFINITY else 0
        follows = first_instant(self.items[-1]) if self.items else INFINITY
        return Bookmark(cursor, offset=self.end, issued_in=issued_in, low=self.low, follows=follows)
