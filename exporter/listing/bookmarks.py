"""Bookmarks: cursors, and the places they lead to."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INFINITY = float("inf")


@dataclass(slots=True, eq=False)
class Bookmark:
    """A place between two items, and the cursor that leads there; None leads to the start of the list.

    `offset`: how many items lie before it, as far as known. `low`: within the read `issued_in`, every item with a `sort_key`
    between this one and the bookmark has been read. `follows`: the creation time of the item before it.
    `first_sort_key`: that of the item behind it, when a walk last came by. `page_high`, `page_end`: the `sort_key` and the
    offset that its page reached in the read `read_in`. `skipped_in`: the read in which its page could not be had.
    """

    cursor: str | None
    offset: int = 0
    issued_in: int = 0
    low: float = -INFINITY
    follows: float = INFINITY
    first_sort_key: float = INFINITY
    read_in: int = 0
    page_high: float = -INFINITY
    page_end: int = 0
    skipped_in: int = 0


class Bookmarks:
    """The bookmarks of one list. `start`: where the next walk starts; the one of the list's own start is always there.

    `start_before`: the one before it, should nothing follow `start` any more. `start_edge`: the greatest `sort_key` met before
    it. `first_settled`: the offset of the first item that the last walk settled.

    Whether a cursor means "behind this item" or "behind so many items" is not known. The first is assumed, for then the
    bookmark moves along when items arrive before it. Where the second is true, its page shows items that lie before the ones
    it was read for, and the page behind it is read as well: one call more in six was measured.

        start of the list   ▼ 3 items arrive here
        offset 0            offset 100 → 103           offset 200 → 203
    """

    def __init__(self) -> None:
        self.start = self.start_before = Bookmark(None)
        self.start_edge = -INFINITY
        self.first_settled = 0
        self._bookmarks = [self.start]

    def __len__(self) -> int:
        return len(self._bookmarks)

    def add(self, bookmarks: Iterable[Bookmark]) -> None:
        self._bookmarks += bookmarks

    def remove(self, bookmark: Bookmark) -> None:
        self._bookmarks = [each for each in self._bookmarks if each is not bookmark]

    def move(self, by: int) -> None:
        """Move all behind the start of the list, since so many items have arrived there."""
        for bookmark in self._bookmarks:
            if bookmark.cursor is not None:
                bookmark.offset += by

    def nearest(self) -> NearestBookmark:
        return NearestBookmark(self._bookmarks)

    def drop_useless(self, offsets: Iterable[int]) -> None:
        """Keep those that are nearest to one of the offsets, the start of the list, and where the next walk starts."""
        nearest = self.nearest()
        useful = {id(nearest.before(offset)) for offset in offsets}
        self._bookmarks = [
            bookmark
            for bookmark in nearest.bookmarks
            if id(bookmark) in useful or bookmark.cursor is None or bookmark is self.start
        ]


class NearestBookmark:
    """Finds the nearest bookmark at or before an offset: of several at one offset the last, and the first if there is none."""

    def __init__(self, bookmarks: Iterable[Bookmark]) -> None:
        by_offset = {bookmark.offset: bookmark for bookmark in bookmarks}
        self._offsets = sorted(by_offset)
        self.bookmarks = [by_offset[offset] for offset in self._offsets]

    def before(self, offset: int) -> Bookmark:
        return self.bookmarks[max(0, bisect_right(self._offsets, offset) - 1)]
