"""What is made of transitions: counters, histograms, drift."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.api.wire import State, WorkItem
from exporter.listing.lifecycle import Step, Transition
from exporter.listing.tally import Exemplar, Tally

BUCKETS = (1.0, 5.0, 60.0)


def _item(**instants: Any) -> WorkItem:
    return WorkItem(id="work_1", state=State.STOPPED, **instants)


def _stopped(**instants: Any) -> Transition:
    return Transition(Step.STOPPED, _item(**instants))


def test_a_new_tally_shows_zeros_for_everything() -> None:
    view = Tally(BUCKETS).view()
    assert view.created == 0
    assert view.finished_by_outcome == {"ran": 0, "never_started": 0, "never_acknowledged": 0}
    for histogram in (view.queue_wait, view.startup, view.run, view.stop):
        assert histogram.bounds_s == BUCKETS
        assert histogram.cumulative_counts == (0, 0, 0, 0)
        assert (histogram.count, histogram.sum_s) == (0, 0.0)


def test_a_whole_life_is_counted_in_each_of_its_steps() -> None:
    tally = Tally(BUCKETS)
    item = _item(created_at=10.0, acknowledged_at=12.0, started_at=13.0, stop_requested_at=90.0, stopped_at=97.0)
    assert tally.observe((Transition(step, item) for step in Step), wait_objective_s=60) == ()
    view = tally.view()
    assert view.created == 1
    assert view.finished_by_outcome == {"ran": 1, "never_started": 0, "never_acknowledged": 0}
    assert (view.queue_wait.cumulative_counts, view.queue_wait.sum_s) == ((0, 1, 1, 1), 2.0)
    assert (view.startup.cumulative_counts, view.startup.sum_s) == ((1, 1, 1, 1), 1.0)
    assert (view.run.cumulative_counts, view.run.count, view.run.sum_s) == ((0, 0, 0, 1), 1, 84.0)
    assert (view.stop.cumulative_counts, view.stop.sum_s) == ((0, 0, 1, 1), 7.0)


@pytest.mark.parametrize(
    ("instants", "outcome"),
    [
        ({"acknowledged_at": 1.0, "started_at": 2.0}, "ran"),
        ({"started_at": 2.0}, "ran"),
        ({"acknowledged_at": 1.0}, "never_started"),
        ({}, "never_acknowledged"),
    ],
)
def test_the_outcome_is_what_the_item_reached(instants: dict[str, float | None], outcome: str) -> None:
    tally = Tally(BUCKETS)
    tally.observe([_stopped(**instants)], wait_objective_s=60)
    expected = {"ran": 0, "never_started": 0, "never_acknowledged": 0} | {outcome: 1}
    assert tally.view().finished_by_outcome == expected


def test_a_duration_on_a_bound_belongs_to_its_bucket() -> None:
    tally = Tally(BUCKETS)
    tally.observe([_stopped(started_at=0.0, stopped_at=5.0)], wait_objective_s=60)
    assert tally.view().run.cumulative_counts == (0, 1, 1, 1)


def test_an_item_that_stopped_nobody_knows_when_is_finished_without_durations() -> None:
    tally = Tally(BUCKETS)
    assert tally.observe([_stopped(started_at=1.0, stop_requested_at=2.0)], wait_objective_s=60) == ()
    view = tally.view()
    assert view.finished_by_outcome["ran"] == 1
    assert view.run.count == view.stop.count == 0


@pytest.mark.parametrize(
    ("step", "instants", "field"),
    [
        (Step.ACKNOWLEDGED, {"created_at": 2.0, "acknowledged_at": 1.0}, "acknowledged_at"),
        (Step.STARTED, {"acknowledged_at": 2.0, "started_at": 1.0}, "started_at"),
        (Step.STOPPED, {"started_at": 2.0, "stopped_at": 1.0}, "stopped_at"),
        (Step.STOPPED, {"stop_requested_at": 2.0, "stopped_at": 1.0}, "stopped_at"),
        (Step.STOPPED, {"started_at": 2.0, "stop_requested_at": 2.0, "stopped_at": 1.0}, "stopped_at"),
    ],
)
def test_time_that_runs_backwards_is_drift_and_not_observed(
    step: Step, instants: dict[str, float | None], field: str
) -> None:
    tally = Tally(BUCKETS)
    assert tally.observe([Transition(step, _item(**instants))], wait_objective_s=60) == (field,)
    view = tally.view()
    assert view.queue_wait.count == view.startup.count == view.run.count == view.stop.count == 0
    assert sum(view.finished_by_outcome.values()) == (step is Step.STOPPED)


def test_the_view_is_the_same_one_while_nothing_is_added() -> None:
    tally = Tally(BUCKETS)
    view = tally.view()
    tally.observe([], wait_objective_s=60)
    assert tally.view() is view


def test_a_view_does_not_change_afterwards() -> None:
    tally = Tally(BUCKETS)
    before = tally.view()
    tally.observe(
        [Transition(Step.CREATED, _item(created_at=1.0)), _stopped(started_at=0.0, stopped_at=1.0)], wait_objective_s=60
    )
    assert before == Tally(BUCKETS).view()
    assert tally.view() != before


@pytest.mark.parametrize(
    ("created_at", "acknowledged_at", "in_time"),
    [(0.0, 60.0, 1), (0.0, 60.1, 0), (5.0, 5.0, 1), (5.0, 4.0, 0), (None, 4.0, 0), (5.0, None, 0)],
)
def test_a_wait_within_the_objective_is_counted_exactly(
    created_at: float | None, acknowledged_at: float | None, in_time: int
) -> None:
    tally = Tally(BUCKETS)
    item = _item(created_at=created_at, acknowledged_at=acknowledged_at)
    tally.observe([Transition(Step.ACKNOWLEDGED, item)], wait_objective_s=60)
    assert tally.view().acknowledged_in_time == in_time
    assert tally.view().queue_wait.count >= in_time


def _started(work_id: str, *, after_s: float, at: float, session_id: str | None = None) -> Transition:
    item = WorkItem(
        work_id, State.ACTIVE, acknowledged_at=at - after_s, started_at=at, type="session", session_id=session_id
    )
    return Transition(Step.STARTED, item)


def test_each_bucket_keeps_the_exemplar_of_its_latest_item() -> None:
    tally = Tally(BUCKETS)
    tally.observe(
        [
            _started("work_1", after_s=0.5, at=100, session_id="session_1"),
            _started("work_2", after_s=0.7, at=90),
            _started("work_3", after_s=3, at=80),
        ],
        wait_objective_s=60,
    )
    assert tally.view().startup.exemplars == (
        Exemplar("work_1", "session_1", 0.5, 100),
        Exemplar("work_3", None, 3, 80),
        None,
        None,
    )
    assert tally.view().run.exemplars == ()


def test_of_two_items_at_one_instant_the_one_counted_last_is_the_exemplar() -> None:
    tally = Tally(BUCKETS)
    tally.observe([_started(f"work_{number}", after_s=0.5, at=100) for number in (1, 2)], wait_objective_s=60)
    assert tally.view().startup.exemplars[0] == Exemplar("work_2", None, 0.5, 100)


def test_an_outcome_keeps_the_exemplar_of_its_latest_item() -> None:
    tally = Tally(BUCKETS)
    stopped = [_stopped(stopped_at=at) for at in (40.0, 50.0, 45.0, None)]
    tally.observe(stopped, wait_objective_s=60)
    assert tally.view().exemplar_by_outcome == {"never_acknowledged": Exemplar("work_1", None, 1.0, 50.0)}


@pytest.mark.parametrize("hostile", ["work_\x00", "work_\u202e", "work_\n"])
def test_an_id_that_could_mislead_is_no_exemplar(hostile: str) -> None:
    tally = Tally(BUCKETS)
    tally.observe([_started(hostile, after_s=0.5, at=100)], wait_objective_s=60)
    assert set(tally.view().startup.exemplars) == {None}
    assert tally.view().startup.count == 1
    tally.observe(
        [Transition(Step.STOPPED, WorkItem(id=hostile, state=State.STOPPED, stopped_at=9.0))], wait_objective_s=60
    )
    assert tally.view().exemplar_by_outcome == {}


@pytest.mark.parametrize("hostile", ["session_\x00", "session_\u202e"])
def test_an_item_whose_session_could_mislead_leaves_the_exemplar_before_it(hostile: str) -> None:
    tally = Tally(BUCKETS)
    started = [
        _started("work_1", after_s=0.5, at=100, session_id="session_1"),
        _started("work_2", after_s=0.5, at=101, session_id=hostile),
    ]
    tally.observe(started, wait_objective_s=60)
    assert tally.view().startup.exemplars[0] == Exemplar("work_1", "session_1", 0.5, 100)
    assert tally.view().startup.count == 2
