"""Dashboards in Grafana's classic JSON schema: variables, marks, links and where panels lie. Pure; what each shows is beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dashboards.panels import DATASOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dashboards.panels import Json, Panel
    from exporter.metrics.catalogue import Metric

SCHEMA_VERSION: Final = 41
TAG: Final = "managed-agents"
COLUMNS: Final = 24


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _label_variable(name: str, label: str, values_of: str) -> Json:
    query = f"label_values({values_of}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "allValue": ".+",
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "refresh": 2,  # on time range change
        "regex": "",
        "sort": 1,
    }


def choice(name: str, label: str, values: Sequence[str]) -> Json:
    """Make a variable of a few words, of which the first is chosen when the board opens."""
    first = values[0]
    return {
        "name": name,
        "label": label,
        "type": "custom",
        "query": ", ".join(values),
        "current": {"selected": True, "text": first, "value": first},
        "options": [{"selected": value == first, "text": value, "value": value} for value in values],
        "hide": 0,
        "includeAll": False,
        "multi": False,
    }


def variables(source: Metric, environments: Metric, *, one_environment: bool = False) -> list[Json]:
    environment = _label_variable(
        "environment_name", "Environment", f'{environments.name}{{job=~"$job", instance=~"$instance"}}'
    )
    if one_environment:
        environment |= {"includeAll": False, "multi": False, "current": {}}
        del environment["allValue"]
    return [
        _datasource_variable(),
        _label_variable("job", "Job", source.name),
        _label_variable("instance", "Instance", f'{source.name}{{job=~"$job"}}'),
        environment,
    ]


def dashboard(  # noqa: PLR0913 - a dashboard has that many sides
    *,
    uid: str,
    title: str,
    description: str,
    templating: list[Json],
    rows: Sequence[Row],
    period: str,
    annotations: Sequence[Json],
    documentation: str,
) -> Json:
    return {
        "annotations": {"list": list(annotations)},
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_links_by_tag(), _link_to(documentation)],
        "panels": lay_out(rows),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": templating},
        "time": {"from": f"now-{period}", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
    }


def annotation(name: str, expr: str, colour: str, title: str, *, at_value: bool = False) -> Json:
    """Mark moments in every graph. `at_value`: the series' value is the moment, in milliseconds."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "hide": False,
        "iconColor": colour,
        "step": "1m",
        "titleFormat": title,
        "useValueForTime": "on" if at_value else False,
    }


def _link_to(documentation: str) -> Json:
    return {
        "asDropdown": False,
        "icon": "doc",
        "includeVars": False,
        "keepTime": False,
        "tags": [],
        "targetBlank": True,
        "title": "Documentation",
        "tooltip": "What the boards show, and how to read them",
        "type": "link",
        "url": documentation,
    }


def _links_by_tag() -> Json:
    return {
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "Managed agents",
        "tooltip": "The other dashboards, with the same time and variables",
        "type": "dashboards",
        "url": "",
    }


def lay_out(rows: Iterable[Row]) -> list[Json]:
    """Place panels from left to right; a line is as high as its highest panel. A row without a title has no heading."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        if row.title:
            placed.append(_heading(row.title, len(placed) + 1, y))
            y += 1
        x = line_height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            placed.append(panel.json(len(placed) + 1, x, y))
            x, line_height = x + panel.width, max(line_height, panel.height)
        y += line_height
    return placed


def _heading(title: str, number: int, y: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        "panels": [],
    }
