"""The exporter itself: whether it reads what it should, what that costs, and whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import thresholds as t
from dashboards.firing import OF_THE_EXPORTER, TO_ENVIRONMENT, firing_alerts
from dashboards.grafana import Row, dashboard, variables
from dashboards.marks import DOCUMENTATION, MARKS
from dashboards.overview import ANY_IS_BAD, ANY_IS_ODD, BY_SOURCE, DATA_AGE_STEPS, WHY
from dashboards.panels import (
    BY_NAME,
    COUNT,
    NAMED,
    PER_MINUTE,
    SECONDS,
    YES_OR_NO,
    Column,
    Panel,
    Query,
    graph,
    painted,
    painted_like,
    stat,
    table,
)
from dashboards.promql import TARGET, chosen, described, gauge, numbers, or_zero, top
from exporter.metrics import catalogue as m

if TYPE_CHECKING:
    from dashboards.panels import Json, Steps
    from exporter.metrics.catalogue import Metric

UID: Final = "managed-agents-exporter"
FASTER_HALF: Final = [
    painted(f"50 % {source}", f"light-{colour}") for source, colour in (("stats", "blue"), ("list", "purple"))
]
ERROR_STEPS: Final[Steps] = (("orange", t.ERROR_RATIO),)
# The steps ascend, so what is scarce is coloured from below: red at nothing, orange at little, green from there on.
BUDGET_STEPS: Final[Steps] = (("orange", 0.01), ("green", t.BUDGET_LEFT_RATIO))


def exporter_itself() -> Json:
    return dashboard(
        uid=UID,
        title="Managed agents: exporter",
        description="Does the exporter read what it should, what does that cost, and is it well?",
        templating=variables(m.EXPORTER_BUILD_INFO, m.ENVIRONMENT_INFO),
        rows=(
            Row("", [*_well(), *_restrained()]),
            Row("", [firing_alerts(OF_THE_EXPORTER, width=12, height=7, with_environment=False), _workspaces()]),
            Row("Reading", [_environments(), _age("stats"), _age("list")]),
            Row("Calls to the API", [_calls(), _errors(), _latency(), _read_duration()]),
            Row("Budget", [_budget(), _throttled(), _waiting_out()]),
            Row("Process", _process()),
        ),
        period="6h",
        annotations=MARKS,
        documentation=DOCUMENTATION,
    )


def _rate(metric: Metric, *, by: str) -> str:
    """Count per minute. Every exporter makes its own calls, so replicas do add up here."""
    return f"sum by ({by}) (rate({chosen(metric)}[$__rate_interval])) * 60"


def _error_ratio() -> str:
    failed = f"sum(rate({chosen(m.API_ERRORS)}[$__rate_interval]))"
    return numbers(f"{failed} / sum(rate({chosen(m.API_REQUESTS)}[$__rate_interval]))")


def _well() -> list[Panel]:
    return [
        stat(
            "Version",
            "What runs. Several versions: a roll-out is under way, or was left half done.",
            Query(f"count by (version) ({chosen(m.EXPORTER_BUILD_INFO)})", "{{version}}"),
            shows="name",
        ),
        stat(
            "Unreadable",
            "Environments whose queue cannot be read now.",
            Query(or_zero(f"count({gauge(m.UP)} == 0)", gauge(m.UP)), "environments"),
            steps=ANY_IS_BAD,
        ),
        stat(
            "Failed reads",
            "Failed reads as a share of all calls, for whatever reason. Orange begins where ManagedAgentsApiErrors does, which leaves "
            "refused credentials, unknown environments and 429 to other alerts.",
            Query(_error_ratio(), "failed"),
            unit="percentunit",
            steps=ERROR_STEPS,
        ),
    ]


def _restrained() -> list[Panel]:
    # Half of a minute's calls may be spent at once, so that is what a full budget holds.
    left = f"clamp_max(min({chosen(m.API_BUDGET_AVAILABLE)} / ({chosen(m.API_BUDGET_LIMIT)} / 2)), 1)"
    return [
        stat(
            "Budget left",
            "What the exporter with the least has left of what it may spend at once, which is half of a minute's calls.",
            Query(left, "left"),
            unit="percentunit",
            steps=BUDGET_STEPS,
            base="red",
        ),
        stat(
            "429 wait",
            "How long no call will be sent, because the API asked to wait. None: nothing is being waited for.",
            Query(f"max({chosen(m.API_RETRY_AFTER)} - time())", "wait"),
            unit="s",
            steps=ANY_IS_ODD,
            no_value="none",
        ),
        stat(
            "Config valid",
            "Whether the last attempt to load the configuration succeeded. No: the one before is still in use.",
            Query(f"min({chosen(m.CONFIG_RELOAD_SUCCESSFUL)})", "loaded"),
            mappings=[YES_OR_NO],
        ),
    ]


def _environments() -> Panel:
    stats, listing = 'source="stats"', 'source="list"'
    columns = (
        Column(heading="Environment", label="environment_name", links=[TO_ENVIRONMENT], width=150),
        Column(heading="From", label="origin"),
        Column(
            heading="Stats readable",
            query=Query(described(m.UP, "origin"), table=True),
            mappings=[YES_OR_NO],
            width=135,
        ),
        WHY,
        Column(heading="List readable", query=Query(gauge(m.LIST_UP), table=True), mappings=[YES_OR_NO]),
        Column(
            heading="Stats age",
            query=Query(gauge(m.DATA_AGE, stats), table=True),
            unit="s",
            steps=DATA_AGE_STEPS,
            decimals=0,
        ),
        Column(heading="List age", query=Query(gauge(m.DATA_AGE, listing), table=True), unit="s", decimals=0),
        Column(heading="Stats took", query=Query(gauge(m.SCRAPE_DURATION, stats), table=True), unit="s"),
        Column(heading="List took", query=Query(gauge(m.SCRAPE_DURATION, listing), table=True), unit="s"),
    )
    return table(
        "Environments",
        "What cannot be read comes first. Whether each environment's statistics and listing are current, how long ago they were read, and how long that took.",
        columns,
        width=24,
        height=9,
        sort_by="Stats readable",
    )


def _workspaces() -> Panel:
    """One row per workspace that discovery lists."""

    def worst(metric: Metric, function: str) -> str:
        return f"{function} by (workspace_id) ({chosen(metric)})"

    columns = (
        Column(heading="Workspace", label="workspace_id"),
        Column(heading="Listed", query=Query(worst(m.DISCOVERY_UP, "min"), table=True), mappings=[YES_OR_NO], width=90),
        Column(
            heading="Last listed",
            query=Query(f"time() - {worst(m.DISCOVERY_SUCCESS_TIMESTAMP, 'min')}", table=True),
            unit="s",
            decimals=0,
        ),
        Column(
            heading="Failed tries",
            query=Query(f"sum by (workspace_id) (increase({chosen(m.DISCOVERY_ERRORS)}[$__range]))", table=True),
        ),
    )
    return table(
        "Workspaces",
        "The workspaces whose environments discovery lists, and how long ago each was listed completely, and how many tries failed within the time range. One that fails keeps its last list. "
        "Empty while discovery is off; a workspace without a name is that of the API key.",
        columns,
        width=12,
        height=7,
        sort_by="Listed",
        no_value="discovery is off",
    )


def _age(source: str) -> Panel:
    texts = {
        "stats": "How long ago each environment's statistics were read. The line is the threshold of ManagedAgentsNumbersOld.",
        "list": "Age of the oldest read that each environment's counts rest on. Under pressure the listing is given up first.",
    }
    return graph(
        f"Age of {source}",
        texts[source],
        [Query(top(m.DATA_AGE, f'source="{source}"'), NAMED)],
        unit=SECONDS,
        overrides=BY_NAME,
        steps=DATA_AGE_STEPS if source == "stats" else (),
    )


def _read_duration() -> Panel:
    return graph(
        "Slowest read",
        "How long the last read took, in the slowest environment, by source.",
        [Query(f"max by (source) ({chosen(m.SCRAPE_DURATION)})", "{{source}}")],
        unit="s",
        overrides=BY_SOURCE,
    )


def _calls() -> Panel:
    return graph(
        "Calls",
        "Calls sent, per minute, by source and by status code, or by what went wrong when there was none.",
        [Query(_rate(m.API_REQUESTS, by="source, code"), "{{source}} {{code}}")],
        unit=PER_MINUTE,
        stacked=True,
        overrides=BY_SOURCE,
    )


def _errors() -> Panel:
    return graph(
        "Failures by reason",
        "Reads that failed, per minute, by source and reason. Only reasons that occurred are drawn.",
        [Query(f"{_rate(m.API_ERRORS, by='source, reason')} > 0", "{{source}} {{reason}}")],
        unit=PER_MINUTE,
        stacked=True,
        no_value="none",
    )


def _latency() -> Panel:
    buckets = f"rate({chosen(m.API_REQUEST_DURATION, suffix='_bucket')}[$__rate_interval])"
    return graph(
        "Latency",
        "Time from sending a call to its last byte: half of the calls, and 95 % of them, stay within.",
        [
            Query(
                numbers(f"histogram_quantile({q}, sum by (source, le) ({buckets}))"), f"{q * 100:.0f} % {{{{source}}}}"
            )
            for q in (0.5, 0.95)
        ],
        unit="s",
        overrides=[*BY_SOURCE, *FASTER_HALF],
    )


def _budget() -> Panel:
    return graph(
        "Budget",
        "Calls a minute that each exporter allows itself, calls it could make right now, and calls it sends.",
        [
            Query(chosen(m.API_BUDGET_LIMIT), "limit, {{instance}}"),
            Query(chosen(m.API_BUDGET_AVAILABLE), "left, {{instance}}"),
            Query(_rate(m.API_REQUESTS, by="instance"), "sent, {{instance}}"),
        ],
        unit=COUNT,
        overrides=[
            painted_like(f"/^{kind}, /", colour)
            for kind, colour in (("limit", "purple"), ("left", "green"), ("sent", "blue"))
        ],
        width=24,
    )


def _throttled() -> Panel:
    return graph(
        "Calls not made",
        "Calls not made because the budget was spent or a 429 is being waited out, per minute. ManagedAgentsBudgetExhausted fires "
        f"after {t.THROTTLED_FOR} of it.",
        [Query(_rate(m.API_THROTTLED, by="source"), "{{source}}")],
        unit=PER_MINUTE,
        overrides=BY_SOURCE,
    )


def _waiting_out() -> Panel:
    return graph(
        "Refused with 429",
        "Calls that the API refused with 429, per minute, by source.",
        [Query(_refused(), "{{source}}")],
        unit=PER_MINUTE,
        overrides=BY_SOURCE,
    )


def _refused() -> str:
    refused = chosen(m.API_ERRORS, 'reason="rate_limited"')
    return f"sum by (source) (rate({refused}[$__rate_interval])) * 60"


def _process() -> list[Panel]:
    shown = (
        (
            "Scrape duration",
            "How long Prometheus waited for each exporter.",
            f"scrape_duration_seconds{{{TARGET}}}",
            "s",
        ),
        ("Samples", "Samples in each scrape of each exporter.", f"scrape_samples_scraped{{{TARGET}}}", COUNT),
        (
            "Processor",
            "Share of one processor that each exporter uses.",
            f"rate(process_cpu_seconds_total{{{TARGET}}}[$__rate_interval])",
            "percentunit",
        ),
        ("Memory", "Resident memory of each exporter.", f"process_resident_memory_bytes{{{TARGET}}}", "bytes"),
        ("File descriptors", "Open files and sockets of each exporter.", f"process_open_fds{{{TARGET}}}", COUNT),
    )
    process = [
        graph(title, description, [Query(expr, "{{instance}}")], unit=unit) for title, description, expr, unit in shown
    ]
    drift = graph(
        "Values not understood",
        "Values from the API that this version does not know, per minute, by field. ManagedAgentsSchemaDrift fires for any.",
        [Query(_rate(m.SCHEMA_DRIFT, by="field"), "{{field}}")],
        unit=PER_MINUTE,
        no_value="none",
    )
    return [*process, drift]
