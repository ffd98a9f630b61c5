"""The newest of the items that are forgotten otherwise."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from exporter.listing.intervals import BEFORE_EVERYTHING

LIMIT = 1000
"""How many are remembered, in 16 bytes each: as many as the largest page holds, so that an item on it is known or is new."""


class RememberedItems:
    """Tells a new item from an old one where creation times can't: at the end where items arrive.

    `floor`: of the items created later, all are remembered that were met.

        remembered     a of 70, b of 80, floor 60
        c of 75        was never met, although everything before 90 seemed to be: the clock has stepped back
        d of 50        may have been met
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.floor = BEFORE_EVERYTHING
        self._limit = limit
        self._created_at = array("d")
        self._hashes = array("q")

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, item_id: str, created_at: float) -> None:
        if created_at <= self.floor or self.has(item_id, created_at):
            return
        place = bisect_right(self._created_at, created_at)
        self._created_at.insert(place, created_at)
        self._hashes.insert(place, hash(item_id))
        if len(self) > self._limit:
            self.floor = self._created_at.pop(0)
            self._hashes.pop(0)

    def has(self, item_id: str, created_at: float) -> bool:
        first, behind = bisect_left(self._created_at, created_at), bisect_right(self._created_at, created_at)
        return hash(item_id) in self._hashes[first:behind]
