"""Thirty items, half of which end, must be counted as such whatever the clocks do. No clock but the items' own and ours enters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import State, WorkItem, WorkPage
from exporter.listing.ledger import Ledger
from exporter.listing.lifecycle import Step
from tests.listing.listed import RESYNC_S
from tests.listing.made import finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.listing.ledger import Call

SCRAPE_S = 15.0
ITEMS = 30
MANY = 1500


class _World:
    """A list of items that one clock stamps, in pages of 100 behind key cursors, read by a ledger every 15 s."""

    def __init__(self, *, order: str, history: int = 0) -> None:
        self.order = order
        self.stamped = 2e9
        self.monotonic = 1000.0
        self.items = [finished(f"old {n}", self.stamped - 100 - 30 * (history - n)) for n in range(history)]
        self.ledger = Ledger(page_size=100, resync_interval_s=RESYNC_S)
        self.steps: list[Step] = []
        self.calls = 0
        self.incomplete = 0

    def pass_time(self, seconds: float) -> None:
        self.stamped += seconds
        self.monotonic += seconds

    def create(self, name: str) -> None:
        self.items.append(WorkItem(name, State.QUEUED, self.stamped))

    def end(self, name: str) -> None:
        (place,) = (place for place, item in enumerate(self.items) if item.id == name)
        self.items[place] = WorkItem(
            name, State.STOPPED, self.items[place].created_at, None, None, None, self.stamped, self.stamped
        )

    def read(self) -> None:
        self.ledger.begin(now=self.monotonic)
        while wanted := self.ledger.calls_to_make():
            for call in wanted:
                self.calls += 1
                self.ledger.receive_page(call, self._page(call), now=self.monotonic)
        self.steps += [each.step for each in self.ledger.take_transitions()]
        self.incomplete += not self.ledger.listing().complete

    def counts(self) -> tuple[int, int]:
        return self.steps.count(Step.CREATED), self.steps.count(Step.STOPPED)

    def is_exact(self) -> bool:
        counts = dict.fromkeys(State, 0)
        for item in self.items:
            counts[item.state] += 1
        return self.ledger.listing().count_by_state == counts

    def _page(self, call: Call) -> WorkPage:
        items = self.items
        if self.order != "inserted":
            items = sorted(items, key=lambda item: item.created_at or 0.0, reverse=self.order == "newest first")
        ids = [item.id for item in items]
        start = 0 if call.cursor is None else ids.index(call.cursor) + 1
        page = tuple(items[start : start + call.limit])
        return WorkPage(page, page[-1].id if start + call.limit < len(items) else None)


def _step(seconds: float) -> Callable[[_World], None]:
    def step(world: _World) -> None:
        world.stamped += seconds

    return step


back_by_many_items = _step(-900)


def _sleep(world: _World) -> None:
    world.stamped += 7200  # and our monotonic clock stands still


def _future_item(world: _World) -> None:
    world.items.append(WorkItem("future", State.QUEUED, world.stamped + 3600))


def _slow_items(world: _World) -> None:
    world.pass_time(86_400)
    world.stamped -= 5  # what two clocks drift apart in a day at most


@pytest.mark.parametrize("history", [0, 250, MANY])
@pytest.mark.parametrize("order", ["newest first", "oldest first", "inserted"])
@pytest.mark.parametrize(
    "happens",
    [_step(0), _step(-3), _step(-60), back_by_many_items, _step(60), _step(3600), _sleep, _future_item, _slow_items],
    ids=["nothing", "-3 s", "-60 s", "-900 s", "+60 s", "+3600 s", "sleep", "future", "drift"],
)
def test_every_item_is_counted_whatever_the_clock_of_the_items_does(
    happens: Callable[[_World], None], order: str, history: int
) -> None:
    # On the page before the last one of many, which only reading everything again shows.
    appears_where_nobody_reads = happens is back_by_many_items and order == "oldest first" and history == MANY
    world = _World(order=order, history=history)
    world.read()
    for number in range(ITEMS):
        if number == ITEMS // 3:
            happens(world)
        world.pass_time(SCRAPE_S / 2)
        world.create(str(number))
        if number % 2:
            world.end(str(number))
        world.pass_time(SCRAPE_S / 2)
        world.read()
        assert world.is_exact() or appears_where_nobody_reads
    if appears_where_nobody_reads:
        world.pass_time(RESYNC_S)
        world.read()
    assert world.is_exact()
    assert world.counts() == (ITEMS + (happens is _future_item), ITEMS // 2)
    assert world.incomplete == 0


@pytest.mark.parametrize("order", ["newest first", "oldest first"])
@pytest.mark.parametrize("seconds", [-60.0, -900.0])
def test_a_clock_that_steps_back_costs_a_few_walks_at_most(order: str, seconds: float) -> None:
    steady, stepping = (_World(order=order, history=1500) for _ in range(2))
    for world in (steady, stepping):
        world.read()
        for number in range(ITEMS):
            if number == ITEMS // 3 and world is stepping:
                world.stamped += seconds
            world.pass_time(SCRAPE_S)
            world.create(str(number))
            world.read()
    pages = len(steady.items) // 100 + 1
    assert stepping.calls <= steady.calls + 3 * pages
    assert stepping.ledger.listing().contradictions <= 3


def test_items_that_arrive_rarely_settle_between_them() -> None:
    world = _World(order="newest first", history=250)
    for _ in range(3):
        world.read()
        world.pass_time(SCRAPE_S)
    assert world.ledger._index.items.recent == {}
    world.create("rare")
    world.read()
    assert set(world.ledger._index.items.recent) == {"rare"}
    world.pass_time(SCRAPE_S)
    world.read()
    assert world.ledger._index.items.recent == {}
    assert world.is_exact()


def test_a_list_that_was_empty_counts_its_first_items() -> None:
    world = _World(order="newest first")
    for number in range(3):
        world.read()
        world.pass_time(SCRAPE_S)
        world.create(str(number))
    world.read()
    assert world.counts() == (3, 0)


@pytest.mark.parametrize("order", ["newest first", "oldest first"])
@pytest.mark.parametrize("history", [0, 250])
def test_an_acknowledged_item_that_gets_a_new_id_within_seconds_is_created_once(order: str, history: int) -> None:
    world = _World(order=order, history=history)
    world.read()
    world.create("a")
    world.items[-1] = WorkItem("a", State.STARTING, world.stamped, world.stamped + 1)
    world.pass_time(2)
    world.read()
    world.items[-1] = WorkItem("b", State.QUEUED, world.items[-1].created_at)
    world.pass_time(2)
    world.read()
    world.items[-1] = WorkItem("b", State.STARTING, world.items[-1].created_at, world.stamped)
    world.pass_time(2)
    world.read()
    assert world.steps == [Step.CREATED, Step.ACKNOWLEDGED, Step.ACKNOWLEDGED]
    assert world.is_exact()


@pytest.mark.parametrize("order", ["newest first", "oldest first"])
@pytest.mark.parametrize("age_s", [30.0, 9000.0])
def test_an_item_that_is_handed_out_again_and_finishes_between_two_reads_costs_no_walk(
    order: str, age_s: float
) -> None:
    world = _World(order=order, history=1500)
    world.items.append(WorkItem("a", State.ACTIVE, world.stamped - age_s + 0.5, world.stamped, world.stamped))
    world.pass_time(5)
    for _ in range(3):
        world.read()
        world.pass_time(SCRAPE_S)
    calls = world.calls
    world.read()
    usual, calls = world.calls - calls, world.calls
    world.items[-1] = WorkItem("a", State.ACTIVE, world.items[-1].created_at, world.stamped, world.stamped)
    world.items[-1] = WorkItem(
        "b", State.STOPPED, world.items[-1].created_at, None, None, None, None, world.stamped + 7
    )
    world.pass_time(SCRAPE_S)
    world.read()
    assert world.calls - calls <= usual + 1
    assert world.ledger.listing().contradictions == 0
    assert world.is_exact()
    assert world.steps == [Step.STOPPED]
