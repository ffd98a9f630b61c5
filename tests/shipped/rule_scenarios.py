"""Fleets written down as promtool input: a calm one, and one trouble for every alert.

A scenario is calm until `CALM_S`, in trouble for a while, and calm again. Series are explicit samples, one every `STEP_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

STEP_S = 30
CALM_S = 600

Value = float | str | None
# A level, or a function of the seconds since the trouble began. None: the series is absent.
Level = float | None | Callable[[float], float | None]

ENVIRONMENT = 'environment_id="env_alpha",environment_name="alpha"'
STATES = ("queued", "starting", "active", "stopping", "stopped", "unknown")


def environment(metric: str, more: str = "") -> str:
    return f"managed_agents_{metric}{{{ENVIRONMENT}{',' if more else ''}{more}}}"


def exporter(metric: str, labels: str) -> str:
    return f"managed_agents_exporter_{metric}{{{labels}}}"


DEPTH = environment("queue_depth")
PENDING = environment("queue_pending")
OLDEST_AGE = environment("queue_oldest_age_seconds")
WORKERS = environment("workers_polling")
OVERDUE = environment("work_heartbeat_overdue_items")
HEARTBEAT_AGE = environment("work_heartbeat_oldest_age_seconds")
READABLE = environment("up")
LISTED = environment("list_up")
STATS_AGE = environment("data_age_seconds", 'source="stats"')
LIST_AGE = environment("data_age_seconds", 'source="list"')
OBJECTIVE = environment("work_wait_objective_seconds")
INFO = environment("environment_info", 'worker_mode="always_on",origin="config"')
SCRAPED = "up{}"
RELOADED = exporter("config_last_reload_successful", "")


def items(state: str) -> str:
    return environment("work_items", f'state="{state}"')


def state_age(state: str) -> str:
    return environment("work_oldest_age_seconds", f'state="{state}"')


def finished(outcome: str) -> str:
    return environment("work_finished_total", f'outcome="{outcome}"')


def failure(source: str, reason: str) -> str:
    return environment("read_failure", f'source="{source}",reason="{reason}"')


CREATED = environment("work_created_total")
ACKNOWLEDGED = environment("work_acknowledged_total")
IN_TIME = environment("work_acknowledged_in_time_total")
STARTED = environment("work_startup_seconds_count")
STARTUP_SECONDS = environment("work_startup_seconds_sum")
RAN = environment("work_run_seconds_count")
RUN_SECONDS = environment("work_run_seconds_sum")


def ran_within(le: str) -> str:
    return environment("work_run_seconds_bucket", f'le="{le}"')


def waited(le: str) -> str:
    return environment("work_queue_wait_seconds_bucket", f'le="{le}"')


def calls(source: str) -> str:
    return exporter("api_request_duration_seconds_count", f'source="{source}"')


def errors(reason: str, source: str = "stats") -> str:
    return exporter("api_errors_total", f'source="{source}",reason="{reason}"')


def discovery_errors(workspace_id: str, reason: str = "auth") -> str:
    return exporter("discovery_errors_total", f'workspace_id="{workspace_id}",reason="{reason}"')


THROTTLED = exporter("api_throttled_total", 'source="list"')
DRIFT = exporter("schema_drift_total", 'field="state"')
CLOCK_OFFSET = exporter("api_clock_offset_seconds", "")
STARTED_AT = "process_start_time_seconds{}"

QUEUE_SERIES = (DEPTH, PENDING, OLDEST_AGE, WORKERS, STATS_AGE)
LISTING_SERIES = (
    *(items(state) for state in STATES),
    state_age("starting"),
    state_age("stopping"),
    OVERDUE,
    HEARTBEAT_AGE,
    LIST_AGE,
)

CALM_GAUGES: Mapping[str, Level] = {
    **dict.fromkeys((DEPTH, PENDING, OLDEST_AGE, state_age("stopping"), OVERDUE), 0.0),
    **{items(state): 0.0 for state in STATES},
    items("active"): 2.0,
    WORKERS: 3.0,
    state_age("starting"): 5.0,
    HEARTBEAT_AGE: 20.0,
    OBJECTIVE: 120.0,
    **dict.fromkeys((STATS_AGE, LIST_AGE), 0.3),
    **dict.fromkeys((CLOCK_OFFSET, STARTED_AT), 0.0),
    **dict.fromkeys((READABLE, LISTED, INFO, SCRAPED, RELOADED), 1.0),
}
# What counters grow by at every sample.
CALM_COUNTERS: Mapping[str, float] = {
    **{finished(outcome): 0.0 for outcome in ("never_started", "never_acknowledged")},
    **dict.fromkeys((finished("ran"), CREATED, ACKNOWLEDGED, IN_TIME, STARTED, RAN), 1.0),
    STARTUP_SECONDS: 3.0,
    RUN_SECONDS: 57.0,
    ran_within("5.0"): 0.0,
    ran_within("+Inf"): 1.0,
    **{waited(le): 1.0 for le in ("30.0", "120.0", "300.0", "+Inf")},
    **{calls(source): 1.0 for source in ("stats", "list")},
    **{errors(reason): 0.0 for reason in ("auth", "timeout", "server", "not_found", "rate_limited")},
    **{discovery_errors(each): 0.0 for each in ("", "wrkspc_1", "wrkspc_2")},
    THROTTLED: 0.0,
    DRIFT: 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What differs from the calm fleet while the trouble lasts."""

    gauges: Mapping[str, Level] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)

    def without(self, *series: str) -> Trouble:
        return Trouble(gauges={**self.gauges, **dict.fromkeys(series)}, counters=self.counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When the trouble lasts, and at which moment one scrape fails (None: none does)."""

    trouble_s: int
    end_s: int
    missed_at_s: int | None = None


Samples = dict[str, list[Value]]


def samples(trouble: Trouble, timeline: Timeline) -> Samples:
    """Every series of one exporter, without its job and instance."""
    gauges = {**CALM_GAUGES, **trouble.gauges}
    moments = range(0, timeline.end_s + 1, STEP_S)
    troubled = [CALM_S <= at < CALM_S + timeline.trouble_s for at in moments]
    drawn: Samples = {
        series: [
            _level(gauges[series] if bad else CALM_GAUGES.get(series), at)
            for at, bad in zip(moments, troubled, strict=True)
        ]
        for series in gauges
    }
    for series, calm_step in CALM_COUNTERS.items():
        steps = [trouble.counters.get(series, calm_step) if bad else calm_step for bad in troubled]
        gone = [bad and series in trouble.gauges for bad in troubled]
        drawn[series] = [None if gone[k] else sum(steps[:k]) for k in range(len(steps))]
    if timeline.missed_at_s is not None:
        _miss(drawn, timeline.missed_at_s // STEP_S)
    return drawn


def _level(level: Level, at: float) -> float | None:
    return level(at - CALM_S) if callable(level) else level


def _miss(drawn: Samples, index: int) -> None:
    """Write what Prometheus writes when a scrape fails: `up` 0, and every series of the target marked stale."""
    for series, values in drawn.items():
        if series == SCRAPED and values[index] is not None:
            values[index] = 0.0
        elif values[index] is not None:
            values[index] = "stale"


def input_series(drawn: Samples, *, instances: tuple[str, ...] = ("a:9831",)) -> list[dict[str, str]]:
    return [
        {"series": _target(series, instance), "values": notation(values)}
        for instance in instances
        for series, values in drawn.items()
        if any(value is not None for value in values)
    ]


def _target(series: str, instance: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{job="managed-agents",instance="{instance}"{"," if labels else ""}{labels}}}'


def notation(values: list[Value]) -> str:
    """Promtool's notation; a series that disappears is marked stale, as Prometheus does it."""
    words = ["_" if values[0] is None else _word(values[0])]
    for before, value in pairwise(values):
        if value is None:
            words.append("stale" if isinstance(before, float | int) else "_")
        else:
            words.append(_word(value))
    return " ".join(words)


def _word(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"
