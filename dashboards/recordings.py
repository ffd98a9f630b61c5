"""The recording rules as data. Metric names come from the exporter's catalogue, numbers from `thresholds`.

Recording rules are named level:metric:operation. They do two things once, so that no alert has to: they collapse the replicas
of the exporter, which all read the same environments, and they look back a little, so that one missed read does not make a
series absent and thereby restart an alert's `for`.

What is concluded from the list rests on numbers that are current: `BUSY` is absent while the list is older than `CURRENT_S`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dashboards import thresholds as t
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from exporter.metrics.catalogue import Metric

# The name of the scrape job in config/prometheus/prometheus.yml; only what asks for the exporter itself depends on it.
SCRAPE_JOB: Final = "managed-agents"
ENVIRONMENT: Final = "job, environment_id, environment_name"
ON: Final = f"on ({ENVIRONMENT})"
TARGETS: Final = f'up{{job="{SCRAPE_JOB}"}}'


@dataclass(frozen=True, slots=True)
class Recording:
    record: str
    expr: str


def latest(metric: Metric, *more_labels: str, over: str = "last_over_time", by: str = "max") -> str:
    return f"{by} by ({', '.join((ENVIRONMENT, *more_labels))}) ({over}({metric.name}[{t.LOOKBACK}]))"


def increase(metric: Metric, window: str, *more_labels: str, suffix: str = "", matchers: str = "") -> str:
    """Count the events of one environment in the window; replicas see the same ones."""
    selector = f"{metric.name}{suffix}{f'{{{matchers}}}' if matchers else ''}"
    return f"max by ({', '.join((ENVIRONMENT, *more_labels))}) (increase({selector}[{window}]))"


def _environment(metric: Metric) -> Recording:
    return Recording(f"environment:{metric.name}:max", latest(metric))


# ---- What is there now

DEPTH: Final = _environment(m.QUEUE_DEPTH)
PENDING: Final = _environment(m.QUEUE_PENDING)
OLDEST_AGE: Final = _environment(m.QUEUE_OLDEST_AGE)
# The API's own window is 30 s and a worker's error back-off reaches 60 s: who was seen at all within the lookback is there.
WORKERS: Final = Recording(f"environment:{m.WORKERS_POLLING.name}:max", latest(m.WORKERS_POLLING, over="max_over_time"))
DEPTH_LOW: Final = Recording(
    f"environment:{m.QUEUE_DEPTH.name}:min{t.SATURATED_WINDOW}", f"min_over_time({DEPTH.record}[{t.SATURATED_WINDOW}])"
)
DEPTH_SLOPE: Final = Recording(
    f"environment:{m.QUEUE_DEPTH.name}:deriv{t.BACKLOG_GROWTH_WINDOW}",
    f"deriv({DEPTH.record}[{t.BACKLOG_GROWTH_WINDOW}])",
)
OBJECTIVE: Final = _environment(m.WORK_WAIT_OBJECTIVE)
READABLE: Final = _environment(m.UP)
LISTED: Final = _environment(m.LIST_UP)
DATA_AGE: Final = Recording(f"environment_source:{m.DATA_AGE.name}:min", latest(m.DATA_AGE, "source", by="min"))
LIST_CURRENT: Final = f'{DATA_AGE.record}{{source="list"}} <= {t.CURRENT_S}'
# Groups of rules are evaluated at different moments: after a minute each has recorded what it makes of the list.
LIST_SETTLED: Final = f'{LIST_CURRENT}\n    and {DATA_AGE.record}{{source="list"}} offset 1m <= {t.CURRENT_S}'
FAILURE: Final = Recording(
    f"environment_source_reason:{m.READ_FAILURE.name}:max", latest(m.READ_FAILURE, "source", "reason")
)
INFO: Final = Recording(
    f"environment_worker_mode:{m.ENVIRONMENT_INFO.name}:max", latest(m.ENVIRONMENT_INFO, "worker_mode")
)
# Not by job: environments may be scraped through /probe, in another job than the exporter itself.
ENVIRONMENTS: Final = Recording(f"fleet:{m.ENVIRONMENT_INFO.name}:count", f"count({INFO.record})")

# ---- What becomes of the work

ITEMS: Final = Recording(f"environment_state:{m.WORK_ITEMS.name}:max", latest(m.WORK_ITEMS, "state"))
STATE_AGE: Final = Recording(f"environment_state:{m.WORK_OLDEST_AGE.name}:max", latest(m.WORK_OLDEST_AGE, "state"))
HEARTBEAT_AGE: Final = _environment(m.WORK_HEARTBEAT_OLDEST_AGE)
OVERDUE: Final = Recording(
    f"environment:{m.WORK_HEARTBEAT_OVERDUE.name}:max",
    f"{latest(m.WORK_HEARTBEAT_OVERDUE)}\nand {ON} {LIST_CURRENT}",
)
BUSY: Final = Recording(
    "environment:managed_agents_work_busy_items:max",
    f'max without (state) ({ITEMS.record}{{state="active"}})\n- {OVERDUE.record}',
)
FINISHED: Final = Recording(
    f"environment_outcome:{m.WORK_FINISHED.name}:max_increase{t.NEVER_STARTED_WINDOW}",
    f"round({increase(m.WORK_FINISHED, t.NEVER_STARTED_WINDOW, 'outcome')})",
)
# Sessions that ended in a worker's hands, less those that a worker took: how many workers have left, since whichever of these
# moments before which the fleet was largest.
_OF_WORKERS = 'outcome!="never_acknowledged"'


def _left(window: str) -> str:
    ended = f"sum by ({ENVIRONMENT}) ({increase(m.WORK_FINISHED, window, 'outcome', matchers=_OF_WORKERS)})"
    difference = f"{ended}\n    - {increase(m.WORK_ACKNOWLEDGED, window)}"
    return f'  label_replace(\n    {difference},\n    "window", "{window}", "", ""\n  )'


LEFT: Final = Recording(
    "environment:managed_agents_work_left:max_increase",
    f"round(max without (window) (\n{f'{chr(10)}  or{chr(10)}'.join(map(_left, t.LEAVING_WINDOWS))}\n))",
)


def _acknowledged_and_not_started(window: str, offset: str, both: str) -> str:
    acked = f"max by ({ENVIRONMENT}) (increase({m.WORK_ACKNOWLEDGED.name}[{window}] offset {offset}))"
    none_started = f"{increase(m.WORK_STARTUP, both, suffix='_count')} == 0"
    return f"(\n  round({acked}) >= {t.NOTHING_STARTS_ITEMS}\n  and {none_started}\n)"


# Items acknowledged minutes ago, where none has started since; absent where some have.
NOTHING_STARTED: Final = Recording(
    "environment:managed_agents_work_not_started:max_increase",
    f"{_acknowledged_and_not_started('2m', '2m', '4m')}\nor\n{_acknowledged_and_not_started('25m', '5m', '30m')}",
)
_ENDED_AT_ONCE = f'le=~"{t.RUNS_END_S}|{t.RUNS_END_S}.0"'


def _ended_at_once(window: str) -> str:
    ended = increase(m.WORK_RUN, window, suffix="_bucket", matchers=_ENDED_AT_ONCE)
    runs = increase(m.WORK_RUN, window, suffix="_count")
    return f"(\n  {ended}\n  >= {t.RUNS_END_SHARE} * ({runs} >= {t.RUNS_END_ITEMS})\n)"


def _ended_at_once_before() -> str:
    ended, runs = (
        f"max by ({ENVIRONMENT}) (increase({m.WORK_RUN.name}_{selector}[{t.RUNS_END_BEFORE}] offset {t.RUNS_END_BEFORE_OFFSET}))"
        for selector in (f"bucket{{{_ENDED_AT_ONCE}}}", "count")
    )
    return f"{ended}\n  <= {t.RUNS_END_SHARE_BEFORE} * ({runs} > 0)"


# Sessions that ended with their first beat, where nearly all do that ended lately and few did before; absent elsewhere.
ENDED_AT_ONCE: Final = Recording(
    "environment:managed_agents_work_ended_at_once:max_increase",
    f"(\n{f'{chr(10)}or{chr(10)}'.join(map(_ended_at_once, t.RUNS_END_WINDOWS))}\n)\nand (\n  {_ended_at_once_before()}\n)",
)

# ---- How many workers it takes


def _arrivals(window: str, seen_since: str) -> str:
    return f"  rate({m.WORK_CREATED.name}[{window}]) and {m.WORK_CREATED.name} offset {seen_since}"


# Over the longest window that an exporter has counted through: a rate divides by the whole window, however little of it was seen.
_WINDOWS = ((t.BACKLOG_GROWTH_WINDOW, "28m"), ("10m", "9m"), ("5m", "4m"))
ARRIVALS: Final = Recording(
    f"environment:{m.WORK_CREATED.name}:max_rate{t.BACKLOG_GROWTH_WINDOW}",
    f"max by ({ENVIRONMENT}) (\n{f'{chr(10)}  or{chr(10)}'.join(_arrivals(*each) for each in _WINDOWS)}\n)",
)


def _mean(metric: Metric, window: str) -> str:
    total, count = (increase(metric, window, suffix=suffix) for suffix in ("_sum", "_count"))
    return f"{total}\n/ ({count} > 0)"


ITEM_SECONDS: Final = Recording(
    "environment:managed_agents_work_item_seconds:mean6h",
    f"{_mean(m.WORK_RUN, '6h')}\n+ {_mean(m.WORK_STARTUP, '6h')}",
)
NEEDED: Final = Recording(
    "environment:managed_agents_workers_needed:mean", f"{ARRIVALS.record} * {ITEM_SECONDS.record}"
)
UTILISATION: Final = Recording(
    "environment:managed_agents_workers_utilisation:ratio", f"{BUSY.record} / ({BUSY.record} + {WORKERS.record} > 0)"
)
SHORT_BY: Final = Recording(
    "environment:managed_agents_workers_short:ceil",
    f"ceil({NEEDED.record} - avg_over_time({BUSY.record}[{t.SATURATED_WINDOW}]) > 0)\nand {DEPTH_LOW.record} > 0",
)

# ---- The exporters

# Failures without an alert of their own: discovery has one, so have two reasons, and not_found is an environment's own trouble.
_OTHER_REASONS = 'source!="environments",reason!~"auth|not_found|rate_limited"'


def exporter_increase(metric: Metric, window: str, *by: str, matchers: str = "", suffix: str = "") -> str:
    selector = f"{metric.name}{suffix}{f'{{{matchers}}}' if matchers else ''}"
    return f"max by ({', '.join(('job', *by))}) (increase({selector}[{window}]))"


# Environments that cannot be read for a reason that may be everybody's: not 404, and not that numbers grew old behind a 429.
UNREADABLE_COUNT: Final = Recording(
    "job:managed_agents_unreadable:count",
    f"count by (job) (\n  {READABLE.record} == 0\n"
    f'  and {ON} {FAILURE.record}{{source="stats",reason!~"not_found|rate_limited"}}\n)\n'
    f"or 0 * count by (job) ({READABLE.record})",
)
UNREADABLE_SHARE: Final = Recording(
    "job:managed_agents_unreadable:ratio", f"{UNREADABLE_COUNT.record} / count by (job) ({READABLE.record})"
)
# Environments whose stats, or list, have not been readable at any moment of five minutes. They have alerts of their own.
NAMED_FAILURES: Final = Recording(
    "job:managed_agents_unreadable:count5m",
    f"count by (job) (\n  max_over_time({READABLE.record}[5m]) == 0\n  or max_over_time({LISTED.record}[5m]) == 0\n)",
)
ERROR_COUNT: Final = Recording(
    f"job_source:{m.API_ERRORS.name}:max_increase{t.ERROR_WINDOW}",
    f"round(max by (job, source) (\n  sum by (job, instance, source) (increase({m.API_ERRORS.name}{{{_OTHER_REASONS}}}[{t.ERROR_WINDOW}]))\n))",
)
# By the histogram's count, which is there from the start: a counter with a label that is born with its first event lacks it.
ERROR_RATIO: Final = Recording(
    f"job_source:{m.API_ERRORS.name}_per_request:max_ratio{t.ERROR_WINDOW}",
    f"clamp_max(\n  {ERROR_COUNT.record}\n"
    f"  / ({exporter_increase(m.API_REQUEST_DURATION, t.ERROR_WINDOW, 'source', suffix='_count')} > 0),\n  1\n)",
)
RATE_LIMITED: Final = Recording(
    f"job:{m.API_ERRORS.name}_rate_limited:max_increase{t.RATE_LIMITED_WINDOW}",
    "round(sum by (job) (\n  "
    + exporter_increase(m.API_ERRORS, t.RATE_LIMITED_WINDOW, "source", matchers='reason="rate_limited"')
    + "\n))",
)
THROTTLED: Final = Recording(
    f"job_source:{m.API_THROTTLED.name}:max_increase{t.THROTTLED_WINDOW}",
    f"round({exporter_increase(m.API_THROTTLED, t.THROTTLED_WINDOW, 'source')})",
)
DISCOVERY_ERRORS: Final = Recording(
    f"job_workspace_reason:{m.DISCOVERY_ERRORS.name}:max_increase{t.DISCOVERY_WINDOW}",
    f"round({exporter_increase(m.DISCOVERY_ERRORS, t.DISCOVERY_WINDOW, 'workspace_id', 'reason')})",
)
RELOADED: Final = Recording(
    f"job:{m.CONFIG_RELOAD_SUCCESSFUL.name}:min",
    f"min by (job) (last_over_time({m.CONFIG_RELOAD_SUCCESSFUL.name}[{t.LOOKBACK}]))",
)
CLOCK_OFFSET: Final = Recording(
    f"job:{m.API_CLOCK_OFFSET.name}:max_abs", f"max by (job) (abs({m.API_CLOCK_OFFSET.name}))"
)
ANSWERED: Final = Recording(
    f"job_instance:managed_agents_exporter_up:avg{t.EXPORTER_DOWN_WINDOW}",
    f"avg by (job, instance) (avg_over_time({TARGETS}[{t.EXPORTER_DOWN_WINDOW}]))",
)
STARTS: Final = Recording(
    f"job_instance:managed_agents_exporter_starts:changes{t.RESTART_WINDOW}",
    f'changes(process_start_time_seconds{{job="{SCRAPE_JOB}"}}[{t.RESTART_WINDOW}])',
)
DRIFT: Final = Recording(
    f"job_field:{m.SCHEMA_DRIFT.name}:max_increase{t.DRIFT_WINDOW}",
    f"round({exporter_increase(m.SCHEMA_DRIFT, t.DRIFT_WINDOW, 'field')})",
)

# ---- The wait objective

IN_TIME, ACKNOWLEDGED = m.WORK_ACKNOWLEDGED_IN_TIME, m.WORK_ACKNOWLEDGED


def acknowledged(window: str) -> Recording:
    return Recording(
        f"environment:{ACKNOWLEDGED.name}:max_increase{window}", f"round({increase(ACKNOWLEDGED, window)})"
    )


def missed(window: str) -> Recording:
    """Make the share of the window's acknowledgements that came too late."""
    return Recording(
        f"environment:managed_agents_work_wait_missed:ratio{window}",
        f"1 - {increase(IN_TIME, window)}\n/ ({increase(ACKNOWLEDGED, window)} > 0)",
    )


ACKNOWLEDGED_5M, ACKNOWLEDGED_1H, ACKNOWLEDGED_6H = (acknowledged(window) for window in ("5m", "1h", "6h"))
MISSED_5M, MISSED_30M, MISSED_1H, MISSED_6H = (missed(window) for window in ("5m", "30m", "1h", "6h"))
_LE = f"le, {ENVIRONMENT}"
WAIT_QUANTILE: Final = Recording(
    f"environment:{m.WORK_QUEUE_WAIT.name}:p{t.WAIT_OBJECTIVE_QUANTILE * 100:.0f}_rate{t.WAIT_OBJECTIVE_WINDOW}",
    f"histogram_quantile(\n  {t.WAIT_OBJECTIVE_QUANTILE},\n"
    f"  max by ({_LE}) (rate({m.WORK_QUEUE_WAIT.name}_bucket[{t.WAIT_OBJECTIVE_WINDOW}]))\n)",
)
IN_TIME_SHARE_1H: Final = Recording("environment:managed_agents_work_wait_in_time:ratio1h", f"1 - {MISSED_1H.record}")

# Long windows are sums of short ones: a window of 30 days over the exporter's own series would read millions of samples.
LONG_STEP: Final = "5m"
COUNT_STEPS: Final = {
    metric.name: Recording(f"environment:{metric.name}:max_increase_step", increase(metric, LONG_STEP))
    for metric in (IN_TIME, ACKNOWLEDGED)
}


def _share(window: str) -> Recording:
    in_time, all_of_them = (f"sum_over_time({step.record}[{window}])" for step in COUNT_STEPS.values())
    return Recording(f"environment:managed_agents_work_wait_in_time:ratio{window}", f"{in_time}\n/ ({all_of_them} > 0)")


IN_TIME_SHARE_1D, IN_TIME_SHARE_30D = _share("1d"), _share("30d")
BUDGET_LEFT: Final = Recording(
    "environment:managed_agents_work_wait_budget_left:ratio30d",
    f"1 - (1 - {IN_TIME_SHARE_30D.record}) / {1 - t.OBJECTIVE_SHARE:.10g}",
)

GROUPS: Final = {
    # In the order of evaluation: a rule reads only what stands above it in its own group. Groups are evaluated at different moments.
    "managed-agents-queue-recording": (
        DEPTH,
        PENDING,
        OLDEST_AGE,
        WORKERS,
        DEPTH_LOW,
        DEPTH_SLOPE,
        OBJECTIVE,
        DATA_AGE,
        ITEMS,
        OVERDUE,
        BUSY,
        ARRIVALS,
        ITEM_SECONDS,
        NEEDED,
        UTILISATION,
        SHORT_BY,
    ),
    "managed-agents-work-recording": (
        STATE_AGE,
        HEARTBEAT_AGE,
        FINISHED,
        NOTHING_STARTED,
        ENDED_AT_ONCE,
        LEFT,
    ),
    "managed-agents-reading-recording": (
        READABLE,
        LISTED,
        FAILURE,
        INFO,
        ENVIRONMENTS,
        UNREADABLE_COUNT,
        UNREADABLE_SHARE,
        NAMED_FAILURES,
    ),
    "managed-agents-exporter-recording": (
        ERROR_COUNT,
        ERROR_RATIO,
        RATE_LIMITED,
        THROTTLED,
        DISCOVERY_ERRORS,
        RELOADED,
        CLOCK_OFFSET,
        ANSWERED,
        STARTS,
        DRIFT,
    ),
}
OBJECTIVE_GROUPS: Final = {
    "managed-agents-objectives-recording": (
        ACKNOWLEDGED_5M,
        ACKNOWLEDGED_1H,
        ACKNOWLEDGED_6H,
        MISSED_5M,
        MISSED_30M,
        MISSED_1H,
        MISSED_6H,
        IN_TIME_SHARE_1H,
        WAIT_QUANTILE,
    ),
    # Its interval is the step that it adds up.
    "managed-agents-long-objectives-recording": (
        *COUNT_STEPS.values(),
        IN_TIME_SHARE_1D,
        IN_TIME_SHARE_30D,
        BUDGET_LEFT,
    ),
}
INTERVAL_BY_GROUP: Final = {"managed-agents-long-objectives-recording": LONG_STEP}
RECORDINGS: Final = tuple(rule for group in (GROUPS | OBJECTIVE_GROUPS).values() for rule in group)
