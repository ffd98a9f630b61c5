"""A server that counts every live item as pending is noticed once, and no other one is."""

from __future__ import annotations

import pytest

from exporter.api.wire import State, WorkStats
from exporter.environments.pending_watch import READS_NEEDED, PendingWatch
from exporter.environments.snapshot import Queue, ReadTimes, Work
from exporter.listing.ledger import Listing


def read(pending: int, counts: dict[State, int], *, apart_s: float = 0.5) -> tuple[Queue, Work]:
    times = ReadTimes(read_at=0.0, server_at=0.0, monotonic_at=0.0, duration_s=0.1)
    listing = Listing(
        complete=True,
        count_by_state=dict.fromkeys(State, 0) | counts,
        oldest_at_by_state={},
        heartbeats=(),
        oldest_read_at=None,
    )
    return Queue(WorkStats(0, pending, None, None), times), Work(listing, times.moved_to(apart_s))


RUNNING = {State.QUEUED: 1, State.ACTIVE: 3, State.STOPPED: 9}


def test_a_server_that_counts_all_live_items_is_noticed_once() -> None:
    watch = PendingWatch()
    seen = [watch.observe(*read(4, RUNNING)) for _ in range(READS_NEEDED + 10)]
    assert seen == [False] * (READS_NEEDED - 1) + [True] + [False] * 10


@pytest.mark.parametrize(
    ("pending", "counts", "apart_s"),
    [
        (1, {State.QUEUED: 1, State.ACTIVE: 3}, 0.5),  # as the vendor counts
        (2, {State.QUEUED: 2}, 0.5),  # all that is queued is claimed: nothing is running
        (0, {}, 0.5),
        (4, RUNNING, 60.0),  # the two reads are not of one time
    ],
)
def test_whatever_can_be_right_is_not_noticed(pending: int, counts: dict[State, int], apart_s: float) -> None:
    watch = PendingWatch()
    assert not any(watch.observe(*read(pending, counts, apart_s=apart_s)) for _ in range(50))


def test_one_read_that_tells_otherwise_begins_the_count_anew() -> None:
    watch = PendingWatch()
    seen = [watch.observe(*read(pending, RUNNING)) for pending in [4] * (READS_NEEDED - 1) + [1] + [4] * READS_NEEDED]
    assert seen == [False] * (2 * READS_NEEDED - 1) + [True]


def test_reads_without_running_items_do_not_interrupt_it() -> None:
    watch = PendingWatch()
    quiet, busy = read(2, {State.QUEUED: 2}), read(4, RUNNING)
    seen = [watch.observe(*each) for each in [busy, quiet] * READS_NEEDED]
    assert seen.count(True) == 1
