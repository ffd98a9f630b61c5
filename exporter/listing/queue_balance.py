"""How many of the queued items that a read did not show may have left the queue, by the count of the stats.

The stats say how many items are queued. Where that equals what the list is known to hold, nothing has left the queue unseen, and
pages on which only queued items live need no reading.

    known       1,000 queued on pages not read, 40 queued on those just read         stats: 1,040      none has moved
    stats       1,038                                                                two have moved: look for them

The count and the pages are not of one instant, so the equation can hold although an item has moved:

    the stats are made        a of the pages not read has left the queue: 1,039
    b is acknowledged         it is on a page that is read, and shown as starting: 1,039 are known, a among them

So each item that was shown counts twice: was it certainly queued when the stats were made, was it perhaps? Its own instants tell,
within the bounds of the clock that stamped it (`clock_bounds`). "At least so many have moved" rests on the first, and is looked
for; "at most so many" on the second, and proves something where it is none.

An item that the stats count may become visible in the list only later, and hides another one that has moved. So what a read
proves is believed when a later one shows that nothing of the kind has appeared.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.bookmarks import INFINITY
from exporter.listing.clock_bounds import latest
from exporter.listing.lifecycle import LONG_AGO, first_instant, is_finished, newest_instant

if TYPE_CHECKING:
    from exporter.api.wire import WorkItem
    from exporter.listing.clock_bounds import ClockBounds

EXACT_READS_NEEDED = 3
"""Reads in which the stats' count was exactly that of the queued items, though others were alive, before it is believed to mean them."""

MOST_READS_NEEDED = 96


@dataclass(frozen=True, slots=True)
class QueuedCount:
    """How many items were queued, by the stats, at an instant between `asked_at` and `answered_at` on the monotonic clock."""

    count: int
    asked_at: float
    answered_at: float


class QueuedMeaning:
    """Whether the stats' count is that of the queued items.

    Some servers count others too. They are noticed as soon as a read meets an item of a kind that they count.
    """

    def __init__(self) -> None:
        self._exact_reads = 0
        self._needed = EXACT_READS_NEEDED

    @property
    def is_proven(self) -> bool:
        return self._exact_reads >= self._needed

    def agreed(self) -> None:
        self._exact_reads += 1

    def contradicted(self) -> None:
        """Believe nothing for longer each time: what deceived once is not rare."""
        self._exact_reads = 0
        self._needed = min(2 * self._needed, MOST_READS_NEEDED)


class _Later(enum.Enum):
    """What an item did, perhaps only after the stats were made."""

    ARRIVED = enum.auto()
    REQUEUED = enum.auto()
    LEFT = enum.auto()


@dataclass(slots=True)
class _Proof:
    """In a read none had moved, if as many items appear later as the stats have counted beyond those known: `surplus`."""

    queued: QueuedCount
    surplus: int
    appeared: int = 0


class QueueBalance:
    """Compares the stats with one index of the list, read after read: `begin`, `saw` and `gone` as often as need be, `conclude`.

    `proven_at`: each item that is known to be queued was queued then, or was read later; on the monotonic clock.
    """

    def __init__(self, meaning: QueuedMeaning, clock: ClockBounds, *, lateness_s: float) -> None:
        self.proven_at = -INFINITY
        self._meaning = meaning
        self._clock = clock
        self._lateness_s = lateness_s
        self._began_at = self._shown_at = -INFINITY
        self._queued: QueuedCount | None = None
        self._uncertain: dict[str, _Later] = {}
        self._proof: _Proof | None = None
        self._lacking_since = INFINITY

    @property
    def is_believed(self) -> bool:
        return self._meaning.is_proven

    @property
    def has_count(self) -> bool:
        """Tell whether the stats of this read are still to be compared."""
        return self._queued is not None

    def begin(self, now: float, queued: QueuedCount | None, *, looks_on: bool) -> None:
        """Begin a read. Of a count from before the pages of another read nobody knows what has changed since.

        `looks_on`: the items of this read come through `saw`. Otherwise what is not proven by now never will be.
        """
        self._began_at = now
        if not looks_on:
            self._proof = queued = None
        self._queued = queued if queued is not None and queued.asked_at >= self._shown_at else None
        self._uncertain.clear()

    def page_arrived(self, now: float) -> None:
        self._shown_at = now

    def saw(self, before: WorkItem | None, item: WorkItem, *, shown_at: float, not_before: float) -> None:
        """Take an item as a page shows it. `before`: as another page showed it that was made after `not_before`, or None."""
        is_queued = item.state is State.QUEUED
        if before is None:
            self._clock.learn(newest_instant(item), shown_at=shown_at)
            self._count_appeared(item)
        elif is_queued and before.state is State.QUEUED:
            return
        else:
            self._learn_clock(before, item, shown_at, not_before)
        if self._queued is not None:
            self._weigh(before, item, self._queued)

    def gone(self, item: WorkItem) -> None:
        """Take an item that is not listed any more, nobody knows since when."""
        if not is_finished(item):  # it may have come back into the queue before it went
            self._uncertain[item.id] = _Later.LEFT

    def moved_at_least(self, known: int) -> int:
        """Return how many of the queued items that were not shown have left the queue, at least. `known`: how many are queued in all.

        What has come back into the queue since the last read did so before the stats, as a rule.
        """
        return 0 if self._queued is None else max(0, known - self._number(_Later.ARRIVED) - self._queued.count)

    def moved_at_most(self, known: int) -> float:
        """Return how many at most. Less than none: the stats count items that no page has shown."""
        return INFINITY if self._queued is None else known + self._number(_Later.LEFT) - self._queued.count

    def conclude(self, known: int, *, others: int, shown_since: float) -> None:
        """Draw the conclusions of a read that has shown its open end and all `others`: those alive that are not queued.

        `shown_since`: all that is known was shown at that instant or later; infinite if this read has shown it.
        """
        self._judge()
        queued, at_least, at_most = self._queued, self.moved_at_least(known), self.moved_at_most(known)
        if queued is None:
            return
        self._queued = None
        lacks = at_least > self._number(_Later.REQUEUED)
        self._lacking_since = min(self._lacking_since, queued.asked_at) if lacks else INFINITY
        if lacks and shown_since >= self._lacking_since:  # nothing is left where those that have moved could be
            self._meaning.contradicted()
            self._lacking_since = INFINITY
        elif others and at_most == 0 and not self._uncertain:
            self._meaning.agreed()
        if at_most <= 0 and self._proof is None:
            self._proof = _Proof(queued, surplus=int(-at_most))

    def _judge(self) -> None:
        """Believe the proof of an earlier read, now that everything which had been created by then is visible."""
        proof = self._proof
        if proof is None or self._began_at - proof.queued.answered_at < self._lateness_s:
            return
        self._proof = None
        if proof.appeared == proof.surplus and self._meaning.is_proven:
            self.proven_at = proof.queued.asked_at
        elif proof.appeared < proof.surplus:
            self._meaning.contradicted()

    def _count_appeared(self, item: WorkItem) -> None:
        if self._proof is not None:
            created_later = first_instant(item) > self._clock.at_most(self._proof.queued.answered_at)
            self._proof.appeared += not created_later

    def _learn_clock(self, before: WorkItem, item: WorkItem, shown_at: float, not_before: float) -> None:
        stamp = _newest_stamp(item)
        if stamp > _newest_stamp(before):
            self._clock.learn(stamp, shown_at=shown_at, not_before=not_before)
        elif (item.latest_heartbeat_at or INFINITY) < (before.latest_heartbeat_at or LONG_AGO):
            self._clock.forget()

    def _weigh(self, before: WorkItem | None, item: WorkItem, queued: QueuedCount) -> None:
        """Say whether an item that came into the queue or left it did so when the stats were made already, or perhaps only later."""
        sure_until = self._clock.at_least(queued.asked_at)
        if item.state is State.QUEUED:
            self._uncertain.pop(item.id, None)
            if before is not None:
                self._uncertain[item.id] = _Later.REQUEUED
            elif latest(first_instant(item)) > sure_until:
                self._uncertain[item.id] = _Later.ARRIVED
        elif before is None or before.state is State.QUEUED or before.acknowledged_at != item.acknowledged_at:
            self._uncertain.pop(item.id, None)
            left_at = _left_queue_at(before, item)
            if left_at is None or latest(left_at) > sure_until:
                self._uncertain[item.id] = _Later.LEFT

    def _number(self, kind: _Later) -> int:
        return sum(each is kind for each in self._uncertain.values())


def _left_queue_at(before: WorkItem | None, item: WorkItem) -> float | None:
    """Return when an item left the queue, which happens by an acknowledgement or a stop; None where that is not legible."""
    if item.acknowledged_at is not None and (before is None or before.acknowledged_at != item.acknowledged_at):
        return item.acknowledged_at
    stops = [at for at in (item.stop_requested_at, item.stopped_at) if at is not None]
    return min(stops, default=None)


def _newest_stamp(item: WorkItem) -> float:
    return max(newest_instant(item), item.latest_heartbeat_at or LONG_AGO)
