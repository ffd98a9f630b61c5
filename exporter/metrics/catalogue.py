"""The catalogue of metrics as data, and the families of a set of snapshots. Pure.

Series are a function of the snapshot: families are built anew for every scrape, so nothing can go stale.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from exporter.api.wire import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.environments.snapshot import Environment, Queue, ReadTimes, Snapshot, Work
    from exporter.listing.tally import HistogramView

MetricFamily: TypeAlias = Any
"""One of the library's family classes: they share a shape, but no typed base with add_metric."""

PREFIX = "managed_agents_"
ENVIRONMENT_LABELS = ("environment_id", "environment_name")

MetricType = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the catalogue. `name` is what a user queries (`_total` included); `labels` in exposition order."""

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ENVIRONMENT_LABELS

    @property
    def family(self) -> str:
        return self.name.removesuffix("_total")


def _environment(name: str, kind: MetricType, text: str, *more_labels: str) -> Metric:
    return Metric(PREFIX + name, kind, text, ENVIRONMENT_LABELS + more_labels)


def _exporter(name: str, kind: MetricType, text: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}exporter_{name}", kind, text, labels)


QUEUE_DEPTH = _environment("queue_depth", "gauge", "Work items waiting to be claimed.")
QUEUE_PENDING = _environment("queue_pending", "gauge", "Work items claimed by a worker and not yet acknowledged.")
QUEUE_OLDEST_AGE = _environment(
    "queue_oldest_age_seconds",
    "gauge",
    "Age of the oldest work item waiting, or claimed and not acknowledged; 0 when there is none.",
)
QUEUE_OLDEST_TIMESTAMP = _environment(
    "queue_oldest_timestamp_seconds",
    "gauge",
    "Unix time at which the oldest work item waiting, or claimed and not acknowledged, was queued; absent when there is none.",
)
WORKERS_POLLING = _environment(
    "workers_polling",
    "gauge",
    "Workers that polled in the last 30 seconds and sent a worker id; absent when the API does not know.",
)

WORK_ITEMS = _environment(
    "work_items", "gauge", "Work items listed, by state; absent while the listing is incomplete.", "state"
)
WORK_OLDEST_AGE = _environment(
    "work_oldest_age_seconds",
    "gauge",
    "Longest time a work item has now been in a live state; 0 when none is in it.",
    "state",
)
WORK_HEARTBEAT_OLDEST_AGE = _environment(
    "work_heartbeat_oldest_age_seconds",
    "gauge",
    "Age of the oldest latest heartbeat among active work items; 0 when none is active.",
)
WORK_HEARTBEAT_OVERDUE = _environment(
    "work_heartbeat_overdue_items",
    "gauge",
    "Active work items whose latest heartbeat is older than the configured limit.",
)
WORK_QUEUE_WAIT = _environment("work_queue_wait_seconds", "histogram", "Time from creation to acknowledgement.")
WORK_STARTUP = _environment("work_startup_seconds", "histogram", "Time from acknowledgement to start.")
WORK_RUN = _environment("work_run_seconds", "histogram", "Time from start to stop.")
WORK_STOP = _environment("work_stop_seconds", "histogram", "Time from the request to stop to the stop.")
WORK_CREATED = _environment(
    "work_created_total", "counter", "Work items first seen since the exporter started reading the environment."
)
WORK_FINISHED = _environment("work_finished_total", "counter", "Work items seen to stop, by outcome.", "outcome")

UP = _environment("up", "gauge", "1 if the environment's stats are current, 0 otherwise.")
LIST_UP = _environment(
    "list_up",
    "gauge",
    "1 if the environment's listing is complete and current, 0 otherwise; absent when listing is off.",
)
DATA_TIMESTAMP = _environment(
    "data_timestamp_seconds",
    "gauge",
    "Unix time at which the numbers shown were read, by source; for the list the oldest read the counts rest on.",
    "source",
)
SCRAPE_DURATION = _environment(
    "scrape_duration_seconds", "gauge", "How long the last read of the source took.", "source"
)
ENVIRONMENT_INFO = _environment(
    "environment_info",
    "gauge",
    "Always 1; how the environment's workers are run and where it was learnt of.",
    "worker_mode",
    "origin",
)

EXPORTER_BUILD_INFO = _exporter("build_info", "gauge", "Always 1; the version that runs.", "version", "python_version")
API_REQUESTS = _exporter(
    "api_requests_total",
    "counter",
    "API calls sent, by source and by status code, or timeout, connect, tls or protocol when there was none.",
    "source",
    "code",
)
API_ERRORS = _exporter("api_errors_total", "counter", "Reads of the API that failed, by reason.", "source", "reason")
API_REQUEST_DURATION = _exporter(
    "api_request_duration_seconds", "histogram", "Time from sending an API call to its last byte.", "source"
)
API_THROTTLED = _exporter(
    "api_throttled_total",
    "counter",
    "API calls not made because the budget was spent or a 429 is being waited out.",
    "source",
)
API_BUDGET_LIMIT = _exporter("api_budget_limit", "gauge", "API calls a minute the exporter allows itself.")
API_BUDGET_AVAILABLE = _exporter("api_budget_available", "gauge", "API calls the exporter could make right now.")
API_RETRY_AFTER = _exporter(
    "api_retry_after_timestamp_seconds",
    "gauge",
    "Unix time before which no API call is sent; absent when none is being waited for.",
)
CONFIG_RELOAD_SUCCESSFUL = _exporter(
    "config_last_reload_successful", "gauge", "1 if the last attempt to load the configuration succeeded."
)
CONFIG_RELOAD_TIMESTAMP = _exporter(
    "config_last_reload_success_timestamp_seconds",
    "gauge",
    "Unix time of the last successful load of the configuration.",
)
SCHEMA_DRIFT = _exporter(
    "schema_drift_total", "counter", "Values from the API that this version does not know, by field.", "field"
)

QUEUE = (QUEUE_DEPTH, QUEUE_PENDING, QUEUE_OLDEST_AGE, QUEUE_OLDEST_TIMESTAMP, WORKERS_POLLING)
WORK = (
    WORK_ITEMS,
    WORK_OLDEST_AGE,
    WORK_HEARTBEAT_OLDEST_AGE,
    WORK_HEARTBEAT_OVERDUE,
    WORK_QUEUE_WAIT,
    WORK_STARTUP,
    WORK_RUN,
    WORK_STOP,
    WORK_CREATED,
    WORK_FINISHED,
)
READING = (UP, LIST_UP, DATA_TIMESTAMP, SCRAPE_DURATION, ENVIRONMENT_INFO)
EXPORTER = (
    EXPORTER_BUILD_INFO,
    API_REQUESTS,
    API_ERRORS,
    API_REQUEST_DURATION,
    API_THROTTLED,
    API_BUDGET_LIMIT,
    API_BUDGET_AVAILABLE,
    API_RETRY_AFTER,
    CONFIG_RELOAD_SUCCESSFUL,
    CONFIG_RELOAD_TIMESTAMP,
    SCHEMA_DRIFT,
)
CATALOGUE = QUEUE + WORK + READING + EXPORTER

Row = tuple[Metric, tuple[str, ...], float]
"""A metric, the values of the labels that follow the environment's, and the value."""

LIVE_STATES = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING)


@dataclass(frozen=True, slots=True)
class Families:
    """What a set of snapshots shows, ages being those at `monotonic`.

    Iterated, it yields each of the library's families once, with the series of every environment. `series` tells the same
    without building them: a scrape of 1,000 environments has 90,000 series.
    """

    snapshots: tuple[Snapshot, ...]
    monotonic: float
    heartbeat_overdue_s: float

    def __iter__(self) -> Iterator[MetricFamily]:
        family_by_name: dict[str, MetricFamily] = {}

        def family_of(metric: Metric) -> MetricFamily:
            if metric.name not in family_by_name:
                family_by_name[metric.name] = _family(metric)
            return family_by_name[metric.name]

        for environment, rows, histograms in self.series():
            of = (environment.id, environment.name)
            for metric, labels, value in rows:
                family_of(metric).add_metric((*of, *labels), value)
            for metric, histogram in histograms:
                family_of(metric).add_metric(of, buckets=_buckets(histogram), sum_value=histogram.sum_s)
        yield from (family_by_name[metric.name] for metric in CATALOGUE if metric.name in family_by_name)

    def series(self) -> Iterator[tuple[Environment, Iterator[Row], Iterator[tuple[Metric, HistogramView]]]]:
        for snapshot in self.snapshots:
            rows = _rows(snapshot, self.monotonic, self.heartbeat_overdue_s)
            yield snapshot.environment, rows, _histograms(snapshot)


def families(snapshots: Iterable[Snapshot], *, monotonic: float, heartbeat_overdue_s: float) -> Families:
    return Families(tuple(snapshots), monotonic, heartbeat_overdue_s)


def of_environment(series: str) -> bool:
    """Tell whether a series of that name belongs to an environment, rather than to the exporter or its process."""
    return series.startswith(PREFIX) and not series.startswith(f"{PREFIX}exporter_")


def _family(metric: Metric) -> MetricFamily:
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
    family: MetricFamily = kinds[metric.type](metric.family, metric.help, labels=metric.labels)
    return family


def _rows(snapshot: Snapshot, monotonic: float, heartbeat_overdue_s: float) -> Iterator[Row]:
    yield from _reading_rows(snapshot)
    if snapshot.queue is not None:
        yield from _queue_rows(snapshot.queue, snapshot.queue.times.server_now(monotonic))
        yield from _times_rows("stats", snapshot.queue.times)
    if snapshot.work is not None:
        yield from _work_rows(snapshot.work, snapshot.work.times.server_now(monotonic), heartbeat_overdue_s)
        yield from _times_rows("list", snapshot.work.times)
    if snapshot.tally is not None:
        yield WORK_CREATED, (), snapshot.tally.created
        for outcome, count in snapshot.tally.finished_by_outcome.items():
            yield WORK_FINISHED, (outcome,), count


def _reading_rows(snapshot: Snapshot) -> Iterator[Row]:
    yield UP, (), float(snapshot.queue is not None)
    if snapshot.listing_enabled:
        yield LIST_UP, (), float(snapshot.work is not None)
    yield ENVIRONMENT_INFO, (snapshot.environment.worker_mode, snapshot.environment.origin), 1.0


def _times_rows(source: str, times: ReadTimes) -> Iterator[Row]:
    yield DATA_TIMESTAMP, (source,), times.read_at
    yield SCRAPE_DURATION, (source,), times.duration_s


def _queue_rows(queue: Queue, server_now: float) -> Iterator[Row]:
    stats = queue.stats
    yield QUEUE_DEPTH, (), stats.depth
    yield QUEUE_PENDING, (), stats.pending
    if stats.oldest_legible:
        yield QUEUE_OLDEST_AGE, (), _age_s(stats.oldest_queued_at, server_now)
    if stats.oldest_queued_at is not None:
        yield QUEUE_OLDEST_TIMESTAMP, (), stats.oldest_queued_at
    if stats.workers_polling is not None:
        yield WORKERS_POLLING, (), stats.workers_polling


def _work_rows(work: Work, server_now: float, heartbeat_overdue_s: float) -> Iterator[Row]:
    listing = work.listing
    for state in State:
        yield WORK_ITEMS, (state.value,), listing.count_by_state[state]
    for state in LIVE_STATES:
        yield WORK_OLDEST_AGE, (state.value,), _age_s(listing.oldest_at_by_state[state], server_now)
    oldest = listing.heartbeats[0] if listing.heartbeats else None
    yield WORK_HEARTBEAT_OLDEST_AGE, (), _age_s(oldest, server_now)
    yield WORK_HEARTBEAT_OVERDUE, (), bisect_left(listing.heartbeats, server_now - heartbeat_overdue_s)


def _histograms(snapshot: Snapshot) -> Iterator[tuple[Metric, HistogramView]]:
    if snapshot.tally is None:
        return
    yield WORK_QUEUE_WAIT, snapshot.tally.queue_wait
    yield WORK_STARTUP, snapshot.tally.startup
    yield WORK_RUN, snapshot.tally.run
    yield WORK_STOP, snapshot.tally.stop


def _buckets(histogram: HistogramView) -> list[tuple[str, float]]:
    bounds = [go_string(bound) for bound in (*histogram.bounds_s, math.inf)]
    return list(zip(bounds, histogram.cumulative_counts, strict=True))


def _age_s(since: float | None, server_now: float) -> float:
    return 0.0 if since is None else max(0.0, server_now - since)


def go_string(number: float) -> str:
    """Write a number as Prometheus does."""
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return text
