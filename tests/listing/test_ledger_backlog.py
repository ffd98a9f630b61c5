"""A long queue: what a read of it costs, and that it is exact although most of its pages are not read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from statistics import mean
from typing import TYPE_CHECKING, Literal

import pytest

from exporter.api.wire import State
from exporter.listing.backlog import UNPROVEN_S
from exporter.listing.ledger import Ledger, Priority
from exporter.listing.pages import Contradiction
from exporter.simulator.environment import Rules, Stats
from tests.listing.listed import Clock, ListReader, Read, environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.simulator.places import Order

PAGE = 20
PAGES = 50
SCRAPE_S = 15
MOVES = 5
WARM_UP = 8
READS = 60
RUN_S = 120.0


@dataclass(frozen=True)
class _Kind:
    order: Order
    cursors: Literal["key", "position"]

    def __str__(self) -> str:
        return f"{self.order}-{self.cursors}"


KINDS = [
    _Kind("newest_first", "key"),
    _Kind("newest_first", "position"),
    _Kind("oldest_first", "key"),
    _Kind("oldest_first", "position"),
]


class _LongQueue:
    """A thousand queued items behind a history; in each scrape interval some arrive, and workers take some of the oldest."""

    def __init__(self, kind: _Kind = KINDS[0], *, pending_counts: Literal["claimed", "unstopped"] = "claimed") -> None:
        self.clock = Clock()
        rules = Rules(order=kind.order, cursors=kind.cursors, page_max=PAGE, pending_counts=pending_counts)
        self.environment = environment_of(self.clock, rules)
        self.environment.add_finished(500, spacing_s=0.5)
        for _ in range(PAGES * PAGE):
            self.clock.at += 0.01
            self.environment.create()
        self.dice = Random(3)  # noqa: S311 - a test's dice
        self._ends: list[tuple[float, str]] = []
        self.reader = ListReader(self.environment, self.clock, Ledger(page_size=PAGE, resync_interval_s=1e9))
        self.reader.read()

    def interval(self, *, moves: int = MOVES) -> None:
        """Let things happen at random moments of the time between two scrapes."""
        changes: list[Callable[[], object]] = [self.environment.create] * moves
        changes += [self._claim] * moves
        changes += [self._beat] * len(self._ends)
        moments = sorted(self.dice.uniform(0, SCRAPE_S - 1) for _ in changes)
        self.dice.shuffle(changes)
        began_at = self.clock.at
        for after_s, change in zip(moments, changes, strict=True):
            self.clock.at = began_at + after_s
            change()
        self.clock.at = began_at + SCRAPE_S
        for end in [end for end in self._ends if end[0] <= self.clock.at]:
            self._ends.remove(end)
            self.environment.stop(end[1], force=True)

    def read(self) -> Read:
        return self.reader.read()

    def is_exact(self) -> bool:
        return self.reader.listing().count_by_state == self.reader.true_counts()

    def age_s(self) -> float:
        oldest = self.reader.listing().oldest_read_at
        assert oldest is not None
        return self.clock.monotonic - oldest

    def warm_up(self) -> None:
        for _ in range(WARM_UP):
            self.interval()
            self.read()

    def lower_the_stats(self, by: int) -> None:
        stats = self.environment.stats

        def lowered() -> Stats:
            answer = stats()
            return replace(answer, depth=answer.depth - by)

        self.environment.stats = lowered  # type: ignore[method-assign]  # a server that counts otherwise

    def _beat(self) -> None:
        """Let one of the running items send a heartbeat."""
        self.environment.heartbeat(self.dice.choice(self._ends)[1], expected=None)

    def _claim(self) -> None:
        item = self.environment.poll()
        assert item is not None
        self.environment.ack(item.id)
        self.environment.heartbeat(item.id)
        self._ends.append((self.clock.at + self.dice.expovariate(1 / RUN_S), item.id))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_read_costs_what_moves_and_is_exact_and_young(kind: _Kind) -> None:
    queue = _LongQueue(kind)
    queue.warm_up()
    calls, ages = [], []
    for _ in range(READS):
        queue.interval()
        calls.append(len(queue.read().calls))
        ages.append(queue.age_s())
        assert queue.is_exact()
    assert mean(calls) <= 12  # 40 running items lie on three to five pages of twenty; all 50 pages were read before
    assert mean(ages) <= 2 * SCRAPE_S
    assert max(ages) <= UNPROVEN_S


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_item_stopped_anywhere_in_the_queue_is_found_in_the_same_read(kind: _Kind) -> None:
    queue = _LongQueue(kind)
    queue.warm_up()
    for _ in range(5):
        queue.interval()
        queue.read()
        waiting = [queue.environment._at(seq) for seq in queue.environment._waiting]
        queue.environment.stop(waiting[queue.dice.randrange(PAGE, len(waiting) - PAGE)].id, force=True)
        queue.clock.at += SCRAPE_S
        queue.read()
        assert queue.is_exact()


def test_a_queue_in_which_nothing_happens_costs_its_ends() -> None:
    queue = _LongQueue()
    queue.warm_up()
    for _ in range(20):
        queue.interval(moves=0)
        read = queue.read()
        assert queue.is_exact()
        assert read.count(Priority.OPEN_END) == 1
        assert len(read.calls) <= 8


def test_each_page_is_read_again_in_the_end() -> None:
    queue = _LongQueue()
    queue.warm_up()
    for _ in range(2 * PAGES):
        queue.interval(moves=0)
        queue.read()
    listed = queue.reader.ledger._index.items.live.values()
    assert min(each.read_at for each in listed) > queue.clock.monotonic - 1.2 * PAGES * SCRAPE_S


def test_where_the_stats_count_other_items_too_every_page_is_read() -> None:
    queue = _LongQueue(pending_counts="unstopped")
    queue.warm_up()
    for _ in range(5):
        queue.interval()
        assert len(queue.read().calls) >= PAGES
        assert queue.is_exact()
        assert queue.age_s() == 0.0


def test_a_search_in_vain_takes_few_steps_one_after_the_other() -> None:
    queue = _LongQueue()
    queue.warm_up()
    queue.lower_the_stats(by=1)
    for _ in range(3):
        queue.interval()
        assert queue.read().depth <= 15


def test_stats_that_count_too_few_are_noticed_although_no_read_gets_through() -> None:
    queue = _LongQueue()
    queue.warm_up()
    queue.lower_the_stats(by=1)
    for _ in range(25):
        queue.interval()
        queue.reader.read(calls=30)
    assert not queue.reader.ledger._meaning.is_proven


def test_an_index_that_is_walked_anew_is_read_in_full_before_anything_is_spared() -> None:
    queue = _LongQueue()
    queue.warm_up()
    queue.reader.ledger._start_over(queue.reader.ledger._index, Contradiction("any"))
    for _ in range(3):
        queue.interval()
        queue.reader.read(calls=45)
    assert queue.reader.listing().complete


def test_without_stats_pages_are_read_when_the_last_proof_is_old() -> None:
    queue = _LongQueue()
    queue.warm_up()
    ledger, most = queue.reader.ledger, 0
    begin = ledger.begin
    ledger.begin = lambda *, now, queued=None: begin(now=now)  # type: ignore[method-assign] # noqa: ARG005 - left out
    for _ in range(20):
        queue.interval()
        most = max(most, len(queue.read().calls))
        assert queue.age_s() <= UNPROVEN_S
    assert most >= PAGES


def test_the_background_walk_inherits_what_was_proven() -> None:
    queue = _LongQueue()
    queue.reader.ledger._resync_interval_s = 300.0
    queue.reader.ledger._resync_from = 0.0
    queue.warm_up()
    indexes = set()
    for _ in range(30):
        queue.interval()
        queue.read()
        indexes.add(id(queue.reader.ledger._index))
        assert queue.is_exact()
        assert queue.age_s() <= UNPROVEN_S
    assert len(indexes) > 1
    assert queue.reader.listing().count_by_state[State.QUEUED] == PAGES * PAGE
