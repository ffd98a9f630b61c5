"""What every board has: moments marked in its graphs, and the page that explains it."""

from __future__ import annotations

from typing import Final

from dashboards.grafana import annotation
from dashboards.promql import TARGET, chosen, gauge
from dashboards.rules import ALERT_PREFIX, REPOSITORY_URL
from exporter.metrics import catalogue as m

DOCUMENTATION: Final = f"{REPOSITORY_URL}/blob/main/docs/dashboards.md"
FIRING: Final = (
    f'ALERTS{{alertname=~"{ALERT_PREFIX}.+", alertstate="firing", job=~"$job", environment_name=~"$environment_name"}}'
)
MARKS: Final = (
    annotation("Alerts", f"count by (alertname, severity) ({FIRING})", "orange", "{{alertname}} ({{severity}})"),
    # What happened meanwhile is counted at once when reading succeeds again: a spike after this mark is no rush of work.
    annotation(
        "Not readable", f"count({gauge(m.UP)} == 0) > 0", "purple", "Environments not readable: a spike follows"
    ),
    annotation(
        "Exporter starts",
        f"process_start_time_seconds{{{TARGET}}} * 1000",
        "blue",
        "{{instance}} started",
        at_value=True,
    ),
    annotation(
        "Reloads", f"{chosen(m.CONFIG_RELOAD_TIMESTAMP)} * 1000", "light-blue", "{{instance}} reloaded", at_value=True
    ),
)
