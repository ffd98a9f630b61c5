"""The alerts that fire, as a table: what fires where, since when, and the ways on: runbook, board, items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.addresses import EXPORTER_URL, REPOSITORY_URL
from dashboards.panels import Column, Query, table, words
from dashboards.rules import ALERT_PREFIX

if TYPE_CHECKING:
    from dashboards.panels import Json, Panel

UID_OF_ENVIRONMENT: Final = "managed-agents-environment"
TO_ENVIRONMENT: Final[Json] = {
    "title": "The whole life of ${__value.text}",
    "url": f"/d/{UID_OF_ENVIRONMENT}?var-environment_name=${{__value.text:percentencode}}"
    "&${job:queryparam}&${instance:queryparam}&${datasource:queryparam}&${__url_time_range}",
    "targetBlank": False,
}
TO_ITEMS: Final[Json] = {
    "title": "Live items of ${__value.text}",
    "url": f"{EXPORTER_URL}/items?target=${{__value.text:percentencode}}",
    "targetBlank": True,
}
TO_RUNBOOK: Final[Json] = {
    "title": "Runbook",
    "url": f"{REPOSITORY_URL}/blob/main/docs/runbooks/${{__value.raw}}.md",
    "targetBlank": True,
}
SEVERITY: Final = words(
    {"critical": ("critical", "red"), "warning": ("warning", "orange"), "info": ("info", "blue")},
)
# Every alert here begins with the same word.
WITHOUT_PREFIX: Final[Json] = {
    "type": "regex",
    "options": {"pattern": f"{ALERT_PREFIX}(.+)", "result": {"text": "$1", "color": "text", "index": 0}},
}
_ALERTS: Final = f'alertname=~"{ALERT_PREFIX}.+", severity!="none", job=~"$job"'
# Alerts about the exporter or the API name no environment, and every label matches ".+" or nothing.
EVERYWHERE: Final = _ALERTS
OF_ENVIRONMENTS: Final = f'{_ALERTS}, environment_name=~"$environment_name"'
OF_THE_EXPORTER: Final = f'{_ALERTS}, environment_name=""'


def firing_alerts(which: str, *, width: int, height: int, with_environment: bool = True) -> Panel:
    since = f'time() - (ALERTS_FOR_STATE{{{which}}} and ignoring (alertstate) ALERTS{{alertstate="firing", {which}}})'
    environment = Column(heading="Environment", label="environment_name", links=[TO_ENVIRONMENT, TO_ITEMS])
    columns = (
        Column(heading="Severity", label="severity", mappings=[SEVERITY], width=85),
        Column(heading="Alert", label="alertname", mappings=[WITHOUT_PREFIX], links=[TO_RUNBOOK]),
        *([environment] if with_environment else []),
        Column(heading="Since", query=Query(since, table=True), unit="s", width=90, decimals=0),
    )
    return table(
        "Firing alerts",
        "Alerts that fire now, the critical ones first. The name leads to the runbook, the environment to its board and to its items. Empty "
        "when none fires, or when this Prometheus does not evaluate the rules in config/prometheus/rules.",
        columns,
        width=width,
        height=height,
        sort_by="Severity",
        no_value="none",
    )
