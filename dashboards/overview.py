"""The fleet: whether work is waiting too long, and whether anyone is there to take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import thresholds as t
from dashboards.grafana import YES_OR_NO, Column, Panel, Query, Row, dashboard, graph, painted, stat, table, variables
from dashboards.promql import BUSY, NOBODY_SERVES, age, described, gauge, or_zero, quantile
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from dashboards.grafana import Json, Steps

UID: Final = "managed-agents-overview"
ENVIRONMENT_UID: Final = "managed-agents-environment"

WAIT_STEPS: Final[Steps] = (("orange", t.WAIT_WARNING_S), ("red", t.WAIT_CRITICAL_S))
OBJECTIVE_STEPS: Final[Steps] = (("orange", t.WAIT_OBJECTIVE_S),)
DATA_AGE_STEPS: Final[Steps] = (("orange", t.DATA_AGE_S),)
ANY_IS_BAD: Final[Steps] = (("red", 1),)
ANY_IS_ODD: Final[Steps] = (("orange", 1),)
STATE_COLOURS: Final = {
    "queued": "yellow",
    "starting": "light-blue",
    "active": "green",
    "stopping": "orange",
    "stopped": "text",
    "unknown": "purple",
}
BY_STATE: Final = [painted(state, colour) for state, colour in STATE_COLOURS.items()]
TO_ENVIRONMENT: Final[Json] = {
    "title": "The whole life of ${__value.text}",
    "url": f"/d/{ENVIRONMENT_UID}?var-environment_name=${{__value.text:percentencode}}"
    "&${job:queryparam}&${instance:queryparam}&${datasource:queryparam}&${__url_time_range}",
    "targetBlank": False,
}


def overview() -> Json:
    return dashboard(
        uid=UID,
        title="Managed agents: overview",
        description="Is work waiting too long, and is anyone there to take it? One row per self-hosted environment.",
        templating=variables(m.ENVIRONMENT_INFO, m.ENVIRONMENT_INFO),
        rows=(
            Row("", [*_waiting(), *_serving()]),
            Row("", [_environments()]),
            Row("Waiting", [backlog(width=12), longest_wait(width=12)]),
            Row("Working", [items_by_state(width=8), workers_polling(width=8), time_to_claim(width=8)]),
        ),
        period="6h",
    )


def _waiting() -> list[Panel]:
    return [
        stat(
            "Waiting",
            "Work items waiting to be claimed, all chosen environments together.",
            Query(f"sum({gauge(m.QUEUE_DEPTH)})", "waiting"),
        ),
        stat(
            "Longest wait",
            "Age of the oldest item that waits, or is claimed and not acknowledged, in any chosen environment. Orange and red "
            "begin where ManagedAgentsBacklogAgeing does.",
            Query(f"max({gauge(m.QUEUE_OLDEST_AGE)})", "longest wait"),
            unit="s",
            steps=WAIT_STEPS,
        ),
        stat(
            "Claimed",
            "Items claimed by a worker and not acknowledged. Near zero when all is well; ManagedAgentsClaimedNotAcknowledged "
            f"fires after {t.PENDING_FOR} above it, if the oldest item is older than {t.PENDING_AGE_S} s.",
            Query(f"sum({gauge(m.QUEUE_PENDING)})", "claimed"),
            steps=ANY_IS_ODD,
        ),
    ]


def _serving() -> list[Panel]:
    return [
        stat(
            "Polling",
            "Workers that asked for work in the last 30 seconds. A busy worker does not ask; unknown means that the API does not say.",
            Query(f"sum({gauge(m.WORKERS_POLLING)})", "workers polling"),
        ),
        stat(
            "Unserved",
            "Environments in which work waits, nobody polls and no active item has a fresh heartbeat: what "
            "ManagedAgentsNobodyPolling fires for.",
            Query(or_zero(f"count({NOBODY_SERVES})", gauge(m.QUEUE_DEPTH)), "environments"),
            steps=ANY_IS_BAD,
        ),
        stat(
            "Unreadable",
            "Environments whose queue cannot be read. Their numbers are missing from everything else here.",
            Query(or_zero(f"count({gauge(m.UP)} == 0)", gauge(m.UP)), "environments"),
            steps=ANY_IS_BAD,
        ),
    ]


def _environments() -> Panel:
    columns = (
        Column(heading="Environment", label="environment_name", links=[TO_ENVIRONMENT], width=150),
        Column(heading="Workers", label="worker_mode"),
        Column(heading="Readable", query=Query(described(m.UP, "worker_mode"), table=True), mappings=[YES_OR_NO]),
        Column(heading="Waiting", query=Query(gauge(m.QUEUE_DEPTH), table=True)),
        Column(heading="Oldest", query=Query(gauge(m.QUEUE_OLDEST_AGE), table=True), unit="s", steps=WAIT_STEPS),
        Column(heading="Claimed", query=Query(gauge(m.QUEUE_PENDING), table=True), steps=ANY_IS_ODD),
        Column(heading="Polling", query=Query(gauge(m.WORKERS_POLLING), table=True)),
        Column(heading="Busy", query=Query(BUSY, table=True)),
        Column(heading="Overdue", query=Query(gauge(m.WORK_HEARTBEAT_OVERDUE), table=True), steps=ANY_IS_ODD),
        Column(heading="Read", query=Query(_stats_age(), table=True), unit="s", steps=DATA_AGE_STEPS),
    )
    return table(
        "Environments",
        "Every environment as it is now. Claimed: not yet acknowledged. Oldest: the longest wait. Busy: active items with a fresh heartbeat. Overdue: active items without one. "
        "Read: how long ago. Unknown is not zero. The name leads to the environment's own dashboard.",
        columns,
        width=24,
        height=9,
        sort_by="Environment",
    )


def _stats_age() -> str:
    return age(m.DATA_TIMESTAMP, 'source="stats"')


def backlog(*, width: int) -> Panel:
    return graph(
        "Backlog",
        f"Items waiting to be claimed. ManagedAgentsBacklogGrowing fires when it grows by {t.BACKLOG_GROWTH_ITEMS} in "
        f"{t.BACKLOG_GROWTH_WINDOW}. A gap is a time at which the number was unknown.",
        [Query(gauge(m.QUEUE_DEPTH), "{{environment_name}}")],
        width=width,
    )


def longest_wait(*, width: int) -> Panel:
    return graph(
        "Longest wait over time",
        "Age of the oldest item that waits, or is claimed and not acknowledged. The dashed lines are the thresholds of "
        "ManagedAgentsBacklogAgeing, warning and critical.",
        [Query(gauge(m.QUEUE_OLDEST_AGE), "{{environment_name}}")],
        unit="s",
        steps=WAIT_STEPS,
        width=width,
    )


def items_by_state(*, width: int) -> Panel:
    live = 'state!="stopped"'
    return graph(
        "Items by state",
        "Listed items that are not stopped, all chosen environments together. Missing while a listing is incomplete.",
        [Query(f"sum by (state) ({gauge(m.WORK_ITEMS, live, 'state')})", "{{state}}")],
        stacked=True,
        overrides=BY_STATE,
        width=width,
    )


def workers_polling(*, width: int) -> Panel:
    return graph(
        "Workers polling",
        "Workers that asked for work in the last 30 seconds. A busy worker does not ask, and a rolling restart counts twice for "
        "half a minute. A gap means that the API does not say.",
        [Query(gauge(m.WORKERS_POLLING), "{{environment_name}}")],
        width=width,
    )


def time_to_claim(*, width: int) -> Panel:
    return graph(
        "Time to claim",
        f"Time from creation to acknowledgement that {t.WAIT_OBJECTIVE_QUANTILE * 100:.0f} % of the items stay within. The dashed line is "
        "the objective of ManagedAgentsWaitObjectiveMissed. No line where no item was acknowledged.",
        [Query(quantile(t.WAIT_OBJECTIVE_QUANTILE, m.WORK_QUEUE_WAIT), "{{environment_name}}")],
        unit="s",
        steps=OBJECTIVE_STEPS,
        width=width,
        interval="1m",
    )
