"""From snapshots to series. Pure.

Series are a function of the snapshot: they are made anew for every scrape, so nothing can go stale.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.samples import Exemplar as LibraryExemplar
from prometheus_client.utils import floatToGoString

from exporter.api.wire import LIVE_STATES, State
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.environments.snapshot import Environment, Problem, Queue, ReadTimes, Snapshot, Work
    from exporter.listing.tally import Exemplar, HistogramView

MetricFamily: TypeAlias = Any
"""One of the library's family classes: they share a shape, but no typed base with add_metric."""
EXEMPLAR_LENGTH_LIMIT = 128
"""OpenMetrics: how many characters the names and values of an exemplar's labels may have together."""
Row = tuple[m.Metric, tuple[str, ...], float]
"""A metric, the values of the labels that follow the environment's, and the value."""


Series: TypeAlias = (
    "tuple[Environment, Iterator[Row], Iterator[tuple[m.Metric, HistogramView]], Mapping[tuple[str, ...], Exemplar]]"
)
"""Of one environment: its rows, its histograms, and the exemplars of WORK_FINISHED by their labels' values."""


@dataclass(frozen=True, slots=True)
class Families:
    """What a set of snapshots shows at `monotonic`.

    Iterated, it yields each of the library's families once, with the series of every environment. `series` gives the same
    without building them: a scrape of 1,000 environments has 90,000 series.
    """

    snapshots: tuple[Snapshot, ...]
    monotonic: float
    heartbeat_overdue_s: float
    exemplars: bool

    def __iter__(self) -> Iterator[MetricFamily]:
        family_by_name: dict[str, MetricFamily] = {}

        def family_of(metric: m.Metric) -> MetricFamily:
            if metric.name not in family_by_name:
                family_by_name[metric.name] = _family(metric)
            return family_by_name[metric.name]

        for environment, rows, histograms, exemplars in self.series():
            of = (environment.id, environment.name)
            for metric, labels, value in rows:
                more = {"exemplar": _library_exemplar(exemplars.get(labels))} if metric is m.WORK_FINISHED else {}
                family_of(metric).add_metric((*of, *labels), value, **more)
            for metric, histogram in histograms:
                family_of(metric).add_metric(of, buckets=_buckets(histogram), sum_value=histogram.sum_s)
        yield from (family_by_name[metric.name] for metric in m.CATALOGUE if metric.name in family_by_name)

    def series(self) -> Iterator[Series]:
        for snapshot in self.snapshots:
            rows = _rows(snapshot, self.monotonic, self.heartbeat_overdue_s)
            exemplars = {} if snapshot.tally is None or not self.exemplars else snapshot.tally.exemplar_by_outcome
            by_labels: Mapping[tuple[str, ...], Exemplar] = {(outcome,): each for outcome, each in exemplars.items()}
            yield snapshot.environment, rows, _histograms(snapshot, exemplars=self.exemplars), by_labels


def families_of(
    snapshots: Iterable[Snapshot], *, monotonic: float, heartbeat_overdue_s: float, exemplars: bool = True
) -> Families:
    return Families(tuple(snapshots), monotonic, heartbeat_overdue_s, exemplars)


def exemplar_labels(exemplar: Exemplar) -> dict[str, str]:
    """Return the ids that fit into what OpenMetrics allows for an exemplar's labels: the session's only beside the item's."""
    labels = {"work_id": exemplar.work_id}
    if exemplar.session_id is not None:
        both = {"session_id": exemplar.session_id} | labels
        if _length(both) <= EXEMPLAR_LENGTH_LIMIT:
            return both
    return labels if _length(labels) <= EXEMPLAR_LENGTH_LIMIT else {}


def _length(labels: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in labels.items())


def _family(metric: m.Metric) -> MetricFamily:
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
    family: MetricFamily = kinds[metric.type](metric.family, metric.help, labels=metric.labels)
    return family


def _rows(snapshot: Snapshot, monotonic: float, heartbeat_overdue_s: float) -> Iterator[Row]:
    yield from _reading_rows(snapshot)
    if snapshot.queue is not None:
        yield from _queue_rows(snapshot.queue)
        yield from _times_rows("stats", snapshot.queue.times, monotonic)
    if snapshot.work is not None:
        yield from _work_rows(snapshot.work, heartbeat_overdue_s)
        yield m.WORK_WAIT_OBJECTIVE, (), snapshot.environment.wait_objective_s
        yield from _times_rows("list", snapshot.work.times, monotonic)
    if snapshot.tally is not None:
        yield m.WORK_CREATED, (), snapshot.tally.created
        yield m.WORK_ACKNOWLEDGED, (), snapshot.tally.queue_wait.count
        yield m.WORK_ACKNOWLEDGED_IN_TIME, (), snapshot.tally.acknowledged_in_time
        for outcome, count in snapshot.tally.finished_by_outcome.items():
            yield m.WORK_FINISHED, (outcome,), count


def _reading_rows(snapshot: Snapshot) -> Iterator[Row]:
    yield m.UP, (), float(snapshot.queue is not None)
    if snapshot.listing_enabled:
        yield m.LIST_UP, (), float(snapshot.work is not None)
        yield from _failure_rows("list", snapshot.work_problem)
    yield from _failure_rows("stats", snapshot.queue_problem)
    environment = snapshot.environment
    yield m.ENVIRONMENT_INFO, (environment.worker_mode, environment.origin, environment.workspace_id), 1.0


def _failure_rows(source: str, problem: Problem | None) -> Iterator[Row]:
    if problem is not None:
        yield m.READ_FAILURE, (source, problem.reason), 1.0


def _times_rows(source: str, times: ReadTimes, monotonic: float) -> Iterator[Row]:
    yield m.DATA_TIMESTAMP, (source,), times.read_at
    yield m.DATA_AGE, (source,), max(0.0, monotonic - times.monotonic_at)
    yield m.SCRAPE_DURATION, (source,), times.duration_s


def _queue_rows(queue: Queue) -> Iterator[Row]:
    stats = queue.stats
    yield m.QUEUE_DEPTH, (), stats.depth
    yield m.QUEUE_PENDING, (), stats.pending
    if stats.oldest_known:
        yield m.QUEUE_OLDEST_AGE, (), _age_s(stats.oldest_queued_at, queue.times)
    if stats.oldest_queued_at is not None:
        yield m.QUEUE_OLDEST_TIMESTAMP, (), stats.oldest_queued_at
    if stats.workers_polling is not None:
        yield m.WORKERS_POLLING, (), stats.workers_polling


def _work_rows(work: Work, heartbeat_overdue_s: float) -> Iterator[Row]:
    listing, times = work.listing, work.times
    for state in State:
        yield m.WORK_ITEMS, (state.value,), listing.count_by_state[state]
    for state in LIVE_STATES:
        oldest_at = listing.oldest_at_by_state[state]
        if oldest_at is not None or not listing.count_by_state[state]:
            yield m.WORK_OLDEST_AGE, (state.value,), _age_s(oldest_at, times)
    oldest = listing.heartbeats[0] if listing.heartbeats else None
    yield m.WORK_HEARTBEAT_OLDEST_AGE, (), _age_s(oldest, times)
    yield m.WORK_HEARTBEAT_OVERDUE, (), bisect_left(listing.heartbeats, times.server_at - heartbeat_overdue_s)


def _histograms(snapshot: Snapshot, *, exemplars: bool) -> Iterator[tuple[m.Metric, HistogramView]]:
    if snapshot.tally is None:
        return
    for metric, histogram in (
        (m.WORK_QUEUE_WAIT, snapshot.tally.queue_wait),
        (m.WORK_STARTUP, snapshot.tally.startup),
        (m.WORK_RUN, snapshot.tally.run),
        (m.WORK_STOP, snapshot.tally.stop),
    ):
        yield metric, histogram if exemplars else replace(histogram, exemplars=())


def _buckets(histogram: HistogramView) -> list[tuple[str, float, object]]:
    bounds = [go_string(bound) for bound in (*histogram.bounds_s, math.inf)]
    exemplars = map(_library_exemplar, histogram.exemplars or (None,) * len(bounds))
    return list(zip(bounds, histogram.cumulative_counts, exemplars, strict=True))


def _library_exemplar(exemplar: Exemplar | None) -> object:
    labels = {} if exemplar is None else exemplar_labels(exemplar)
    return LibraryExemplar(labels, exemplar.value, exemplar.at) if exemplar is not None and labels else None


def _age_s(since: float | None, times: ReadTimes) -> float:
    """Return the age at the read: whether the item is still there afterwards is not known, so it does not grow."""
    return 0.0 if since is None else max(0.0, times.server_at - since)


def go_string(number: float) -> str:
    """Write a number as Prometheus does."""
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return text
