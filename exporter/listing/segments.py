"""How the live items that a walk does not meet are read again: through the nearest bookmark, and with few pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.listing.bookmarks import Bookmark
from exporter.listing.pages import Contradiction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.wire import WorkItem
    from exporter.listing.bookmarks import Bookmarks, NearestBookmark
    from exporter.listing.items import TrackedItem


@dataclass(slots=True, eq=False)
class PageRequest:
    """One page to be asked for. `expected`: the live items it is asked for; none for a walk. `can_wait`: nothing rests on it now."""

    bookmark: Bookmark
    stale_since: float
    expected: list[TrackedItem] = field(default_factory=list)
    can_wait: bool = False

    @property
    def is_walk(self) -> bool:
        return not self.expected


class Segments:
    """`in_flight`: how many pages are asked for and not yet answered. `page_length`: how many items a page holds."""

    def __init__(self, bookmarks: Bookmarks) -> None:
        self.in_flight = 0
        self.page_length = 1
        self._bookmarks = bookmarks

    def requests(
        self, unread: Iterable[TrackedItem], sort_key: Callable[[WorkItem], float], *, read: int
    ) -> list[PageRequest]:
        """Cover the items with as few pages as possible.

        live items at offsets 130, 150 and 320       bookmarks at 0, 100, 200 and 300, pages of 100 items
        asked for                                    the pages at 100 (130 and 150) and at 300 (320)
        """
        nearest = self._bookmarks.nearest()
        requests: list[PageRequest] = []
        for tracked in sorted(self._placed(unread, sort_key, nearest, read), key=lambda tracked: tracked.offset):
            bookmark = nearest.before(tracked.offset)
            # Far behind its bookmark, an item is reached in several steps, of which the first serves all.
            if requests and (
                bookmark is requests[-1].bookmark or tracked.offset < requests[-1].bookmark.offset + self.page_length
            ):
                requests[-1].expected.append(tracked)
                requests[-1].stale_since = min(requests[-1].stale_since, tracked.read_at)
                continue
            if bookmark.skipped_in != read:
                requests.append(PageRequest(bookmark, tracked.read_at, [tracked]))
        self.in_flight = len(requests)
        return requests

    def cursor_rejected(self, request: PageRequest) -> None:
        """Do without the bookmark: the one before it leads to the same items in more steps."""
        self.in_flight -= 1
        self._bookmarks.remove(request.bookmark)

    def skipped(self, request: PageRequest, *, read: int) -> None:
        self.in_flight -= 1
        request.bookmark.skipped_in = read

    @staticmethod
    def _placed(
        unread: Iterable[TrackedItem], sort_key: Callable[[WorkItem], float], nearest: NearestBookmark, read: int
    ) -> list[TrackedItem]:
        """Move the items' offsets off the pages that were read and don't show them. What a page shows is the judge of a place.

        the page at 300 was read, ends at 400, and does not show the item of 320
        its last item comes before it   → look behind the page, at 400
        its last item comes after it    → look before the page, at 299
        """
        placed = list(unread)
        for tracked in placed:
            seen, item_key = set[Bookmark](), sort_key(tracked.item)
            while (bookmark := nearest.before(tracked.offset)).read_in == read:
                if bookmark in seen:
                    raise Contradiction("a live item can't be found where it must be")
                seen.add(bookmark)
                behind = item_key >= bookmark.page_high
                tracked.offset = bookmark.page_end if behind else bookmark.offset - 1
        return placed
