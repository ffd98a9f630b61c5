"""The exporter's own metrics: complete from the start, and the budget as it is at the scrape."""

from __future__ import annotations

import platform
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec.json import encode
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics

from exporter import __version__
from exporter.api.budget import Budget
from exporter.api.client import REASONS, SOURCES
from exporter.api.wire import DRIFT_FIELDS, WireError, parse_environment_page, parse_stats, parse_work_page
from exporter.clock import Clock
from exporter.environments.discovery import WorkspaceListing
from exporter.metrics import catalogue
from exporter.metrics.telemetry import REQUEST_BUCKETS_S, BudgetCollector, DiscoveryCollector, Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.api.client import Reason

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
PREFIX = "managed_agents_exporter_"


@pytest.fixture(autouse=True)
def _without_created_samples() -> Iterator[None]:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
    yield
    enable_created_metrics()  # type: ignore[no-untyped-call]  # as above


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def telemetry(registry: CollectorRegistry) -> Telemetry:
    return Telemetry(registry)


def series_of(registry: CollectorRegistry) -> Series:
    """Return every sample's value; a sample that comes twice fails the test."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    series = {(sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(series) == len(samples)
    return series


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def histogram(source: str, observed_s: tuple[float, ...] = ()) -> Series:
    bounds = [*((f"{float(bound)}", float(bound)) for bound in REQUEST_BUCKETS_S), ("+Inf", float("inf"))]
    name = "api_request_duration_seconds"
    counts = {
        key(f"{name}_bucket", source=source, le=text): float(sum(each <= bound for each in observed_s))
        for text, bound in bounds
    }
    total = {
        key(f"{name}_count", source=source): float(len(observed_s)),
        key(f"{name}_sum", source=source): sum(observed_s),
    }
    return counts | total


def at_start() -> Series:
    series: Series = {
        key("build_info", version=__version__, python_version=platform.python_version()): 1,
        key("config_last_reload_successful"): 0,
        key("config_last_reload_success_timestamp_seconds"): 0,
    }
    for source in SOURCES:
        series |= histogram(source) | {key("api_throttled_total", source=source): 0}
    series |= {key("schema_drift_total", field=field): 0 for field in DRIFT_FIELDS}
    errors = product(SOURCES, REASONS)
    return series | {key("api_errors_total", source=source, reason=reason): 0 for source, reason in errors}


def test_every_closed_set_of_labels_is_there_from_the_start(registry: CollectorRegistry, telemetry: Telemetry) -> None:
    assert isinstance(telemetry, Telemetry)
    assert series_of(registry) == at_start()


def test_every_field_that_can_drift_is_among_those_that_exist_from_the_start() -> None:
    instants = ("created_at", "acknowledged_at", "started_at", "latest_heartbeat_at", "stop_requested_at", "stopped_at")
    item: dict[str, object] = {"id": "w", "state": "new", "data": {"type": "new"}, **dict.fromkeys(instants, "soon")}
    strange = {"id": "w2", "environment_id": "env_2"}
    environment = {"id": "env_1", "config": {"type": "new"}, "created_at": 5}
    stats = {"depth": 0, "pending": 0, "oldest_queued_at": "soon"}
    drift = {
        *parse_work_page(encode({"data": [item, strange]}), environment_id="env_1").drift,
        *parse_environment_page(encode({"data": [environment, {"id": "nobody"}]})).drift,
        *parse_stats(encode(stats)).drift,
    }
    for damage in ({"depth": -1}, {"pending": 1.5}, {"workers_polling": "two"}):
        with pytest.raises(WireError) as caught:
            parse_stats(encode(stats | damage))
        drift |= set(caught.value.drift)
    for body in ({"data": [], "next_page": 5}, {"data": [{"id": ""}]}):
        with pytest.raises(WireError) as caught:
            parse_work_page(encode(body), environment_id="env_1")
        drift |= set(caught.value.drift)
    assert drift == set(DRIFT_FIELDS)


def test_what_the_client_tells_is_counted_and_nothing_else_changes(
    registry: CollectorRegistry, telemetry: Telemetry
) -> None:
    telemetry.request_sent("stats", "200", 0.25)
    telemetry.request_sent("stats", "timeout", 30.0)
    telemetry.request_throttled("list")
    telemetry.read_failed("environments", "auth")
    telemetry.schema_drifted(["state", "data.type", "state"])
    telemetry.schema_drifted(())
    assert series_of(registry) == at_start() | histogram("stats", (0.25, 30.0)) | {
        key("api_requests_total", source="stats", code="200"): 1,
        key("api_requests_total", source="stats", code="timeout"): 1,
        key("api_throttled_total", source="list"): 1,
        key("api_errors_total", source="environments", reason="auth"): 1,
        key("schema_drift_total", field="state"): 2,
        key("schema_drift_total", field="data.type"): 1,
    }


def test_a_refused_configuration_keeps_the_time_of_the_last_good_one(
    registry: CollectorRegistry, telemetry: Telemetry
) -> None:
    telemetry.config_loaded(at=1_000.5)
    telemetry.config_refused()
    series = series_of(registry)
    assert series[key("config_last_reload_successful")] == 0
    assert series[key("config_last_reload_success_timestamp_seconds")] == 1_000.5


def test_the_clock_offset_is_absent_until_an_answer_shows_it_and_then_the_last_one(
    registry: CollectorRegistry, telemetry: Telemetry
) -> None:
    telemetry.clock_compared(-3.5)
    telemetry.clock_compared(1.25)
    assert series_of(registry) == at_start() | {key("api_clock_offset_seconds"): 1.25}


def test_two_exporters_in_one_process_do_not_share_a_count(telemetry: Telemetry) -> None:
    other = CollectorRegistry()
    Telemetry(other)
    telemetry.request_throttled("stats")
    assert series_of(other) == at_start()


def test_the_budget_is_shown_as_it_is_at_the_scrape(registry: CollectorRegistry) -> None:
    now = 50.0
    budget = Budget(per_minute=120, min_interval_s=10, now=now, jitter=lambda: 0.5)
    registry.register(BudgetCollector(budget, Clock(wall=lambda: 1_000_000.0 + now, monotonic=lambda: now)))
    assert series_of(registry) == {key("api_budget_limit"): 120, key("api_budget_available"): 60}
    budget.rate_limited(30.0, now=now)
    now = 60.0
    assert series_of(registry) == {
        key("api_budget_limit"): 60,
        key("api_budget_available"): 0,
        key("api_retry_after_timestamp_seconds"): 1_000_080.0,
    }
    now = 80.0
    assert series_of(registry) == {key("api_budget_limit"): 60, key("api_budget_available"): 0}


def test_registering_the_budget_takes_no_look_at_it(registry: CollectorRegistry) -> None:
    def no_clock() -> float:
        pytest.fail("the clock was read")

    budget = Budget(per_minute=120, min_interval_s=10, now=0.0, jitter=lambda: 0.5)
    registry.register(BudgetCollector(budget, Clock(wall=no_clock, monotonic=no_clock)))


def listing(workspace_id: str, *outcomes: Reason | None) -> WorkspaceListing:
    """Return a workspace after these tries, one a minute; None is a success."""
    made = WorkspaceListing(SimpleNamespace(workspace_id=workspace_id), SimpleNamespace())  # type: ignore[arg-type]  # nothing is asked
    for minute, reason in enumerate(outcomes):
        made.problem = reason
        if reason is None:
            made.found, made.succeeded_at = (), 60.0 * minute + 0.0004
        else:
            made.failures[reason] += 1
    return made


def discovery_errors(workspace_id: str, **counts: int) -> Series:
    return {
        key("discovery_errors_total", workspace_id=workspace_id, reason=reason): counts.get(reason, 0)
        for reason in REASONS
    }


def test_each_workspace_shows_whether_and_when_it_was_listed_and_one_that_is_gone_shows_nothing(
    registry: CollectorRegistry,
) -> None:
    listings = [
        listing("new"),
        listing("refused", "auth", "auth"),
        listing("failing", None, None, "server"),
        listing("back", None, "server", "timeout", None),
    ]
    registry.register(DiscoveryCollector(lambda: listings))
    assert series_of(registry) == {
        key("discovery_up", workspace_id="new"): 0,
        key("discovery_up", workspace_id="refused"): 0,
        key("discovery_up", workspace_id="failing"): 0,
        key("discovery_up", workspace_id="back"): 1,
        key("discovery_last_success_timestamp_seconds", workspace_id="failing"): 60,
        key("discovery_last_success_timestamp_seconds", workspace_id="back"): 180,
        **discovery_errors("new"),
        **discovery_errors("refused", auth=2),
        **discovery_errors("failing", server=1),
        **discovery_errors("back", server=1, timeout=1),
    }
    listings.clear()
    assert series_of(registry) == {}


@pytest.mark.parametrize(
    "metric", [catalogue.DISCOVERY_UP, catalogue.DISCOVERY_SUCCESS_TIMESTAMP, catalogue.DISCOVERY_ERRORS]
)
def test_each_series_of_discovery_can_be_asked_for_by_its_name(metric: catalogue.Metric) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(DiscoveryCollector(lambda: [listing("a", None)]))
    families = registry.restricted_registry([metric.name]).collect()
    assert {sample.name for family in families for sample in family.samples} == {metric.name}


def test_names_help_and_labels_are_those_of_the_catalogue(registry: CollectorRegistry, telemetry: Telemetry) -> None:
    telemetry.request_sent("stats", "200", 0.1)
    telemetry.schema_drifted(["state"])
    telemetry.clock_compared(0.0)
    budget = Budget(per_minute=120, min_interval_s=10, now=0.0, jitter=lambda: 0.5)
    budget.rate_limited(10.0, now=0.0)
    registry.register(BudgetCollector(budget, Clock(wall=lambda: 0.0, monotonic=lambda: 0.0)))
    registry.register(DiscoveryCollector(lambda: [listing("a", None)]))
    shown = {family.name: (family.type, family.documentation) for family in registry.collect()}
    assert shown == {metric.family: (metric.type, metric.help) for metric in catalogue.EXPORTER}
