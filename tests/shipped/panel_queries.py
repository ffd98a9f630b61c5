"""Every query of every panel, and those that a healthy demo leaves empty for a good reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[2]
DASHBOARDS = ("overview", "environment", "exporter")


@dataclass(frozen=True, slots=True, order=True)
class PanelQuery:
    dashboard: str
    panel: str
    ref: str
    expr: str

    @property
    def place(self) -> tuple[str, str]:
        return self.dashboard, self.panel

    def filled_in(self, *, rate_interval: str) -> str:
        """Put in what Grafana would, with All chosen everywhere."""
        expr = self.expr.replace("$__rate_interval", rate_interval)
        for variable in ("job", "instance", "environment_name"):
            expr = expr.replace(f'"${variable}"', '".+"')
        return expr


# By dashboard and panel: empty while all is well with the exporter, which in the demo it is.
EMPTY_WHEN_WELL: Final = {
    ("exporter", "429 wait"): "the simulated API does not answer 429",
    ("exporter", "Failures by reason"): "no read fails; only reasons that occurred are drawn",
    (
        "exporter",
        "Values not understood",
    ): "the simulated API sends nothing that is not known; a field has a series once it happened",
}


def panel_queries() -> list[PanelQuery]:
    found = []
    for name in DASHBOARDS:
        for panel in json.loads((ROOT / f"dashboards/{name}.json").read_text())["panels"]:
            found += [PanelQuery(name, panel["title"], t["refId"], t["expr"]) for t in panel.get("targets", [])]
    return found


def panel_count(dashboard: str) -> int:
    """Panels of a dashboard, without the headings of its rows."""
    panels = json.loads((ROOT / f"dashboards/{dashboard}.json").read_text())["panels"]
    return sum(panel["type"] != "row" for panel in panels)


def summary_table() -> str:
    queries = panel_queries()
    rows = ["| dashboard | panels | queries | empty with the demo | why |", "|---|---|---|---|---|"]
    for name in DASHBOARDS:
        asked = [query for query in queries if query.dashboard == name]
        empty = [query for query in asked if query.place in EMPTY_WHEN_WELL]
        why = "; ".join(f"*{query.panel}*: {EMPTY_WHEN_WELL[query.place]}" for query in empty)
        rows.append(f"| {name} | {panel_count(name)} | {len(asked)} | {len(empty)} | {why} |")
    panels = sum(panel_count(name) for name in DASHBOARDS)
    rows.append(f"| together | {panels} | {len(queries)} | {len(EMPTY_WHEN_WELL)} | |")
    return "\n".join(rows)
