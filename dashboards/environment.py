"""One environment's whole life: who waits, who works, how long everything takes, and how fresh the numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import thresholds as t
from dashboards.grafana import (
    Column,
    Panel,
    Query,
    Row,
    bars,
    dashboard,
    graph,
    painted,
    stat,
    table,
    text,
    variables,
    words,
)
from dashboards.overview import (
    ANY_IS_ODD,
    BY_STATE,
    DATA_AGE_STEPS,
    ENVIRONMENT_UID,
    OBJECTIVE_STEPS,
    WAIT_STEPS,
    longest_wait,
)
from dashboards.promql import BUSY, age, gauge, per_minute, quantile
from dashboards.rules import ALERT_PREFIX, REPOSITORY_URL
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from dashboards.grafana import Json, Steps
    from exporter.metrics.catalogue import Metric

STARTING_STEPS: Final[Steps] = (("orange", t.STARTING_S),)
STOPPING_STEPS: Final[Steps] = (("orange", t.STOPPING_S),)
OUTCOMES: Final = [painted("ran", "green"), painted("never_started", "red"), painted("never_acknowledged", "yellow")]
SEVERITY: Final = words(
    {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")},
)
# Every alert here begins with the same word.
WITHOUT_PREFIX: Final[Json] = {
    "type": "regex",
    "options": {"pattern": f"{ALERT_PREFIX}(.+)", "result": {"text": "$1", "color": "text", "index": 0}},
}
READ_ME: Final = f"""\
Work is created and **waits**; a worker **polls**, claims it and acknowledges it; it **starts** with the first heartbeat, is
**active** while heartbeats come, and **stops**.

- A gap, or *unknown*, is a number nobody had. It is not zero.
- Work waits and nobody polls: are items active with fresh heartbeats? Then workers are busy, and there are too few.
- *Never started*: acknowledged, then stopped without a heartbeat. Its session hangs.

What to do about each alert: [runbooks]({REPOSITORY_URL}/tree/main/docs/runbooks).
"""


def environment() -> Json:
    return dashboard(
        uid=ENVIRONMENT_UID,
        title="Managed agents: environment",
        description="One environment's whole life, from creation to stop. Choose several to compare them.",
        templating=variables(m.ENVIRONMENT_INFO, m.ENVIRONMENT_INFO),
        rows=(
            Row("", _now()),
            Row("", [_firing(), _reading_guide()]),
            Row("Waiting and taking", [_depth_and_workers(), longest_wait(width=12)]),
            Row("Items", [_items(), _items_now(), *_ages()]),
            Row("How long it takes", _durations()),
            Row("Throughput", [_throughput(), _outcomes()]),
            Row("Heartbeats and readings", [*_heartbeats(), _ages_of_numbers(), _readable()]),
        ),
        period="3h",
    )


def _now() -> list[Panel]:
    active = 'state="active"'
    shown: tuple[tuple[str, str, str, str, Steps], ...] = (
        ("Waiting", "Items waiting to be claimed.", gauge(m.QUEUE_DEPTH), "short", ()),
        ("Longest wait", "Age of the oldest item not yet acknowledged.", gauge(m.QUEUE_OLDEST_AGE), "s", WAIT_STEPS),
        ("Claimed", "Items claimed and not acknowledged.", gauge(m.QUEUE_PENDING), "short", ANY_IS_ODD),
        ("Polling", "Workers that asked for work in the last 30 seconds.", gauge(m.WORKERS_POLLING), "short", ()),
        ("Active", "Items being worked on.", gauge(m.WORK_ITEMS, active), "short", ()),
        ("Overdue", "Active items whose heartbeat is overdue.", gauge(m.WORK_HEARTBEAT_OVERDUE), "short", ANY_IS_ODD),
    )
    return [
        stat(title, description, Query(expr, "{{environment_name}}"), unit=unit, steps=steps, shows="auto")
        for title, description, expr, unit, steps in shown
    ]


def _firing() -> Panel:
    chosen = f'alertname=~"{ALERT_PREFIX}.+", job=~"$job", environment_name=~"$environment_name"'
    firing = f'ALERTS{{{chosen}, alertstate="firing"}}'
    since = f"time() - (ALERTS_FOR_STATE{{{chosen}}} and ignoring (alertstate) {firing})"
    columns = (
        Column(heading="Alert", label="alertname", mappings=[WITHOUT_PREFIX], width=190),
        Column(heading="Environment", label="environment_name"),
        Column(heading="Severity", label="severity", mappings=[SEVERITY], width=80),
        Column(heading="Since", query=Query(since, table=True), unit="s", width=90),
    )
    return table(
        "Firing alerts",
        "Alerts of the chosen environments that fire now, from the rules in config/prometheus/rules. Empty when none does, or when "
        "this Prometheus does not evaluate the rules.",
        columns,
        width=12,
        height=8,
        sort_by="Alert",
        no_value="none",
    )


def _reading_guide() -> Panel:
    return text("How to read this", "What the words mean, and where to read on.", READ_ME, width=12, height=8)


def _depth_and_workers() -> Panel:
    return graph(
        "Backlog and workers",
        "Items waiting, workers asking for work, and items being worked on with a fresh heartbeat. Waiting without polling is a "
        "shortage when many are busy, and an outage when none is.",
        [
            Query(gauge(m.QUEUE_DEPTH), "waiting, {{environment_name}}"),
            Query(gauge(m.WORKERS_POLLING), "polling, {{environment_name}}"),
            Query(BUSY, "busy, {{environment_name}}"),
        ],
        width=12,
    )


def _items() -> Panel:
    live = 'state!="stopped"'
    return graph(
        "Items by state",
        "Listed items that are not stopped. Missing while the listing is incomplete.",
        [Query(f"sum by (state) ({gauge(m.WORK_ITEMS, live, 'state')})", "{{state}}")],
        stacked=True,
        overrides=BY_STATE,
        width=12,
    )


def _items_now() -> Panel:
    live = 'state!="stopped"'
    return bars(
        "Items now",
        "The same, now. Stopped items are history, and so many that they would hide the others.",
        Query(f"sum by (state) ({gauge(m.WORK_ITEMS, live, 'state')})", "{{state}}", instant=True),
        width=12,
        overrides=BY_STATE,
    )


def _ages() -> list[Panel]:
    texts = {
        "starting": "Longest time since acknowledgement without a first heartbeat. The line is the threshold of ManagedAgentsStuckStarting.",
        "active": "Longest time an item has now been worked on. Long is normal for long sessions.",
        "stopping": "Longest time since a stop was requested. The line is the threshold of ManagedAgentsStuckStopping.",
    }
    steps = {"starting": STARTING_STEPS, "active": (), "stopping": STOPPING_STEPS}
    return [
        graph(
            f"Longest {state}",
            description,
            [Query(gauge(m.WORK_OLDEST_AGE, f'state="{state}"'), "{{environment_name}}")],
            unit="s",
            steps=steps[state],
        )
        for state, description in texts.items()
    ]


def _durations() -> list[Panel]:
    shown: tuple[tuple[str, str, Metric, Steps], ...] = (
        (
            "Wait",
            "From creation to acknowledgement. The line is the wait-time objective.",
            m.WORK_QUEUE_WAIT,
            OBJECTIVE_STEPS,
        ),
        ("Start-up", "From acknowledgement to the first heartbeat.", m.WORK_STARTUP, ()),
        ("Run", "From start to stop.", m.WORK_RUN, ()),
        ("Stop", "From the request to stop to the stop.", m.WORK_STOP, ()),
    )
    return [
        graph(
            title,
            f"{description} Half of the items, and 95 % of them, stay within. No line where no item got there.",
            [
                Query(quantile(q, metric), f"{q * 100:.0f} %, {{{{environment_name}}}}")
                for q in (0.5, t.WAIT_OBJECTIVE_QUANTILE)
            ],
            unit="s",
            steps=steps,
            width=6,
            interval="1m",
        )
        for title, description, metric, steps in shown
    ]


def _throughput() -> Panel:
    return graph(
        "Created and finished",
        "Items first seen and items seen to stop, per minute. Created above finished for long: the backlog grows.",
        [
            Query(per_minute(m.WORK_CREATED), "created, {{environment_name}}"),
            Query(
                f"sum by (environment_name) ({per_minute(m.WORK_FINISHED, '', 'outcome')})",
                "finished, {{environment_name}}",
            ),
        ],
        unit="cpm",
        width=12,
        interval="1m",
    )


def _outcomes() -> Panel:
    return graph(
        "Outcomes",
        "Items seen to stop, per minute, by what became of them. Never started is the finger-print of a worker that quits at once; "
        f"ManagedAgentsStoppedWithoutStarting fires at {t.NEVER_STARTED_ITEMS} in {t.NEVER_STARTED_WINDOW}.",
        [Query(f"sum by (outcome) ({per_minute(m.WORK_FINISHED, '', 'outcome')})", "{{outcome}}")],
        unit="cpm",
        stacked=True,
        overrides=OUTCOMES,
        width=12,
        interval="1m",
    )


def _heartbeats() -> list[Panel]:
    return [
        graph(
            "Overdue heartbeats",
            "Active items whose latest heartbeat is older than work.heartbeat_overdue. Their leases are about to lapse.",
            [Query(gauge(m.WORK_HEARTBEAT_OVERDUE), "{{environment_name}}")],
            width=6,
        ),
        graph(
            "Oldest heartbeat",
            "Age of the oldest latest heartbeat among active items.",
            [Query(gauge(m.WORK_HEARTBEAT_OLDEST_AGE), "{{environment_name}}")],
            unit="s",
            width=6,
        ),
    ]


def _ages_of_numbers() -> Panel:
    return graph(
        "Age of the numbers",
        "How long ago the numbers shown were read. The line is the threshold of ManagedAgentsNumbersOld, which looks at stats.",
        [Query(age(m.DATA_TIMESTAMP, "", "source"), "{{source}}, {{environment_name}}")],
        unit="s",
        steps=DATA_AGE_STEPS,
        width=6,
    )


def _readable() -> Panel:
    return graph(
        "Readable",
        "1 while the statistics, and the listing, are current.",
        [Query(gauge(m.UP), "stats, {{environment_name}}"), Query(gauge(m.LIST_UP), "list, {{environment_name}}")],
        unit="bool_yes_no",
        width=6,
    )
