"""What the clock that stamps the items shows at an instant of ours: at least, and at most."""

from __future__ import annotations

from exporter.listing.bookmarks import INFINITY
from exporter.listing.items_clock import MEMORY_S

WHOLE_SECOND_S, MILLISECOND_S = 1.0, 0.001


def latest(stamp: float) -> float:
    """Return the latest instant that a stamp may stand for: those of some servers are cut to whole seconds."""
    return stamp + (WHOLE_SECOND_S if stamp.is_integer() else MILLISECOND_S)


class ClockBounds:
    """How far the items' clock is ahead of our monotonic one, from both sides.

    stamped 500.2, shown at our 20.5, not yet shown by what was asked for at our 20.0     ahead by 479.7 to 480.2
    at our 30.0                                                                           it shows 509.7 to 510.2

    Where the two contradict each other the clock has been set, and all that was known is void. `ItemsClock` must never be taken for
    later than it is, also where few stamps are seen, and so knows one side alone and forgets nothing for that.
    """

    def __init__(self) -> None:
        self._since = -INFINITY
        self._low_s = self._low_before_s = -INFINITY
        self._high_s = self._high_before_s = INFINITY

    def at_least(self, now: float) -> float:
        return now + max(self._low_s, self._low_before_s)

    def at_most(self, now: float) -> float:
        return now + min(self._high_s, self._high_before_s)

    def learn(self, stamp: float, *, shown_at: float, not_before: float = -INFINITY) -> None:
        """Learn from a stamp that was shown at `shown_at`, and was made after `not_before`; both on our clock."""
        if shown_at - self._since > MEMORY_S:
            self._low_before_s, self._high_before_s, self._since = self._low_s, self._high_s, shown_at
            self._low_s, self._high_s = -INFINITY, INFINITY
        self._low_s = max(self._low_s, stamp - shown_at)
        self._high_s = min(self._high_s, latest(stamp) - not_before)
        if self.at_least(0) > self.at_most(0):
            self.forget()

    def forget(self) -> None:
        """Start anew: the clock has been set."""
        self._low_s = self._low_before_s = -INFINITY
        self._high_s = self._high_before_s = INFINITY
