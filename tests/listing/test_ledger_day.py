"""A day of three environments, read through gaps, outages and resyncs: what was tallied is what the world records."""

from __future__ import annotations

import heapq
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter.listing.ledger import Ledger
from exporter.simulator.environment import Refusal, Rules
from exporter.simulator.item import parse_work_id
from tests.listing.listed import Clock, ListReader, environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.listing.tally import HistogramView
    from exporter.simulator.environment import Environment, TransitionKind

BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
HISTORY = 2000
RESYNC_S = 6 * 3600.0
HOURS_BY_PROFILE = {
    "newest first, keys, late, new ids": 24,
    "oldest first, keys, late": 24,
    "newest first, positions": 24,
    "unordered": 0.5,  # every read walks through everything
}
PROFILES = {
    "newest first, keys, late, new ids": Rules(page_max=50, late_visibility_s=10.0, new_id_on_reclaim=True),
    "oldest first, keys, late": Rules(order="oldest_first", page_max=50, late_visibility_s=10.0, trailing_cursor=True),
    "newest first, positions": Rules(cursors="position", page_max=50, over_limit="clamp"),
    "unordered": Rules(order="unordered", late_visibility_s=10.0),
}


class Fleet:
    """Arrivals, and workers that wait, work, quit and die, as a queue of appointments."""

    def __init__(self, environment: Environment, clock: Clock, dice: Random) -> None:
        self._environment = environment
        self._clock = clock
        self._dice = dice
        self._appointments: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def open(self, until: float) -> None:
        at = self._clock.at
        while (at := at + self._dice.expovariate(1 / 30)) < until:
            self._at(at, self._arrive)

    def live_until(self, until: float) -> None:
        while self._appointments and self._appointments[0][0] <= until:
            at, _, act = heapq.heappop(self._appointments)
            self._clock.at = max(self._clock.at, at)
            act()
        self._clock.at = until

    @property
    def busy(self) -> bool:
        return bool(self._appointments)

    def _at(self, at: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._appointments, (at, self._number, act))

    def _in(self, delay_s: float, act: Callable[[], None]) -> None:
        self._at(self._clock.at + delay_s, act)

    def _arrive(self) -> None:
        item = self._environment.create()
        if self._dice.random() < 0.05:
            self._in(self._dice.uniform(0.1, 90), lambda: self._stop(item.id, force=True))
        else:
            self._in(self._dice.expovariate(1 / 20), self._claim)

    def _claim(self) -> None:
        item = self._environment.poll(reclaim_older_than_ms=5000)
        if item is None:
            return
        if self._dice.random() < 0.05:
            self._in(self._dice.uniform(6, 60), self._claim)  # this worker dies; another will take the item over
            return
        self._in(self._dice.uniform(0.01, 4), lambda: self._start(item.id))

    def _start(self, item_id: str) -> None:
        with suppress(Refusal):
            self._environment.ack(item_id)
            if self._dice.random() < 0.1:
                self._in(self._dice.uniform(1, 200), lambda: self._stop(item_id, force=True))  # its worker quit at once
            else:
                self._in(self._dice.uniform(0, 8), lambda: self._run(item_id))

    def _run(self, item_id: str) -> None:
        if self._environment.item(item_id).state != "starting":
            return
        self._environment.heartbeat(item_id)
        run_s = self._dice.choice([1.0, 30.0, 300.0, 3000.0]) * self._dice.uniform(0.1, 3)
        self._in(run_s, lambda: self._stop(item_id, force=self._dice.random() < 0.3))

    def _stop(self, item_id: str, *, force: bool) -> None:
        seq, _ = parse_work_id(item_id, self._environment._salt) or (-1, 0)
        item = self._environment._items.get(seq)  # by its place: it may have got another id since
        if item is None or item.state == "stopped":
            return
        self._environment.stop(item.id, force=force)
        if item.state == "stopping":
            self._in(self._dice.uniform(0.1, 40), lambda: self._stop(item_id, force=False))


def _counts(durations: list[float]) -> tuple[int, ...]:
    return tuple(sum(each <= bound for each in durations) for bound in (*BUCKETS, float("inf")))


def _assert_equal(view: HistogramView, environment: Environment, kind: TransitionKind) -> None:
    durations = environment.truth().durations(kind)
    assert view.cumulative_counts == _counts(durations)
    assert view.count == len(durations)
    assert view.sum_s == pytest.approx(sum(durations), rel=1e-9)


@pytest.mark.parametrize("name", PROFILES)
def test_after_a_day_the_tally_equals_the_worlds_record(name: str) -> None:
    dice = Random(name)  # noqa: S311 - a test's dice
    clock, rules = Clock(), PROFILES[name]
    environment = environment_of(clock, rules)
    environment.add_finished(HISTORY)
    page_size = 1000 if rules.over_limit == "clamp" else rules.page_max
    ledger = Ledger(page_size=page_size, resync_interval_s=RESYNC_S)
    reader = ListReader(environment, clock, ledger, seed=7, buckets=BUCKETS)
    reader.read()
    fleet = Fleet(environment, clock, dice)
    fleet.open(clock.at + HOURS_BY_PROFILE[name] * 3600)
    while fleet.busy:
        fleet.live_until(clock.at + _pause_s(dice))
        _read_somehow(reader, dice)
        if dice.random() < 0.001:
            environment.delete_stopped(50)
    for _ in range(2):
        fleet.live_until(clock.at + 15)
        reader.read()
    _assert_equals_the_record(reader, environment)
    assert reader.tally.view().created > HOURS_BY_PROFILE[name] * 100
    assert reader.drift == []


def _pause_s(dice: Random) -> float:
    kind = dice.random()
    if kind < 0.95:
        return 15.0
    return dice.uniform(1, 240) if kind < 0.995 else dice.uniform(60, 1200)


def _read_somehow(reader: ListReader, dice: Random) -> None:
    """Read; sometimes with answers that fail, with too little budget, or with cursors that the server refuses."""
    mishap, rules = dice.random(), reader.environment.rules
    if mishap < 0.02:
        reader.fault = lambda _: dice.random() < 0.5
    rules.cursor_ttl_s = 0.0 if 0.02 < mishap < 0.022 else None
    reader.read(calls=1 if mishap > 0.98 else None)
    rules.cursor_ttl_s = None
    reader.fault = lambda _: False


def _assert_equals_the_record(reader: ListReader, environment: Environment) -> None:
    assert reader.listing().complete
    view, truth = reader.tally.view(), environment.truth()
    assert view.created == len(truth.durations("created"))
    assert view.finished_by_outcome == truth.finished()
    assert all(view.finished_by_outcome.values())
    _assert_equal(view.queue_wait, environment, "wait")
    _assert_equal(view.startup, environment, "startup")
    _assert_equal(view.run, environment, "run")
    _assert_equal(view.stop, environment, "stop")
