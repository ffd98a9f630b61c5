"""An environment of the simulator, read by a ledger without HTTP: what the tests of the listing have in common."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.ledger import Ledger, Priority, QueuedCount
from exporter.listing.lifecycle import Step
from exporter.listing.tally import Tally
from exporter.simulator.environment import Conflict, CursorRefused, HeartbeatMismatch, Invalid
from exporter.simulator.item import parse_work_id
from exporter.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.listing.index import ListIndex
    from exporter.listing.ledger import Call, Listing
    from exporter.listing.lifecycle import Transition
    from exporter.simulator.environment import Environment, Rules
    from exporter.simulator.item import Item

RESYNC_S = 3600.0
EXPORTER_CLOCK_OFFSET_S = -1.75e9
STEP_LIMIT = 500_000
OPEN_END_S = 15.0
"""The ledger's allowed lateness, and what it adds to it."""
UNSURE_READS = 2
AGAIN = "again:"
"""Before the cursor of a page that is shown a second time."""
STATE_BY_WORD = {state.value: state for state in State}
LIFE = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING, State.STOPPED)
"""The states in the order in which an item goes through them."""
UNIT_BY_STYLE = {"seconds": 1.0, "millis": 1e-3}


@dataclass(slots=True)
class Clock:
    """The clock that stamps the items. `stepped_s`: by how much it has been set, so that no other clock goes along."""

    at: float = 1_780_000_000.0
    stepped_s: float = 0.0
    lowest_s: float = 0.0

    def step(self, seconds: float) -> None:
        self.at += seconds
        self.stepped_s += seconds
        self.lowest_s = min(self.lowest_s, self.stepped_s)

    @property
    def monotonic(self) -> float:
        """The exporter's monotonic clock."""
        return self.at - self.stepped_s + EXPORTER_CLOCK_OFFSET_S

    def __call__(self) -> float:
        return self.at


def environment_of(clock: Clock, rules: Rules) -> Environment:
    return World(clock).add_environment("env_1", rules=rules)


def as_listed(item: Item, style: str) -> WorkItem:
    unit = UNIT_BY_STYLE.get(style)

    def instant(at: float | None) -> float | None:
        return at if at is None or unit is None else round(int(at / unit) * unit, 6)

    return WorkItem(
        id=item.id,
        state=STATE_BY_WORD[item.state],
        created_at=instant(item.created_at),
        acknowledged_at=instant(item.acknowledged_at),
        started_at=instant(item.started_at),
        latest_heartbeat_at=instant(item.latest_heartbeat_at),
        stop_requested_at=instant(item.stop_requested_at),
        stopped_at=instant(item.stopped_at),
    )


@dataclass(slots=True)
class Read:
    """What one read cost. `depth`: the longest chain of calls each of which had to wait for the one before."""

    calls: list[Call] = field(default_factory=list)
    depth: int = 0
    interrupted: bool = False

    def count(self, *priorities: Priority) -> int:
        return sum(call.priority in priorities for call in self.calls)


@dataclass(slots=True)
class _Sent:
    call: Call
    depth: int
    page: WorkPage | None = None
    served: bool = False


class ListReader:
    """Reads one environment's list with a ledger and a tally.

    Calls are served and answered in random order. `before_page` runs before each page is made: the place for changes.
    `stats_take_s`: how long the stats take at most, before and after they are made. `overlap`: so many items of a page are shown again on the page behind it. `repeats`: how often, of all pages, one is
    followed by itself.
    """

    def __init__(
        self,
        environment: Environment,
        clock: Clock,
        ledger: Ledger,
        *,
        seed: int = 0,
        buckets: tuple[float, ...] = (1.0, 60.0),
    ) -> None:
        self.environment = environment
        self.clock = clock
        self.ledger = ledger
        self.tally = Tally(buckets)
        self.drift: list[str] = []
        self.transitions: list[Transition] = []
        self.random = Random(seed)  # noqa: S311 - a test's dice
        self.overlap = 0
        self.repeats = 0.0
        self.stats_take_s = 0.0
        self._shown_before: dict[str, tuple[int, ...]] = {}
        self._shown_to: ListIndex | None = None
        self._furthest_by_id: dict[str, int] = {}
        self.fault: Callable[[Call], bool] = lambda _: False

    def read(self, *, calls: int | None = None, before_page: Callable[[], None] | None = None) -> Read:
        """Read as far as `calls` list calls allow. The stats come first; `before_page` runs before and after they are made, too."""
        read, sent = Read(), list[_Sent]()
        self._furthest_by_id.clear()
        began_at = self.clock.monotonic
        self.ledger.begin(now=began_at, queued=self._queued(before_page or (lambda: None)))
        self._ask(read, sent, 0, calls)
        for step in count():
            assert step < STEP_LIMIT, "the read does not end"
            if not sent:
                break
            one = self.random.choice(sent)
            if not one.served:
                if before_page is not None:
                    before_page()
                self._serve(one, read)
                continue
            sent.remove(one)
            self._answer(one)
            self._ask(read, sent, one.depth, calls)
        self.transitions = list(self.ledger.take_transitions())
        self.drift += self.tally.observe(self.transitions, wait_objective_s=120)
        return read

    def listing(self) -> Listing:
        return self.ledger.listing()

    def shown_twice(self) -> list[int]:
        """Return the numbers of the items that were at the end of a page, and are shown on the one behind it again."""
        return sorted({seq for shown in self._shown_before.values() for seq in shown})

    def stepped_back(self) -> dict[str, State]:
        """Return the items that are listed in an earlier state than a page of this read has shown them in."""
        if self._shown_to is not self.ledger._index:
            return {}
        listed = {item.id: item.state for item in self.ledger.listing().unfinished}
        furthest = self._furthest_by_id
        return {item_id: state for item_id, state in listed.items() if LIFE.index(state) < furthest.get(item_id, 0)}

    def true_counts(self) -> dict[State, int]:
        listed = self.environment.truth().listed
        return dict.fromkeys(State, 0) | {STATE_BY_WORD[word]: number for word, number in listed.items()}

    def shown(self) -> Iterator[WorkItem]:
        """Every item a full walk would show now, without the history that was added as a whole."""
        self.environment._settle()
        hidden = self.environment._places.hidden_until
        for seq, item in self.environment._items.items():
            if seq not in hidden:
                yield as_listed(item, self.environment.rules.timestamps)

    def _queued(self, change: Callable[[], None]) -> QueuedCount:
        asked_at = self.clock.monotonic
        change()
        self.clock.at += self.stats_take_s * self.random.random()
        stats = self.environment.stats()
        self.clock.at += self.stats_take_s * self.random.random()
        change()
        return QueuedCount(stats.depth + stats.pending, asked_at, self.clock.monotonic)

    def _ask(self, read: Read, sent: list[_Sent], depth: int, calls: int | None) -> None:
        wanted = self.ledger.calls_to_make()
        while wanted:
            for call in wanted:
                if calls is not None and len(read.calls) >= calls:
                    read.interrupted = True
                    self.ledger.skipped(call)
                    continue
                read.calls.append(call)
                read.depth = max(read.depth, depth + 1)
                sent.append(_Sent(call, depth + 1))
            wanted = self.ledger.calls_to_make() if read.interrupted else ()

    def _serve(self, one: _Sent, read: Read) -> None:
        one.served = True
        if self.fault(one.call):
            read.interrupted = True
            return
        cursor = one.call.cursor
        again = cursor is not None and cursor.startswith(AGAIN)
        inner = cursor.removeprefix(AGAIN) if cursor else None
        try:
            page = self.environment.page(limit=one.call.limit, cursor=inner or None)
        except (CursorRefused, Invalid):
            return
        style = self.environment.rules.timestamps
        before = self._items_shown_again(inner)
        items = tuple(as_listed(item, style) for item in (*before, *page.items))
        next_cursor = page.next_cursor
        if next_cursor is not None:
            self._shown_before[next_cursor] = tuple(item.seq for item in page.items[-self.overlap :] if self.overlap)
            if not again and self.random.random() < self.repeats:
                next_cursor = AGAIN + (inner or "")
        one.page = WorkPage(items, next_cursor)

    def _items_shown_again(self, cursor: str | None) -> Iterator[Item]:
        for seq in self._shown_before.get(cursor or "", ()):
            if seq in self.environment._places:
                yield self.environment._at(seq)

    def _answer(self, one: _Sent) -> None:
        if one.page is not None:
            self._note_shown(one.call, one.page)
            self.ledger.receive_page(one.call, one.page, now=self.clock.monotonic)
        elif self.fault(one.call):
            self.ledger.skipped(one.call)
        elif one.call.cursor is not None:
            self.ledger.cursor_rejected(one.call)
        elif not self.ledger.shrink(one.call):
            self.ledger.skipped(one.call)

    def _note_shown(self, call: Call, page: WorkPage) -> None:
        asked = self.ledger._request_by_serial.get(call.serial)
        if asked is None or asked[0] is not self.ledger._index:
            return  # void, or for an index that is not shown yet
        if self._shown_to is not asked[0]:
            self._shown_to = asked[0]
            self._furthest_by_id.clear()
        for item in page.items:
            self._furthest_by_id[item.id] = max(self._furthest_by_id.get(item.id, 0), LIFE.index(item.state))


Emitted = tuple[float, Step, float]
"""Creation, step and its instant. Items created at one instant may swap ids, so ids are not part of it."""


class Audit:
    """Knows what may and what must have been emitted of an environment's items, and compares."""

    def __init__(self, reader: ListReader) -> None:
        self._reader = reader
        self._history = self._steps()
        self._began_at = reader.clock.at
        self._baseline: Counter[Emitted] | None = None
        self._emitted: Counter[Emitted] = Counter()
        self._possible = Counter(self._history)

    def look(self) -> None:
        """Note what could be emitted now. To be called before anything changes that could be undone."""
        self._possible |= self._steps()

    def take(self, *, may_be_history: bool) -> None:
        """Take what the last read emitted. To be called after every read."""
        self.look()
        for transition in self._reader.transitions:
            assert transition.item.created_at is not None
            is_history = transition.item.created_at < int(self._began_at + self._reader.clock.lowest_s)
            assert may_be_history or not is_history, "history was emitted"
            self._emitted[_emitted_as(transition.step, transition.item)] += 1
        if self._baseline is None and self._reader.listing().complete:
            self._baseline = self._steps()

    def check(self, *, deletions: bool) -> None:
        """To be called after a read during which nothing happened and nothing was left out."""
        assert self._baseline is not None
        missing = self._steps() - self._emitted - self._baseline
        assert not missing, f"never emitted: {missing}"
        surplus = self._emitted - (self._possible - self._history)
        assert deletions or not surplus, f"emitted too often: {surplus}"

    def _steps(self) -> Counter[Emitted]:
        return Counter(step for item in self._reader.shown() for step in _steps_of(item))


def _steps_of(item: WorkItem) -> Iterator[Emitted]:
    yield _emitted_as(Step.CREATED, item)
    if item.acknowledged_at is not None:
        yield _emitted_as(Step.ACKNOWLEDGED, item)
    if item.started_at is not None:
        yield _emitted_as(Step.STARTED, item)
    if item.state is State.STOPPED:
        yield _emitted_as(Step.STOPPED, item)


def _emitted_as(step: Step, item: WorkItem) -> Emitted:
    at = {
        Step.CREATED: item.created_at,
        Step.ACKNOWLEDGED: item.acknowledged_at,
        Step.STARTED: item.started_at,
        Step.STOPPED: item.stopped_at,
    }[step]
    assert item.created_at is not None
    assert at is not None
    return item.created_at, step, at


class Scenario:
    """An environment with a life of its own, and a reader that must always be right about it."""

    def __init__(self, rules: Rules, *, page_size: int, history: int, seed: int) -> None:
        self.clock = Clock()
        self.environment = environment_of(self.clock, rules)
        if history:
            self.environment.add_finished(history, spacing_s=0.5)
        self.reader = ListReader(
            self.environment, self.clock, Ledger(page_size=page_size, resync_interval_s=RESYNC_S), seed=seed
        )
        self.audit = Audit(self.reader)
        self.quiet_reads = self.spared_reads = 0
        self.has_deletions = False
        # A walk that pauses may lose its place among positions. Of two items that share an instant and get new ids nobody can tell
        # which is which.
        self._may_contradict = rules.cursors == "position" or (rules.timestamps != "micros" and self._ids_change())
        self._resyncs_due = 0
        self._may_appear_anywhere = False
        self._calls_since_rest = 0
        self._live_since_rest = 0
        self._queued_at: dict[int, float] = {}
        self._longest_read_s = 0.0
        self._vanished = [0]

    def pass_time(self, seconds: float) -> None:
        self._note_queued()
        self.clock.at += seconds
        self.environment._settle()
        self._note_queued()

    def step_clock(self, seconds: float) -> None:
        self.clock.step(seconds)
        self._may_contradict = True
        hidden = self.environment._places.hidden_until
        hidden.update({seq: until + seconds for seq, until in hidden.items()})  # no item becomes visible later for it
        self._may_appear_anywhere |= seconds < 0 and self.environment.rules.late_visibility_s > 0

    def create(self, number: int) -> None:
        for _ in range(number):
            self._tick()
            self.environment.create()
            self._live_since_rest += 1
        self._note_queued()

    def poll(self) -> None:
        item = self.environment.poll(reclaim_older_than_ms=5000)
        self._vanished[-1] += item is not None and item.generation > 0

    def take_over(self) -> None:
        """Let an item that its worker has left be handed out again, and live the rest of its life at once."""
        if not self.environment._claimed_at:
            return
        self.pass_time(6)
        item = self.environment.poll(reclaim_older_than_ms=5000)
        self._vanished[-1] += 1
        if item is not None:
            self.environment.ack(item.id)
            self.environment.stop(item.id, force=True)

    def work_on(self, choice: int) -> None:
        """Let a claimed or running item make a step."""
        environment = self.environment
        workable = [*environment._claimed_at, *(seq for seq in environment._items if self._runs(seq))]
        if not workable:
            return
        item = environment._at(workable[choice % len(workable)])
        with suppress(Conflict, HeartbeatMismatch):  # its lease may have ended just now
            if item.state == "queued":
                environment.ack(item.id)
            else:
                environment.heartbeat(item.id, expected=None)

    def stop(self, choice: int, *, force: bool) -> None:
        live = self._live()
        if live:
            self.environment.stop(self.environment._at(live[choice % len(live)]).id, force=force)

    def start(self, number: int) -> None:
        """Create items, and let as many be acknowledged."""
        self.create(number)
        for _ in range(number):
            item = self.environment.poll()
            if item is not None:
                self.environment.ack(item.id)

    def stop_shown_twice(self, choice: int) -> None:
        """Let a running item that two pages show begin to stop."""
        running = [seq for seq in self.reader.shown_twice() if seq in self.environment._items and self._runs(seq)]
        if running:
            self.environment.stop(self.environment._at(running[choice % len(running)]).id, force=False)

    def hurry(self) -> None:
        """Let a new item live its whole life at once."""
        self._tick()
        item = self.environment.create()
        self._live_since_rest += 1
        while self.environment.poll() is not item:
            if item.seq in self.environment._claimed_at:
                break
        self.environment.ack(item.id)
        self.environment.heartbeat(item.id)
        self.environment.stop(item.id, force=True)

    def delete_live(self, choice: int) -> None:
        live = self._live()
        if live:
            self.environment.delete(self.environment._at(live[choice % len(live)]).id)
            self._vanished[-1] += 1
            self.has_deletions = self._may_contradict = True
            self._resyncs_due = max(self._resyncs_due, 0 if self.environment.rules.cursors == "key" else 2)

    def delete_stopped(self, number: int) -> None:
        self.environment.delete_stopped(number)
        self._vanished[-1] += number
        self.has_deletions = self._may_contradict = True
        self._resyncs_due = 2

    def read(self, *, calls: int | None = None, changes: Callable[[], None] | None = None) -> Read:
        def before_page() -> None:
            self._note_queued()
            if changes is not None:
                changes()
            if self.environment.rules.on_lease_expiry == "requeue":
                self.audit.look()

        began_at = self.clock.monotonic
        self._may_contradict |= self.environment.rules.cursor_ttl_s is not None
        read = self.reader.read(calls=calls, before_page=before_page)
        # A first walk that pauses loses its place among positions when items before it are deleted.
        self.audit.take(may_be_history=self.has_deletions and self.environment.rules.cursors == "position")
        assert not self.reader.stepped_back()
        self._check_queued(took_s=self.clock.monotonic - began_at)
        self._calls_since_rest += len(read.calls)
        assert self.reader.listing().segments <= self._live_since_rest + 2 + self._calls_since_rest
        return read

    def check_contradictions(self) -> None:
        """Assert that the list was never walked anew, unless something has happened that nobody can understand otherwise."""
        # Where pages repeat items, one may seem to lie before the one behind it.
        shows_twice = self.reader.overlap or self.reader.repeats
        assert shows_twice or self._may_contradict or self.reader.listing().contradictions == 0

    def read_quietly(self) -> Read:
        """Read with nothing happening meanwhile: what is listed must be what a full walk would count."""
        if self._may_appear_anywhere:
            self._resyncs_due = 2  # an item may appear where it was read already: only reading everything again tells
        for _ in range(self._resyncs_due):
            self.pass_time(RESYNC_S + 1)
            self.read()
        self._resyncs_due = 0
        read = self.read()
        self.quiet_reads += 1
        index = self.reader.ledger._index
        if index.ordered and not index.current:
            self.spared_reads += 1
            self._read_until_sure()
        listing = self.reader.listing()
        assert listing.complete
        assert listing.count_by_state == self.reader.true_counts()
        shown = list(self.reader.shown())
        assert listing.oldest_at_by_state == {
            State.QUEUED: _oldest(item.created_at for item in shown if item.state is State.QUEUED),
            State.STARTING: _oldest(item.acknowledged_at for item in shown if item.state is State.STARTING),
            State.ACTIVE: _oldest(item.started_at for item in shown if item.state is State.ACTIVE),
            State.STOPPING: _oldest(item.stop_requested_at for item in shown if item.state is State.STOPPING),
        }
        active = (item.latest_heartbeat_at for item in shown if item.state is State.ACTIVE)
        assert listing.heartbeats == tuple(sorted(at for at in active if at is not None))
        if self._exact():
            self.audit.check(deletions=self.has_deletions)
        self._check_memory()
        return read

    def _read_until_sure(self) -> None:
        """Read again: of what happened just before the stats were made it takes later reads to know it."""
        for _ in range(UNSURE_READS):
            if self.reader.listing().count_by_state == self.reader.true_counts():
                return
            self.pass_time(OPEN_END_S)
            self.read()

    def _note_queued(self) -> None:
        """Note that what is queued now was queued until now."""
        environment, now = self.environment, self.clock.monotonic
        for seq in (*environment._waiting, *environment._claimed_at):
            self._queued_at[seq] = now

    def _check_queued(self, *, took_s: float) -> None:
        """Assert that what is shown as queued was queued at the instant of the data, or later. A page is made before it is received."""
        self._longest_read_s = max(self._longest_read_s, took_s)
        self._note_queued()
        listing = self.reader.listing()
        if listing.complete and self.reader.ledger._index.ordered:
            shown = [item for item in listing.unfinished if item.state is State.QUEUED]
            oldest = listing.oldest_read_at
            assert oldest is not None
            late = {item.id: oldest - self._longest_read_s - self._queued_at[self._seq(item.id)] for item in shown}
            wrong = {item_id: late_s for item_id, late_s in late.items() if late_s > 0}
            assert not wrong, f"not queued any more when the data were made: {wrong}"

    def _seq(self, item_id: str) -> int:
        """Return what stays the same of an item that gets a new id."""
        parsed = parse_work_id(item_id, self.environment._salt)
        assert parsed is not None
        return parsed[0]

    def _check_memory(self) -> None:
        """Assert that nothing is kept but live items, those near the open end, and those that have just vanished.

        The open end goes as far back as the time that has passed by the items' own clock.
        """
        recently = self.reader.ledger._detector.clock.at(self.clock.monotonic) - OPEN_END_S - self._longest_read_s
        open_end = sum((item.created_at or 0.0) >= recently for item in self.reader.shown())
        assert len(self.reader.ledger._detector._seen_by_id) <= self._live_since_rest + open_end + sum(self._vanished)
        self._vanished = [*self._vanished[-2:], 0]
        self._calls_since_rest = 0
        self._live_since_rest = len(self._live())

    def _tick(self) -> None:
        """Keep creation times apart where ids change: of two items created at one instant nobody could tell which is which."""
        if self._ids_change():
            self.clock.at += 1e-5

    def _exact(self) -> bool:
        """Tell whether transitions can be known exactly: not where a walk that pauses may lose its place among ids."""
        rules = self.environment.rules
        if rules.cursors == "position" and (self.has_deletions or rules.new_id_on_reclaim):
            return False
        return rules.timestamps == "micros" or not self._ids_change()

    def _ids_change(self) -> bool:
        rules = self.environment.rules
        return rules.new_id_on_reclaim or rules.on_lease_expiry == "requeue"

    def _live(self) -> list[int]:
        return [seq for seq, item in self.environment._items.items() if item.state != "stopped"]

    def _runs(self, seq: int) -> bool:
        return self.environment._items[seq].state in {"starting", "active"}


def _oldest(instants: Iterator[float | None]) -> float | None:
    return min((at for at in instants if at is not None), default=None)
