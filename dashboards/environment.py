"""One environment's whole life: who waits, who works, how long everything takes, and how fresh the numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import recordings as r
from dashboards import thresholds as t
from dashboards.grafana import (
    PER_MINUTE,
    Column,
    Panel,
    Query,
    Row,
    bars,
    by_name,
    dashboard,
    graph,
    painted,
    stat,
    table,
    text,
    variables,
    words,
)
from dashboards.marks import DOCUMENTATION, FIRING, MARKS
from dashboards.overview import (
    ANY_IS_ODD,
    BY_STATE,
    DATA_AGE_STEPS,
    ENVIRONMENT_UID,
    OBJECTIVE_STEPS,
    WAIT_STEPS,
    longest_wait,
)
from dashboards.promql import BUSY, chosen, gauge, mean, once, per_minute, quantile, recorded
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
TO_RUNBOOK: Final[Json] = {
    "title": "Runbook",
    "url": f"{REPOSITORY_URL}/blob/main/docs/runbooks/${{__value.raw}}.md",
    "targetBlank": True,
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
        description="One environment's whole life, from creation to stop.",
        templating=variables(m.ENVIRONMENT_INFO, m.ENVIRONMENT_INFO, one_environment=True),
        rows=(
            Row("", _now()),
            Row("", [_firing(), _reading_guide()]),
            Row("Waiting and taking", [_depth_and_workers(), longest_wait(width=12)]),
            Row("Capacity and objective", [_capacity(), _utilisation(), *_objective()]),
            Row("Items", [_items(), _items_now(), *_ages()]),
            Row("How long it takes", _durations()),
            Row("Throughput", [_throughput(), _outcomes()]),
            Row("Heartbeats and readings", [*_heartbeats(), _ages_of_numbers(), _readable()]),
        ),
        period="3h",
        annotations=MARKS,
        documentation=DOCUMENTATION,
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
    since = f"time() - (ALERTS_FOR_STATE{{{chosen}}} and ignoring (alertstate) {FIRING})"
    columns = (
        Column(heading="Alert", label="alertname", mappings=[WITHOUT_PREFIX], links=[TO_RUNBOOK], width=190),
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
            Query(gauge(m.QUEUE_DEPTH), "waiting (right)"),
            Query(gauge(m.WORKERS_POLLING), "polling"),
            Query(BUSY, "busy"),
            Query(_earlier("1d"), "waiting yesterday (right)"),
            Query(_earlier("1w"), "waiting last week (right)"),
        ],
        overrides=[painted("polling", "blue"), painted("busy", "green"), *_WAITING],
        width=12,
    )


def _earlier(offset: str) -> str:
    """Read the backlog of the same time of another day; empty where Prometheus does not go back that far."""
    return once(f"{chosen(m.QUEUE_DEPTH)} offset {offset}")


def _of_waiting(name: str, colour: str, width: int) -> Json:
    return by_name(
        name,
        [
            {"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}},
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "custom.lineWidth", "value": width},
        ],
    )


# On an axis of its own: hundreds that wait would flatten three workers.
_WAITING: Final = (
    _of_waiting("waiting (right)", "purple", 2),
    _of_waiting("waiting yesterday (right)", "light-purple", 1),
    _of_waiting("waiting last week (right)", "super-light-purple", 1),
)


def _capacity() -> Panel:
    return graph(
        "Workers needed",
        "Arrivals times the mean time per item, against the workers there are. Short by: what is missing while work waits.",
        [
            Query(recorded(r.NEEDED), "needed"),
            Query(recorded(r.BUSY), "busy"),
            Query(recorded(r.WORKERS), "polling"),
            Query(recorded(r.SHORT_BY), "short by"),
        ],
        overrides=[
            painted("needed", "purple"),
            painted("busy", "green"),
            painted("polling", "blue"),
            painted("short by", "red"),
        ],
    )


def _utilisation() -> Panel:
    return graph(
        "Utilisation",
        "Busy workers as a share of those busy or polling. Near 100 % an item that arrives has to wait.",
        [Query(recorded(r.UTILISATION), "utilisation")],
        unit="percentunit",
    )


def _objective() -> list[Panel]:
    shares = ((r.IN_TIME_SHARE_1H, "1 h"), (r.IN_TIME_SHARE_1D, "1 d"), (r.IN_TIME_SHARE_30D, "30 d"))
    burns = ((r.MISSED_1H, "1 h"), (r.MISSED_6H, "6 h"))
    return [
        graph(
            "Taken in time",
            f"Share of items acknowledged within the environment's objective. {t.OBJECTIVE_SHARE:.0%} is the aim.",
            [Query(recorded(rule), window) for rule, window in shares],
            unit="percentunit",
        ),
        graph(
            "Error budget left",
            "What is left of the late items that 30 days allow. Below zero the objective is missed.",
            [Query(recorded(r.BUDGET_LEFT), "left")],
            unit="percentunit",
            from_zero=False,
            width=12,
        ),
        graph(
            "Burn rate",
            "How many times faster than allowed the error budget is spent. The lines are the thresholds of ManagedAgentsWaitObjectiveMissed.",
            [Query(f"{recorded(rule)} / {1 - t.OBJECTIVE_SHARE:.10g}", window) for rule, window in burns],
            steps=(("orange", t.SLOW_BURN), ("red", t.FAST_BURN)),
            width=12,
        ),
    ]


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
            f"{description} Of the last {t.WAIT_OBJECTIVE_WINDOW}: half of the items, and 95 % of them, stay within; the mean is exact. No line where no item got there.",
            [Query(quantile(q, metric), f"{q * 100:.0f} %") for q in (0.5, t.WAIT_OBJECTIVE_QUANTILE)]
            + [Query(mean(metric), "mean")],
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
        "Items first seen and items seen to stop, per minute. A spike after a mark Not readable is what happened meanwhile. Created above finished for long: the backlog grows.",
        [
            Query(per_minute(m.WORK_CREATED), "created"),
            Query(
                f"sum by (environment_name) ({per_minute(m.WORK_FINISHED, '', 'outcome')})",
                "finished",
            ),
        ],
        unit=PER_MINUTE,
        width=12,
        interval="1m",
    )


def _outcomes() -> Panel:
    return graph(
        "Outcomes",
        "Items seen to stop, per minute, by what became of them. Never started is the finger-print of a worker that quits at once; "
        f"ManagedAgentsStoppedWithoutStarting fires at {t.NEVER_STARTED_ITEMS} in {t.NEVER_STARTED_WINDOW}.",
        [Query(f"sum by (outcome) ({per_minute(m.WORK_FINISHED, '', 'outcome')})", "{{outcome}}")],
        unit=PER_MINUTE,
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
        [Query(gauge(m.DATA_AGE, "", "source"), "{{source}}")],
        unit="s",
        steps=DATA_AGE_STEPS,
        width=6,
    )


def _readable() -> Panel:
    return graph(
        "Readable",
        "1 while the statistics, and the listing, are current.",
        [Query(gauge(m.UP), "stats"), Query(gauge(m.LIST_UP), "list")],
        unit="bool_yes_no",
        width=6,
    )
