"""The rules of an item's life, without HTTP and without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from exporter.simulator import Environment, Rules, Stats, World
from exporter.simulator.environment import Conflict, HeartbeatMismatch, Invalid, NotFound

if TYPE_CHECKING:
    from exporter.simulator.item import Item

START_AT = 1_780_000_000.0


class Clock:
    def __init__(self) -> None:
        self.at = START_AT

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> Environment:
    return World(clock).add_environment("env_a", name="a", key="key-a")


def started(queue: Environment) -> str:
    item = queue.create()
    queue.poll()
    queue.ack(item.id)
    queue.heartbeat(item.id, expected="NO_HEARTBEAT")
    return item.id


def live(queue: Environment, clock: Clock) -> tuple[Item, list[str]]:
    """Lead an item through its whole life; answer it and the states it was seen in."""
    item = queue.create()
    seen: list[str] = [item.state]
    clock.at += 5
    assert queue.poll(worker_id="w1") is item
    seen.append(item.state)
    clock.at += 1
    seen.append(queue.ack(item.id).state)
    clock.at += 2
    seen.append(queue.heartbeat(item.id, expected="NO_HEARTBEAT").state)
    clock.at += 30
    seen.append(queue.stop(item.id).state)
    clock.at += 3
    seen.append(queue.stop(item.id).state)
    return item, seen


def test_an_item_lives_from_queued_to_stopped(queue: Environment, clock: Clock) -> None:
    item, seen = live(queue, clock)
    assert seen == ["queued", "queued", "starting", "active", "stopping", "stopped"]
    assert (item.created_at, item.acknowledged_at, item.started_at) == (START_AT, START_AT + 6, START_AT + 8)
    assert (item.latest_heartbeat_at, item.stop_requested_at, item.stopped_at) == (
        START_AT + 8,
        START_AT + 38,
        START_AT + 41,
    )


def test_every_step_of_a_life_is_recorded_with_its_duration(queue: Environment, clock: Clock) -> None:
    live(queue, clock)
    truth = queue.truth()
    assert [(step.kind, step.duration_s) for step in truth.transitions] == [
        ("created", 0.0),
        ("wait", 6.0),
        ("startup", 2.0),
        ("run", 33.0),
        ("stop", 3.0),
        ("finished", 41.0),
    ]
    assert truth.durations("run") == [33.0]
    assert truth.finished() == {"ran": 1, "never_started": 0, "never_acknowledged": 0}


def test_stats_tell_waiting_from_claimed(queue: Environment, clock: Clock) -> None:
    assert queue.stats() == Stats(0, 0, None, None)
    queue.create()
    clock.at += 1
    queue.create()
    assert queue.stats() == Stats(2, 0, START_AT, None)
    item = queue.poll()
    assert item is not None
    assert queue.stats() == Stats(1, 1, START_AT, None)
    queue.ack(item.id)
    assert queue.stats() == Stats(1, 0, START_AT + 1, None)


def test_some_servers_count_all_that_is_not_stopped_as_pending(queue: Environment) -> None:
    queue.rules.pending_counts = "unstopped"
    started(queue)
    queue.stop(started(queue), force=True)
    queue.create()
    assert queue.stats().pending == 2


def test_the_longest_waiting_item_is_handed_out_first(queue: Environment) -> None:
    items = [queue.create() for _ in range(3)]
    assert [queue.poll() for _ in range(4)] == [*items, None]


def test_a_claim_is_taken_back_only_after_its_time(queue: Environment, clock: Clock) -> None:
    item = queue.create()
    assert queue.poll() is item
    clock.at += 4.999
    assert queue.poll() is None
    assert queue.poll(reclaim_older_than_ms=4999) is item
    clock.at += 4.999
    assert queue.poll() is None
    clock.at += 0.001
    assert queue.poll() is item
    assert queue.stats().pending == 1


def test_a_claim_that_is_due_comes_before_waiting_items(queue: Environment, clock: Clock) -> None:
    first = queue.create()
    queue.poll()
    queue.create()
    clock.at += 10
    assert queue.poll() is first


def test_an_item_may_get_a_new_id_when_it_is_handed_out_again(queue: Environment, clock: Clock) -> None:
    queue.rules.new_id_on_reclaim = True
    item = queue.create()
    old_id = item.id
    queue.poll()
    clock.at += 6
    queue.poll()
    assert item.id != old_id
    assert queue.item(item.id) is item
    with pytest.raises(NotFound):
        queue.item(old_id)


@pytest.mark.parametrize("reclaim_older_than_ms", [0, -1])
def test_reclaiming_needs_a_positive_age(queue: Environment, reclaim_older_than_ms: int) -> None:
    with pytest.raises(Invalid):
        queue.poll(reclaim_older_than_ms=reclaim_older_than_ms)


def test_only_a_claimed_item_can_be_acknowledged(queue: Environment) -> None:
    item = queue.create()
    with pytest.raises(Conflict):
        queue.ack(item.id)
    queue.poll()
    assert queue.ack(item.id) is queue.ack(item.id)
    queue.heartbeat(item.id)
    with pytest.raises(Conflict):
        queue.ack(item.id)
    assert len(queue.truth().durations("wait")) == 1


def test_workers_count_for_thirty_seconds_after_a_poll_with_an_id(queue: Environment, clock: Clock) -> None:
    queue.poll()
    queue.poll(worker_id="")
    assert queue.stats().workers_polling is None
    queue.poll(worker_id="w1")
    clock.at += 20
    queue.poll(worker_id="w2")
    queue.poll(worker_id="w2")
    assert queue.stats().workers_polling == 2
    clock.at += 10
    assert queue.stats().workers_polling == 1
    clock.at += 20
    assert queue.stats().workers_polling == 0
    queue.rules.reports_workers = False
    assert queue.stats().workers_polling is None


@pytest.mark.parametrize("expected", ["NO_HEARTBEAT", "2026-07-01T08:15:01Z", ""])
def test_a_heartbeat_must_echo_the_last_one_exactly(queue: Environment, clock: Clock, expected: str) -> None:
    work_id = started(queue)
    clock.at += 30
    with pytest.raises(HeartbeatMismatch) as caught:
        queue.heartbeat(work_id, expected=expected)
    lease = caught.value.lease
    assert (lease.extended, lease.state, lease.ttl_s) == (False, "active", 300)
    assert queue.item(work_id).latest_heartbeat_at == START_AT
    beaten = queue.heartbeat(work_id, expected=lease.last_heartbeat)
    assert (beaten.extended, beaten.last_heartbeat) == (True, "2026-05-28T20:27:10.000000Z")


def test_a_heartbeat_without_expectation_is_taken(queue: Environment) -> None:
    assert queue.heartbeat(started(queue)).extended


def test_an_item_nobody_acknowledged_has_no_lease(queue: Environment) -> None:
    item = queue.create()
    queue.poll()
    with pytest.raises(HeartbeatMismatch):
        queue.heartbeat(item.id, expected="NO_HEARTBEAT")


@pytest.mark.parametrize(("desired_ttl_s", "given_ttl_s"), [(None, 300), (60, 60), (1_000_000, 3600)])
def test_a_lease_lasts_as_desired_within_limits(
    queue: Environment, desired_ttl_s: int | None, given_ttl_s: int
) -> None:
    work_id = started(queue)
    assert queue.heartbeat(work_id, desired_ttl_s=desired_ttl_s).ttl_s == given_ttl_s


def test_a_lease_cannot_last_no_time(queue: Environment) -> None:
    with pytest.raises(Invalid):
        queue.heartbeat(started(queue), desired_ttl_s=0)


def test_once_stopping_the_expectation_is_not_compared(queue: Environment) -> None:
    work_id = started(queue)
    queue.stop(work_id)
    lease = queue.heartbeat(work_id, expected="anything")
    assert (lease.state, lease.extended) == ("stopping", True)
    queue.stop(work_id)
    lease = queue.heartbeat(work_id, expected="anything")
    assert (lease.state, lease.extended) == ("stopped", False)


@pytest.mark.parametrize("on_lease_expiry", ["keep", "requeue", "stop"])
def test_an_expired_lease_does_what_the_rules_say(
    queue: Environment, clock: Clock, on_lease_expiry: Literal["keep", "requeue", "stop"]
) -> None:
    queue.rules = Rules(on_lease_expiry=on_lease_expiry)
    work_id = started(queue)
    clock.at += 299
    assert queue.item(work_id).state == "active"
    clock.at += 2
    item = queue.item(work_id)
    states = {"keep": "active", "requeue": "queued", "stop": "stopped"}
    assert item.state == states[on_lease_expiry]
    if on_lease_expiry == "requeue":
        assert queue.poll() is item
        assert (item.acknowledged_at, item.started_at, item.latest_heartbeat_at) == (None, None, None)
        with pytest.raises(HeartbeatMismatch):
            queue.heartbeat(work_id, expected="NO_HEARTBEAT")
    if on_lease_expiry == "stop":
        assert item.stopped_at == START_AT + 300


def test_a_heartbeat_in_time_keeps_the_lease(queue: Environment, clock: Clock) -> None:
    queue.rules.on_lease_expiry = "stop"
    work_id = started(queue)
    for _ in range(5):
        clock.at += 200
        queue.heartbeat(work_id)
    assert queue.item(work_id).state == "active"


def test_a_forced_stop_ends_an_item_in_any_live_state(queue: Environment) -> None:
    active, stopping = started(queue), started(queue)
    queue.stop(stopping)
    acknowledged, claimed, waiting = queue.create(), queue.create(), queue.create()
    for item in (acknowledged, claimed):
        assert queue.poll() is item
    queue.ack(acknowledged.id)
    for work_id in (waiting.id, claimed.id, acknowledged.id, active, stopping):
        assert queue.stop(work_id, force=True).state == "stopped"
    assert queue.stats() == Stats(0, 0, None, None)
    assert queue.poll() is None


@pytest.mark.parametrize("polls", [0, 1])
def test_a_graceful_stop_takes_an_item_out_of_the_queue(queue: Environment, polls: int) -> None:
    item = queue.create()
    for _ in range(polls):
        queue.poll()
    assert queue.stop(item.id).state == "stopping"
    assert queue.stats() == Stats(0, 0, None, None)
    assert queue.poll(reclaim_older_than_ms=1) is None


def test_the_first_stop_request_is_kept_and_a_stopped_item_is_left_alone(queue: Environment, clock: Clock) -> None:
    work_id = started(queue)
    queue.stop(work_id)
    clock.at += 5
    stopped = queue.stop(work_id, force=True)
    assert (stopped.stop_requested_at, stopped.stopped_at) == (START_AT, START_AT + 5)
    clock.at += 5
    again = queue.stop(work_id, force=True)
    assert (again.stop_requested_at, again.stopped_at) == (START_AT, START_AT + 5)
    assert sum(queue.truth().finished().values()) == 1


def test_every_end_has_an_outcome(queue: Environment) -> None:
    never_acknowledged = queue.create()
    queue.poll()
    queue.stop(never_acknowledged.id, force=True)
    never_started = queue.create()
    queue.poll()
    queue.ack(never_started.id)
    queue.stop(never_started.id, force=True)
    queue.stop(started(queue), force=True)
    assert queue.truth().finished() == {"ran": 1, "never_started": 1, "never_acknowledged": 1}


def test_metadata_is_merged(queue: Environment) -> None:
    item = queue.create(metadata={"a": "1", "b": "2"})
    queue.update(item.id, {"a": None, "c": "3", "absent": None})
    assert queue.item(item.id).metadata == {"b": "2", "c": "3"}


def test_finished_history_can_be_looked_at_and_changed_like_any_item(queue: Environment) -> None:
    queue.add_finished(3)
    item_id = [item.id for item in queue.items()][1]
    assert queue.item(item_id).state == "stopped"
    queue.update(item_id, {"seen": "yes"})
    assert queue.item(item_id).metadata == {"seen": "yes"}
    assert queue.stop(item_id, force=True).state == "stopped"


def test_finished_history_ends_now_and_spaces_its_items(queue: Environment) -> None:
    queue.add_finished(3, spacing_s=10.0, wait_s=1.0, startup_s=2.0, run_s=3.0)
    instants = [(item.created_at, item.acknowledged_at, item.started_at, item.stopped_at) for item in queue.items()]
    ends = [START_AT - 20.0, START_AT - 10.0, START_AT]
    assert instants == [(end - 6.0, end - 5.0, end - 3.0, end) for end in ends]
    assert queue.truth().listed["stopped"] == 3
    assert queue.truth().transitions == ()


def test_finished_history_cannot_lie_before_what_exists(queue: Environment) -> None:
    queue.create()
    with pytest.raises(ValueError, match="before items that exist"):
        queue.add_finished(10)


def test_retention_deletes_the_oldest_stopped_items(queue: Environment) -> None:
    queue.add_finished(50)
    straggler = started(queue)
    queue.rules.keep_stopped = 3
    ended = [started(queue) for _ in range(4)]
    for work_id in ended:
        queue.stop(work_id, force=True)
    assert [item.id for item in queue.items()] == [straggler, *ended[1:]]
    assert queue.truth().existing == {"queued": 0, "starting": 0, "active": 1, "stopping": 0, "stopped": 3}


def test_a_deleted_item_is_gone_from_queue_list_and_counts(queue: Environment) -> None:
    waiting, other = queue.create(), queue.create()
    queue.delete(waiting.id)
    assert queue.stats().depth == 1
    assert queue.poll() is other
    assert [item.id for item in queue.page().items] == [other.id]
    with pytest.raises(NotFound):
        queue.item(waiting.id)


@pytest.mark.parametrize("work_id", ["", "work_", "work_0000000000000000", "work_zz", "session_1", "work_1r0"])
def test_what_never_was_an_id_is_not_found(queue: Environment, work_id: str) -> None:
    with pytest.raises(NotFound):
        queue.item(work_id)


def test_arrivals_are_announced(queue: Environment) -> None:
    woken: list[int] = []
    queue.arrivals.add(lambda: woken.append(1))
    queue.create()
    assert woken == [1]


def test_a_skewed_clock_moves_every_timestamp(clock: Clock) -> None:
    world = World(clock)
    world.clock_skew_s = -3600.0
    assert world.add_environment("env_a").create().created_at == START_AT - 3600.0


def test_the_record_of_a_long_demo_is_bounded(clock: Clock) -> None:
    queue = World(clock, record_limit=5).add_environment("env_a")
    for _ in range(10):
        queue.create()
    assert len(queue.truth().transitions) == 5
