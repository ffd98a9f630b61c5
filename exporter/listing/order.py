"""The order in which a list shows its items, learnt from what it shows."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.wire import WorkItem

MIN_ORDERED_PAIRS = 8
"""Pairs of items that agree before an order is believed: by chance that happens to one unordered list in 180,000."""


class Order(enum.Enum):
    UNKNOWN = "unknown"
    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
    NEITHER = "neither"


class OrderDetector:
    """Learns the order of a list from the creation times on its pages."""

    def __init__(self) -> None:
        self._rising = 0
        self._falling = 0
        self._last: float | None = None
        self._illegible = False

    def learn(self, items: Iterable[WorkItem]) -> Order:
        """Add the next items, and return the order as far as it is known now."""
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
