"""Items and pages made by hand, for tests of one module alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.bookmarks import Bookmark
from exporter.listing.items import TrackedItem
from exporter.listing.lifecycle import Observation
from exporter.listing.pages import PageRead

if TYPE_CHECKING:
    from collections.abc import Sequence


def active(item_id: str, created_at: float | None) -> WorkItem:
    at = float(created_at or 0)
    return WorkItem(item_id, State.ACTIVE, None if created_at is None else at, at + 1, at + 2, at + 3)


def queued(item_id: str, created_at: float | None) -> WorkItem:
    return WorkItem(item_id, State.QUEUED, None if created_at is None else float(created_at))


def finished(item_id: str, created_at: float | None) -> WorkItem:
    at = float(created_at or 0)
    return WorkItem(item_id, State.STOPPED, None if created_at is None else at, at + 1, at + 2, at + 3, at + 3, at + 4)


def tracked(item: WorkItem, offset: int = 0, *, read: int = 1, read_at: float = 0.0, walk: int = 1) -> TrackedItem:
    return TrackedItem(item, offset, read, read_at, walk)


def newest_first(item: WorkItem) -> float:
    return -(item.created_at or 0.0)


def oldest_first(item: WorkItem) -> float:
    return item.created_at or 0.0


def observation(*, read: int = 1, walk: int = 1, now: float = 0.0, watermark: float = 0.0) -> Observation:
    return Observation(read, walk, now, watermark)


def page_read(
    items: Sequence[WorkItem],
    next_cursor: str | None = None,
    *,
    bookmark: Bookmark | None = None,
    read: int = 1,
    now: float = 0.0,
    oldest: bool = False,
) -> PageRead:
    page, behind = WorkPage(tuple(items), next_cursor), bookmark or Bookmark(None)
    return PageRead.of(page, behind, oldest_first if oldest else newest_first, observation(read=read, now=now))
