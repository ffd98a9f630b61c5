"""The fleet: whether work is waiting too long, and whether anyone is there to take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import recordings as r
from dashboards import thresholds as t
from dashboards.grafana import (
    Column,
    Panel,
    Query,
    Row,
    by_name,
    dashboard,
    graph,
    painted,
    stat,
    table,
    variables,
    words,
)
from dashboards.marks import DOCUMENTATION, MARKS
from dashboards.promql import (
    BUSY,
    ENVIRONMENT,
    NOBODY_SERVES,
    described,
    gauge,
    in_trouble,
    or_zero,
    recorded,
    the_others,
    top,
    worst,
)
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from dashboards.grafana import Json, Steps

UID: Final = "managed-agents-overview"
ENVIRONMENT_UID: Final = "managed-agents-environment"

WAIT_STEPS: Final[Steps] = (("orange", t.WAIT_WARNING_S), ("red", t.WAIT_CRITICAL_S))
WAIT_STEPS_MIN: Final[Steps] = tuple((colour, seconds / 60) for colour, seconds in WAIT_STEPS)
OBJECTIVE_STEPS_MIN: Final[Steps] = (("orange", t.WAIT_OBJECTIVE_S / 60),)
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
# On an axis of its own, and not stacked upon items.
NOT_COUNTED: Final[Json] = by_name(
    "environments not counted",
    [
        {"id": "color", "value": {"fixedColor": "purple", "mode": "fixed"}},
        {"id": "custom.axisPlacement", "value": "right"},
        {"id": "custom.stacking", "value": {"group": "A", "mode": "none"}},
        {"id": "custom.fillOpacity", "value": 0},
    ],
)
BY_STATE: Final = [painted(state, colour) for state, colour in STATE_COLOURS.items()]
TROUBLE: Final = words(
    {
        "4": ("unreadable", "red"),
        "3": ("critical", "red"),
        "2": ("waits long", "orange"),
        "1": ("items hang", "orange"),
        "0": ("none", "green"),
    }
)
_REASONS: Final = gauge(m.READ_FAILURE, 'source="stats"', "reason")
WHY: Final = Column(
    heading="Why",
    label="reason",
    query=Query(f"topk by ({ENVIRONMENT}) (1, {_REASONS})", table=True),
)
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
            Row("Fleet", [_short(), _in_time()]),
            Row("Working", [items_by_state(width=8), workers_polling(width=8), time_to_claim(width=8)]),
        ),
        period="6h",
        annotations=MARKS,
        documentation=DOCUMENTATION,
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
            "Without workers",
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
        Column(heading="Trouble", query=Query(in_trouble(), table=True), mappings=[TROUBLE], width=105),
        WHY,
        Column(heading="Workers", label="worker_mode", query=Query(described(m.UP, "worker_mode"), table=True)),
        Column(heading="Waiting", query=Query(gauge(m.QUEUE_DEPTH), table=True)),
        Column(heading="Oldest", query=Query(gauge(m.QUEUE_OLDEST_AGE), table=True), unit="s", steps=WAIT_STEPS),
        Column(heading="Claimed", query=Query(gauge(m.QUEUE_PENDING), table=True), steps=ANY_IS_ODD),
        Column(heading="Polling", query=Query(gauge(m.WORKERS_POLLING), table=True)),
        Column(heading="Busy", query=Query(BUSY, table=True)),
        Column(
            heading="Short by",
            query=Query(f"{recorded(r.SHORT_BY)} or 0 * {recorded(r.NEEDED)}", table=True),
            steps=ANY_IS_ODD,
        ),
        Column(heading="Overdue", query=Query(gauge(m.WORK_HEARTBEAT_OVERDUE), table=True), steps=ANY_IS_ODD),
        Column(
            heading="Data age",
            query=Query(gauge(m.DATA_AGE, 'source="stats"'), table=True),
            unit="s",
            steps=DATA_AGE_STEPS,
        ),
    )
    return table(
        "Environments",
        "Every environment as it is now, those in trouble first: unreadable, critical and waits long as the alerts say it, items hang. Claimed: not yet acknowledged. Oldest: the longest wait. Busy: active items with a fresh heartbeat. Overdue: active items without one. "
        "Short by: workers that are missing. Data age: how long ago it was read. Unknown is not zero. The name leads to the environment's own dashboard.",
        columns,
        width=24,
        height=11,
        sort_by="Trouble",
        descending=True,
    )


def backlog(*, width: int) -> Panel:
    return graph(
        "Backlog",
        f"Items waiting to be claimed. ManagedAgentsBacklogGrowing fires when it grows by {t.BACKLOG_GROWTH_ITEMS} in "
        f"{t.BACKLOG_GROWTH_WINDOW}. A gap is a time at which the number was unknown.",
        [Query(top(m.QUEUE_DEPTH), "{{environment_name}}"), Query(the_others(m.QUEUE_DEPTH), "all others")],
        width=width,
    )


def longest_wait(*, width: int) -> Panel:
    return graph(
        "Longest wait over time",
        "Age of the oldest item that waits, or is claimed and not acknowledged. The dashed lines are the thresholds of "
        "ManagedAgentsBacklogAgeing, warning and critical.",
        [Query(f"({top(m.QUEUE_OLDEST_AGE)}) / 60", "{{environment_name}}")],
        unit="m",
        steps=WAIT_STEPS_MIN,
        width=width,
    )


def _short() -> Panel:
    return graph(
        "Short by",
        "Workers that are missing while work waits: arrivals times the time per item, less the busy ones. Empty while no fleet is short.",
        [Query(worst(r.SHORT_BY), "{{environment_name}}")],
        width=12,
        no_value="none is short",
    )


def _in_time() -> Panel:
    return graph(
        "Taken in time, last hour",
        f"Share of items acknowledged within their environment's objective, in the ten worst environments. The objective is {t.OBJECTIVE_SHARE:.0%}.",
        [Query(worst(r.IN_TIME_SHARE_1H, high_is_bad=False), "{{environment_name}}")],
        unit="percentunit",
        width=12,
        no_value="nothing was acknowledged",
    )


def items_by_state(*, width: int) -> Panel:
    live = 'state!="stopped"'
    return graph(
        "Items by state",
        "Listed items that are not stopped, of those environments only whose list is read. The line says how many environments are missing from it.",
        [
            Query(f"sum by (state) ({gauge(m.WORK_ITEMS, live, 'state')})", "{{state}}"),
            Query(f"count({gauge(m.LIST_UP)} == 0)", "environments not counted"),
        ],
        stacked=True,
        overrides=[*BY_STATE, NOT_COUNTED],
        width=width,
    )


def workers_polling(*, width: int) -> Panel:
    return graph(
        "Workers polling",
        "Workers that asked for work in the last 30 seconds. A busy worker does not ask, and a rolling restart counts twice for "
        "half a minute. A gap means that the API does not say.",
        [Query(top(m.WORKERS_POLLING), "{{environment_name}}"), Query(the_others(m.WORKERS_POLLING), "all others")],
        width=width,
    )


def time_to_claim(*, width: int) -> Panel:
    return graph(
        "Time to claim",
        f"Time from creation to acknowledgement that {t.WAIT_OBJECTIVE_QUANTILE * 100:.0f} % of the items stay within. The dashed line is "
        "the objective of ManagedAgentsWaitObjectiveMissed. No line where no item was acknowledged.",
        [
            Query(
                f"({worst(r.WAIT_QUANTILE)}) / 60",
                "{{environment_name}}",
            )
        ],
        unit="m",
        steps=OBJECTIVE_STEPS_MIN,
        width=width,
        interval="1m",
    )
