"""Cursors and the places they lead to."""

from __future__ import annotations

import enum
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

INFINITY = float("inf")


class CursorKind(enum.Enum):
    UNKNOWN = "unknown"
    KEY = "key"
    POSITION = "position"


@dataclass(slots=True, eq=False)
class Bookmark:
    """A place between two items, and the cursor that leads there; None leads to the start of the list.

    `offset`: items before it when it was issued; `shift`: how far the list had moved by then. `after_id`, `after_sort_key`: the
    item before it. `low`: within the read that issued it, nothing lies unread between this `sort_key` and the cut. `settled`:
    nothing can be inserted before it any more. `first_sort_key`: that of the item behind it, when a walk last came by. `page_high`,
    `page_end`: the `sort_key` and the offset that its page reached in the read `read_in`.
    """

    cursor: str | None
    offset: int = 0
    shift: int = 0
    after_id: str = ""
    after_sort_key: float = -INFINITY
    issued_in: int = 0
    low: float = -INFINITY
    settled: bool = False
    first_sort_key: float = INFINITY
    read_in: int = 0
    page_high: float = -INFINITY
    page_end: int = 0
    skipped_in: int = 0


class Bookmarks:
    """The cuts of one list. `shift`: by how many items the list has moved since the first of them was issued."""

    def __init__(self, start: Bookmark) -> None:
        self.kind = CursorKind.UNKNOWN
        self.shift = 0
        self._bookmarks = [start]

    def __len__(self) -> int:
        return len(self._bookmarks)

    def place(self, bookmark: Bookmark) -> int:
        """Answer the offset that the cut has by now: a key moves along with its item, a position stays."""
        if bookmark.cursor is None or self.kind is CursorKind.POSITION:
            return bookmark.offset
        return bookmark.offset + self.shift - bookmark.shift

    def add(self, bookmarks: Iterable[Bookmark]) -> None:
        self._bookmarks += bookmarks

    def remove(self, bookmark: Bookmark) -> None:
        self._bookmarks = [each for each in self._bookmarks if each is not bookmark]

    def index(self) -> Places:
        """Answer where the cuts are; of several at one place the last."""
        return Places({self.place(bookmark): bookmark for bookmark in self._bookmarks})

    def drop_useless(self, offsets: Iterable[int], *, keep: Bookmark) -> None:
        """Keep the cuts nearest to the offsets, and the start of the list."""
        places = self.index()
        useful = {places.floor(offset) for offset in offsets}
        self._bookmarks = [
            bookmark
            for place, bookmark in places.bookmark_by_place.items()
            if place in useful or bookmark.cursor is None or bookmark is keep
        ]

    def learn_kind(self, bookmark: Bookmark, first_sort_key: float, ids: Container[str]) -> None:
        """See what became of an old cut of a list that has its newest items first: they push others behind a position."""
        if first_sort_key < bookmark.after_sort_key or bookmark.after_id in ids:
            self.kind = CursorKind.POSITION
        elif self.kind is CursorKind.UNKNOWN and bookmark.shift != self.shift:
            self.kind = CursorKind.KEY


class Places:
    def __init__(self, bookmark_by_place: dict[int, Bookmark]) -> None:
        self.bookmark_by_place = bookmark_by_place
        self._places = sorted(bookmark_by_place)

    def floor(self, offset: int) -> int:
        """Answer the last place at or before the offset; the first when there is none."""
        return self._places[max(0, bisect_right(self._places, offset) - 1)]

    def nearest(self, offset: int) -> Bookmark:
        return self.bookmark_by_place[self.floor(offset)]
