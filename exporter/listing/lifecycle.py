"""The transitions of work items, each emitted once: the memory that outlives every index of the list.

An item is remembered by id from the moment it is met until it is finished *and* was created in an interval of which
everything has been met (`met`). From then on the interval speaks for it: an item in it that is not known was finished, and
its transitions were emitted, or it was there before the first complete listing.

    a is queued                                    created is emitted, a is known
    a is finished, met: everything before 80       acknowledged, started, stopped are emitted; a, created at 70, is forgotten
    a is shown again, finished                     nothing is emitted: 70 lies in `met`

Of the newest items the ids outlive that (`remembered`): should the clock that stamps the items step back, then new items
have old creation times, and only their ids tell that they are new.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from exporter.api.wire import State
from exporter.listing.alike import IdsByInstant
from exporter.listing.intervals import IntervalSet
from exporter.listing.items_clock import ItemsClock
from exporter.listing.remembered import RememberedItems

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from exporter.api.wire import WorkItem

LONG_AGO = -1e300
"""Stands for the instant of something that certainly happened, where the instant itself is not legible."""
CLOCK_ERROR_S = 2.0
"""What instants lose that are sent in whole seconds, and what passes while pages are under way."""
NEW_FOR_S = 60.0
"""Older items tell nothing of the time that newer ones do not tell better."""
ALIKE_LIMIT = 64
"""How many items created at one instant are compared to find one that has got a new id."""
RENAMES_LIMIT = 1000
"""How many new ids are remembered: some servers give one whenever an item is handed out again."""


class Step(enum.Enum):
    CREATED = "created"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of an item's life that was not emitted before. `item` is as it was read when the step was seen."""

    step: Step
    item: WorkItem


@dataclass(frozen=True, slots=True)
class Observation:
    """How an item is shown: in which read, by which walk or after which one, and when on our monotonic clock.

    `watermark`: every item created before it is met by that walk.
    """

    read: int
    walk: int
    now: float
    watermark: float


@dataclass(slots=True)
class _SeenItem:
    """What was emitted of an item. Instants are those of the steps emitted: a second acknowledgement is another step.

    `silent_until`: steps up to then may have been emitted before the item was forgotten, and are not emitted again. `walk`:
    the last walk that met it, `read`: the last read that did. `seen_at`: the newest instant that any item had shown by then.
    """

    first_instant: float
    walk: int
    read: int
    seen_at: float
    silent_until: float = LONG_AGO
    acknowledged_at: float | None = None
    started_at: float | None = None
    is_finished: bool = False


class _Rename(NamedTuple):
    """A new id that an item seems to have got, and what had been emitted of it by then."""

    new_id: str
    seen: _SeenItem


def is_finished(item: WorkItem) -> bool:
    """Tell whether nothing more can happen to the item. A state this version doesn't know may be final too."""
    return item.state is State.STOPPED or (item.state is State.UNKNOWN and item.stopped_at is not None)


def first_instant(item: WorkItem) -> float:
    """Return when the item was created; where that is not legible, its earliest legible instant."""
    if item.created_at is not None:
        return item.created_at
    instants = (item.acknowledged_at, item.started_at, item.stop_requested_at, item.stopped_at)
    return next((instant for instant in instants if instant is not None), LONG_AGO)


def newest_instant(item: WorkItem) -> float:
    """Return the newest instant of the item's steps; heartbeats are none."""
    return max(
        item.created_at or LONG_AGO,
        item.acknowledged_at or LONG_AGO,
        item.started_at or LONG_AGO,
        item.stop_requested_at or LONG_AGO,
        item.stopped_at or LONG_AGO,
    )


class TransitionDetector:
    """Observes items, in any order and as often as they are shown, and emits each transition once.

    `baseline`: what is met now was there before anything was counted. `clock`: that of the items.
    """

    def __init__(self) -> None:
        self.baseline = True
        self.met = IntervalSet()
        self.clock = ItemsClock()
        self._remembered = RememberedItems()
        self._newest_at = LONG_AGO
        self._seen_by_id: dict[str, _SeenItem] = {}
        self._ids_by_first_instant = IdsByInstant()
        self._transitions: list[Transition] = []
        self._unclaimed: dict[str, tuple[WorkItem, Observation]] = {}
        self._rename_by_old_id: dict[str, _Rename] = {}
        self._walks = 0
        self._tidied_after = 0

    def begin_walk(self) -> int:
        """Return the number of a walk that begins; later ones have greater numbers."""
        self._walks += 1
        return self._walks

    def take_transitions(self) -> tuple[Transition, ...]:
        for item, observation in tuple(self._unclaimed.values()):
            self.observe(item, observation)  # again: it waits on only if it may still be another one under a new id
        taken = tuple(self._transitions)
        self._transitions.clear()
        return taken

    def learn_clock(self, items: Iterable[WorkItem], now: float) -> None:
        """Learn the time from the items of a page that arrived at `now`. To be called before they are observed."""
        new_from = self.clock.at(now) - NEW_FOR_S
        for item in items:
            at = newest_instant(item)
            self._newest_at = max(self._newest_at, at)
            # What was met before proves nothing: it may have been stamped before the clock stepped back.
            if at > new_from and not self.has_met(item):
                self.clock.learn(at, now)

    def has_met(self, item: WorkItem) -> bool:
        """Tell whether the item was met before, under this id. Of those below the floor of what is remembered, `met` tells."""
        if item.id in self._seen_by_id or item.id in self._unclaimed:
            return True
        created_at = first_instant(item)
        if created_at > self._remembered.floor:
            return self._remembered.has(item.id, created_at)
        return self.met.cover(created_at, item.id)

    def observe(self, item: WorkItem, observation: Observation) -> None:
        """Note the item as it is shown."""
        seen = self._seen_by_id.get(item.id) or self._meet(item, observation)
        if seen is not None:
            seen.walk, seen.read, seen.seen_at = max(seen.walk, observation.walk), observation.read, self._newest_at
            self._emit_steps(item, seen)

    def renamed(self, old_id: str, new_id: str) -> None:
        """Take both ids for one item, which is listed under the new one from now on."""
        seen = self._seen_by_id.get(old_id)
        if seen is None or new_id in self._seen_by_id:
            return
        self._unclaimed.pop(new_id, None)
        self._drop(old_id)
        self._rename_by_old_id[old_id] = _Rename(new_id, replace(seen))
        if len(self._rename_by_old_id) > RENAMES_LIMIT:
            del self._rename_by_old_id[next(iter(self._rename_by_old_id))]
        self._keep(new_id, seen)

    def has_become(self, old_id: str, item: WorkItem) -> bool | None:
        """Tell whether an item is the one that was known under the old id and was not shown yet; None: that can't be known.

        a, created at 80, was alive when 95 was the newest instant; b was created at 80

            a was seen to become b   b is a; one index may meet b long after another did
            b was met before         b is another one
            b waits to be claimed    it may be either
            b is new, or alive       b is a
            b stopped at 97          b is a: it was alive after 95, and nothing alive is unknown
            b stopped at 90          b is another one, which was counted before
            b stopped at 94.5        it may be either
        """
        renamed = self._rename_by_old_id.get(old_id)
        if renamed is not None and renamed.new_id == item.id:
            return True
        seen, created_at = self._seen_by_id.get(old_id), first_instant(item)
        was_met = item.id in self._seen_by_id or item.id in self._rename_by_old_id
        if was_met or self._remembered.has(item.id, created_at):
            return False
        if item.id in self._unclaimed:
            return None
        if created_at > self._remembered.floor or not is_finished(item):
            return True
        if seen is None or item.stopped_at is None or abs(item.stopped_at - seen.seen_at) <= CLOCK_ERROR_S:
            return None
        return item.stopped_at > seen.seen_at

    def gone(self, item_id: str) -> None:
        """Note that an item is not listed any more. One that waits, and may be this one under a new id, is this one."""
        for item, observation in tuple(self._unclaimed.values()):
            if item_id in self._waits_for(item, observation):
                self._claim(item_id, item, observation)
                return

    def forget_finished(self, item: WorkItem) -> None:
        """Forget the item if `met` speaks for it from now on."""
        seen = self._seen_by_id.get(item.id)
        if seen is not None and seen.is_finished and self.met.cover(seen.first_instant, item.id):
            self._forget(item.id)

    def tidy(self, walk: int, *, tracked: Container[str]) -> None:
        """Forget the items that `met` speaks for, and those that are not listed any more.

        `walk` has ended; `tracked`: the ids that its index knows, whether or not this walk met them.
        """
        for item, observation in tuple(self._unclaimed.values()):
            alike = self._waits_for(item, observation)
            missing = [old_id for old_id in alike if self._seen_by_id[old_id].walk < walk and old_id not in tracked]
            if missing:
                self._claim(missing[0], item, observation)
        for item_id, seen in tuple(self._seen_by_id.items()):
            # A walk may miss an item that moved past it while others were deleted; what two walks have missed is gone.
            gone = seen.walk < self._tidied_after and item_id not in tracked
            if gone or (seen.is_finished and self.met.cover(seen.first_instant, item_id)):
                self._forget(item_id)
        self._tidied_after = walk

    def _claim(self, old_id: str, item: WorkItem, observation: Observation) -> None:
        self.renamed(old_id, item.id)
        self.observe(item, observation)

    def _meet(self, item: WorkItem, observation: Observation) -> _SeenItem | None:
        created_at = first_instant(item)
        if is_finished(item) and self._remembered.has(item.id, created_at):
            return None  # by far the most frequent case
        renamed = self._rename_by_old_id.pop(item.id, None)
        if renamed is not None:
            return self._take_back(item, renamed)
        self._unclaimed.pop(item.id, None)
        known = self.has_met(item)
        if self.baseline and is_finished(item) and created_at < observation.watermark:
            self._remembered.add(item.id, created_at)
            return None
        if self._waits_for(item, observation):
            self._unclaimed[item.id] = (item, observation)
            return None
        return None if known and is_finished(item) else self._begin(item, observation, known=known)

    def _take_back(self, item: WorkItem, renamed: _Rename) -> _SeenItem:
        """Note that an item is listed under its own id after all: what was taken for it is another one, that is new.

        a, created at 80, acknowledged at 90       acknowledged is emitted
        b, created at 80, queued                   b seems to be a, handed out again
        a is shown                                 created is emitted, once more, for there are two; and of a nothing else again
        """
        self._keep(item.id, renamed.seen)
        other = self._seen_by_id.get(renamed.new_id)
        if other is not None:
            # What they have in common is a's. Should it be the other's, too, then it was not emitted for that one.
            other.acknowledged_at = _unless(renamed.seen.acknowledged_at, other.acknowledged_at)
            other.started_at = _unless(renamed.seen.started_at, other.started_at)
        if not self.baseline:
            self._transitions.append(Transition(Step.CREATED, item))
        return renamed.seen

    def _begin(self, item: WorkItem, observation: Observation, *, known: bool) -> _SeenItem:
        seen = _SeenItem(first_instant(item), observation.walk, observation.read, self._newest_at)
        self._keep(item.id, seen)
        if known:
            seen.silent_until = self._newest_at
            seen.acknowledged_at, seen.started_at = _acknowledged_at(item), _started_at(item)
        if known or self.baseline:
            return seen
        self._transitions.append(Transition(Step.CREATED, item))
        if item.created_at is not None and self.met.cover(item.created_at, item.id):
            self.clock.step_back(item.created_at, observation.now)
        return seen

    def _waits_for(self, item: WorkItem, observation: Observation) -> list[str]:
        """Return the ids of the items, created at the same instant, of which this one may be one under a new id.

        known    a, created at 80            this read has not shown a yet
        shown    b, created at 80            b waits until the walk has ended:
                                             if a was shown, b is a new item; if it was not, b is a, handed out again
        """
        if self.baseline or self._remembered.has(item.id, first_instant(item)):
            return []
        # Of an item below the floor nothing is known: it may have been finished, and counted, before the other was seen alive.
        unmet = first_instant(item) > self._remembered.floor or not is_finished(item)
        return [
            item_id
            for item_id, seen in self._alike(first_instant(item))
            if seen.read < observation.read and not seen.is_finished and (unmet or _may_become(seen, item))
        ]

    def _emit_steps(self, item: WorkItem, seen: _SeenItem) -> None:
        acknowledged_at, started_at, finished = _acknowledged_at(item), _started_at(item), is_finished(item)
        if _is_news(acknowledged_at, seen.acknowledged_at):
            seen.acknowledged_at = acknowledged_at
            self._emit(Step.ACKNOWLEDGED, item, acknowledged_at, seen)
        if _is_news(started_at, seen.started_at):
            seen.started_at = started_at
            self._emit(Step.STARTED, item, started_at, seen)
        if finished and not seen.is_finished:
            seen.is_finished = True
            self._emit(Step.STOPPED, item, item.stopped_at, seen)

    def _emit(self, step: Step, item: WorkItem, at: float | None, seen: _SeenItem) -> None:
        if not self.baseline and (at is None or at == LONG_AGO or at > seen.silent_until):
            self._transitions.append(Transition(step, item))

    def _keep(self, item_id: str, seen: _SeenItem) -> None:
        self._seen_by_id[item_id] = seen
        self._ids_by_first_instant.add(seen.first_instant, item_id)

    def _forget(self, item_id: str) -> None:
        self._remembered.add(item_id, self._seen_by_id[item_id].first_instant)
        self._drop(item_id)

    def _drop(self, item_id: str) -> None:
        self._ids_by_first_instant.discard(self._seen_by_id.pop(item_id).first_instant, item_id)

    def _alike(self, created_at: float) -> Iterator[tuple[str, _SeenItem]]:
        for item_id in islice(self._ids_by_first_instant.at(created_at), ALIKE_LIMIT):
            yield item_id, self._seen_by_id[item_id]


def _acknowledged_at(item: WorkItem) -> float | None:
    if item.acknowledged_at is not None:
        return item.acknowledged_at
    return LONG_AGO if item.state is State.STARTING or _started_at(item) is not None else None


def _started_at(item: WorkItem) -> float | None:
    if item.started_at is not None:
        return item.started_at
    return LONG_AGO if item.state is State.ACTIVE else None


def _unless(one: float | None, other: float | None) -> float | None:
    return None if other == one else other


def _is_news(at: float | None, emitted_at: float | None) -> bool:
    if at is None or at == emitted_at:
        return False
    return emitted_at is None or LONG_AGO not in {at, emitted_at}


def _may_become(seen: _SeenItem, item: WorkItem) -> bool:
    return item.stopped_at is not None and item.stopped_at > seen.seen_at - CLOCK_ERROR_S
