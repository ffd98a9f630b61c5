"""The fleet: whether work is waiting too long, and whether anyone is there to take it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from dashboards import recordings as r
from dashboards import thresholds as t
from dashboards.firing import EVERYWHERE, TO_ENVIRONMENT, TO_ITEMS, firing_alerts
from dashboards.grafana import Row, choice, dashboard, variables
from dashboards.marks import DOCUMENTATION, MARKS
from dashboards.panels import (
    MINUTES,
    NAMED,
    OTHERS,
    TIMES,
    WORKERS,
    Column,
    Panel,
    Query,
    dashed,
    graph,
    on_the_right,
    painted,
    painted_like,
    stat,
    table,
    words,
)
from dashboards.promql import (
    BUSY,
    ENVIRONMENT,
    NOBODY_SERVES,
    WAITS_CRITICALLY_LONG,
    WAITS_LONG,
    agreed,
    chosen,
    described,
    gauge,
    in_state,
    in_trouble,
    narrowed,
    of_objective,
    once,
    or_zero,
    recorded,
    the_others,
    top,
    worst,
)
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboards.panels import Json, Steps

UID: Final = "managed-agents-overview"

# In multiples of each environment's own objective, as the alerts count.
WAIT_STEPS: Final[Steps] = (("orange", t.WAIT_WARNING_OBJECTIVES), ("red", t.WAIT_CRITICAL_OBJECTIVES))
IN_TIME_STEPS: Final[Steps] = (("green", t.OBJECTIVE_SHARE),)
STARTING_STEPS: Final[Steps] = (("orange", t.STARTING_S / 60),)
STOPPING_STEPS: Final[Steps] = (("orange", t.STOPPING_S / 60),)
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
# Not stacked upon items.
NOT_COUNTED: Final[Json] = on_the_right(
    "environments not counted",
    "purple",
    more=(
        {"id": "custom.stacking", "value": {"group": "A", "mode": "none"}},
        {"id": "custom.fillOpacity", "value": 0},
    ),
)
# What failed keeps Grafana's own colours.
BY_SOURCE: Final = [
    painted_like(f"/^((50|95) % )?{source}( 2\\d\\d)?$/", colour)
    for source, colour in (("stats", "blue"), ("list", "purple"), ("environments", "#1BA3A3"))
]
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
    nothing="-",
)

# Recorded numbers outlast what they were made of.
SHORT_BY: Final = f"{recorded(r.SHORT_BY)} and {gauge(m.UP)} == 1"
# What the table may be narrowed to, in words that stand in its title and in addresses.
ALL, IN_TROUBLE, UNREADABLE, WITHOUT_WORKERS = "all", "in trouble", "unreadable", "without workers"
SHORT_OF_WORKERS, WAITING, NOT_ACKNOWLEDGED = "short of workers", "with waiting work", "not acknowledged"
ROWS: Final = {
    ALL: gauge(m.UP),
    IN_TROUBLE: f"({in_trouble()}) > 0",
    UNREADABLE: f"{gauge(m.UP)} == 0",
    WITHOUT_WORKERS: NOBODY_SERVES,
    SHORT_OF_WORKERS: SHORT_BY,
    WAITING: f"{gauge(m.QUEUE_DEPTH)} > 0",
    NOT_ACKNOWLEDGED: f"{gauge(m.QUEUE_PENDING)} > 0",
}

TO_EXPORTER: Final[Json] = {
    "title": "Why: the exporter's board",
    "url": "/d/managed-agents-exporter?${job:queryparam}&${instance:queryparam}&${datasource:queryparam}&${__url_time_range}",
    "targetBlank": False,
}


def overview() -> Json:
    return dashboard(
        uid=UID,
        title="Managed agents: overview",
        description="Is work waiting too long, and is anyone there to take it? One row per self-hosted environment.",
        templating=[*variables(m.ENVIRONMENT_INFO, m.ENVIRONMENT_INFO), choice("show", "Table", tuple(ROWS))],
        rows=(
            Row("", [*_environments_that(), *_items()]),
            Row("", [_environments()]),
            Row("Alerts", [firing_alerts(EVERYWHERE, width=24, height=8)]),
            Row("Waiting", [_backlog(), longest_wait(many=True)]),
            Row("Objective", [_time_to_claim(), _in_time()]),
            Row("Workers", [_workers_polling(), _short()]),
            Row("Working", [_items_by_state()]),
        ),
        period="6h",
        annotations=MARKS,
        documentation=DOCUMENTATION,
    )


def _environments_that() -> list[Panel]:
    """Count environments. What a stat counts is what its link shows."""
    return [
        _number_of(
            "In trouble",
            "Environments that are unreadable, critical, wait long or have items that hang, as the alerts see it.",
            IN_TROUBLE,
            known=gauge(m.UP),
        ),
        _number_of(
            "Unreadable",
            "Environments whose queue cannot be read. Their numbers are missing from everything else here.",
            UNREADABLE,
            known=gauge(m.UP),
        ),
        _number_of(
            "No workers",
            f"Environments in which work has waited for more than {t.NOBODY_POLLING_S} s, nobody polls and no active item has a fresh heartbeat: what "
            "ManagedAgentsNobodyPolling fires for.",
            WITHOUT_WORKERS,
            known=gauge(m.QUEUE_DEPTH),
        ),
        stat(
            "Short of",
            "Workers that are missing where work waits: arrivals times the time per item, less the busy ones. All chosen environments together.",
            Query(or_zero(f"sum({SHORT_BY})", f"{recorded(r.NEEDED)} and {gauge(m.UP)} == 1"), "workers"),
            unit=WORKERS,
            steps=ANY_IS_ODD,
            links=[_to_rows(SHORT_OF_WORKERS)],
            width=6,
        ),
    ]


def _number_of(title: str, description: str, rows: str, *, known: str) -> Panel:
    counted = Query(or_zero(f"count({ROWS[rows]})", known), "environments")
    return stat(title, description, counted, steps=ANY_IS_BAD, links=[_to_rows(rows)], width=6)


def _items() -> list[Panel]:
    return [
        stat(
            "Waiting",
            "Work items waiting to be claimed, all chosen environments together.",
            Query(f"sum({gauge(m.QUEUE_DEPTH)})", "waiting"),
            links=[_to_rows(WAITING)],
            width=7,
        ),
        longest_wait_now(
            "Age of the oldest item that waits, or is claimed and not acknowledged, in any chosen environment.",
            [_to_rows(WAITING)],
            width=7,
        ),
        stat(
            "Claimed, not acknowledged",
            "Items claimed by a worker and not acknowledged. Near zero when all is well; ManagedAgentsClaimedNotAcknowledged "
            f"fires after {t.PENDING_FOR} above it, if the oldest item is older than {t.PENDING_AGE_S} s.",
            Query(f"sum({gauge(m.QUEUE_PENDING)})", "claimed"),
            steps=ANY_IS_ODD,
            links=[_to_rows(NOT_ACKNOWLEDGED)],
            width=10,
        ),
    ]


def longest_wait_now(description: str, links: Sequence[Json], *, width: int) -> Panel:
    """Ask once for each colour, and have one of them answer: where orange and red begin is each environment's own."""
    longest = f"max({gauge(m.QUEUE_OLDEST_AGE)}) / 60"
    late, very_late = (f"count({waiting})" for waiting in (WAITS_LONG, WAITS_CRITICALLY_LONG))
    begins = (
        f" Orange and red begin where ManagedAgentsBacklogAgeing does, at {t.WAIT_WARNING_OBJECTIVES:g} and "
        f"{t.WAIT_CRITICAL_OBJECTIVES:g} times an environment's own objective."
    )
    return stat(
        "Longest wait",
        description + begins,
        Query(f"{longest} unless on () {late}", "in time"),
        Query(f"{longest} and on () {late} unless on () {very_late}", "late"),
        Query(f"{longest} and on () {very_late}", "very late"),
        unit=MINUTES,
        overrides=[painted("in time", "green"), painted("late", "orange"), painted("very late", "red")],
        links=links,
        width=width,
    )


def _to_rows(rows: str) -> Json:
    kept = "&".join(f"${{{name}:queryparam}}" for name in ("job", "instance", "environment_name", "datasource"))
    return {
        "title": f"In the table: {rows}",
        "url": f"/d/{UID}?var-show={quote(rows)}&{kept}&${{__url_time_range}}",
        "targetBlank": False,
    }


def _columns_of_environments() -> tuple[Column, ...]:
    oldest = gauge(m.QUEUE_OLDEST_AGE)
    short_by = f"({recorded(r.SHORT_BY)} or 0 * {recorded(r.NEEDED)}) and {gauge(m.UP)} == 1"
    return (
        Column(heading="Environment", label="environment_name", links=[TO_ENVIRONMENT, TO_ITEMS], width=150),
        Column(
            heading="Trouble",
            query=Query(narrowed(in_trouble(), "show", ROWS), table=True),
            mappings=[TROUBLE],
            width=95,
        ),
        replace(WHY, links=[TO_EXPORTER]),
        Column(heading="Waiting", query=Query(gauge(m.QUEUE_DEPTH), table=True)),
        Column(heading="Longest wait", query=Query(f"{oldest} / 60", table=True), unit=MINUTES),
        Column(heading="Of objective", query=Query(of_objective(oldest), table=True), unit=TIMES, steps=WAIT_STEPS),
        Column(heading="Short by", query=Query(short_by, table=True), steps=ANY_IS_ODD),
        Column(heading="Not acknowledged", query=Query(gauge(m.QUEUE_PENDING), table=True), steps=ANY_IS_ODD),
        *(
            Column(
                heading=f"Longest {state}",
                query=Query(f"{gauge(m.WORK_OLDEST_AGE, in_state(state))} / 60", table=True),
                unit=MINUTES,
                steps=steps,
            )
            for state, steps in (("starting", STARTING_STEPS), ("stopping", STOPPING_STEPS))
        ),
        Column(
            heading="Heartbeats overdue", query=Query(gauge(m.WORK_HEARTBEAT_OVERDUE), table=True), steps=ANY_IS_ODD
        ),
        Column(heading="Workers polling", query=Query(gauge(m.WORKERS_POLLING), table=True)),
        Column(heading="Workers busy", query=Query(BUSY, table=True)),
        Column(
            heading="Data age",
            query=Query(gauge(m.DATA_AGE, 'source="stats"'), table=True),
            unit="s",
            steps=DATA_AGE_STEPS,
            decimals=0,
        ),
        Column(heading="Worker mode", label="worker_mode", query=Query(described(m.UP, "worker_mode"), table=True)),
    )


def _environments() -> Panel:
    return table(
        "Environments: $show",
        "Every chosen environment as it is now, those in trouble first: unreadable, critical and waits long as the alerts say it, items hang. "
        "Table, above the panels, narrows it, and so does a click on a number above. Of objective: the longest wait in multiples of the environment's own "
        "objective. Workers busy: active items with a fresh heartbeat. Not acknowledged: claimed, and not yet acknowledged. Longest starting: acknowledged so long ago, and no heartbeat yet. Longest stopping: asked to stop so long ago. Heartbeats overdue: active items "
        "without a fresh one. Data age: how long ago it was read. Unknown is not zero. The name leads to the environment's own dashboard and to its live items.",
        _columns_of_environments(),
        width=24,
        height=12,
        sort_by="Trouble",
        descending=True,
        no_value="none",
        only_with="Trouble",
    )


def _backlog() -> Panel:
    return graph(
        "Backlog",
        f"Items waiting to be claimed, in the ten environments where most waited. ManagedAgentsBacklogGrowing fires when it grows by {t.BACKLOG_GROWTH_ITEMS} in "
        f"{t.BACKLOG_GROWTH_WINDOW}. A gap is a time at which the number was unknown.",
        [Query(top(m.QUEUE_DEPTH), NAMED), Query(the_others(m.QUEUE_DEPTH), OTHERS)],
        overrides=[on_the_right(OTHERS, "text")],
        many=True,
    )


def longest_wait(*, many: bool = False) -> Panel:
    oldest = top(m.QUEUE_OLDEST_AGE)
    warning, critical = (
        f"({agreed(m.WORK_WAIT_OBJECTIVE, factor / 60)})"
        for factor in (t.WAIT_WARNING_OBJECTIVES, t.WAIT_CRITICAL_OBJECTIVES)
    )
    highest = once(f"max_over_time({chosen(m.QUEUE_OLDEST_AGE)}[$__range] @ end())")
    reached = f"max({highest}) / 60 > 0.5 * {critical}"
    return graph(
        "Longest wait over time",
        "Age of the oldest item that waits, or is claimed and not acknowledged. The dashed lines are the thresholds of "
        "ManagedAgentsBacklogAgeing, which follow the objective: drawn where all environments have the same one, critical when it is near.",
        [
            Query(f"({oldest}) / 60", NAMED),
            Query(warning, "warning above"),
            Query(f"{critical} and on () {reached}", "critical above"),
        ],
        unit=MINUTES,
        overrides=[
            *([] if many else [painted_like("/.*/", "blue")]),
            dashed("warning above", "orange"),
            dashed("critical above", "red"),
        ],
        many=many,
    )


def _short() -> Panel:
    return graph(
        "Short by",
        "Workers that are missing while work waits: arrivals times the time per item, less the busy ones. Empty while no fleet is short.",
        [Query(worst(r.SHORT_BY), NAMED)],
        many=True,
        no_value="none is short",
    )


def _in_time() -> Panel:
    return graph(
        "Taken in time, last hour",
        f"Share of items acknowledged within their environment's objective, in the ten worst environments. The objective is {t.OBJECTIVE_SHARE:.0%}.",
        [Query(worst(r.IN_TIME_SHARE_1H, high_is_bad=False), NAMED)],
        unit="percentunit",
        steps=IN_TIME_STEPS,
        many=True,
        low_is_bad=True,
        no_value="nothing was acknowledged",
    )


def _items_by_state() -> Panel:
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
        width=24,
        many=True,
    )


def _workers_polling() -> Panel:
    return graph(
        "Workers polling",
        "Workers that asked for work in the last 30 seconds, in the ten environments where most did. A busy worker does not ask, and a rolling restart counts twice for "
        "half a minute. A gap means that the API does not say.",
        [Query(top(m.WORKERS_POLLING), NAMED), Query(the_others(m.WORKERS_POLLING), OTHERS)],
        overrides=[on_the_right(OTHERS, "text")],
        many=True,
    )


def _time_to_claim() -> Panel:
    return graph(
        "Time to claim",
        f"Time from creation to acknowledgement that {t.WAIT_OBJECTIVE_QUANTILE * 100:.0f} % of the items stay within, in the ten slowest environments. The dashed "
        "line is the objective, where all environments have the same one. No line where no item was acknowledged.",
        [
            Query(f"({worst(r.WAIT_QUANTILE)}) / 60", NAMED),
            Query(agreed(m.WORK_WAIT_OBJECTIVE, 1 / 60), "objective"),
        ],
        unit=MINUTES,
        overrides=[dashed("objective", "orange")],
        many=True,
        interval="1m",
    )
