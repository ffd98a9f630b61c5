"""What a server's clock shows, as far as the `Date` of its answers tells. It serves ages alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from statistics import median_low
from typing import NamedTuple

ANSWERS = 9
"""How many answers are compared: fewer than half of them may be wrong."""
TOLERANCE_S = 2.0


class ClockReading(NamedTuple):
    """An instant on both of our clocks. The wall clock may be set at any time; the monotonic one stops while a machine sleeps."""

    wall: float
    monotonic: float

    def before(self, seconds: float) -> ClockReading:
        return ClockReading(self.wall - seconds, self.monotonic - seconds)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """By how much the server's clock was ahead of our monotonic one, between `least_s` and `most_s`, and our wall clock."""

    least_s: float
    most_s: float
    wall_s: float

    @property
    def middle_s(self) -> float:
        return (self.least_s + self.most_s) / 2


class ServerClock:
    """Compares the last answers of one server, so that one bad `Date` does not show.

    ahead of our monotonic clock     480   480   500   480          one of many machines that answer has a wrong clock: 480
    """

    def __init__(self) -> None:
        self._comparisons: deque[_Comparison] = deque(maxlen=ANSWERS)

    def ahead_s(self, date: str | None, sent: ClockReading, received: ClockReading) -> float:
        """Return how far the server's clock is ahead of our wall clock at `received`, for an answer with that `Date`.

        The server wrote it at some time between `sent` and `received`, and up to a second later than it says. Where most
        answers allow both clocks to be equal they are taken for equal; otherwise the median answer is believed.
        """
        wall_s = received.wall - received.monotonic
        written_at = http_date(date)
        if written_at is not None:
            now = _Comparison(written_at - received.monotonic, written_at + 1 - sent.monotonic, wall_s)
            if self._has_slept(now):
                self._comparisons.clear()
            self._comparisons.append(now)
        if not self._comparisons:
            return 0.0
        equal = sum(each.least_s <= wall_s <= each.most_s for each in self._comparisons)
        return 0.0 if 2 * equal >= len(self._comparisons) else self._median_s() - wall_s

    def _median_s(self) -> float:
        return median_low(each.middle_s for each in self._comparisons)

    def _has_slept(self, now: _Comparison) -> bool:
        """Tell whether our monotonic clock has stood still: then both other clocks are ahead by the same time more.

        our wall clock     jumps by 3,600 s                        it was set: what is known of the server stays right
        and the server's   jumps by 3,600 s as well                the machine slept: what is known is void
        """
        if not self._comparisons:
            return False
        jump_s = now.wall_s - self._comparisons[-1].wall_s
        return abs(jump_s) > TOLERANCE_S and abs(now.middle_s - self._median_s() - jump_s) <= TOLERANCE_S


@lru_cache(maxsize=8)
def http_date(text: str | None) -> float | None:
    """Read an HTTP date as seconds since 1970; None where it is absent or not legible."""
    if not text:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
