"""The recording rules and alerts as data. Metric names come from the exporter's catalogue, numbers from `thresholds`.

Recording rules are named level:metric:operation. They do two things once, so that no alert has to: they collapse the replicas
of the exporter, which all read the same environments, and they look back a little, so that one missed read does not make a
series absent and thereby restart an alert's `for`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dashboards import thresholds as t
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from exporter.metrics.catalogue import Metric

Severity = Literal["critical", "warning", "info"]

# The repository has no other public address. A fork or a copy inside a company changes this line and generates again.
REPOSITORY_URL: Final = "https://github.com/managed-agents-exporter/managed-agents-exporter"
RUNBOOK_URL: Final = REPOSITORY_URL + "/blob/main/docs/runbooks/{alert}.md"
# The name of the scrape job in config/prometheus/prometheus.yml; only what asks for the exporter itself depends on it.
SCRAPE_JOB: Final = "managed-agents"
ALERT_PREFIX: Final = "ManagedAgents"
ENVIRONMENT: Final = "job, environment_id, environment_name"


@dataclass(frozen=True, slots=True)
class Recording:
    record: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule. `name` lacks the shared first word; `hold` is the rule's `for`; two severities may share a name."""

    name: str
    severity: Severity
    hold: str
    expr: str
    summary: str
    description: str
    subject: Literal["environment", "exporter"] = "environment"

    @property
    def full_name(self) -> str:
        return ALERT_PREFIX + self.name

    @property
    def runbook_url(self) -> str:
        return RUNBOOK_URL.format(alert=self.full_name)

    @property
    def dashboard(self) -> str:
        if self.subject == "exporter":
            return "/d/managed-agents-exporter?var-job={{ $labels.job | urlquery }}"
        return "/d/managed-agents-environment?var-environment_name={{ $labels.environment_name | urlquery }}"


def _latest(metric: Metric, *more_labels: str, over: str = "last_over_time") -> str:
    return f"max by ({', '.join((ENVIRONMENT, *more_labels))}) ({over}({metric.name}[{t.LOOKBACK}]))"


def _environment(metric: Metric) -> Recording:
    return Recording(f"environment:{metric.name}:max", _latest(metric))


DEPTH = _environment(m.QUEUE_DEPTH)
PENDING = _environment(m.QUEUE_PENDING)
OLDEST_AGE = _environment(m.QUEUE_OLDEST_AGE)
# The API's own window is 30 s and a worker's error back-off reaches 60 s: who was seen at all within the lookback is there.
WORKERS = Recording(f"environment:{m.WORKERS_POLLING.name}:max", _latest(m.WORKERS_POLLING, over="max_over_time"))
DEPTH_SLOPE = Recording(
    f"environment:{m.QUEUE_DEPTH.name}:deriv{t.BACKLOG_GROWTH_WINDOW}",
    f"deriv({DEPTH.record}[{t.BACKLOG_GROWTH_WINDOW}])",
)
STATE_AGE = Recording(f"environment_state:{m.WORK_OLDEST_AGE.name}:max", _latest(m.WORK_OLDEST_AGE, "state"))
ITEMS = Recording(f"environment_state:{m.WORK_ITEMS.name}:max", _latest(m.WORK_ITEMS, "state"))
OVERDUE = _environment(m.WORK_HEARTBEAT_OVERDUE)
HEARTBEAT_AGE = _environment(m.WORK_HEARTBEAT_OLDEST_AGE)
BUSY = Recording(
    "environment:managed_agents_work_busy_items:max",
    f'max by ({ENVIRONMENT}) (last_over_time({m.WORK_ITEMS.name}{{state="active"}}[{t.BUSY_LOOKBACK}]))\n'
    f"- max by ({ENVIRONMENT}) (last_over_time({m.WORK_HEARTBEAT_OVERDUE.name}[{t.BUSY_LOOKBACK}]))",
)
FINISHED = Recording(
    f"environment_outcome:{m.WORK_FINISHED.name}:max_increase{t.NEVER_STARTED_WINDOW}",
    f"round(max by ({ENVIRONMENT}, outcome) (increase({m.WORK_FINISHED.name}[{t.NEVER_STARTED_WINDOW}])))",
)
WAIT_QUANTILE = Recording(
    f"environment:{m.WORK_QUEUE_WAIT.name}:p{t.WAIT_OBJECTIVE_QUANTILE * 100:.0f}_rate{t.WAIT_OBJECTIVE_WINDOW}",
    f"histogram_quantile(\n  {t.WAIT_OBJECTIVE_QUANTILE},\n"
    f"  max by ({ENVIRONMENT}, le) (rate({m.WORK_QUEUE_WAIT.name}_bucket[{t.WAIT_OBJECTIVE_WINDOW}]))\n)",
)
WAIT_COUNT = Recording(
    f"environment:{m.WORK_QUEUE_WAIT.name}_count:max_increase{t.WAIT_OBJECTIVE_WINDOW}",
    f"round(max by ({ENVIRONMENT}) (increase({m.WORK_QUEUE_WAIT.name}_count[{t.WAIT_OBJECTIVE_WINDOW}])))",
)
READABLE = _environment(m.UP)
LISTED = _environment(m.LIST_UP)
DATA_AGE = Recording(
    "environment_source:managed_agents_data_age_seconds:min",
    f"time() - {_latest(m.DATA_TIMESTAMP, 'source')}",
)
INFO = Recording(f"environment_worker_mode:{m.ENVIRONMENT_INFO.name}:max", _latest(m.ENVIRONMENT_INFO, "worker_mode"))
# Reasons with an alert of their own, or (not_found) with an environment to blame rather than the API.
_OTHER_REASONS = 'reason!~"auth|not_found|rate_limited"'
AUTH_ERRORS = Recording(
    f"job_source:{m.API_ERRORS.name}_auth:max_increase{t.AUTH_WINDOW}",
    f'round(max by (job, source) (increase({m.API_ERRORS.name}{{reason="auth"}}[{t.AUTH_WINDOW}])))',
)
ERROR_RATIO = Recording(
    f"job_source:{m.API_ERRORS.name}_per_request:max_ratio{t.ERROR_WINDOW}",
    "max by (job, source) (\n"
    f"  sum by (job, instance, source) (increase({m.API_ERRORS.name}{{{_OTHER_REASONS}}}[{t.ERROR_WINDOW}]))\n"
    f"  / sum by (job, instance, source) (increase({m.API_REQUESTS.name}[{t.ERROR_WINDOW}]))\n)",
)
THROTTLED = Recording(
    f"job_source:{m.API_THROTTLED.name}:max_increase{t.THROTTLED_WINDOW}",
    f"round(max by (job, source) (increase({m.API_THROTTLED.name}[{t.THROTTLED_WINDOW}])))",
)
RELOADED = Recording(
    f"job:{m.CONFIG_RELOAD_SUCCESSFUL.name}:min",
    f"min by (job) (last_over_time({m.CONFIG_RELOAD_SUCCESSFUL.name}[{t.LOOKBACK}]))",
)
SCRAPED = Recording(
    "job:managed_agents_exporter_scraped:max",
    f'max by (job) (max_over_time(up{{job="{SCRAPE_JOB}"}}[{t.LOOKBACK}]))',
)
# Not by job: environments may be scraped through /probe, in another job than the exporter itself.
ENVIRONMENTS = Recording(f"fleet:{m.ENVIRONMENT_INFO.name}:count", f"count({INFO.record})")
DRIFT = Recording(
    f"job_field:{m.SCHEMA_DRIFT.name}:max_increase{t.DRIFT_WINDOW}",
    f"round(max by (job, field) (increase({m.SCHEMA_DRIFT.name}[{t.DRIFT_WINDOW}])))",
)

# In the order of evaluation: a rule reads only what stands above it.
RECORDINGS: Final = (
    DEPTH,
    PENDING,
    OLDEST_AGE,
    WORKERS,
    DEPTH_SLOPE,
    ITEMS,
    STATE_AGE,
    HEARTBEAT_AGE,
    OVERDUE,
    BUSY,
    FINISHED,
    WAIT_QUANTILE,
    WAIT_COUNT,
    READABLE,
    LISTED,
    DATA_AGE,
    INFO,
    AUTH_ERRORS,
    ERROR_RATIO,
    THROTTLED,
    RELOADED,
    SCRAPED,
    ENVIRONMENTS,
    DRIFT,
)

_NAME = "{{ $labels.environment_name }}"


def _other(recording: Recording, show: str, *, matcher: str = "") -> str:
    """Template text that shows another number of the alert's environment, or `unknown`."""
    selector = f"{recording.record}{{job=%q,environment_id=%q{matcher}}}"
    return (
        f"{{{{ with printf `{selector}` $labels.job $labels.environment_id | query }}}}"
        f"{{{{ . | first | {show} }}}}{{{{ else }}}}unknown{{{{ end }}}}"
    )


_OLDEST = _other(OLDEST_AGE, "value | humanizeDuration")
_DEPTH = _other(DEPTH, "value")
_POLLING = _other(WORKERS, "value")
_BUSY = _other(BUSY, "value")
_WORKER_MODE = _other(INFO, 'label "worker_mode"')
_DURATION = "{{ $value | humanizeDuration }}"
_ON = f"on ({ENVIRONMENT})"

QUEUE_ALERTS: Final = (
    Alert(
        name="NobodyPolling",
        severity="critical",
        hold=t.NOBODY_POLLING_FOR,
        expr=f"{DEPTH.record} > 0\nand {WORKERS.record} == 0\nunless {BUSY.record} > 0",
        summary="Work is waiting and no worker asks for it.",
        description=f"{{{{ $value }}}} item(s) wait in {_NAME}, the oldest for {_OLDEST}, and no worker has polled for "
        f"{t.LOOKBACK}. No active item with a fresh heartbeat is known, so the workers are not merely busy. Nothing of this "
        f"will start until a worker polls. Worker mode: {_WORKER_MODE}.",
    ),
    Alert(
        name="WorkersSaturated",
        severity="warning",
        hold=t.SATURATED_FOR,
        expr=f"{DEPTH.record} > 0\nand {WORKERS.record} == 0\nand {BUSY.record} > 0",
        summary="Work is waiting because every worker is busy.",
        description=f"{{{{ $value }}}} item(s) wait in {_NAME}, the oldest for {_OLDEST}. No worker polls, and {_BUSY} active "
        "item(s) have fresh heartbeats: the workers are alive and there are too few of them.",
    ),
    Alert(
        name="FleetAbsent",
        severity="warning",
        hold=t.FLEET_ABSENT_FOR,
        expr=f"{WORKERS.record} == 0\n"
        f'and {_ON} {INFO.record}{{worker_mode="always_on"}}\n'
        f"and {DEPTH.record} == 0\nunless {BUSY.record} > 0",
        summary="No worker of an always-on fleet is there.",
        description=f"The workers of {_NAME} are declared always_on, but none has polled for {t.LOOKBACK} and no active item has "
        "a fresh heartbeat. Nothing waits yet; the next item will.",
    ),
    Alert(
        name="WorkersUnknown",
        severity="info",
        hold=t.WORKERS_UNKNOWN_FOR,
        expr=f"{READABLE.record} == 1\nunless {WORKERS.record}",
        summary="The API does not say how many workers poll.",
        description=f"{_NAME} is readable, but the number of polling workers is unknown. ManagedAgentsNobodyPolling cannot fire "
        f"for it; the age of waiting work still can. Waiting now: {_DEPTH}.",
    ),
    Alert(
        name="BacklogAgeing",
        severity="warning",
        hold=t.WAIT_FOR,
        expr=f"{OLDEST_AGE.record} > {t.WAIT_WARNING_S}",
        summary="Work has been waiting for too long.",
        description=f"The oldest item in {_NAME} has waited for {_DURATION}. Waiting: {_DEPTH}. Workers polling: {_POLLING}. "
        f"Active with a fresh heartbeat: {_BUSY}.",
    ),
    Alert(
        name="BacklogAgeing",
        severity="critical",
        hold=t.WAIT_FOR,
        expr=f"{OLDEST_AGE.record} > {t.WAIT_CRITICAL_S}",
        summary="Work has been waiting for far too long.",
        description=f"The oldest item in {_NAME} has waited for {_DURATION}. Waiting: {_DEPTH}. Workers polling: {_POLLING}. "
        f"Active with a fresh heartbeat: {_BUSY}.",
    ),
    Alert(
        name="BacklogGrowing",
        severity="warning",
        hold=t.BACKLOG_GROWTH_FOR,
        expr=f"{DEPTH_SLOPE.record} * {t.BACKLOG_GROWTH_WINDOW_S} > {t.BACKLOG_GROWTH_ITEMS}\n"
        f"and {DEPTH.record} >= {t.BACKLOG_GROWTH_ITEMS}",
        summary="Work arrives faster than it is taken.",
        description=f'The backlog of {_NAME} grows by {{{{ $value | printf "%.0f" }}}} item(s) per {t.BACKLOG_GROWTH_WINDOW} and '
        f"is now {_DEPTH}. Workers polling: {_POLLING}. Active with a fresh heartbeat: {_BUSY}.",
    ),
    Alert(
        name="ClaimedNotAcknowledged",
        severity="warning",
        hold=t.PENDING_FOR,
        expr=f"{PENDING.record} > 0\nand {OLDEST_AGE.record} > {t.PENDING_AGE_S}",
        summary="Workers claim work and do not acknowledge it.",
        description=f"{{{{ $value }}}} item(s) in {_NAME} are claimed and not acknowledged, for {t.PENDING_FOR} without a pause; "
        f"the oldest was queued {_OLDEST} ago. A worker acknowledges within seconds. Workers polling: {_POLLING}.",
    ),
    Alert(
        name="WaitObjectiveMissed",
        severity="warning",
        hold=t.WAIT_OBJECTIVE_FOR,
        expr=f"{WAIT_QUANTILE.record} > {t.WAIT_OBJECTIVE_S}\nand {WAIT_COUNT.record} >= {t.WAIT_OBJECTIVE_MIN_ITEMS}",
        summary="Work waits longer than the objective allows.",
        description=f"In {_NAME}, {t.WAIT_OBJECTIVE_QUANTILE * 100:.0f} % of the items of the last {t.WAIT_OBJECTIVE_WINDOW} "
        f"were acknowledged within {_DURATION}; the objective is {t.WAIT_OBJECTIVE_S} s. Items acknowledged: "
        f"{_other(WAIT_COUNT, 'value')}.",
    ),
)

WORK_ALERTS: Final = (
    Alert(
        name="StuckStarting",
        severity="warning",
        hold=t.STARTING_FOR,
        expr=f'{STATE_AGE.record}{{state="starting"}} > {t.STARTING_S}',
        summary="Acknowledged work does not start.",
        description=f"An item in {_NAME} was acknowledged {_DURATION} ago and has not sent its first heartbeat. Items starting: "
        + _other(ITEMS, "value", matcher=',state="starting"')
        + ".",
    ),
    Alert(
        name="StuckStopping",
        severity="warning",
        hold=t.STOPPING_FOR,
        expr=f'{STATE_AGE.record}{{state="stopping"}} > {t.STOPPING_S}',
        summary="Work that was asked to stop does not stop.",
        description=f"An item in {_NAME} was asked to stop {_DURATION} ago and its worker has not confirmed. Items stopping: "
        + _other(ITEMS, "value", matcher=',state="stopping"')
        + ".",
    ),
    Alert(
        name="HeartbeatsOverdue",
        severity="warning",
        hold=t.HEARTBEATS_FOR,
        expr=f"{OVERDUE.record} > 0",
        summary="Active work sends no heartbeats.",
        description=f"{{{{ $value }}}} active item(s) in {_NAME} have an overdue heartbeat, the oldest "
        f"{_other(HEARTBEAT_AGE, 'value | humanizeDuration')} ago. Their leases will lapse. Active with a fresh heartbeat: {_BUSY}.",
    ),
    Alert(
        name="StoppedWithoutStarting",
        severity="warning",
        hold=t.NEVER_STARTED_FOR,
        expr=f'{FINISHED.record}{{outcome="never_started"}} >= {t.NEVER_STARTED_ITEMS}',
        summary="Work stops without ever having started.",
        description=f"{{{{ $value }}}} item(s) in {_NAME} were acknowledged and stopped without a single heartbeat in the last "
        f"{t.NEVER_STARTED_WINDOW}. Their sessions hang silently. Items that ran in that time: "
        + _other(FINISHED, "value", matcher=',outcome="ran"')
        + ".",
    ),
)

READING_ALERTS: Final = (
    Alert(
        name="EnvironmentUnreadable",
        severity="warning",
        hold=t.UNREADABLE_FOR,
        expr=f"{READABLE.record} == 0",
        summary="An environment's queue cannot be read.",
        description=f"The statistics of {_NAME} have not been readable for {t.UNREADABLE_FOR}. Its queue alerts cannot fire "
        "meanwhile, and those that fired have resolved without anything being well.",
    ),
    Alert(
        name="EnvironmentUnreadable",
        severity="critical",
        hold=t.UNREADABLE_CRITICAL_FOR,
        expr=f"{READABLE.record} == 0",
        summary="An environment's queue has been unreadable for long.",
        description=f"The statistics of {_NAME} have not been readable for {t.UNREADABLE_CRITICAL_FOR}. Its queue alerts cannot "
        "fire meanwhile, and those that fired have resolved without anything being well.",
    ),
    Alert(
        name="NumbersOld",
        severity="warning",
        hold=t.DATA_AGE_FOR,
        expr=f'{DATA_AGE.record}{{source="stats"}} > {t.DATA_AGE_S}\nand {_ON} {READABLE.record} == 1',
        summary="The numbers shown are old.",
        description=f"The statistics shown for {_NAME} were read {_DURATION} ago. The exporter is short of its budget or waits "
        "out a 429; soon it will show nothing for this environment.",
    ),
    Alert(
        name="ListingIncomplete",
        severity="warning",
        hold=t.LISTING_FOR,
        expr=f"{LISTED.record} == 0",
        summary="The list of work items has been incomplete for long.",
        description=f"The listing of {_NAME} has not been complete for {t.LISTING_FOR}: no counts by state, no ages, no "
        "heartbeats. ManagedAgentsNobodyPolling cannot tell busy workers from absent ones.",
    ),
)

EXPORTER_ALERTS: Final = (
    Alert(
        name="ExporterDown",
        subject="exporter",
        severity="critical",
        hold=t.EXPORTER_DOWN_FOR,
        expr=f'{SCRAPED.record} == 0\nor absent_over_time(up{{job="{SCRAPE_JOB}"}}[{t.LOOKBACK}])',
        summary="No exporter can be scraped.",
        description="No target of the job {{ $labels.job }} has answered a scrape for "
        f"{t.LOOKBACK}. Every queue alert is blind, and those that fired have resolved without anything being well.",
    ),
    Alert(
        name="NoEnvironments",
        subject="exporter",
        severity="warning",
        hold=t.NO_ENVIRONMENTS_FOR,
        expr=f"{SCRAPED.record} == 1\nunless on () {ENVIRONMENTS.record}",
        summary="The exporter watches no environment.",
        description="The exporter of the job {{ $labels.job }} answers but exports no environment: discovery has not succeeded "
        "yet, or nothing is configured. No queue alert can fire.",
    ),
    Alert(
        name="CredentialsRejected",
        subject="exporter",
        severity="warning",
        hold=t.AUTH_FOR,
        expr=f"{AUTH_ERRORS.record} >= {t.AUTH_ERRORS}",
        summary="The API rejects the exporter's credentials.",
        description="{{ $value }} read(s) of {{ $labels.source }} were refused with 401 or 403 in the last "
        f"{t.AUTH_WINDOW}. This does not heal by itself.",
    ),
    Alert(
        name="ApiErrors",
        subject="exporter",
        severity="warning",
        hold=t.ERROR_FOR,
        expr=f"{ERROR_RATIO.record} > {t.ERROR_RATIO}",
        summary="Many reads of the API fail.",
        description="{{ $value | humanizePercentage }} of the calls to {{ $labels.source }} ended in a failed read in the last "
        f"{t.ERROR_WINDOW}. Environments that cannot be read show nothing.",
    ),
    Alert(
        name="BudgetExhausted",
        subject="exporter",
        severity="warning",
        hold=t.THROTTLED_FOR,
        expr=f"{THROTTLED.record} > 0",
        summary="The exporter has been short of API calls for long.",
        description="{{ $value }} call(s) for {{ $labels.source }} were not made in the last "
        f"{t.THROTTLED_WINDOW}, and some in every {t.THROTTLED_WINDOW} for {t.THROTTLED_FOR}: the budget is spent or the API "
        "answers 429. Numbers grow old.",
    ),
    Alert(
        name="ConfigReloadFailed",
        subject="exporter",
        severity="warning",
        hold=t.RELOAD_FOR,
        expr=f"{RELOADED.record} == 0",
        summary="The exporter refused its new configuration.",
        description="An exporter of the job {{ $labels.job }} could not load its configuration and runs with the one before. "
        "It would not start again with the new one.",
    ),
    Alert(
        name="SchemaDrift",
        subject="exporter",
        severity="info",
        hold=t.DRIFT_FOR,
        expr=f"{DRIFT.record} > 0",
        summary="The API answers with values this version does not know.",
        description="{{ $value }} value(s) of the field {{ $labels.field }} were not understood in the last "
        f"{t.DRIFT_WINDOW}. Numbers that rest on them are incomplete.",
    ),
)

ALERT_GROUPS: Final = {
    "managed-agents-queue": QUEUE_ALERTS,
    "managed-agents-work": WORK_ALERTS,
    "managed-agents-reading": READING_ALERTS,
    "managed-agents-exporter": EXPORTER_ALERTS,
}
ALERTS: Final = tuple(alert for group in ALERT_GROUPS.values() for alert in group)
