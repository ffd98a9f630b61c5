"""The transitions of work items, each emitted once: the memory that outlives every index of the list.

An item is remembered by id from the moment it is met until it is finished *and* was created in an interval of which
everything has been met (`met`). From then on the interval speaks for it: an item in it that is not remembered was finished,
and its transitions were emitted, or it was there before the first complete listing.

    a is queued                                    created is emitted, a is remembered
    a is finished, met: everything before 80       acknowledged, started, stopped are emitted; a, created at 70, is forgotten
    a is shown again, finished                     nothing is emitted: 70 lies in `met`

Times decide only where a page shows that nothing can have been missed, so clocks that are off by a second make it neither
forget nor repeat anything.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.intervals import IntervalSet

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from exporter.api.wire import WorkItem

LONG_AGO = -1e300
"""Stands for the instant of something that certainly happened, where the instant itself is not legible."""
CLOCK_ERROR_S = 2.0
"""By how much the server's time may be known wrongly, and what instants lose that are sent in whole seconds."""
ALIKE_LIMIT = 64
"""How many items created at one instant are compared to find one that has got a new id."""


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
    """How an item is seen: in which read, by which walk or after which one, and when on our clock and on the server's.

    `watermark`: every item created before it is met by that walk.
    """

    read: int
    walk: int
    now: float
    server_now: float
    watermark: float


@dataclass(slots=True)
class _SeenItem:
    """What was emitted of an item. Instants are those of the steps emitted: a second acknowledgement is another step.

    `silent_until`: steps up to then may have been emitted before the item was forgotten, and are not emitted again. `walk`,
    `seen_at`: the last walk that met it, and when that was on the server's clock.
    """

    first_instant: float
    walk: int
    seen_at: float
    silent_until: float = LONG_AGO
    acknowledged_at: float | None = None
    started_at: float | None = None
    waits: bool = False
    is_finished: bool = False


def is_finished(item: WorkItem) -> bool:
    """Tell whether nothing more can happen to the item. A state this version doesn't know may be final too."""
    return item.state is State.STOPPED or (item.state is State.UNKNOWN and item.stopped_at is not None)


def first_instant(item: WorkItem) -> float:
    """Return when the item was created; where that is not legible, its earliest legible instant."""
    if item.created_at is not None:
        return item.created_at
    instants = (item.acknowledged_at, item.started_at, item.stop_requested_at, item.stopped_at)
    return next((instant for instant in instants if instant is not None), LONG_AGO)


class TransitionDetector:
    """Observes items, in any order and as often as they are shown, and emits each transition once.

    `baseline`: what is met now was there before anything was counted.
    """

    def __init__(self) -> None:
        self.baseline = True
        self.met = IntervalSet()
        self._seen_by_id: dict[str, _SeenItem] = {}
        self._ids_by_first_instant: dict[float, dict[str, None]] = {}
        self._transitions: list[Transition] = []
        self._unclaimed: dict[str, tuple[WorkItem, Observation]] = {}
        self._walks = 0
        self._tidied_after = 0

    def begin_walk(self) -> int:
        """Return the number of a walk that begins; later ones have greater numbers."""
        self._walks += 1
        return self._walks

    def take_transitions(self) -> tuple[Transition, ...]:
        taken = tuple(self._transitions)
        self._transitions.clear()
        return taken

    def observe(self, item: WorkItem, observation: Observation) -> None:
        """Note the item as it is shown."""
        seen = self._seen_by_id.get(item.id) or self._new_seen_item(item, observation)
        if seen is None:
            return
        seen.walk, seen.seen_at = max(seen.walk, observation.walk), observation.server_now
        self._emit_steps(item, seen)
        seen.waits = not seen.is_finished and _acknowledged_at(item) is None

    def renamed(self, old_id: str, new_id: str) -> None:
        """Take both ids for one item, which is listed under the new one from now on."""
        seen = self._seen_by_id.get(old_id)
        if seen is None or new_id in self._seen_by_id:
            return
        self._forget(old_id)
        self._keep(new_id, seen)

    def forget_finished(self, item: WorkItem) -> None:
        """Forget the item if `met` speaks for it from now on."""
        seen = self._seen_by_id.get(item.id)
        if seen is not None and seen.is_finished and self.met.cover(seen.first_instant, item.id):
            self._forget(item.id)

    def tidy(self, walk: int, *, tracked: Container[str]) -> None:
        """Forget the items that `met` speaks for, and those that are not listed any more.

        `walk` has ended; `tracked`: the ids that its index knows, whether or not this walk met them.
        """
        missing = [item_id for item_id, seen in self._seen_by_id.items() if seen.walk < walk and item_id not in tracked]
        for item_id in missing:
            self._find_successor(item_id)
        for item_id, seen in tuple(self._seen_by_id.items()):
            # A walk may miss an item that moved past it while others were deleted; what two walks have missed is gone.
            gone = seen.walk < self._tidied_after and item_id not in tracked
            if gone or (seen.is_finished and self.met.cover(seen.first_instant, item_id)):
                self._forget(item_id)
        self._tidied_after = walk
        self._unclaimed = {
            item_id: unclaimed
            for item_id, unclaimed in self._unclaimed.items()
            if first_instant(unclaimed[0]) in self._ids_by_first_instant
        }

    def _new_seen_item(self, item: WorkItem, observation: Observation) -> _SeenItem | None:
        created_at = first_instant(item)
        met_before = self.met.cover(created_at, item.id)
        if is_finished(item) and (met_before or (self.baseline and created_at < observation.watermark)):
            self._note_unclaimed(item, created_at, observation)
            return None
        predecessor = None if self.baseline else self._predecessor(created_at, observation.walk, met_before=met_before)
        if predecessor is not None:
            self.renamed(predecessor, item.id)
            return self._seen_by_id[item.id]
        seen = _SeenItem(created_at, observation.walk, observation.server_now)
        if met_before:
            seen.silent_until = observation.server_now
        if met_before or self.baseline:
            self._take_as_emitted(item, seen)
        else:
            self._transitions.append(Transition(Step.CREATED, item))
        self._keep(item.id, seen)
        return seen

    def _predecessor(self, created_at: float, walk: int, *, met_before: bool) -> str | None:
        """Find the id under which an item was known that was handed out again, and is listed under a new one since.

        known    a, created at 80, waiting             this walk has not met a
        shown    b, created at 80                      b is a, handed out again

        Should the walk meet a after all, a is taken for the new item: both waited, so the counts are the same.
        """
        # Many may be created in one second: then both must be covered by `met`, or neither.
        coarse = created_at.is_integer()
        for item_id, seen in self._alike(created_at):
            unmet = seen.walk < walk and (not coarse or self.met.cover(created_at, item_id) == met_before)
            if unmet and (seen.waits or (met_before and not seen.is_finished)):
                return item_id
        return None

    def _note_unclaimed(self, item: WorkItem, created_at: float, observation: Observation) -> None:
        """Keep an item that is not remembered, if it may be one that got a new id and finished before it was shown again."""
        if any(_may_become(seen, item) for _, seen in self._alike(created_at)):
            self._unclaimed[item.id] = (item, observation)

    def _find_successor(self, item_id: str) -> None:
        """Find the unclaimed item that this one, which is not listed any more, has become."""
        seen = self._seen_by_id[item_id]
        for item, observation in self._unclaimed.values():
            if first_instant(item) == seen.first_instant and _may_become(seen, item):
                del self._unclaimed[item.id]
                self.renamed(item_id, item.id)
                self.observe(item, observation)
                return

    def _take_as_emitted(self, item: WorkItem, seen: _SeenItem) -> None:
        seen.acknowledged_at = _acknowledged_at(item)
        seen.started_at = _started_at(item)
        seen.is_finished = is_finished(item)

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
        undated = at is None or at == LONG_AGO
        if not self.baseline and (undated or (at is not None and at > seen.silent_until)):
            self._transitions.append(Transition(step, item))

    def _keep(self, item_id: str, seen: _SeenItem) -> None:
        self._seen_by_id[item_id] = seen
        self._ids_by_first_instant.setdefault(seen.first_instant, {})[item_id] = None

    def _forget(self, item_id: str) -> None:
        created_at = self._seen_by_id.pop(item_id).first_instant
        alike = self._ids_by_first_instant[created_at]
        del alike[item_id]
        if not alike:
            del self._ids_by_first_instant[created_at]

    def _alike(self, created_at: float) -> Iterator[tuple[str, _SeenItem]]:
        for item_id in islice(self._ids_by_first_instant.get(created_at, ()), ALIKE_LIMIT):
            yield item_id, self._seen_by_id[item_id]


def _acknowledged_at(item: WorkItem) -> float | None:
    if item.acknowledged_at is not None:
        return item.acknowledged_at
    return LONG_AGO if item.state is State.STARTING or _started_at(item) is not None else None


def _started_at(item: WorkItem) -> float | None:
    if item.started_at is not None:
        return item.started_at
    return LONG_AGO if item.state is State.ACTIVE else None


def _is_news(at: float | None, emitted_at: float | None) -> bool:
    if at is None or at == emitted_at:
        return False
    return emitted_at is None or LONG_AGO not in {at, emitted_at}


def _may_become(seen: _SeenItem, item: WorkItem) -> bool:
    return not seen.is_finished and item.stopped_at is not None and item.stopped_at > seen.seen_at - CLOCK_ERROR_S
