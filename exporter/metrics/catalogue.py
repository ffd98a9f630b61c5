"""Every metric of the exporter: its name, type, help and labels. Data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    "Age, when it was read, of the oldest work item waiting, or claimed and not acknowledged; 0 when there is none.",
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
    "Longest time a work item had been in a live state when it was read; 0 when none was in it.",
    "state",
)
WORK_HEARTBEAT_OLDEST_AGE = _environment(
    "work_heartbeat_oldest_age_seconds",
    "gauge",
    "Age, when it was read, of the oldest latest heartbeat among active work items; 0 when none was active.",
)
WORK_HEARTBEAT_OVERDUE = _environment(
    "work_heartbeat_overdue_items",
    "gauge",
    "Active work items whose latest heartbeat was older than the configured limit when it was read.",
)
WORK_QUEUE_WAIT = _environment("work_queue_wait_seconds", "histogram", "Time from creation to acknowledgement.")
WORK_STARTUP = _environment("work_startup_seconds", "histogram", "Time from acknowledgement to start.")
WORK_RUN = _environment("work_run_seconds", "histogram", "Time from start to stop.")
WORK_STOP = _environment("work_stop_seconds", "histogram", "Time from the request to stop to the stop.")
WORK_CREATED = _environment(
    "work_created_total", "counter", "Work items first seen since the exporter started reading the environment."
)
WORK_ACKNOWLEDGED = _environment("work_acknowledged_total", "counter", "Work items acknowledged.")
WORK_ACKNOWLEDGED_IN_TIME = _environment(
    "work_acknowledged_in_time_total", "counter", "Work items acknowledged within the environment's wait objective."
)
WORK_WAIT_OBJECTIVE = _environment(
    "work_wait_objective_seconds", "gauge", "Time within which a work item shall be acknowledged."
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
DATA_AGE = _environment(
    "data_age_seconds", "gauge", "How long ago the numbers shown were read, by source, on one clock alone.", "source"
)
READ_FAILURE = _environment(
    "read_failure",
    "gauge",
    "1 for the reason for which the source can't be read now; absent while it can.",
    "source",
    "reason",
)
SCRAPE_DURATION = _environment(
    "scrape_duration_seconds", "gauge", "How long the last read of the source took.", "source"
)
ENVIRONMENT_INFO = _environment(
    "environment_info",
    "gauge",
    "Always 1; how the environment's workers are run, where it was learnt of, and its workspace where one is configured.",
    "worker_mode",
    "origin",
    "workspace_id",
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
API_CLOCK_OFFSET = _exporter(
    "api_clock_offset_seconds",
    "gauge",
    "The API's clock minus the exporter's, as far as the Date header tells; absent until one was received.",
)
DISCOVERY_UP = _exporter(
    "discovery_up",
    "gauge",
    "1 if the last try to list the workspace's environments succeeded, 0 otherwise.",
    "workspace_id",
)
DISCOVERY_SUCCESS_TIMESTAMP = _exporter(
    "discovery_last_success_timestamp_seconds",
    "gauge",
    "Unix time at which the workspace's environments were last listed completely; absent until they were.",
    "workspace_id",
)
DISCOVERY_ERRORS = _exporter(
    "discovery_errors_total",
    "counter",
    "Tries to list the workspace's environments that failed, by reason.",
    "workspace_id",
    "reason",
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
    WORK_ACKNOWLEDGED,
    WORK_ACKNOWLEDGED_IN_TIME,
    WORK_WAIT_OBJECTIVE,
    WORK_FINISHED,
)
READING = (UP, LIST_UP, DATA_TIMESTAMP, DATA_AGE, READ_FAILURE, SCRAPE_DURATION, ENVIRONMENT_INFO)
EXPORTER = (
    EXPORTER_BUILD_INFO,
    API_REQUESTS,
    API_ERRORS,
    API_REQUEST_DURATION,
    API_THROTTLED,
    API_BUDGET_LIMIT,
    API_BUDGET_AVAILABLE,
    API_RETRY_AFTER,
    API_CLOCK_OFFSET,
    DISCOVERY_UP,
    DISCOVERY_SUCCESS_TIMESTAMP,
    DISCOVERY_ERRORS,
    CONFIG_RELOAD_SUCCESSFUL,
    CONFIG_RELOAD_TIMESTAMP,
    SCHEMA_DRIFT,
)
CATALOGUE = QUEUE + WORK + READING + EXPORTER


def of_environment(series: str) -> bool:
    """Return whether a series of that name belongs to an environment, rather than to the exporter or its process."""
    return series.startswith(PREFIX) and not series.startswith(f"{PREFIX}exporter_")
