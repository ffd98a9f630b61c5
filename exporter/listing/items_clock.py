"""The clock by which the server stamps its items, as far as the items themselves tell what it shows."""

from __future__ import annotations

from exporter.listing.intervals import BEFORE_EVERYTHING

MEMORY_S = 600.0
"""What an item has proved is believed for so long at least, and for twice as long at most if others follow."""


class ItemsClock:
    """No other clock is asked: the server that answers may have another one than the server that stamps.

    An item proves how far its clock is ahead of our monotonic one, or more, since it was created before it was shown.

        created at 500, shown at our 20        ahead by 480 or more
        created at 520, shown at our 35        ahead by 485 or more
        at our 50                              it shows 535 or more

    What it shows is never taken for more than it is, unless the clock steps back, or an item was created in the future.
    Either shows: an item appears that is older than what was settled. Then all that was known is void (`step_back`). Drift
    and steps that are too small to show are forgotten with the items that came before them.
    """

    def __init__(self) -> None:
        self._ahead_s = self._ahead_before_s = BEFORE_EVERYTHING
        self._since = BEFORE_EVERYTHING

    def at(self, now: float) -> float:
        """Return the least that it shows at `now`; BEFORE_EVERYTHING while no item is known."""
        return now + max(self._ahead_s, self._ahead_before_s)

    def learn(self, at: float, now: float) -> None:
        """Learn from an item that is shown at `now` for the first time. `at`: its newest instant."""
        if now - self._since > MEMORY_S:
            self._ahead_before_s, self._ahead_s, self._since = self._ahead_s, BEFORE_EVERYTHING, now
        self._ahead_s = max(self._ahead_s, at - now)

    def step_back(self, created_at: float, now: float) -> None:
        """Learn from an item that appeared among items which seemed to be settled."""
        self._ahead_s = min(self.at(now), created_at) - now
        self._ahead_before_s = BEFORE_EVERYTHING
