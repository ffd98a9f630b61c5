"""Which ids share an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class IdsByInstant:
    """The ids of each instant. Nearly every instant has one id alone, so only the further ones cost a table each.

    a and b of 80, c of 90     80: a, and b besides     90: c
    """

    def __init__(self) -> None:
        self._first: dict[float, str] = {}
        self._others: dict[float, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._first)

    def add(self, instant: float, one: str) -> None:
        if self._first.setdefault(instant, one) != one:
            self._others.setdefault(instant, {})[one] = None

    def discard(self, instant: float, one: str) -> None:
        others = self._others.get(instant, {})
        if self._first.get(instant) != one:
            others.pop(one, None)
        elif others:
            self._first[instant] = next(iter(others))
            del others[self._first[instant]]
        else:
            del self._first[instant]
        if not others:
            self._others.pop(instant, None)

    def at(self, instant: float) -> Iterator[str]:
        """Yield the ids of the instant, each once, the earliest that was added first."""
        if instant in self._first:
            yield self._first[instant]
            yield from self._others.get(instant, ())
