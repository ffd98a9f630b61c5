"""One simulated environment: its queue, and every rule of an item's life.

Nothing here does I/O or reads a clock: the time is a function that is handed in, and every method answers at once. The
life of an item:

    create ─► queued ──poll──► queued and claimed ──ack──► starting ──first heartbeat──► active
                 ▲                     │ taken back by a later poll                        │ stop
                 └─────────────────────┘                                                   ▼
    stop(force), or a second stop, from any live state ─► stopped ◄──────────────────── stopping

An illegal step raises a `Refusal` and nothing happens. What the API's documents leave open is a field of `Rules`, so
that a reader of the API can be shown to be right either way. Choices that are not switchable:

- a poll first takes back the item whose claim is the oldest of those older than `reclaim_older_than_ms`, then hands
  out the longest waiting item; a claim never lapses by itself;
- a graceful stop moves any live item to `stopping` and out of the queue; a forced stop sets `stop_requested_at` too;
- acknowledging a second time is harmless while the item is starting; acknowledging an unclaimed, running or stopped
  item is a conflict; a heartbeat for an item nobody has acknowledged fails its expectation.
"""

from __future__ import annotations

import base64
import heapq
import json
import zlib
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from exporter.simulator.item import (
    STATES,
    History,
    Item,
    Kind,
    Outcome,
    State,
    TimestampStyle,
    parse_work_id,
    timestamp,
    work_id,
)
from exporter.simulator.places import Order, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EnvironmentKind = Literal["self_hosted", "cloud"]
TransitionKind = Literal["created", "wait", "startup", "run", "stop", "finished", "requeued"]

POLLING_WINDOW_S = 30.0
RECLAIM_DEFAULT_MS = 5000
NO_HEARTBEAT = "NO_HEARTBEAT"
LEASE_MIN_S, LEASE_MAX_S = 1, 3600


class Refusal(Exception):  # noqa: N818 - the API refuses; nothing is in error here
    """A request that the API turns down; nothing has changed."""


class NotFound(Refusal):
    pass


class Invalid(Refusal):
    pass


class Conflict(Refusal):
    pass


class CursorRefused(Refusal):
    def __init__(self, status: int) -> None:
        super().__init__("page: invalid or expired cursor")
        self.status = status


class HeartbeatMismatch(Refusal):
    def __init__(self, lease: Lease) -> None:
        super().__init__("expected_last_heartbeat does not match the stored heartbeat")
        self.lease = lease


@dataclass(slots=True)
class Rules:
    """How one environment behaves where servers differ. Every field may be changed while it is being served."""

    order: Order = "newest_first"
    cursors: Literal["key", "position"] = "key"
    page_default: int = 20
    page_max: int = 1000
    over_limit: Literal["refuse", "clamp"] = "refuse"
    trailing_cursor: bool = False
    """A full last page has a cursor too; the page behind it is empty."""
    has_more: bool = False
    """Pages carry `first_id`, `last_id` and `has_more` as well."""
    cursor_ttl_s: float | None = None
    """A negative time refuses every cursor."""
    cursor_refusal_status: int = 400
    late_visibility_s: float = 0.0
    """An item enters the list up to this long after its creation, each after a time of its own, at its old place."""
    keep_stopped: int | None = None
    """Stopped items beyond this number are deleted, oldest first."""
    lease_s: int = 300
    on_lease_expiry: Literal["keep", "requeue", "stop"] = "keep"
    """`keep`: the item stays active with an old heartbeat."""
    new_id_on_reclaim: bool = False
    pending_counts: Literal["claimed", "unstopped"] = "claimed"
    reports_workers: bool = True
    timestamps: TimestampStyle = "micros"
    secrets: bool = False
    """A poll hands out a `secret` that opens the item's own calls."""


@dataclass(frozen=True, slots=True)
class Stats:
    depth: int
    pending: int
    oldest_queued_at: float | None
    workers_polling: int | None


@dataclass(frozen=True, slots=True)
class Page:
    items: tuple[Item, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """What a heartbeat is answered with. `last_heartbeat` is empty when there was none."""

    last_heartbeat: str
    extended: bool
    state: State
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that happened to an item.

    `duration_s` is the time that the step took: `wait` from creation to acknowledgement, `startup` from there to the
    first heartbeat, `run` from there to the end, `stop` from the request to the end, `finished` from creation to the
    end; 0 for `created` and `requeued`. Only `finished` has an outcome.
    """

    kind: TransitionKind
    work_id: str
    at: float
    duration_s: float = 0.0
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What a flawless reader would know now.

    `listed` counts what a full walk of the list would show, `existing` also what it does not show yet. History that was
    added as a whole is counted in both and has no transitions.
    """

    listed: dict[State, int]
    existing: dict[State, int]
    stats: Stats
    transitions: tuple[Transition, ...]

    def durations(self, kind: TransitionKind) -> list[float]:
        return [transition.duration_s for transition in self.transitions if transition.kind == kind]

    def finished(self) -> dict[Outcome, int]:
        counts: dict[Outcome, int] = {"ran": 0, "never_started": 0, "never_acknowledged": 0}
        for transition in self.transitions:
            if transition.outcome is not None:
                counts[transition.outcome] += 1
        return counts


@dataclass(frozen=True, slots=True)
class Profile:
    """What an environment is, apart from its queue."""

    id: str
    name: str
    key: str
    kind: EnvironmentKind
    created_at: float
    description: str | None = None


class Environment:
    """One environment and its queue. `time` answers the server's clock, in seconds since 1970."""

    def __init__(self, profile: Profile, *, rules: Rules, time: Callable[[], float], record_limit: int | None) -> None:
        self.profile = profile
        self.rules = rules
        self.archived_at: float | None = None
        self.arrivals: set[Callable[[], None]] = set()
        """Called whenever an item starts to wait; for those who hold a poll open."""
        self._time = time
        self._salt = zlib.crc32(profile.id.encode())
        self._next_seq = 0
        self._newest_created_at = float("-inf")
        self._items: dict[int, Item] = {}
        self._histories: list[History] = []
        self._places = Places(self._salt)
        self._counts: dict[State, int] = dict.fromkeys(STATES, 0)
        self._waiting: dict[int, None] = {}
        self._claimed_at: dict[int, float] = {}
        self._leases: list[tuple[float, int]] = []
        self._last_poll_at_by_worker: dict[str, float] | None = None
        self._record: deque[Transition] = deque(maxlen=record_limit)

    @property
    def id(self) -> str:
        return self.profile.id

    def create(self, *, kind: Kind = "session", metadata: Mapping[str, str] | None = None) -> Item:
        seq, now = self._next_seq, self._time()
        item = Item(seq, work_id(seq, self._salt), self.id, kind, created_at=now, metadata=dict(metadata or {}))
        self._next_seq += 1
        self._newest_created_at = now
        self._items[seq] = item
        self._places.append(seq)
        self._hide(item)
        self._counts["queued"] += 1
        self._note(item, "created")
        self._enqueue(item)
        return item

    def add_finished(
        self, count: int, *, spacing_s: float = 1.0, wait_s: float = 2.0, startup_s: float = 1.5, run_s: float = 60.0
    ) -> None:
        """Add items that ran and stopped, the last of them just now; a million of them cost 8 MB and no time."""
        last_created_at = self._time() - (wait_s + startup_s + run_s)
        first_created_at = round(last_created_at - (count - 1) * spacing_s, 6)
        if first_created_at < self._newest_created_at:
            raise ValueError("finished history would lie before items that exist already")
        first = self._next_seq
        self._histories.append(
            History(self.id, self._salt, first, count, first_created_at, spacing_s, wait_s, startup_s, run_s)
        )
        self._newest_created_at = last_created_at
        self._next_seq += count
        self._places.extend(range(first, first + count))
        self._counts["stopped"] += count
        self._retain()

    def item(self, item_id: str) -> Item:
        """Return the item as it is now. It is the queue's own: look, do not touch."""
        self._settle()
        parsed = parse_work_id(item_id, self._salt)
        if parsed is None or parsed[0] not in self._places:
            raise NotFound(f"work item not found: {item_id}")
        item = self._at(parsed[0])
        if item.id != item_id:
            raise NotFound(f"work item not found: {item_id}")
        return item

    def items(self) -> Iterator[Item]:
        """Every item that exists, oldest first, whether the list shows it or not."""
        self._settle()
        return (self._at(seq) for seq in self._places.rows)

    def poll(self, *, worker_id: str | None = None, reclaim_older_than_ms: int = RECLAIM_DEFAULT_MS) -> Item | None:
        if reclaim_older_than_ms < 1:
            raise Invalid("reclaim_older_than_ms: must be at least 1")
        self._settle()
        now = self._time()
        if worker_id:
            self._note_poll(worker_id, now)
        item = self._taken_back(now - reclaim_older_than_ms / 1000) or self._longest_waiting()
        if item is not None:
            self._claimed_at[item.seq] = now
        return item

    def ack(self, item_id: str) -> Item:
        item = self.item(item_id)
        if item.state == "starting":
            return item
        if item.seq not in self._claimed_at:
            raise Conflict(f"work item is not claimed: it is {item.state}")
        del self._claimed_at[item.seq]
        item.acknowledged_at = self._time()
        self._move(item, "starting")
        self._note(item, "wait", since=item.created_at)
        return item

    def heartbeat(self, item_id: str, *, expected: str | None = None, desired_ttl_s: int | None = None) -> Lease:
        if desired_ttl_s is not None and desired_ttl_s < 1:
            raise Invalid("desired_ttl_seconds: must be at least 1")
        item = self.item(item_id)
        if item.state == "stopped":
            return self._lease(item, extended=False)
        if item.state == "queued" or not self._meets(item, expected):
            raise HeartbeatMismatch(self._lease(item, extended=False))
        now = self._time()
        if item.state == "starting":
            item.started_at = now
            self._move(item, "active")
            self._note(item, "startup", since=item.acknowledged_at)
        item.latest_heartbeat_at = now
        item.lease_s = min(max(desired_ttl_s or self.rules.lease_s, LEASE_MIN_S), LEASE_MAX_S)
        heapq.heappush(self._leases, (now + item.lease_s, item.seq))
        return self._lease(item, extended=True)

    def stop(self, item_id: str, *, force: bool = False) -> Item:
        item = self.item(item_id)
        if item.state == "stopped":
            return item
        now = self._time()
        self._waiting.pop(item.seq, None)
        self._claimed_at.pop(item.seq, None)
        if item.stop_requested_at is None:
            item.stop_requested_at = now
        if force or item.state == "stopping":
            self._finish(item, now)
        else:
            self._move(item, "stopping")
        return item

    def update(self, item_id: str, metadata: Mapping[str, str | None]) -> Item:
        item = self.item(item_id)
        self._items[item.seq] = item
        for name, value in metadata.items():
            if value is None:
                item.metadata.pop(name, None)
            else:
                item.metadata[name] = value
        return item

    def stats(self) -> Stats:
        if self.profile.kind == "cloud":
            return Stats(0, 0, None, None)
        self._settle()
        queued = [self._items[seq].created_at for seq in (*self._waiting, *self._claimed_at)]
        pending = len(self._claimed_at)
        if self.rules.pending_counts == "unstopped":
            pending = sum(self._counts.values()) - self._counts["stopped"]
        return Stats(len(self._waiting), pending, min(queued, default=None), self._workers_polling())

    def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page:
        if self.profile.kind == "cloud":
            raise NotFound(f"environment has no work queue: {self.id}")
        self._settle()
        order = self.rules.order
        size = self._page_size(limit)
        kind, place = ("p", 0) if cursor is None else self._read_cursor(cursor)
        start = self._places.behind(place, order) if kind == "k" else self._places.at_position(place, order)
        seqs, more = self._places.page(start, size, order)
        next_cursor = None
        if seqs and (more or (self.rules.trailing_cursor and len(seqs) == size)):
            shown_before = place if kind == "p" else 0
            next_cursor = self._cursor(seqs[-1], shown_before + len(seqs))
        return Page(tuple(self._at(seq) for seq in seqs), next_cursor)

    def delete(self, item_id: str) -> None:
        """Remove an item without a trace, as retention does."""
        self._drop([self.item(item_id)])

    def delete_stopped(self, count: int) -> None:
        """Remove the oldest stopped items, at most `count` of them."""
        stopped = (item for item in self.items() if item.state == "stopped")
        self._drop(list(islice(stopped, count)))

    def truth(self) -> Truth:
        stats = self.stats()
        listed = dict(self._counts)
        for seq in self._places.hidden_until:
            listed[self._at(seq).state] -= 1
        return Truth(listed, dict(self._counts), stats, tuple(self._record))

    def timestamp(self, instant: float) -> str:
        return timestamp(instant, self.rules.timestamps)

    def _at(self, seq: int) -> Item:
        found = self._items.get(seq)
        if found is not None:
            return found
        return next(history.item(seq) for history in self._histories if seq in history)

    def _hide(self, item: Item) -> None:
        if self.rules.late_visibility_s > 0:
            share = (zlib.crc32(item.id.encode()) % 1000 + 1) / 1000
            self._places.hidden_until[item.seq] = item.created_at + share * self.rules.late_visibility_s

    def _enqueue(self, item: Item) -> None:
        self._waiting[item.seq] = None
        for wake in tuple(self.arrivals):
            wake()

    def _note_poll(self, worker_id: str, now: float) -> None:
        recent = self._last_poll_at_by_worker or {}
        recent[worker_id] = now
        self._last_poll_at_by_worker = {
            worker: polled_at for worker, polled_at in recent.items() if now - polled_at < POLLING_WINDOW_S
        }

    def _workers_polling(self) -> int | None:
        if self._last_poll_at_by_worker is None or not self.rules.reports_workers:
            return None
        now = self._time()
        return sum(now - polled_at < POLLING_WINDOW_S for polled_at in self._last_poll_at_by_worker.values())

    def _taken_back(self, claimed_before: float) -> Item | None:
        seq, claimed_at = next(iter(self._claimed_at.items()), (None, 0.0))
        if seq is None or claimed_at > claimed_before:
            return None
        del self._claimed_at[seq]  # so that the new claim goes to the end: claims are kept oldest first
        item = self._items[seq]
        if self.rules.new_id_on_reclaim:
            item.generation += 1
            item.id = work_id(seq, self._salt, item.generation)
        return item

    def _longest_waiting(self) -> Item | None:
        seq = next(iter(self._waiting), None)
        if seq is None:
            return None
        del self._waiting[seq]
        return self._items[seq]

    def _meets(self, item: Item, expected: str | None) -> bool:
        if expected is None or item.state == "stopping":
            return True
        return expected == (self._lease(item, extended=False).last_heartbeat or NO_HEARTBEAT)

    def _lease(self, item: Item, *, extended: bool) -> Lease:
        last = "" if item.latest_heartbeat_at is None else self.timestamp(item.latest_heartbeat_at)
        return Lease(last, extended, item.state, item.lease_s or self.rules.lease_s)

    def _move(self, item: Item, state: State) -> None:
        self._counts[item.state] -= 1
        self._counts[state] += 1
        item.state = state

    def _note(self, item: Item, kind: TransitionKind, *, since: float | None = None, at: float | None = None) -> None:
        ended_at = self._time() if at is None else at
        duration_s = 0.0 if since is None else ended_at - since
        outcome = item.outcome if kind == "finished" else None
        self._record.append(Transition(kind, item.id, ended_at, duration_s, outcome))

    def _finish(self, item: Item, at: float) -> None:
        item.stopped_at = at
        self._move(item, "stopped")
        if item.started_at is not None:
            self._note(item, "run", since=item.started_at, at=at)
        if item.stop_requested_at is not None:
            self._note(item, "stop", since=item.stop_requested_at, at=at)
        self._note(item, "finished", since=item.created_at, at=at)
        self._retain()

    def _settle(self) -> None:
        """Let everything happen that the clock alone brings about."""
        now = self._time()
        self._places.reveal(now)
        while self._leases and self._leases[0][0] <= now:
            ended_at, seq = heapq.heappop(self._leases)
            item = self._items.get(seq)
            if item is not None and item.state == "active" and self._lease_end(item) == ended_at:
                self._lose_lease(item, ended_at)

    def _lease_end(self, item: Item) -> float | None:
        return None if item.latest_heartbeat_at is None else item.latest_heartbeat_at + item.lease_s

    def _lose_lease(self, item: Item, at: float) -> None:
        if self.rules.on_lease_expiry == "stop":
            self._finish(item, at)
        if self.rules.on_lease_expiry == "requeue":
            item.acknowledged_at = item.started_at = item.latest_heartbeat_at = None
            self._move(item, "queued")
            self._note(item, "requeued", at=at)
            self._enqueue(item)

    def _retain(self) -> None:
        surplus = self._counts["stopped"] - (self.rules.keep_stopped or 0)
        if self.rules.keep_stopped is not None and surplus > 0:
            self.delete_stopped(surplus)

    def _drop(self, items: list[Item]) -> None:
        for item in items:
            self._counts[item.state] -= 1
            self._waiting.pop(item.seq, None)
            self._claimed_at.pop(item.seq, None)
            self._items.pop(item.seq, None)
        self._places.remove([item.seq for item in items])

    def _page_size(self, limit: int | None) -> int:
        if limit is None:
            return self.rules.page_default
        if limit < 1 or (limit > self.rules.page_max and self.rules.over_limit == "refuse"):
            raise Invalid(f"limit: must be between 1 and {self.rules.page_max}")
        return min(limit, self.rules.page_max)

    def _cursor(self, last_seq: int, shown: int) -> str:
        kind, place = ("k", last_seq) if self.rules.cursors == "key" else ("p", shown)
        return base64.urlsafe_b64encode(json.dumps([kind, place, self._time()]).encode()).decode().rstrip("=")

    def _read_cursor(self, cursor: str) -> tuple[str, int]:
        try:
            padded = cursor.encode() + b"=" * (-len(cursor) % 4)
            kind, place, issued_at = json.loads(base64.urlsafe_b64decode(padded))
            stale = self.rules.cursor_ttl_s is not None and self._time() - issued_at > self.rules.cursor_ttl_s
        except (ValueError, TypeError):
            raise CursorRefused(self.rules.cursor_refusal_status) from None
        if stale or kind not in {"k", "p"} or not isinstance(place, int) or place < 0:
            raise CursorRefused(self.rules.cursor_refusal_status)
        return kind, place
