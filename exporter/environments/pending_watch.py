"""Servers that count every live item as pending, which the vendor's does not: there `pending` says nothing of claimed items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api.wire import LIVE_STATES, State

if TYPE_CHECKING:
    from exporter.environments.snapshot import Queue, Work

READS_NEEDED = 5
"""One such read can be chance: the stats and the list are not read at the same instant."""
TOGETHER_S = 10.0


class PendingWatch:
    """Looks at the numbers of one environment, read after read."""

    def __init__(self) -> None:
        self._suspicious_reads = 0

    def observe(self, queue: Queue, work: Work) -> bool:
        """Return True once: when read after read `pending` was the number of all live items, though some were past the queue.

        Reads without such items, and reads that lie too far apart to be compared, tell nothing.
        """
        counts = work.listing.count_by_state
        live = sum(counts[state] for state in LIVE_STATES)
        apart_s = abs(queue.times.monotonic_at - work.times.monotonic_at)
        if live == counts[State.QUEUED] or apart_s > TOGETHER_S or self._suspicious_reads >= READS_NEEDED:
            return False
        self._suspicious_reads = self._suspicious_reads + 1 if queue.stats.pending == live else 0
        return self._suspicious_reads == READS_NEEDED
