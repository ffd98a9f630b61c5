"""The items that are kept by id, and the number of those that are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.api.wire import LIVE_STATES, State
from exporter.listing.lifecycle import first_instant, is_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.api.wire import WorkItem
    from exporter.listing.pages import PageRead

FINAL_STATES = (State.STOPPED, State.UNKNOWN)
RANK_BY_STATE = {
    state: rank
    for rank, state in enumerate(
        (State.UNKNOWN, State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING, State.STOPPED)
    )
}


@dataclass(slots=True, eq=False)
class TrackedItem:
    """A listed item as it was last read. `offset`: its place, as far as known. `walk`: the last walk that met it."""

    item: WorkItem
    offset: int
    read: int
    read_at: float
    walk: int


class ListedItems:
    """Every item of the list, once: in `recent` or `live` by id, or in `sealed` as a number.

    `recent`: those near the end at which items arrive, whatever their state. `live`: settled ones that can still change.
    `sealed`: settled ones that are finished; nothing more happens to them, so their number per state is enough.

        a new item        → recent
        it gets older     → live, or sealed if it is finished
        it finishes       → sealed
    """

    def __init__(self) -> None:
        self.live: dict[str, TrackedItem] = {}
        self.recent: dict[str, TrackedItem] = {}
        self.sealed = dict.fromkeys(FINAL_STATES, 0)

    def __iter__(self) -> Iterator[TrackedItem]:
        yield from self.live.values()
        yield from self.recent.values()

    def get(self, item_id: str) -> TrackedItem | None:
        return self.live.get(item_id) or self.recent.get(item_id)

    def ids(self) -> frozenset[str]:
        return frozenset(self.live).union(self.recent)

    # ---- changes

    def add(self, tracked: TrackedItem, *, settled: bool) -> None:
        if not settled:
            self.recent[tracked.item.id] = tracked
        elif is_finished(tracked.item):
            self.sealed[tracked.item.state] += 1
        else:
            self.live[tracked.item.id] = tracked

    def renew(self, tracked: TrackedItem, item: WorkItem, offset: int, page: PageRead) -> bool:
        """Take the item as the page shows it. False: it is known better from another page of this read.

        Two pages may be under way at once, and the later answer may be the older one:

            page 3 is made: item a is active       page 1 is made: a is stopped
            page 1 arrives: a is stopped           page 3 arrives: a stays stopped
        """
        tracked.offset = offset
        if tracked.read == page.read and RANK_BY_STATE[item.state] < RANK_BY_STATE[tracked.item.state]:
            return False
        tracked.item, tracked.read, tracked.read_at = item, page.read, page.observation.now
        if is_finished(item) and self.live.pop(item.id, None) is not None:
            self.sealed[item.state] += 1
        return True

    def settle(self, watermark: float, *, met_by: int) -> list[WorkItem]:
        """Move those out of the recent ones that the walk has met and that were created before the watermark. Return them."""
        old = [each for each in self.recent.values() if each.walk == met_by and first_instant(each.item) < watermark]
        for each in old:
            del self.recent[each.item.id]
            self.add(each, settled=True)
        return [each.item for each in old]

    def rename(self, old_id: str, new_id: str) -> TrackedItem:
        tracked = self.live.pop(old_id)
        self.live[new_id] = tracked
        return tracked

    def drop_recent(self, *, unless_met_by: int) -> list[WorkItem]:
        """Drop the recent items that the walk did not meet: they are not listed any more. Return them."""
        missing = [each.item for each in self.recent.values() if each.walk != unless_met_by]
        for item in missing:
            del self.recent[item.id]
        return missing

    def drop_missing(self, page: PageRead, sort_key: Callable[[WorkItem], float]) -> list[WorkItem]:
        """Drop the live items that the page should have shown and did not, and return them."""
        read, low, high = page.read, page.low, page.high
        unread = (each.item for each in self.live.values() if each.read != read)
        missing = [item for item in unread if low < sort_key(item) < high]
        for item in missing:
            del self.live[item.id]
        return missing

    def move(self, by: int, *, except_met_by: int) -> None:
        """Move the live items that the walk did not meet, since so many items have arrived before them."""
        for each in self.live.values():
            if each.walk != except_met_by:
                each.offset += by

    # ---- what is known

    @property
    def queued(self) -> int:
        return sum(each.item.state is State.QUEUED for each in self)

    def are_live_read_since(self, read: int) -> bool:
        return all(each.read >= read for each in self.live.values())

    def created_at_of_live(self) -> frozenset[float]:
        return frozenset(first_instant(each.item) for each in self.live.values())

    def unfinished(self) -> tuple[WorkItem, ...]:
        return tuple(each.item for each in self if not is_finished(each.item))

    def count_by_state(self) -> dict[State, int]:
        counts = dict.fromkeys(State, 0) | self.sealed
        for each in self:
            counts[each.item.state] += 1
        return counts

    def oldest_at_by_state(self) -> dict[State, float | None]:
        """Return, for each live state, since when its oldest item is in it; None where that is not legible."""
        oldest: dict[State, float | None] = dict.fromkeys(LIVE_STATES)
        for each in self:
            at = entered_at(each.item)
            if at is not None:
                so_far = oldest[each.item.state]
                oldest[each.item.state] = at if so_far is None else min(at, so_far)
        return oldest

    def heartbeats(self) -> tuple[float, ...]:
        """Return the latest heartbeats of the active items, the oldest first."""
        active = (each.item.latest_heartbeat_at for each in self if each.item.state is State.ACTIVE)
        return tuple(sorted(at for at in active if at is not None))


def entered_at(item: WorkItem) -> float | None:
    """Return when a live item entered its state, None where that is not legible."""
    match item.state:
        case State.QUEUED:
            return item.created_at
        case State.STARTING:
            return item.acknowledged_at
        case State.ACTIVE:
            return item.started_at
        case State.STOPPING:
            return item.stop_requested_at
        case _:
            return None
