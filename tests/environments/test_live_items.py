"""The live items of a snapshot: which there are, for how long, and in which order."""

from __future__ import annotations

import dataclasses

import pytest

from exporter.api.wire import State, WorkItem
from exporter.environments.live_items import LISTING_OFF, NOT_COMPLETE, STATES, LiveItem, LiveItems, live_items
from exporter.environments.snapshot import Environment, Problem, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Listing

SERVER_NOW = 5_000.0
TIMES = ReadTimes(read_at=1_000.0, server_at=SERVER_NOW, monotonic_at=70.0, duration_s=0.1)
OVERDUE_S = 90.0
QUEUED = WorkItem("a", State.QUEUED, created_at=SERVER_NOW - 60, type="session", session_id="session_a")
STARTING = WorkItem(
    "b", State.STARTING, created_at=SERVER_NOW - 900, acknowledged_at=SERVER_NOW - 600, type="healthcheck"
)
ACTIVE = WorkItem("c", State.ACTIVE, started_at=SERVER_NOW - 30, latest_heartbeat_at=SERVER_NOW - 91)
TIMELESS = WorkItem("d", State.STOPPING)


def snapshot(*items: WorkItem) -> Snapshot:
    listing = Listing(
        complete=True, count_by_state={}, oldest_at_by_state={}, heartbeats=(), oldest_read_at=None, unfinished=items
    )
    environment = Environment(id="env_1", name="production")
    return Snapshot(environment=environment, listing_enabled=True, queue=None, work=Work(listing, TIMES), tally=None)


def found(*items: WorkItem, states: tuple[State, ...] = STATES, limit: int | None = None) -> LiveItems:
    shown = live_items(snapshot(*items), states, limit=limit, heartbeat_overdue_s=OVERDUE_S, monotonic=75.0)
    assert isinstance(shown, LiveItems)
    return shown


def test_the_longest_in_its_state_comes_first_and_one_of_unknown_time_last() -> None:
    shown = found(TIMELESS, QUEUED, STARTING, ACTIVE)
    assert [(each.id, each.for_s) for each in shown.items] == [("b", 600), ("a", 60), ("c", 30), ("d", None)]
    assert (shown.environment_id, shown.environment_name, shown.read_at, shown.age_s, shown.total) == (
        *("env_1", "production", 1_000.0, 5.0, 4),
    )


def test_an_item_says_what_the_api_says_of_it() -> None:
    (shown,) = found(QUEUED).items
    assert shown == LiveItem(
        id="a",
        session_id="session_a",
        type="session",
        state=State.QUEUED,
        since=SERVER_NOW - 60,
        for_s=60,
        latest_heartbeat_at=None,
        heartbeat_age_s=None,
        overdue=False,
    )


def test_states_narrow_and_the_limit_leaves_the_total() -> None:
    assert [each.id for each in found(QUEUED, STARTING, ACTIVE, states=(State.ACTIVE, State.QUEUED)).items] == [
        "a",
        "c",
    ]
    shown = found(QUEUED, STARTING, ACTIVE, limit=1)
    assert ([each.id for each in shown.items], shown.total) == (["b"], 3)


@pytest.mark.parametrize(
    ("state", "age_s", "overdue"),
    [(State.ACTIVE, 91, True), (State.ACTIVE, 90, False), (State.STOPPING, 91, False), (State.ACTIVE, None, False)],
)
def test_an_active_item_is_overdue_as_its_metric_counts_it(state: State, age_s: float | None, *, overdue: bool) -> None:
    heartbeat_at = None if age_s is None else SERVER_NOW - age_s
    (shown,) = found(WorkItem("x", state, latest_heartbeat_at=heartbeat_at)).items
    assert (shown.overdue, shown.heartbeat_age_s) == (overdue, age_s)


def test_an_instant_ahead_of_the_read_is_no_negative_time() -> None:
    (shown,) = found(WorkItem("x", State.QUEUED, created_at=SERVER_NOW + 3)).items
    assert shown.for_s == 0


@pytest.mark.parametrize(
    ("enabled", "problem", "sentence"),
    [
        (False, None, LISTING_OFF),
        (True, None, NOT_COMPLETE),
        (True, Problem("auth", "the key is refused", 0.0), "The list cannot be read (auth): the key is refused"),
    ],
)
def test_without_a_list_a_sentence_says_why(*, enabled: bool, problem: Problem | None, sentence: str) -> None:
    without = dataclasses.replace(snapshot(), listing_enabled=enabled, work=None, work_problem=problem)
    assert live_items(without, STATES, limit=None, heartbeat_overdue_s=OVERDUE_S, monotonic=0.0) == sentence
