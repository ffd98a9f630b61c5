"""Fragments of PromQL for panels: every selector carries the dashboard's variables, every number counts an environment once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from exporter.metrics.catalogue import Metric

ENVIRONMENT: Final = "job, environment_id, environment_name"
TARGET: Final = 'job=~"$job", instance=~"$instance"'
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


def per_minute(metric: Metric, matchers: str = "", *more_labels: str) -> str:
    return once(f"rate({chosen(metric, matchers)}[$__rate_interval])", *more_labels) + " * 60"


def quantile(q: float, metric: Metric) -> str:
    rate = f"rate({chosen(metric, suffix='_bucket')}[$__rate_interval])"
    return numbers(f"histogram_quantile({q}, {once(rate, 'le')})")


def numbers(expr: str) -> str:
    """Leave out what is not a number: a quantile of nothing, a share of nothing. One such series spoils a whole graph."""
    return f"{expr} >= 0"


def age(metric: Metric, matchers: str = "", *more_labels: str) -> str:
    return f"time() - {gauge(metric, matchers, *more_labels)}"


def described(metric: Metric, label: str) -> str:
    """One number per environment, with a label of `environment_info` beside it."""
    return f"{gauge(metric)} * on ({ENVIRONMENT}) group_left ({label}) {gauge(m.ENVIRONMENT_INFO, '', label)}"


def or_zero(counted: str, known: str) -> str:
    """Make an empty count 0 when there was something to count; it stays empty when nothing is known."""
    return f"{counted} or 0 * count({known})"


# Active, with a fresh heartbeat.
BUSY: Final = gauge(m.WORK_ITEMS, 'state="active"') + " - " + gauge(m.WORK_HEARTBEAT_OVERDUE)
# As the alert says it.
NOBODY_SERVES: Final = f"({gauge(m.QUEUE_DEPTH)} > 0 and {gauge(m.WORKERS_POLLING)} == 0) unless ({BUSY}) > 0"
