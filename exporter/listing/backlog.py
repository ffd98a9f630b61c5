"""Which of the live items that a walk did not meet are to be read again: in a long queue, few of those that only wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.api.wire import State
from exporter.listing.bookmarks import INFINITY
from exporter.listing.lifecycle import first_instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.listing.items import ListedItems, TrackedItem
    from exporter.listing.queue_balance import QueueBalance, QueuedCount

FEW_PAGES = 4
"""With so many pages of live items, reading them all costs little and tells most."""
UNPROVEN_S = 120.0
"""What is known of a queued item must be this young; otherwise its page is read."""
SEARCHES_IN_VAIN = 3
"""Pages that are read one after the other without finding an item that has moved; then all are read at once."""
UNREAD_S = 150.0
"""One page is read again in each read if it is this old, whatever the stats prove."""


class Due(NamedTuple):
    """Items to ask for; `can_wait`: those that are asked for if the budget has calls to spare."""

    now: Sequence[TrackedItem] = ()
    can_wait: Sequence[TrackedItem] = ()


class Backlog:
    """Chooses, in each read, from the live items that were not shown yet: the first of these that is not empty.

    not queued                     all, and the page read the longest ago, so that none is believed for ever
    queued, and some have moved    the page of the oldest, for workers take those first; after some pages without any, all
    queued, and nothing proves     all, as long as nobody knows what the stats count, and when the last proof is old
    that they still are

    `is_long`: whether there are enough pages for that. Only then `balance` needs to see the items of this read.
    """

    def __init__(self, items: ListedItems, balance: QueueBalance) -> None:
        self.balance = balance
        self._items = items
        self._now = 0.0
        self.is_long = self._is_renewed = self._has_searched = False
        self._sought = INFINITY
        self._in_vain = 0

    def begin(self, now: float, queued: QueuedCount | None, *, pages: int) -> None:
        """Begin a read. `pages`: how many hold live items, about."""
        self._now = now
        self.is_long = pages > FEW_PAGES
        self._is_renewed = self._has_searched = False
        self._sought = INFINITY
        self._in_vain = 0
        self.balance.begin(now, queued, looks_on=self.is_long)

    def known_at(self, tracked: TrackedItem) -> float:
        """Return up to when the item is known to have been in its state."""
        return max(tracked.read_at, self.balance.proven_at) if _is_queued(tracked) else tracked.read_at

    def due(self, unread: Sequence[TrackedItem], *, is_open_end_read: bool) -> Due:
        """Return which of the items not yet shown to ask for now. With nothing due, the read is at its end."""
        if not self.is_long or not (self.balance.is_believed or self.balance.has_count):
            return Due(unread)
        changing = [each for each in unread if not _is_queued(each)]
        renewed = self._to_renew(unread)
        if changing or renewed or not is_open_end_read:
            return Due(changing, renewed)
        return Due(self._to_search(unread) or [each for each in unread if self._is_unproven(each)])

    def conclude(self, unread: Sequence[TrackedItem]) -> None:
        """End a read that has shown the open end and asks for no more."""
        if self.is_long and all(map(_is_queued, unread)):
            others = sum(not _is_queued(each) for each in self._items.live.values())
            shown_since = min(map(_read_at, unread), default=INFINITY)
            self.balance.conclude(self._items.queued, others=others, shown_since=shown_since)

    def _is_unproven(self, tracked: TrackedItem) -> bool:
        return not self.balance.is_believed or self.known_at(tracked) < self._now - UNPROVEN_S

    def _to_renew(self, unread: Sequence[TrackedItem]) -> list[TrackedItem]:
        if self._is_renewed or not unread or not self.balance.is_believed:
            return []
        self._is_renewed = True
        oldest = min(unread, key=_read_at)
        return [oldest] if oldest.read_at < self._now - UNREAD_S else []

    def _to_search(self, unread: Sequence[TrackedItem]) -> Sequence[TrackedItem]:
        known = self._items.queued
        moved, at_most = self.balance.moved_at_least(known), self.balance.moved_at_most(known)
        self._in_vain, self._sought = (0 if moved < self._sought else self._in_vain + 1), moved
        is_certain = moved > 0 and self.balance.is_believed
        # What is not certain is worth one page.
        if not unread or not (is_certain or (0 < at_most < INFINITY and not self._has_searched)):
            return ()
        self._has_searched = True
        return unread if self._in_vain >= SEARCHES_IN_VAIN else (min(unread, key=_created_at),)


def _is_queued(tracked: TrackedItem) -> bool:
    return tracked.item.state is State.QUEUED


def _read_at(tracked: TrackedItem) -> float:
    return tracked.read_at


def _created_at(tracked: TrackedItem) -> float:
    return first_instant(tracked.item)
