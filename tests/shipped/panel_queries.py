"""Every query of every panel, and those that a healthy demo leaves empty for a good reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
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
    def place(self) -> tuple[str, str, str]:
        return self.dashboard, self.panel, self.ref

    def filled_in(self, *, rate_interval: str, show: str = "all") -> str:
        """Put in what Grafana would, with All chosen everywhere; `show` narrows the table of environments."""
        expr = self.expr.replace("$__rate_interval", rate_interval).replace("$__range", "10m")
        for variable in ("job", "instance", "environment_name"):
            expr = expr.replace(f'"${variable}"', '".+"')
        return expr.replace('"$show"', f'"{show}"')


FLEET: Final = "Environments: $show"
_LATE: Final = "one of three answers, in the colour of how late the latest is"
_NO_FAILURE: Final = "no read fails; only reasons that occurred are drawn"
_FEW: Final = "there are no others: ten environments are drawn, and the demo has six"
_NO_HISTORY: Final = "the demo has run for less than a day, or a week"
_NOT_SHORT: Final = (
    "drawn once arrivals were counted for four minutes, while work waits and more arrives than the workers manage"
)
_NO_DISCOVERY: Final = "the demo's environments are configured, not discovered"
# By dashboard, panel and query: empty in a demo that has just begun and whose exporter is well.
EMPTY_WHEN_WELL: Final = {
    ("overview", FLEET, "B"): _NO_FAILURE,
    **{(board, "Longest wait", ref): _LATE for board in ("overview", "environment") for ref in "ABC"},
    ("overview", "Backlog", "B"): _FEW,
    ("overview", "Workers polling", "B"): _FEW,
    ("overview", "Items by state", "B"): "no environment is left out: every list is read",
    ("overview", "Short by", "A"): _NOT_SHORT,
    ("environment", "Backlog and workers", "D"): _NO_HISTORY,
    ("environment", "Backlog and workers", "E"): _NO_HISTORY,
    ("environment", "Workers needed", "D"): _NOT_SHORT,
    ("exporter", "Firing alerts", "A"): "no alert about the exporter fires",
    **{("exporter", "Workspaces", ref): _NO_DISCOVERY for ref in "ABC"},
    ("exporter", "429 wait", "A"): "the simulated API does not answer 429",
    ("exporter", "Environments", "B"): _NO_FAILURE,
    ("exporter", "Failures by reason", "A"): _NO_FAILURE,
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
        reasons = groupby(empty, lambda query: (query.panel, EMPTY_WHEN_WELL[query.place]))
        why = "; ".join(f"*{panel}* {', '.join(q.ref for q in those)}: {reason}" for (panel, reason), those in reasons)
        rows.append(f"| {name} | {panel_count(name)} | {len(asked)} | {len(empty)} | {why} |")
    panels = sum(panel_count(name) for name in DASHBOARDS)
    rows.append(f"| together | {panels} | {len(queries)} | {len(EMPTY_WHEN_WELL)} | |")
    return "\n".join(rows)
