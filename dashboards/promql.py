"""Fragments of PromQL for panels: every selector carries the dashboard's variables, every number counts an environment once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import thresholds as t
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dashboards.recordings import Recording
    from exporter.metrics.catalogue import Metric

ENVIRONMENT: Final = "job, environment_id, environment_name"
TARGET: Final = 'job=~"$job", instance=~"$instance"'
# So many lines can be told apart.
DRAWN: Final = 10
# A quantile of few items is noise. This window holds enough of them, and is that of the recording rules.
QUANTILE_WINDOW: Final = t.WAIT_OBJECTIVE_WINDOW
CHOSEN: Final = TARGET + ', environment_name=~"$environment_name"'


def chosen(metric: Metric, matchers: str = "", *, suffix: str = "") -> str:
    """One metric's series of the chosen environments, or of the chosen exporters when it has no environment."""
    filters = CHOSEN if "environment_name" in metric.labels else TARGET
    return f"{metric.name}{suffix}{{{filters}{', ' if matchers else ''}{matchers}}}"


def once(inner: str, *more_labels: str) -> str:
    """Collapse the replicas of the exporter: they read the same environments, and their numbers must not be added up."""
    return f"max by ({', '.join((ENVIRONMENT, *more_labels))}) ({inner})"


def gauge(metric: Metric, matchers: str = "", *more_labels: str) -> str:
    return once(chosen(metric, matchers), *more_labels)


def in_state(state: str) -> str:
    return f'state="{state}"'


def top(metric: Metric, matchers: str = "") -> str:
    """Draw the ten environments whose number was highest within the time range: the same ones at every point of it."""
    highest = once(f"max_over_time({chosen(metric, matchers)}[$__range] @ end())")
    return f"{gauge(metric, matchers)} and topk({DRAWN}, {highest})"


def the_others(metric: Metric) -> str:
    return f"sum({gauge(metric)}) - sum({top(metric)}) > 0"


def recorded(rule: Recording, matchers: str = "") -> str:
    """Read what a recording rule made of all replicas: it has no instance."""
    filters = 'job=~"$job", environment_name=~"$environment_name"'
    return f"{rule.record}{{{filters}{', ' if matchers else ''}{matchers}}}"


def worst(rule: Recording, *, high_is_bad: bool = True) -> str:
    """Draw the ten environments that were worst within the time range: the same ones at every point of it."""
    choose, extreme = ("topk", "max_over_time") if high_is_bad else ("bottomk", "min_over_time")
    series = recorded(rule)
    return f"({series} >= 0) and {choose}({DRAWN}, {extreme}({series}[$__range] @ end()))"


def per_minute(metric: Metric, matchers: str = "", *more_labels: str) -> str:
    return once(f"rate({chosen(metric, matchers)}[$__rate_interval])", *more_labels) + " * 60"


def quantile(q: float, metric: Metric) -> str:
    rate = f"rate({chosen(metric, suffix='_bucket')}[{QUANTILE_WINDOW}])"
    return numbers(f"histogram_quantile({q}, {once(rate, 'le')})")


def mean(metric: Metric) -> str:
    """Divide the sum by the count of the same window: exact, where a quantile is only as fine as its buckets."""
    total, count = (once(f"rate({chosen(metric, suffix=suffix)}[{QUANTILE_WINDOW}])") for suffix in ("_sum", "_count"))
    return numbers(f"{total} / {count}")


def numbers(expr: str) -> str:
    """Leave out what is not a number: a quantile of nothing, a share of nothing. One such series spoils a whole graph."""
    return f"{expr} >= 0"


def age(metric: Metric, matchers: str = "", *more_labels: str) -> str:
    return f"time() - {gauge(metric, matchers, *more_labels)}"


def described(metric: Metric, label: str) -> str:
    """One number per environment, with a label of `environment_info` beside it."""
    return f"{gauge(metric)} * on ({ENVIRONMENT}) group_left ({label}) {gauge(m.ENVIRONMENT_INFO, '', label)}"


def agreed(metric: Metric, factor: float = 1) -> str:
    """Return the number that all chosen environments have in common now, times the factor; empty where they differ."""
    now = once(f"{chosen(metric)} @ end()")
    return f"{factor:.10g} * max({now}) and on () max({now}) == min({now})"


def or_zero(counted: str, known: str) -> str:
    """Make an empty count 0 when there was something to count; it stays empty when nothing is known."""
    return f"{counted} or 0 * count({known})"


def of_objective(seconds: str) -> str:
    """Divide by the environment's own wait objective; by the alerts' number where that is not known."""
    known = f"{gauge(m.WORK_WAIT_OBJECTIVE)} or 0 * {gauge(m.UP)} + {t.WAIT_OBJECTIVE_S}"
    return f"({seconds}) / on ({ENVIRONMENT}) ({known})"


def narrowed(expr: str, variable: str, environments_by_word: Mapping[str, str]) -> str:
    """Keep the environments that the dashboard's variable has a word for.

    Every environment gets the words that hold for it as a label, and the one that equals the variable is left over:
    `… and on (…) (label_replace(depth > 0, "show", "waiting", …) and on (show) label_replace(vector(1), "show", "$show", …))`.
    """
    worded = " or ".join(
        f'label_replace({environments}, "{variable}", "{word}", "", "")'
        for word, environments in environments_by_word.items()
    )
    wanted = f'label_replace(vector(1), "{variable}", "${variable}", "", "")'
    return f"({expr}) and on ({ENVIRONMENT}) (({worded}) and on ({variable}) {wanted})"


def in_trouble() -> str:
    """Give every environment the number of its worst trouble, as the alerts see it; the first that applies."""
    starting, stopping = (gauge(m.WORK_OLDEST_AGE, in_state(state)) for state in ("starting", "stopping"))
    overdue, active = gauge(m.WORK_HEARTBEAT_OVERDUE), gauge(m.WORK_ITEMS, in_state("active"))
    many_overdue = (
        f"{overdue} >= {t.HEARTBEATS_CRITICAL_ITEMS} and {overdue} >= {t.HEARTBEATS_CRITICAL_SHARE} * {active}"
    )
    # Behind a backlog the oldest item is one that waits.
    claimed = f"{gauge(m.QUEUE_PENDING)} > 0 and {gauge(m.QUEUE_OLDEST_AGE)} > {t.PENDING_AGE_S} and {gauge(m.QUEUE_DEPTH)} == 0"
    found = (
        f"0 * ({gauge(m.UP)} == 0) + 4",
        f"0 * ({NOBODY_SERVES}) + 3",
        f"0 * ({WAITS_CRITICALLY_LONG}) + 3",
        f"0 * ({many_overdue}) + 3",
        f"0 * ({WAITS_LONG}) + 2",
        f"0 * ({claimed}) + 1",
        f"0 * ({starting} > {t.STARTING_S}) + 1",
        f"0 * ({stopping} > {t.STOPPING_S}) + 1",
        f"0 * ({overdue} > 0) + 1",
        f"0 * {gauge(m.UP)}",
    )
    return " or ".join(found)


def _waits_longer(objectives: float, seconds: float) -> str:
    """Choose the environments whose oldest item waits longer, as the alerts do: in seconds where the objective is not known."""
    oldest = gauge(m.QUEUE_OLDEST_AGE)
    return f"{oldest} > ({objectives} * {gauge(m.WORK_WAIT_OBJECTIVE)} or 0 * {oldest} + {seconds})"


WAITS_LONG: Final = _waits_longer(t.WAIT_WARNING_OBJECTIVES, t.WAIT_WARNING_S)
WAITS_CRITICALLY_LONG: Final = _waits_longer(t.WAIT_CRITICAL_OBJECTIVES, t.WAIT_CRITICAL_S)
# Active, with a fresh heartbeat.
BUSY: Final = gauge(m.WORK_ITEMS, in_state("active")) + " - " + gauge(m.WORK_HEARTBEAT_OVERDUE)
# A webhook starts machines, and these need minutes.
_STILL_WAKING: Final = gauge(m.ENVIRONMENT_INFO, 'worker_mode="webhook"') + f" unless {WAITS_LONG}"
# As the alert says it, once the work has waited for as long as the API remembers a poll.
NOBODY_SERVES: Final = (
    f"({gauge(m.QUEUE_DEPTH)} > 0 and {gauge(m.WORKERS_POLLING)} == 0) unless ({BUSY}) > 0 "
    f"unless {gauge(m.QUEUE_OLDEST_AGE)} <= {t.NOBODY_POLLING_S} unless ({_STILL_WAKING})"
)
