"""What a read costs: calls by live items, not by history; and what the ledger keeps in memory."""

from __future__ import annotations

import gc
import tracemalloc
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.ledger import Ledger, Priority
from exporter.simulator.environment import Rules
from tests.listing.listed import Clock, ListReader, Read, environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.simulator.places import Order

READS = 40
SCRAPE_S = 15
LIVE = 100
ORDERS: tuple[Order, ...] = ("newest_first", "oldest_first")
HISTORY = 100_000


class Load:
    """One new item a second, each active for 100 s on average: 100 live items."""

    def __init__(self, rules: Rules, *, history: int, page_size: int, straggler: bool = False) -> None:
        self.clock = Clock()
        self.environment = environment_of(self.clock, rules)
        self._dice = Random(5)  # noqa: S311 - a test's dice
        self._ends: list[tuple[float, str]] = []
        if straggler:
            self._start(until=float("inf"))
            self.clock.at += 3600 + history
            history -= 1  # the page ends stay where they are
        self.environment.add_finished(history, spacing_s=0.5)
        self.live(4 * LIVE)
        self.reader = ListReader(self.environment, self.clock, Ledger(page_size=page_size, resync_interval_s=1e9))

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.at += 1
            self._start(until=self.clock.at + self._dice.expovariate(1 / LIVE))
            self._end(before=self.clock.at)

    def rest(self) -> None:
        self._end(before=1e300)

    def reads(self, number: int = READS) -> Iterator[Read]:
        for _ in range(number):
            self.live(SCRAPE_S)
            yield self.read()

    def read(self) -> Read:
        read = self.reader.read()
        assert self.reader.listing().complete
        assert self.reader.listing().count_by_state == self.reader.true_counts()
        return read

    def _start(self, *, until: float) -> None:
        item = self.environment.create()
        self.environment.poll()
        self.environment.ack(item.id)
        self.environment.heartbeat(item.id)
        self._ends.append((until, item.id))

    def _end(self, *, before: float) -> None:
        for end in [end for end in self._ends if end[0] <= before]:
            self._ends.remove(end)
            self.environment.stop(end[1], force=True)


def _calls_by_read(load: Load) -> list[int]:
    load.read()
    return [len(read.calls) for read in load.reads()]


@pytest.mark.parametrize("cursors", ["key", "position"])
@pytest.mark.parametrize("page_size", [100, 1000])
@pytest.mark.parametrize("order", ORDERS)
def test_a_read_costs_the_same_calls_at_any_length_of_history(order: Order, page_size: int, cursors: str) -> None:
    def calls(history: int) -> list[int]:
        rules = Rules(order=order, cursors="key" if cursors == "key" else "position")
        return _calls_by_read(Load(rules, history=history, page_size=page_size))

    short, *longer = (calls(history) for history in (100, 1000, 10_000, 100_000))
    for long in longer:
        assert all(abs(one - other) <= 1 for one, other in zip(short, long, strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_a_hundred_live_items_cost_at_most_three_calls_in_large_pages(order: Order) -> None:
    assert max(_calls_by_read(Load(Rules(order=order), history=10_000, page_size=1000))) <= 3


@pytest.mark.parametrize("page_size", [100, 1000])
@pytest.mark.parametrize("order", ORDERS)
def test_an_idle_environment_costs_one_call(order: Order, page_size: int) -> None:
    load = Load(Rules(order=order), history=10_000, page_size=page_size)
    load.read()
    load.rest()
    load.read()
    load.clock.at += SCRAPE_S
    load.read()
    for _ in range(10):
        load.clock.at += SCRAPE_S
        assert [call.priority for call in load.read().calls] == [Priority.OPEN_END]


@pytest.mark.parametrize("page_size", [100, 1000])
@pytest.mark.parametrize("order", ORDERS)
def test_an_ancient_straggler_costs_one_more_call(order: Order, page_size: int) -> None:
    without = _calls_by_read(Load(Rules(order=order), history=10_000, page_size=page_size))
    straggling = Load(Rules(order=order), history=10_000, page_size=page_size, straggler=True)
    assert sum(_calls_by_read(straggling)) <= sum(without) + READS


@pytest.mark.parametrize("cursors", ["key", "position"])
@pytest.mark.parametrize("page_size", [100, 1000])
@pytest.mark.parametrize("order", ORDERS)
def test_a_warm_read_waits_for_few_calls_in_a_row(order: Order, page_size: int, cursors: str) -> None:
    rules = Rules(order=order, cursors="key" if cursors == "key" else "position")
    load = Load(rules, history=10_000, page_size=page_size, straggler=True)
    load.read()
    next(load.reads())
    moves_off = order == "newest_first" and cursors == "position"  # what it was asked for may be on the page behind
    assert max(read.depth for read in load.reads()) <= (4 if moves_off else 3)


def test_an_unordered_list_is_walked_fully_at_every_read() -> None:
    load = Load(Rules(order="unordered"), history=2000, page_size=100)
    load.read()
    assert [len(read.calls) for read in load.reads(3)] == [25, 25, 25]


@pytest.mark.parametrize("order", ORDERS)
def test_sealed_history_adds_less_than_a_byte_an_item(order: Order) -> None:
    newest_first = order == "newest_first"
    ledger = Ledger(page_size=1000, resync_interval_s=1e9)
    _walk(ledger, items=2000, newest_first=newest_first)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ledger = Ledger(page_size=1000, resync_interval_s=1e9)
        _walk(ledger, items=HISTORY, newest_first=newest_first)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    listing = ledger.listing()
    assert listing.complete
    assert listing.count_by_state[State.STOPPED] == HISTORY
    assert ledger.take_transitions() == ()
    assert after - before < HISTORY


def _walk(ledger: Ledger, *, items: int, newest_first: bool) -> None:
    """Read a list of finished items that exists only as arithmetic."""
    ledger.begin(now=0.0)
    while wanted := ledger.calls_to_make():
        for call in wanted:
            first = int(call.cursor or 0)
            page = tuple(
                _finished(items - 1 - n if newest_first else n) for n in range(first, min(first + 1000, items))
            )
            more = str(first + 1000) if first + 1000 < items else None
            ledger.receive_page(call, WorkPage(page, more), now=0.0)


def _finished(number: int) -> WorkItem:
    at = 1e9 + number
    return WorkItem(f"work_{number:016x}", State.STOPPED, at, at, at, at, None, at)
