"""Intervals of creation time within which every listed item has been met."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

BEFORE_EVERYTHING = float("-inf")


class IntervalSet:
    """A union of open intervals. Of an instant at the end of an interval, only the items noted there are covered.

    Clocks are coarse: many items may share an instant, and a page may end among them.

        add(10, 20, edge=10, edge_ids={"a"})     covers everything between 10 and 20, and at 10 item a alone
        add(5, 15)                               both become one interval, 5 to 20: 10 now lies within it
    """

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []
        self._ids_by_edge: dict[float, frozenset[str]] = {}

    def cover(self, instant: float, item_id: str) -> bool:
        for low, high in self._intervals:
            if low < instant < high:
                return True
        return item_id in self._ids_by_edge.get(instant, ())

    def add(self, low: float, high: float, *, edge: float | None = None, edge_ids: Collection[str] = ()) -> None:
        """Add everything between `low` and `high`, and at the instant `edge` the items `edge_ids`."""
        if edge is not None:
            self._ids_by_edge[edge] = self._ids_by_edge.get(edge, frozenset()).union(edge_ids)
        apart = []
        for known_low, known_high in self._intervals:
            if known_low < high and low < known_high:
                low, high = min(low, known_low), max(high, known_high)
            else:
                apart.append((known_low, known_high))
        self._intervals = [*apart, (low, high)] if low < high else apart
        ends = {end for interval in self._intervals for end in interval}
        self._ids_by_edge = {at: ids for at, ids in self._ids_by_edge.items() if at in ends or at == edge}
