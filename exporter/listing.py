"""The ledger: what the list is known to hold, and which of its pages to ask for next. No I/O.

A read walks the list from its start to its end and counts every item once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.wire import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.transition import Transition
    from exporter.wire import WorkItem, WorkPage

SMALL_PAGE_SIZE = 100
LIVE_STATES = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING)


class Worth(enum.IntEnum):
    """What a call is worth; the least number is spent on first."""

    OPEN_END = 1
    SEGMENT = 2
    BACKFILL = 3
    RESYNC = 4


class Order(enum.Enum):
    UNKNOWN = "unknown"
    NEWEST_FIRST = "newest_first"
    OLDEST_FIRST = "oldest_first"
    NEITHER = "neither"


class CursorKind(enum.Enum):
    UNKNOWN = "unknown"
    KEY = "key"
    POSITION = "position"


@dataclass(frozen=True, slots=True)
class Call:
    """A list call the ledger wants. `cursor` None: from the start. `stale_since`: the oldest reading it would renew."""

    worth: Worth
    cursor: str | None
    limit: int
    stale_since: float
    serial: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed, frozen. Instants are the server's, except `oldest_read_at`: the exporter's."""

    complete: bool
    count_by_state: Mapping[State, int]
    oldest_at_by_state: Mapping[State, float | None]
    heartbeats: tuple[float, ...]
    oldest_read_at: float | None
    order: Order = Order.UNKNOWN
    cursor_kind: CursorKind = CursorKind.UNKNOWN
    contradictions: int = 0
    live: int = 0
    sealed: int = 0
    segments: int = 0


@dataclass(slots=True)
class _Walk:
    began_at: float
    items: dict[str, WorkItem] = field(default_factory=dict)
    cursor: str | None = None
    done: bool = False


class Ledger:
    """Ask `wanted` until it answers nothing and nothing is in flight; tell it what became of every call."""

    def __init__(self, *, page_size: int, resync_interval_s: float, settle_s: float = 10.0) -> None:
        self._limit = page_size
        self._walk: _Walk | None = None
        self._whole: _Walk | None = None
        self._blocked = True
        self._serial = 0
        self._in_flight: Call | None = None
        self._contradictions = 0
        self._seen: set[str] = set()

    def begin(self, *, now: float) -> None:
        self._blocked, self._in_flight = False, None
        self._walk = _Walk(now)
        self._seen = set()

    def wanted(self) -> tuple[Call, ...]:
        if self._walk is None or self._blocked or self._walk.done or self._in_flight is not None:
            return ()
        worth = Worth.OPEN_END if self._walk.cursor is None else Worth.BACKFILL
        self._serial += 1
        self._in_flight = Call(worth, self._walk.cursor, self._limit, self._walk.began_at, self._serial)
        return (self._in_flight,)

    def told(self, call: Call, page: WorkPage, *, now: float, server_now: float) -> None:
        if call is not self._in_flight or self._walk is None:
            return
        self._in_flight = None
        self._walk.items.update((item.id, item) for item in page.items)
        self._walk.cursor = page.next_cursor
        if page.next_cursor is None:
            self._walk.done, self._whole = True, self._walk
        elif page.next_cursor in self._seen:
            self._contradictions += 1
            self._blocked, self._whole = True, None
        else:
            self._seen.add(page.next_cursor)

    def refused(self, call: Call) -> None:
        self.missed(call)
        self._whole = None

    def shrink(self, call: Call) -> bool:
        self._in_flight = None
        if self._limit <= SMALL_PAGE_SIZE:
            return False
        self._limit = SMALL_PAGE_SIZE
        return True

    def missed(self, call: Call) -> None:
        if call is self._in_flight:
            self._in_flight, self._blocked = None, True

    def listing(self) -> Listing:
        items = () if self._whole is None else tuple(self._whole.items.values())
        return Listing(
            complete=self._whole is not None,
            count_by_state={state: sum(item.state is state for item in items) for state in State},
            oldest_at_by_state={
                state: min((at for item in items if (at := _entered_at(item, state)) is not None), default=None)
                for state in LIVE_STATES
            },
            heartbeats=tuple(
                sorted(
                    item.latest_heartbeat_at
                    for item in items
                    if item.state is State.ACTIVE and item.latest_heartbeat_at is not None
                )
            ),
            oldest_read_at=None if self._whole is None else self._whole.began_at,
            contradictions=self._contradictions,
        )

    def drain(self) -> tuple[Transition, ...]:
        return ()


def _entered_at(item: WorkItem, state: State) -> float | None:
    if item.state is not state:
        return None
    return {
        State.QUEUED: item.created_at,
        State.STARTING: item.acknowledged_at,
        State.ACTIVE: item.started_at,
        State.STOPPING: item.stop_requested_at,
    }[state]
