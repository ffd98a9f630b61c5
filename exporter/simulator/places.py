"""The order in which a list shows items, and which of them it does not show yet.

The places are an array of 8 bytes an item, so a million finished items cost 8 MB, and a page costs what it shows
whatever lies before it. Only the shuffled order pays for its whole length, once after every change.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Literal, Protocol

from exporter.simulator.item import scramble

Order = Literal["newest_first", "oldest_first", "unordered"]


class View(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...


@dataclass(slots=True)
class Places:
    """The sequence numbers of all items, oldest first."""

    salt: int
    rows: array[int] = field(default_factory=lambda: array("q"))
    hidden_until: dict[int, float] = field(default_factory=dict)
    _shuffled: tuple[int, ...] = ()

    def append(self, seq: int) -> None:
        self.rows.append(seq)
        self._shuffled = ()

    def extend(self, seqs: range) -> None:
        self.rows.extend(seqs)
        self._shuffled = ()

    def remove(self, seqs: list[int]) -> None:
        if len(seqs) == 1:
            del self.rows[bisect_left(self.rows, seqs[0])]
        else:
            gone = set(seqs)
            self.rows = array("q", (seq for seq in self.rows if seq not in gone))
        for seq in seqs:
            self.hidden_until.pop(seq, None)
        self._shuffled = ()

    def __contains__(self, seq: int) -> bool:
        index = bisect_left(self.rows, seq)
        return index < len(self.rows) and self.rows[index] == seq

    def reveal(self, now: float) -> None:
        if self.hidden_until:
            self.hidden_until = {seq: until for seq, until in self.hidden_until.items() if until > now}

    def view(self, order: Order) -> View:
        if order == "oldest_first":
            return self.rows
        if order == "newest_first":
            return _Reversed(self.rows)
        if not self._shuffled:
            self._shuffled = tuple(sorted(self.rows, key=self._shuffle_key))
        return self._shuffled

    def behind(self, seq: int, order: Order) -> int:
        """Return the index, in that order, of the first place behind `seq`, whether or not `seq` still exists."""
        if order == "oldest_first":
            return bisect_right(self.rows, seq)
        if order == "newest_first":
            return len(self.rows) - bisect_left(self.rows, seq)
        return bisect_right(self.view(order), self._shuffle_key(seq), key=self._shuffle_key)

    def at_position(self, position: int, order: Order) -> int:
        """Return the index of the item that has `position` shown items before it."""
        index = position
        for hidden in sorted(self.behind(seq, order) - 1 for seq in self.hidden_until):
            if hidden <= index:
                index += 1
        return index

    def page(self, start: int, limit: int, order: Order) -> tuple[list[int], bool]:
        """Return the shown items from index `start` on, and whether another one follows."""
        view = self.view(order)
        shown: list[int] = []
        for index in range(start, len(view)):
            seq = view[index]
            if seq in self.hidden_until:
                continue
            if len(shown) == limit:
                return shown, True
            shown.append(seq)
        return shown, False

    def _shuffle_key(self, seq: int) -> int:
        return scramble(seq, self.salt)


@dataclass(frozen=True, slots=True)
class _Reversed:
    rows: array[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> int:
        return self.rows[len(self.rows) - 1 - index]
