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
class Cut:
    """A place between two items, and the cursor that leads there; None leads to the start of the list.

    `offset`: items before it when it was issued; `shift`: how far the list had moved by then. `after_id`, `after_w`: the
    item before it. `low`: within the read that issued it, nothing lies unread between this `w` and the cut. `settled`:
    nothing can be inserted before it any more. `first_w`: that of the item behind it, when a walk last came by. `told_high`,
    `told_end`: the `w` and the offset that its page reached in the read `called_in`.
    """

    cursor: str | None
    offset: int = 0
    shift: int = 0
    after_id: str = ""
    after_w: float = -INFINITY
    issued_in: int = 0
    low: float = -INFINITY
    settled: bool = False
    first_w: float = INFINITY
    called_in: int = 0
    told_high: float = -INFINITY
    told_end: int = 0
    missed_in: int = 0


class Cuts:
    """The cuts of one list. `shift`: by how many items the list has moved since the first of them was issued."""

    def __init__(self, start: Cut) -> None:
        self.kind = CursorKind.UNKNOWN
        self.shift = 0
        self._cuts = [start]

    def __len__(self) -> int:
        return len(self._cuts)

    def place(self, cut: Cut) -> int:
        """Answer the offset that the cut has by now: a key moves along with its item, a position stays."""
        if cut.cursor is None or self.kind is CursorKind.POSITION:
            return cut.offset
        return cut.offset + self.shift - cut.shift

    def add(self, cuts: Iterable[Cut]) -> None:
        self._cuts += cuts

    def remove(self, cut: Cut) -> None:
        self._cuts = [each for each in self._cuts if each is not cut]

    def chart(self) -> Places:
        """Answer where the cuts are; of several at one place the last."""
        return Places({self.place(cut): cut for cut in self._cuts})

    def drop_useless(self, offsets: Iterable[int], *, keep: Cut) -> None:
        """Keep the cuts nearest to the offsets, and the start of the list."""
        places = self.chart()
        useful = {places.floor(offset) for offset in offsets}
        self._cuts = [
            cut for place, cut in places.cut_by_place.items() if place in useful or cut.cursor is None or cut is keep
        ]

    def learn_kind(self, cut: Cut, first_w: float, ids: Container[str]) -> None:
        """See what became of an old cut of a list that has its newest items first: they push others behind a position."""
        if first_w < cut.after_w or cut.after_id in ids:
            self.kind = CursorKind.POSITION
        elif self.kind is CursorKind.UNKNOWN and cut.shift != self.shift:
            self.kind = CursorKind.KEY


class Places:
    def __init__(self, cut_by_place: dict[int, Cut]) -> None:
        self.cut_by_place = cut_by_place
        self._places = sorted(cut_by_place)

    def floor(self, offset: int) -> int:
        """Answer the last place at or before the offset; the first when there is none."""
        return self._places[max(0, bisect_right(self._places, offset) - 1)]

    def nearest(self, offset: int) -> Cut:
        return self.cut_by_place[self.floor(offset)]
