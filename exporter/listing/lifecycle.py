"""What happens to a work item, told once: the memory that outlives every way of reading the list.

An item's life is remembered by id from the moment it is met until it is over *and* lies within a stretch of creation time
of which everything has been met. From then on the stretch alone answers: an item in it that nobody remembers was over, and
was told or was there before the first complete listing. Times decide only where a page shows that nothing can have been
missed, so clocks that are off by a second forget and repeat nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from exporter.api.wire import State
from exporter.listing.intervals import Spans

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from exporter.api.wire import WorkItem

LONG_AGO = -1e300
"""Stands for the instant of something that certainly happened, and of which nobody can read when."""
CLOCK_ERROR_S = 2.0
"""What the server's time may be known wrong by, and what instants lose that are sent in whole seconds."""
ALIKE_LIMIT = 64
"""Of items created at the same instant, so many are looked at to tell whether one of them has a new id."""


class Step(enum.Enum):
    CREATED = "created"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of an item's life that was not told before. `item` is as it was read when the step was seen."""

    step: Step
    item: WorkItem


@dataclass(frozen=True, slots=True)
class Sight:
    """How an item is seen: by which walk, or after which one, and when on the server's clock.

    `cutoff`: every item created before is met by that walk.
    """

    walk: int
    server_now: float
    cutoff: float


@dataclass(slots=True)
class _Life:
    """What was told of an item. Instants are those of the steps told, so that a second acknowledgement is another step.

    `deaf_until`: steps up to then were told under circumstances that are forgotten. `walk`, `seen_at`: the last walk that
    met it, and when that was on the server's clock.
    """

    born_at: float
    walk: int
    seen_at: float
    deaf_until: float = LONG_AGO
    acknowledged_at: float | None = None
    started_at: float | None = None
    waits: bool = False
    over: bool = False


def over(item: WorkItem) -> bool:
    """Tell whether nothing more will happen to the item. A state this version doesn't know may be final too."""
    return item.state is State.STOPPED or (item.state is State.UNKNOWN and item.stopped_at is not None)


def born_at(item: WorkItem) -> float:
    """Answer when the item began to exist, as far as that is legible."""
    if item.created_at is not None:
        return item.created_at
    instants = (item.acknowledged_at, item.started_at, item.stop_requested_at, item.stopped_at)
    return next((instant for instant in instants if instant is not None), LONG_AGO)


class Witness:
    """Sees items, in any order and as often as they show, and tells each transition once."""

    def __init__(self) -> None:
        self.baseline = True
        """What is met now was there before anybody counted."""
        self.met = Spans()
        self._life_by_id: dict[str, _Life] = {}
        self._ids_by_birth: dict[float, dict[str, None]] = {}
        self._transitions: list[Transition] = []
        self._strangers: dict[str, tuple[WorkItem, Sight]] = {}
        self._walks = 0
        self._tidied_after = 0

    def begin_walk(self) -> int:
        """Answer the number of a walk that begins; later ones have greater numbers."""
        self._walks += 1
        return self._walks

    def drain(self) -> tuple[Transition, ...]:
        drained = tuple(self._transitions)
        self._transitions.clear()
        return drained

    def see(self, item: WorkItem, sight: Sight) -> None:
        """Note the item as it is."""
        life = self._life_by_id.get(item.id) or self._new_life(item, sight)
        if life is None:
            return
        life.walk, life.seen_at = max(life.walk, sight.walk), sight.server_now
        self._tell(item, life)
        life.waits = not life.over and _acknowledged_at(item) is None

    def renamed(self, old_id: str, new_id: str) -> None:
        """Go on with the life of an item that is listed under another id from now on."""
        life = self._life_by_id.get(old_id)
        if life is None or new_id in self._life_by_id:
            return
        self._forget(old_id)
        self._keep(new_id, life)

    def forget_finished(self, item: WorkItem) -> None:
        life = self._life_by_id.get(item.id)
        if life is not None and life.over and self.met.cover(life.born_at, item.id):
            self._forget(item.id)

    def tidy(self, walk: int, *, known: Container[str]) -> None:
        """Forget what is over and settled, and what is not listed any more. `walk` has ended; `known` is what it knows of."""
        missing = [item_id for item_id, life in self._life_by_id.items() if life.walk < walk and item_id not in known]
        for item_id in missing:
            self._find_successor(item_id)
        for item_id, life in tuple(self._life_by_id.items()):
            # One walk may overlook what slipped past it while things were deleted; what two have missed is gone.
            gone = life.walk < self._tidied_after and item_id not in known
            if gone or (life.over and self.met.cover(life.born_at, item_id)):
                self._forget(item_id)
        self._tidied_after = walk
        self._strangers = {
            item_id: stranger
            for item_id, stranger in self._strangers.items()
            if born_at(stranger[0]) in self._ids_by_birth
        }

    def _new_life(self, item: WorkItem, sight: Sight) -> _Life | None:
        born = born_at(item)
        met_before = self.met.cover(born, item.id)
        if over(item) and (met_before or (self.baseline and born < sight.cutoff)):
            self._note_stranger(item, born, sight)
            return None
        predecessor = None if self.baseline else self._predecessor(born, sight.walk, met_before=met_before)
        if predecessor is not None:
            self.renamed(predecessor, item.id)
            return self._life_by_id[item.id]
        life = _Life(born, sight.walk, sight.server_now)
        if met_before:
            life.deaf_until = sight.server_now
        if met_before or self.baseline:
            self._take_as_told(item, life)
        else:
            self._transitions.append(Transition(Step.CREATED, item))
        self._keep(item.id, life)
        return life

    def _predecessor(self, born: float, walk: int, *, met_before: bool) -> str | None:
        """Find the id under which an item was known that was handed out again, and is listed under a new one since.

        Should the walk meet the old id after all, the two have swapped lives that are alike, and the sum is right.
        """
        coarse = born.is_integer()  # many may be born in one second: then both must be on the same side of what was met
        for item_id, life in self._alike(born):
            unmet = life.walk < walk and (not coarse or self.met.cover(born, item_id) == met_before)
            if unmet and (life.waits or (met_before and not life.over)):
                return item_id
        return None

    def _note_stranger(self, item: WorkItem, born: float, sight: Sight) -> None:
        """Keep an item that nobody remembers, if it may be one that got a new id and ended before it was seen again."""
        if any(_may_become(life, item) for _, life in self._alike(born)):
            self._strangers[item.id] = (item, sight)

    def _find_successor(self, item_id: str) -> None:
        life = self._life_by_id[item_id]
        for item, sight in self._strangers.values():
            if born_at(item) == life.born_at and _may_become(life, item):
                del self._strangers[item.id]
                self.renamed(item_id, item.id)
                self.see(item, sight)
                return

    def _take_as_told(self, item: WorkItem, life: _Life) -> None:
        life.acknowledged_at = _acknowledged_at(item)
        life.started_at = _started_at(item)
        life.over = over(item)

    def _tell(self, item: WorkItem, life: _Life) -> None:
        acknowledged_at, started_at, is_over = _acknowledged_at(item), _started_at(item), over(item)
        if _is_news(acknowledged_at, life.acknowledged_at):
            life.acknowledged_at = acknowledged_at
            self._append(Step.ACKNOWLEDGED, item, acknowledged_at, life)
        if _is_news(started_at, life.started_at):
            life.started_at = started_at
            self._append(Step.STARTED, item, started_at, life)
        if is_over and not life.over:
            life.over = True
            self._append(Step.STOPPED, item, item.stopped_at, life)

    def _append(self, step: Step, item: WorkItem, at: float | None, life: _Life) -> None:
        undated = at is None or at == LONG_AGO
        if not self.baseline and (undated or (at is not None and at > life.deaf_until)):
            self._transitions.append(Transition(step, item))

    def _keep(self, item_id: str, life: _Life) -> None:
        self._life_by_id[item_id] = life
        self._ids_by_birth.setdefault(life.born_at, {})[item_id] = None

    def _forget(self, item_id: str) -> None:
        birth = self._life_by_id.pop(item_id).born_at
        alike = self._ids_by_birth[birth]
        del alike[item_id]
        if not alike:
            del self._ids_by_birth[birth]

    def _alike(self, birth: float) -> Iterator[tuple[str, _Life]]:
        for item_id in islice(self._ids_by_birth.get(birth, ()), ALIKE_LIMIT):
            yield item_id, self._life_by_id[item_id]


def _acknowledged_at(item: WorkItem) -> float | None:
    if item.acknowledged_at is not None:
        return item.acknowledged_at
    return LONG_AGO if item.state is State.STARTING or _started_at(item) is not None else None


def _started_at(item: WorkItem) -> float | None:
    if item.started_at is not None:
        return item.started_at
    return LONG_AGO if item.state is State.ACTIVE else None


def _is_news(at: float | None, told_at: float | None) -> bool:
    if at is None or at == told_at:
        return False
    return told_at is None or LONG_AGO not in {at, told_at}


def _may_become(life: _Life, item: WorkItem) -> bool:
    return not life.over and item.stopped_at is not None and item.stopped_at > life.seen_at - CLOCK_ERROR_S
