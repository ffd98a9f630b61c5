"""One environment's whole life: who waits, who works, how long everything takes, and how fresh the numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import recordings as r
from dashboards import thresholds as t
from dashboards.addresses import EXPORTER_URL, REPOSITORY_URL
from dashboards.firing import OF_ENVIRONMENTS, UID_OF_ENVIRONMENT, firing_alerts
from dashboards.grafana import Row, dashboard, variables
from dashboards.marks import DOCUMENTATION, MARKS
from dashboards.overview import (
    ANY_IS_ODD,
    BY_SOURCE,
    BY_STATE,
    DATA_AGE_STEPS,
    IN_TIME_STEPS,
    STARTING_STEPS,
    STOPPING_STEPS,
    longest_wait,
    longest_wait_now,
)
from dashboards.panels import (
    MINUTES,
    NAMED,
    PER_MINUTE,
    SECONDS,
    Panel,
    Query,
    bars,
    dashed,
    graph,
    heatmap,
    on_the_right,
    painted,
    stat,
    text,
)
from dashboards.promql import BUSY, agreed, chosen, gauge, in_state, mean, once, per_minute, quantile, recorded
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from dashboards.panels import Json, Steps
    from exporter.metrics.catalogue import Metric

OUTCOMES: Final = [painted("ran", "green"), painted("never_started", "red"), painted("never_acknowledged", "yellow")]
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
        uid=UID_OF_ENVIRONMENT,
        title="Managed agents: environment",
        description="One environment's whole life, from creation to stop.",
        templating=variables(m.ENVIRONMENT_INFO, m.ENVIRONMENT_INFO, one_environment=True),
        rows=(
            Row("", _now()),
            Row("", [firing_alerts(OF_ENVIRONMENTS, width=12, height=8, with_environment=False), _reading_guide()]),
            Row("Waiting and taking", [_depth_and_workers(), longest_wait()]),
            Row("Capacity and objective", [_capacity(), _utilisation(), *_objective()]),
            Row("Items", [_items(), _items_now(), *_ages()]),
            Row("How long it takes", [_waits(), *_durations()]),
            Row("Throughput", [_throughput(), _outcomes()]),
            Row("Heartbeats and readings", [*_heartbeats(), _ages_of_numbers(), _readable()]),
        ),
        period="3h",
        annotations=MARKS,
        documentation=DOCUMENTATION,
    )


def _now() -> list[Panel]:
    polled = "Workers that asked for work in the last 30 seconds."
    return [
        _number("Waiting", "Items waiting to be claimed.", gauge(m.QUEUE_DEPTH), items="queued"),
        longest_wait_now(
            "Age of the oldest item not yet acknowledged. A click leads to these items.", [_to_items("queued")], width=7
        ),
        _number(
            "Claimed, not acknowledged",
            "Items claimed by a worker and not acknowledged. Near zero when all is well.",
            gauge(m.QUEUE_PENDING),
            steps=ANY_IS_ODD,
            items="queued",
            width=10,
        ),
        _number("Workers polling", polled, gauge(m.WORKERS_POLLING)),
        _number("Active", "Items being worked on.", gauge(m.WORK_ITEMS, in_state("active")), items="active"),
        _number(
            "Heartbeats overdue",
            "Active items whose heartbeat is overdue.",
            gauge(m.WORK_HEARTBEAT_OVERDUE),
            steps=ANY_IS_ODD,
            items="active",
            width=10,
        ),
    ]


def _number(  # noqa: PLR0913 - a panel has that many sides
    title: str, description: str, expr: str, *, steps: Steps = (), items: str = "", width: int = 7
) -> Panel:
    return stat(
        title,
        f"{description} A click leads to these items." if items else description,
        Query(expr, NAMED),
        steps=steps,
        links=[_to_items(items)] if items else (),
        width=width,
    )


def _to_items(state: str) -> Json:
    url = f"{EXPORTER_URL}/items?target=${{environment_name:percentencode}}&state={state}"
    return {"title": f"These items: {state}", "url": url, "targetBlank": True}


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
    )


def _earlier(offset: str) -> str:
    """Read the backlog of the same time of another day; empty where Prometheus does not go back that far."""
    return once(f"{chosen(m.QUEUE_DEPTH)} offset {offset}")


_WAITING: Final = (
    on_the_right("waiting (right)", "purple", width=2),
    on_the_right("waiting yesterday (right)", "light-purple"),
    on_the_right("waiting last week (right)", "super-light-purple"),
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
        fractions=True,
    )


def _utilisation() -> Panel:
    return graph(
        "Utilisation",
        "Busy workers as a share of those busy or polling. Near 100 % an item that arrives has to wait. Who took an item within the last 30 s "
        "counts as both, so with sessions of seconds the true share is higher.",
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
            width=8,
            steps=IN_TIME_STEPS,
            low_is_bad=True,
            overrides=[painted("1 h", "light-blue"), painted("1 d", "blue"), painted("30 d", "purple")],
        ),
        graph(
            "Error budget left",
            "What is left of the late items that 30 days allow. Below zero the objective is missed.",
            [Query(recorded(r.BUDGET_LEFT), "left")],
            unit="percentunit",
            width=8,
            from_zero=False,
        ),
        graph(
            "Burn rate",
            "How many times faster than allowed the error budget is spent. The lines are the thresholds of ManagedAgentsWaitObjectiveMissed.",
            [Query(f"{recorded(rule)} / {1 - t.OBJECTIVE_SHARE:.10g}", window) for rule, window in burns],
            steps=(("orange", t.SLOW_BURN), ("red", t.FAST_BURN)),
            overrides=[painted("1 h", "light-blue"), painted("6 h", "purple")],
            width=8,
            fractions=True,
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

    def since(state: str) -> str:
        return f"{gauge(m.WORK_OLDEST_AGE, in_state(state))} / 60"

    return [
        graph(f"Longest {state}", description, [Query(since(state), NAMED)], unit=MINUTES, steps=steps[state], width=8)
        for state, description in texts.items()
    ]


def _waits() -> Panel:
    buckets = f"increase({chosen(m.WORK_QUEUE_WAIT, suffix='_bucket')}[$__rate_interval])"
    return heatmap(
        "Waits",
        "From creation to acknowledgement: how many items waited how long. The darker, the more. A slow few shows above a fast many, where a quantile shows one number.",
        Query(once(buckets, "le")),
        width=24,
        interval="5m",
    )


def _durations() -> list[Panel]:
    shown: tuple[tuple[str, str, Metric, bool], ...] = (
        ("Wait", "From creation to acknowledgement. The line is the objective.", m.WORK_QUEUE_WAIT, True),
        ("Start-up", "From acknowledgement to the first heartbeat.", m.WORK_STARTUP, False),
        ("Run", "From start to stop.", m.WORK_RUN, True),
        ("Stop", "From the request to stop to the stop.", m.WORK_STOP, False),
    )
    return [_duration(*each) for each in shown]


def _duration(title: str, description: str, metric: Metric, in_minutes: bool) -> Panel:  # noqa: FBT001 - a row of the table above
    per = 60 if in_minutes else 1
    objective = [Query(agreed(m.WORK_WAIT_OBJECTIVE, 1 / per), "objective")] if title == "Wait" else []
    return graph(
        title,
        f"{description} Of the last {t.WAIT_OBJECTIVE_WINDOW}: half of the items, and 95 % of them, stay within; the mean is exact. No line where no item got there.",
        [
            *(Query(f"({quantile(q, metric)}) / {per}", f"{q * 100:.0f} %") for q in (0.5, t.WAIT_OBJECTIVE_QUANTILE)),
            Query(f"({mean(metric)}) / {per}", "mean"),
            *objective,
        ],
        unit=MINUTES if in_minutes else SECONDS,
        overrides=[
            painted("50 %", "light-blue"),
            painted("95 %", "purple"),
            painted("mean", "green"),
            dashed("objective", "orange"),
        ],
        interval="1m",
        fractions=True,
    )


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
        overrides=[painted("created", "blue"), painted("finished", "green")],
        unit=PER_MINUTE,
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
        interval="1m",
    )


def _heartbeats() -> list[Panel]:
    return [
        graph(
            "Overdue heartbeats",
            "Active items whose latest heartbeat is older than work.heartbeat_overdue. Their leases are about to lapse.",
            [Query(gauge(m.WORK_HEARTBEAT_OVERDUE), NAMED)],
        ),
        graph(
            "Oldest heartbeat",
            "Age of the oldest latest heartbeat among active items.",
            [Query(gauge(m.WORK_HEARTBEAT_OLDEST_AGE), NAMED)],
            unit=SECONDS,
        ),
    ]


def _ages_of_numbers() -> Panel:
    return graph(
        "Age of the numbers",
        "How long ago the numbers shown were read. The line is the threshold of ManagedAgentsNumbersOld, which looks at stats.",
        [Query(gauge(m.DATA_AGE, "", "source"), "{{source}}")],
        unit=SECONDS,
        steps=DATA_AGE_STEPS,
        overrides=BY_SOURCE,
    )


def _readable() -> Panel:
    return graph(
        "Readable",
        "1 while the statistics, and the listing, are current.",
        [Query(gauge(m.UP), "stats"), Query(gauge(m.LIST_UP), "list")],
        unit="bool_yes_no",
        overrides=BY_SOURCE,
    )
