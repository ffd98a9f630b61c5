"""What is wrong with an environment at this moment, as the shipped alerts see it, at once and without their `for`. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from exporter.api.wire import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.environments.snapshot import Queue, Snapshot, Work

# The numbers of the shipped alerts; a test compares them.
WAIT_WARNING_OBJECTIVES, WAIT_CRITICAL_OBJECTIVES = 2.5, 15
NOBODY_POLLING_S = 30
PENDING_S = 60
STARTING_S, STOPPING_S = 300, 600
OVERDUE_CRITICAL_ITEMS, OVERDUE_CRITICAL_SHARE = 3, 0.5
CURRENT_S = 120


class Severity(enum.IntEnum):
    FINE = 0
    WARNING = 1
    CRITICAL = 2
    UNREADABLE = 3


class Trouble(NamedTuple):
    severity: Severity
    sentence: str


WAKING = Trouble(Severity.WARNING, "Work waits for a worker to wake.")
NOBODY_POLLS = Trouble(Severity.CRITICAL, "Work waits, and nobody polls.")


def troubles(snapshot: Snapshot, *, monotonic: float, heartbeat_overdue_s: float) -> tuple[Trouble, ...]:
    """Return what is wrong, the worst first. Nothing is concluded from numbers that are not current."""
    return tuple(sorted(_found(snapshot, monotonic, heartbeat_overdue_s), key=lambda each: -each.severity))


def worst(found: tuple[Trouble, ...]) -> Severity:
    return max((each.severity for each in found), default=Severity.FINE)


def _found(snapshot: Snapshot, monotonic: float, heartbeat_overdue_s: float) -> Iterator[Trouble]:
    queue, work = snapshot.queue, snapshot.work
    if queue is None:
        problem = snapshot.queue_problem
        severity = Severity.WARNING if problem is None else Severity.UNREADABLE
        yield Trouble(severity, "Its statistics are not known.")
        return
    if monotonic - queue.times.monotonic_at > CURRENT_S:
        yield Trouble(Severity.WARNING, "Its numbers are old.")
    else:
        yield from _of_queue(queue, snapshot, heartbeat_overdue_s)
    if work is not None and monotonic - work.times.monotonic_at <= CURRENT_S:
        yield from _of_work(work, heartbeat_overdue_s)
    if snapshot.listing_enabled and snapshot.work_problem is not None:
        yield Trouble(Severity.WARNING, "Its list cannot be read.")


def _of_queue(queue: Queue, snapshot: Snapshot, heartbeat_overdue_s: float) -> Iterator[Trouble]:
    stats = queue.stats
    waited_s = None if stats.oldest_queued_at is None else queue.times.server_at - stats.oldest_queued_at
    objectives = None if waited_s is None else waited_s / max(1.0, snapshot.environment.wait_objective_s)
    # Work that has just arrived may wake a worker.
    if stats.depth and stats.workers_polling == 0 and (waited_s is None or waited_s > NOBODY_POLLING_S):
        wakes = snapshot.environment.worker_mode == "webhook" and (objectives or 0) <= WAIT_WARNING_OBJECTIVES
        if snapshot.work is None and snapshot.listing_enabled:
            yield Trouble(Severity.WARNING, "Work waits, and nobody polls; whether all are busy is not known.")
        elif not _is_busy(snapshot.work, heartbeat_overdue_s):
            yield WAKING if wakes else NOBODY_POLLS
    if waited_s is not None and objectives is not None:
        # Behind a backlog the oldest item is one that waits.
        if stats.pending and not stats.depth and stats.workers_polling and waited_s > PENDING_S:
            yield Trouble(Severity.WARNING, "Work is claimed and not acknowledged.")
        if objectives > WAIT_CRITICAL_OBJECTIVES:
            yield Trouble(Severity.CRITICAL, "Work waits far too long.")
        elif objectives > WAIT_WARNING_OBJECTIVES:
            yield Trouble(Severity.WARNING, "Work waits too long.")


def _is_busy(work: Work | None, heartbeat_overdue_s: float) -> bool:
    """Tell whether anybody works: an item is active, and its heartbeat is not overdue."""
    return work is not None and work.listing.count_by_state.get(State.ACTIVE, 0) > _overdue(work, heartbeat_overdue_s)


def _overdue(work: Work, heartbeat_overdue_s: float) -> int:
    return sum(at < work.times.server_at - heartbeat_overdue_s for at in work.listing.heartbeats)


def _of_work(work: Work, heartbeat_overdue_s: float) -> Iterator[Trouble]:
    listing, now = work.listing, work.times.server_at
    for state, limit_s, words in (
        (State.STARTING, STARTING_S, "does not start"),
        (State.STOPPING, STOPPING_S, "does not stop"),
    ):
        oldest_at = listing.oldest_at_by_state.get(state)
        if oldest_at is not None and now - oldest_at > limit_s:
            yield Trouble(Severity.WARNING, f"An item {words}.")
    overdue = _overdue(work, heartbeat_overdue_s)
    active = listing.count_by_state.get(State.ACTIVE, 0)
    if overdue >= OVERDUE_CRITICAL_ITEMS and overdue >= OVERDUE_CRITICAL_SHARE * active:
        yield Trouble(Severity.CRITICAL, "Heartbeats of many items are overdue.")
    elif overdue:
        yield Trouble(Severity.WARNING, "A heartbeat is overdue.")
