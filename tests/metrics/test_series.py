"""The whole exposition of a snapshot, compared both ways: nothing missing, nothing unexpected."""

from __future__ import annotations

import dataclasses

from exporter.api.wire import State, WorkStats
from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Listing
from exporter.listing.tally import HistogramView, TallyView
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import families_of
from tests.exported import read_exposition

HERE = Environment(
    id="env_1",
    name="production",
    worker_mode="webhook",
    origin="discovery",
    workspace_id="wrkspc_1",
    wait_objective_s=30.0,
)
NOW = 1_000.0
"""The monotonic clock at rendering."""
READ_AT = 1_700_000_090.0
"""The server's clock at the read."""
TIMES = ReadTimes(read_at=1_700_000_050.0, server_at=READ_AT, monotonic_at=NOW - 10, duration_s=0.25)
STATS = WorkStats(depth=3, pending=1, oldest_queued_at=READ_AT - 90, workers_polling=2)
LISTING = Listing(
    complete=True,
    count_by_state={
        State.QUEUED: 3,
        State.STARTING: 1,
        State.ACTIVE: 2,
        State.STOPPING: 0,
        State.STOPPED: 40,
        State.UNKNOWN: 0,
    },
    oldest_at_by_state={
        State.QUEUED: READ_AT - 90,
        State.STARTING: READ_AT - 5,
        State.ACTIVE: READ_AT - 600,
        State.STOPPING: None,
    },
    heartbeats=(READ_AT - 91, READ_AT - 89),
    oldest_read_at=NOW - 10,
)
HISTOGRAM = HistogramView(bounds_s=(1.0, 2.5), cumulative_counts=(1, 1, 2), sum_s=9.5)
TALLY = TallyView(
    created=7,
    acknowledged_in_time=1,
    finished_by_outcome={"ran": 4, "never_started": 1, "never_acknowledged": 0},
    queue_wait=HISTOGRAM,
    startup=HISTOGRAM,
    run=HISTOGRAM,
    stop=HISTOGRAM,
)
WHOLE = Snapshot(
    environment=HERE, listing_enabled=True, queue=Queue(STATS, TIMES), work=Work(LISTING, TIMES), tally=TALLY
)
FAILED = Problem("timeout", "too late", since=0.0)


def exposed(*snapshots: Snapshot, monotonic: float = NOW) -> str:
    families = families_of(snapshots, monotonic=monotonic, heartbeat_overdue_s=90)
    return expose(families, None, Wanted()).body.decode()


def series(*snapshots: Snapshot, monotonic: float = NOW) -> dict[str, float]:
    """Return every sample as `name{label="value",…}` without the environment's labels and the prefix."""
    found: dict[str, float] = {}
    for (name, labels), value in read_exposition(exposed(*snapshots, monotonic=monotonic)).value_by_series.items():
        own = sorted((key, text) for key, text in labels if not key.startswith("environment_"))
        shown = ",".join(f'{key}="{text}"' for key, text in own)
        found[name.removeprefix("managed_agents_") + (f"{{{shown}}}" if shown else "")] = value
    return found


READING = {
    "up": 1,
    "list_up": 1,
    'environment_info{origin="discovery",worker_mode="webhook",workspace_id="wrkspc_1"}': 1,
}
QUEUE = {
    "queue_depth": 3,
    "queue_pending": 1,
    "queue_oldest_age_seconds": 90,
    "queue_oldest_timestamp_seconds": READ_AT - 90,
    "workers_polling": 2,
    'data_timestamp_seconds{source="stats"}': 1_700_000_050,
    'data_age_seconds{source="stats"}': 10,
    'scrape_duration_seconds{source="stats"}': 0.25,
}
WORK = {
    'work_items{state="queued"}': 3,
    'work_items{state="starting"}': 1,
    'work_items{state="active"}': 2,
    'work_items{state="stopping"}': 0,
    'work_items{state="stopped"}': 40,
    'work_items{state="unknown"}': 0,
    'work_oldest_age_seconds{state="queued"}': 90,
    'work_oldest_age_seconds{state="starting"}': 5,
    'work_oldest_age_seconds{state="active"}': 600,
    'work_oldest_age_seconds{state="stopping"}': 0,
    "work_heartbeat_oldest_age_seconds": 91,
    "work_heartbeat_overdue_items": 1,
    "work_wait_objective_seconds": 30,
    'data_timestamp_seconds{source="list"}': 1_700_000_050,
    'data_age_seconds{source="list"}': 10,
    'scrape_duration_seconds{source="list"}': 0.25,
}
COUNTED = {
    "work_created_total": 7,
    "work_acknowledged_total": 2,
    "work_acknowledged_in_time_total": 1,
    'work_finished_total{outcome="ran"}': 4,
    'work_finished_total{outcome="never_started"}': 1,
    'work_finished_total{outcome="never_acknowledged"}': 0,
} | {
    f"work_{name}_seconds_{part}": value
    for name in ("queue_wait", "startup", "run", "stop")
    for part, value in (
        ('bucket{le="1.0"}', 1),
        ('bucket{le="2.5"}', 1),
        ('bucket{le="+Inf"}', 2),
        ("count", 2),
        ("sum", 9.5),
    )
}


def test_a_whole_snapshot_shows_everything() -> None:
    assert series(WHOLE) == READING | QUEUE | WORK | COUNTED


def test_without_current_stats_there_are_no_queue_series() -> None:
    snapshot = dataclasses.replace(WHOLE, queue=None, queue_problem=FAILED)
    failed = {'read_failure{reason="timeout",source="stats"}': 1}
    assert series(snapshot) == READING | {"up": 0} | failed | WORK | COUNTED


def test_without_a_current_listing_the_counters_stay() -> None:
    snapshot = dataclasses.replace(WHOLE, work=None, work_problem=FAILED)
    failed = {'read_failure{reason="timeout",source="list"}': 1}
    assert series(snapshot) == READING | {"list_up": 0} | failed | QUEUE | COUNTED


def test_numbers_that_a_429_keeps_from_being_renewed_stay_and_the_reason_is_shown() -> None:
    snapshot = dataclasses.replace(WHOLE, queue_problem=Problem("rate_limited", "429", since=0.0))
    failed = {'read_failure{reason="rate_limited",source="stats"}': 1}
    assert series(snapshot) == READING | failed | QUEUE | WORK | COUNTED


def test_with_listing_off_nothing_speaks_of_it() -> None:
    snapshot = dataclasses.replace(WHOLE, work=None, tally=None, listing_enabled=False, work_problem=FAILED)
    without_list_up = {name: value for name, value in READING.items() if name != "list_up"}
    assert series(snapshot) == without_list_up | QUEUE


def test_an_environment_that_was_never_read_says_so_and_nothing_else() -> None:
    snapshot = dataclasses.replace(WHOLE, queue=None, work=None, tally=None)
    assert series(snapshot) == READING | {"up": 0, "list_up": 0}


def test_unknown_workers_are_absent_and_zero_workers_are_shown() -> None:
    unknown = dataclasses.replace(WHOLE, queue=Queue(WorkStats(0, 0, None, None), TIMES))
    assert "workers_polling" not in series(unknown)
    zero = dataclasses.replace(WHOLE, queue=Queue(WorkStats(0, 0, None, 0), TIMES))
    assert series(zero)["workers_polling"] == 0


def test_an_empty_queue_has_age_0_and_no_timestamp() -> None:
    shown = series(dataclasses.replace(WHOLE, queue=Queue(WorkStats(0, 0, None, 1), TIMES)))
    assert shown["queue_oldest_age_seconds"] == 0
    assert "queue_oldest_timestamp_seconds" not in shown


def test_an_illegible_queueing_time_is_no_age_0() -> None:
    stats = WorkStats(1, 0, None, 1, oldest_known=False)
    assert "queue_oldest_age_seconds" not in series(dataclasses.replace(WHOLE, queue=Queue(stats, TIMES)))


def test_items_of_which_nobody_knows_since_when_have_no_age_0() -> None:
    assert WHOLE.work is not None
    listing = dataclasses.replace(
        WHOLE.work.listing, oldest_at_by_state={**WHOLE.work.listing.oldest_at_by_state, State.ACTIVE: None}
    )
    shown = series(dataclasses.replace(WHOLE, work=Work(listing, WHOLE.work.times)))
    assert 'work_oldest_age_seconds{state="active"}' not in shown
    assert shown['work_items{state="active"}'] > 0


def test_nothing_grows_with_time_but_the_age_of_the_numbers() -> None:
    later = {f'data_age_seconds{{source="{source}"}}': 17 for source in ("stats", "list")}
    assert series(WHOLE, monotonic=NOW + 7) == series(WHOLE) | later


def test_numbers_from_the_future_have_age_0() -> None:
    assert series(WHOLE, monotonic=NOW - 20)['data_age_seconds{source="stats"}'] == 0


def test_an_age_is_never_negative() -> None:
    stats = WorkStats(1, 0, READ_AT + 30, 1)
    assert series(dataclasses.replace(WHOLE, queue=Queue(stats, TIMES)))["queue_oldest_age_seconds"] == 0


def test_a_family_comes_once_however_many_environments_there_are() -> None:
    other = dataclasses.replace(WHOLE, environment=Environment(id="env_2", name="other"))
    text = exposed(WHOLE, other)
    helps = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(helps) == len(set(helps))
    assert text.count("managed_agents_queue_depth{") == 2
