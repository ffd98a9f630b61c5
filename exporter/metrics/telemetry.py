"""The exporter's own metrics, on a registry that is handed in."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter import __version__
from exporter.api.client import REASONS, SOURCES
from exporter.api.wire import DRIFT_FIELDS
from exporter.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exporter.api.budget import Budget
    from exporter.api.client import Reason, Source
    from exporter.clock import Clock
    from exporter.environments.discovery import WorkspaceListing

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def process_registry() -> CollectorRegistry:
    """Return a registry that shows the process, the interpreter and its garbage collection."""
    # With auto_describe the library's collectors, too, can be asked for by name[]; that costs one collect() of each here.
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Telemetry:
    """Counts what the client reports. Everything with a closed set of labels exists from the start, at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = _counter(catalogue.API_REQUESTS, registry)
        self._errors = _counter(catalogue.API_ERRORS, registry)
        self._throttled = _counter(catalogue.API_THROTTLED, registry)
        self._drift = _counter(catalogue.SCHEMA_DRIFT, registry)
        duration = catalogue.API_REQUEST_DURATION
        self._durations = Histogram(
            duration.name, duration.help, duration.labels, buckets=REQUEST_BUCKETS_S, registry=registry
        )
        for field in DRIFT_FIELDS:
            self._drift.labels(field)
        for source in SOURCES:
            self._throttled.labels(source)
            self._durations.labels(source)
            for reason in REASONS:
                self._errors.labels(source, reason)
        build_info = _gauge(catalogue.EXPORTER_BUILD_INFO, registry)
        build_info.labels(__version__, platform.python_version()).set(1)
        self._reload_successful = _gauge(catalogue.CONFIG_RELOAD_SUCCESSFUL, registry)
        self._reload_timestamp = _gauge(catalogue.CONFIG_RELOAD_TIMESTAMP, registry)
        self._registry = registry
        self._clock_offset: Gauge | None = None

    def request_sent(self, source: Source, code: str, duration_s: float) -> None:
        self._requests.labels(source, code).inc()
        self._durations.labels(source).observe(duration_s)

    def request_throttled(self, source: Source) -> None:
        self._throttled.labels(source).inc()

    def read_failed(self, source: Source, reason: Reason) -> None:
        self._errors.labels(source, reason).inc()

    def schema_drifted(self, fields: Sequence[str]) -> None:
        for field in fields:
            self._drift.labels(field).inc()

    def clock_compared(self, offset_s: float) -> None:
        """Show how far the API's clock is ahead of the exporter's; without an answer there is no such series."""
        if self._clock_offset is None:
            self._clock_offset = _gauge(catalogue.API_CLOCK_OFFSET, self._registry)
        self._clock_offset.set(offset_s)

    def config_loaded(self, *, at: float) -> None:
        """Show that a configuration came into force; `at`: seconds since 1970."""
        self._reload_successful.set(1)
        self._reload_timestamp.set(at)

    def config_refused(self) -> None:
        self._reload_successful.set(0)


class BudgetCollector:
    """Shows the budget as it is at the scrape. Registered like any of prometheus_client's collectors."""

    def __init__(self, budget: Budget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock

    def collect(self) -> Iterable[GaugeMetricFamily]:
        now = self._clock.monotonic()
        yield _family(catalogue.API_BUDGET_LIMIT, self._budget.limit_per_minute(now))
        yield _family(catalogue.API_BUDGET_AVAILABLE, self._budget.available(now))
        until = self._budget.waits_until(now)
        if until is not None:
            yield _family(catalogue.API_RETRY_AFTER, round(self._clock.wall() + (until - now), 3))

    def describe(self) -> Iterable[GaugeMetricFamily]:
        for metric in (catalogue.API_BUDGET_LIMIT, catalogue.API_BUDGET_AVAILABLE, catalogue.API_RETRY_AFTER):
            yield GaugeMetricFamily(metric.name, metric.help)


class DiscoveryCollector:
    """Shows how each workspace's environments were listed. A workspace that is no longer listed leaves nothing behind."""

    def __init__(self, listings: Callable[[], Iterable[WorkspaceListing]]) -> None:
        self._listings = listings

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        up, succeeded, errors = self._families()
        for listing in self._listings():
            of = (listing.workspace_id,)
            up.add_metric(of, float(listing.found is not None and listing.problem is None))
            if listing.succeeded_at is not None:
                succeeded.add_metric(of, round(listing.succeeded_at, 3))
            for reason in REASONS:
                errors.add_metric((*of, reason), listing.failures[reason])
        yield from (family for family in (up, succeeded, errors) if family.samples)

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        yield from self._families()

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
        up, succeeded, errors = (
            catalogue.DISCOVERY_UP,
            catalogue.DISCOVERY_SUCCESS_TIMESTAMP,
            catalogue.DISCOVERY_ERRORS,
        )
        return (
            GaugeMetricFamily(up.name, up.help, labels=up.labels),
            GaugeMetricFamily(succeeded.name, succeeded.help, labels=succeeded.labels),
            CounterMetricFamily(errors.family, errors.help, labels=errors.labels),
        )


def _counter(metric: catalogue.Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _gauge(metric: catalogue.Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def _family(metric: catalogue.Metric, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, value=value)
