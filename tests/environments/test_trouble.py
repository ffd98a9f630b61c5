"""What is wrong with an environment: by the alerts' numbers, from current numbers alone, the worst first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dashboards import thresholds
from exporter.api.wire import State, WorkStats
from exporter.environments import trouble
from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes, Snapshot, Work
from exporter.environments.trouble import Severity, troubles, worst
from exporter.listing.ledger import Listing

NOW, SERVER_NOW = 1_000.0, 50_000.0
ENVIRONMENT = Environment(id="env_1", name="production", wait_objective_s=60.0)
SLEEPING = replace(ENVIRONMENT, worker_mode="webhook")


def times(age_s: float = 5.0) -> ReadTimes:
    return ReadTimes(read_at=0.0, server_at=SERVER_NOW, monotonic_at=NOW - age_s, duration_s=0.1)


def queue(
    depth: int = 0, workers: int | None = 1, waited_s: float | None = None, age_s: float = 5.0, pending: int = 0
) -> Queue:
    oldest_at = None if waited_s is None else SERVER_NOW - waited_s
    return Queue(WorkStats(depth, pending, oldest_at, workers), times(age_s))


def work(*heartbeats_s: float, active: int = 0, age_s: float = 5.0, **for_s: float) -> Work:
    listing = Listing(
        complete=True,
        count_by_state={State.ACTIVE: active or len(heartbeats_s)},
        oldest_at_by_state={State(state): SERVER_NOW - each for state, each in for_s.items()},
        heartbeats=tuple(sorted(SERVER_NOW - each for each in heartbeats_s)),
        oldest_read_at=None,
    )
    return Work(listing, times(age_s))


def found(**parts: Any) -> list[tuple[object, ...]]:
    known: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "listing_enabled": True,
        "queue": queue(),
        "work": work(),
        "tally": None,
    }
    snapshot = Snapshot(**(known | parts))
    return [tuple(each) for each in troubles(snapshot, monotonic=NOW, heartbeat_overdue_s=90.0)]


def test_the_numbers_are_the_alerts() -> None:
    assert trouble.WAIT_WARNING_OBJECTIVES == thresholds.WAIT_WARNING_OBJECTIVES
    assert trouble.WAIT_CRITICAL_OBJECTIVES == thresholds.WAIT_CRITICAL_OBJECTIVES
    assert (trouble.STARTING_S, trouble.STOPPING_S) == (thresholds.STARTING_S, thresholds.STOPPING_S)
    assert trouble.NOBODY_POLLING_S == thresholds.NOBODY_POLLING_S
    assert trouble.PENDING_S == thresholds.PENDING_AGE_S
    assert trouble.OVERDUE_CRITICAL_ITEMS == thresholds.HEARTBEATS_CRITICAL_ITEMS
    assert trouble.OVERDUE_CRITICAL_SHARE == thresholds.HEARTBEATS_CRITICAL_SHARE
    assert trouble.CURRENT_S == thresholds.CURRENT_S


NOBODY = (Severity.CRITICAL, "Work waits, and nobody polls.")
WAKING = (Severity.WARNING, "Work waits for a worker to wake.")
LONG = (Severity.WARNING, "Work waits too long.")
FAR_TOO_LONG = (Severity.CRITICAL, "Work waits far too long.")
UNACKNOWLEDGED = (Severity.WARNING, "Work is claimed and not acknowledged.")
OLD = (Severity.WARNING, "Its numbers are old.")
OVERDUE = (Severity.WARNING, "A heartbeat is overdue.")
MANY_OVERDUE = (Severity.CRITICAL, "Heartbeats of many items are overdue.")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, []),
        ({"queue": queue(depth=3, workers=0)}, [NOBODY]),
        ({"queue": queue(depth=3, workers=0, waited_s=31)}, [NOBODY]),
        ({"queue": queue(depth=3, workers=0, waited_s=30)}, []),
        ({"queue": queue(depth=3, workers=0), "work": None}, [(1, "Work waits, and nobody polls; whether all are busy is not known.")]),
        ({"queue": queue(depth=3, workers=0), "work": None, "listing_enabled": False}, [NOBODY]),
        ({"queue": queue(depth=3, workers=0), "work": work(91)}, [NOBODY, OVERDUE]),
        ({"queue": queue(depth=3, workers=0), "work": work(91, 10)}, [OVERDUE]),
        ({"queue": queue(depth=3, workers=0), "work": work(10)}, []),
        ({"environment": SLEEPING, "queue": queue(depth=3, workers=0, waited_s=150)}, [WAKING]),
        ({"environment": SLEEPING, "queue": queue(depth=3, workers=0, waited_s=151)}, [NOBODY, LONG]),
        ({"environment": SLEEPING, "queue": queue(depth=3, workers=0)}, [WAKING]),
        ({"queue": queue(depth=3, workers=None)}, []),
        ({"queue": queue(depth=0, workers=0)}, []),
        ({"queue": queue(waited_s=150)}, []),
        ({"queue": queue(waited_s=151)}, [LONG]),
        ({"queue": queue(waited_s=900)}, [LONG]),
        ({"queue": queue(waited_s=901)}, [FAR_TOO_LONG]),
        ({"queue": queue(depth=3, workers=0, waited_s=9_000, age_s=121)}, [OLD]),
        ({"queue": queue(pending=1, waited_s=60)}, []),
        ({"queue": queue(pending=1, waited_s=61)}, [UNACKNOWLEDGED]),
        ({"queue": queue(pending=1, waited_s=61, depth=1)}, []),
        ({"queue": queue(pending=1, waited_s=61, workers=0)}, []),
        ({"queue": queue(pending=1, waited_s=61, workers=None)}, []),
        ({"queue": queue(pending=1, waited_s=61, age_s=121)}, [OLD]),
        ({"work": work(starting=300)}, []),
        ({"work": work(starting=301)}, [(Severity.WARNING, "An item does not start.")]),
        ({"work": work(stopping=601)}, [(Severity.WARNING, "An item does not stop.")]),
        ({"work": work(stopping=601, age_s=121)}, []),
        ({"work": work(90)}, []),
        ({"work": work(91, 10)}, [OVERDUE]),
        ({"work": work(91, 92, 93, 10, 11, 12)}, [MANY_OVERDUE]),
        ({"work": work(91, 92, 93, 10, 11, 12, 13)}, [OVERDUE]),
        ({"work": work(91, 92)}, [OVERDUE]),
        ({"queue": queue(depth=3, workers=0, waited_s=200), "work": work(starting=301)}, [NOBODY, LONG, (1, "An item does not start.")]),
        ({"queue": None}, [(Severity.WARNING, "Its statistics are not known.")]),
        (
            {"queue": None, "queue_problem": Problem("auth", "x", 0.0)},
            [(Severity.UNREADABLE, "Its statistics are not known.")],
        ),
        ({"work": None, "work_problem": Problem("server", "x", 0.0)}, [(Severity.WARNING, "Its list cannot be read.")]),
        ({"work": None, "work_problem": Problem("server", "x", 0.0), "listing_enabled": False}, []),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_the_worst_first(parts: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    assert found(**parts) == expected


def test_the_worst_of_nothing_is_fine() -> None:
    assert worst(()) is Severity.FINE
    assert worst((trouble.Trouble(Severity.WARNING, ""), trouble.Trouble(Severity.CRITICAL, ""))) is Severity.CRITICAL
