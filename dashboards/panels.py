"""Panels in Grafana's classic JSON schema: stats, graphs, heatmaps, bars, tables and texts, and how they are painted. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, Any]
DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
UNKNOWN: Final = "unknown"

PER_MINUTE: Final = "suffix:/min"
# Grafana's own units write 100 s as "1.67 mins" and 125 min as "2.08 hours". What is compared stays in one unit.
SECONDS: Final = "suffix:s"
MINUTES: Final = "suffix:min"
# In full: 1,270 and not "1 K".
COUNT: Final = "locale"
WORKERS: Final = "suffix:workers"
TIMES: Final = "suffix:×"  # noqa: RUF001 - the sign of multiplication is meant

# Steps of a threshold: a colour and the value it begins at.
Steps = tuple[tuple[str, float], ...]
NO_STEPS: Final[Steps] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` is a template over labels. A table query yields one row per series, now."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    heatmap: bool = False

    def target(self, ref: str) -> Json:
        now = self.instant or self.table
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "format": "table" if self.table else "heatmap" if self.heatmap else "time_series",
            "instant": now,
            "legendFormat": self.legend or "__auto",
            "range": not now,
            "refId": ref,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    title: str
    kind: str
    description: str
    queries: Sequence[Query] = ()
    width: int
    height: int
    defaults: Json = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    options: Json = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    interval: str = ""

    def json(self, number: int, x: int, y: int) -> Json:
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self.defaults, "overrides": list(self.overrides)},
            "options": self.options,
            "targets": [query.target(chr(ord("A") + k)) for k, query in enumerate(self.queries)],
        }
        if self.transformations:
            panel["transformations"] = list(self.transformations)
        if self.interval:
            panel["interval"] = self.interval
        return panel


def thresholds(steps: Steps, *, base: str = "green") -> Json:
    first: Json = {"color": base, "value": None}
    return {"mode": "absolute", "steps": [first, *({"color": colour, "value": value} for colour, value in steps)]}


def unknown_when_null(word: str = UNKNOWN) -> Json:
    return {
        "type": "special",
        "options": {"match": "null+nan", "result": {"text": word, "color": "text", "index": 0}},
    }


def words(mapping: dict[str, tuple[str, str]]) -> Json:
    """Show a word, in a colour, for a value."""
    named = enumerate(mapping.items())
    options = {value: {"text": text, "color": colour, "index": k} for k, (value, (text, colour)) in named}
    return {"type": "value", "options": options}


YES_OR_NO: Final = words({"1": ("yes", "green"), "0": ("no", "red")})


# `last` and not `lastNotNull`: when the newest value is unknown, an older one must not stand for it.
_REDUCED: Final[Json] = {"reduceOptions": {"calcs": ["last"], "fields": "", "values": False}}
_STAT_OPTIONS: Final[Json] = {
    **_REDUCED,
    "colorMode": "value",
    "graphMode": "none",
    "justifyMode": "auto",
    "orientation": "auto",
    "wideLayout": True,
}


# An environment keeps its colour from panel to panel, and none has a threshold's red or orange: Grafana's own palettes do one or the
# other. The two characters at each end of its name choose among these; names that begin alike often end differently.
_COLOURS: Final = (
    *("#3274D9", "#96D98D", "#E26FB3", "#8F9A2B"),
    *("#A352CC", "#4CC9F0", "#56A64B", "#9C7A5B"),
    *("#1BA3A3", "#CA95E5", "#5F7FA3", "#C03BA5"),
    *("#6C63D9", "#8AB8FF", "#66D1B0", "#9AA5B1"),
)
_CHARACTERS: Final = ("[a-e0-2]", "[f-k3-5]", "[l-o67]", "[^a-o0-7]")


def painted_like(pattern: str, colour: str) -> Json:
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [{"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}}],
    }


def _any_of(pattern: str, total: int) -> str:
    """Match where the numbers of the two characters' groups add up to `total`, modulo four."""
    pairs = ((one, (total - one) % 4) for one in range(4))
    return "|".join(pattern.format(_CHARACTERS[one], _CHARACTERS[other]) for one, other in pairs)


def _named_so(number: int) -> str:
    outer, inner = divmod(number, 4)
    return f"/^(?:{_any_of('(?={})(?=.*{}.$)', outer)})(?:{_any_of('(?=.{})(?=.*{}$)', inner)})/i"


BY_NAME: Final = [painted_like(_named_so(number), colour) for number, colour in enumerate(_COLOURS)]
NAMED: Final = "{{environment_name}}"
OTHERS: Final = "all others (right)"


def dashed(name: str, colour: str) -> Json:
    """Draw a series as a threshold is drawn."""
    return by_name(
        name,
        [
            {"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
            {"id": "custom.lineWidth", "value": 1},
            {"id": "custom.showPoints", "value": "never"},
        ],
    )


def on_the_right(name: str, colour: str, *, width: int = 1, more: Sequence[Json] = ()) -> Json:
    """Give a series an axis of its own: what is much larger would flatten the rest."""
    return by_name(
        name,
        [
            {"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}},
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "custom.lineWidth", "value": width},
            *more,
        ],
    )


def stat(  # noqa: PLR0913 - a panel has that many sides
    title: str,
    description: str,
    *queries: Query,
    unit: str = COUNT,
    steps: Steps = NO_STEPS,
    mappings: Sequence[Json] = (),
    no_value: str = UNKNOWN,
    shows: str = "value",
    base: str = "green",
    links: Sequence[Json] = (),
    overrides: Sequence[Json] = (),
    width: int = 8,
) -> Panel:
    """Of several queries one answers."""
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "mappings": [*mappings, *([unknown_when_null()] if no_value == UNKNOWN else [])],
        "noValue": no_value,
        # A number that is neither good nor bad has no colour.
        "thresholds": thresholds(steps, base=base if steps else "text"),
        "unit": unit,
    }
    defaults |= _decimals(unit)
    if links:
        defaults["links"] = list(links)
    return Panel(
        title=title,
        kind="stat",
        description=description,
        queries=[replace(each, instant=True) for each in queries],
        width=width,
        height=3,
        defaults=defaults,
        overrides=overrides,
        options={**_STAT_OPTIONS, "textMode": shows},
    )


def graph(  # noqa: PLR0913 - a panel has that many sides
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = COUNT,
    steps: Steps = NO_STEPS,
    width: int = 12,
    stacked: bool = False,
    overrides: Sequence[Json] = (),
    interval: str = "",
    no_value: str = UNKNOWN,
    from_zero: bool = True,
    fractions: bool = False,
    many: bool = False,
    low_is_bad: bool = False,
) -> Panel:
    """`fractions`: counts that need not be whole. `many`: so many lines that the legend stands beside them.

    `low_is_bad`: a share of what went well. The legend begins with the lowest, as it does with the highest elsewhere.
    """
    defaults: Json = {
        **_GRAPH_DEFAULTS,
        "custom": _lines(unit, steps, stacked=stacked),
        "noValue": no_value,
        "thresholds": thresholds(steps, base="transparent"),
        "unit": unit,
    }
    if len(queries) == 1 and not (many or stacked or overrides):
        defaults["color"] = _ONE_LINE
    if from_zero:
        defaults["min"] = 0
    if low_is_bad:
        defaults["max"] = 1
    defaults |= _decimals(unit, fractions=fractions)
    by_name = BY_NAME if many and any(query.legend == NAMED for query in queries) else []
    return Panel(
        title=title,
        kind="timeseries",
        description=description,
        queries=queries,
        width=width,
        height=8,
        defaults=defaults,
        overrides=[*by_name, *overrides],
        options=_graph_options(many=many, low_is_bad=low_is_bad),
        interval=interval,
    )


_GRAPH_DEFAULTS: Final[Json] = {"color": {"mode": "palette-classic-by-name"}, "mappings": []}
_ONE_LINE: Final[Json] = {"mode": "fixed", "fixedColor": "blue"}


def _graph_options(*, many: bool, low_is_bad: bool) -> Json:
    worst = "min" if low_is_bad else "max"
    return {
        "legend": {
            "calcs": ["last", worst],
            "displayMode": "table",
            "placement": "right" if many else "bottom",
            "showLegend": True,
            "sortBy": worst.capitalize(),
            "sortDesc": not low_is_bad,
        },
        "tooltip": {"mode": "multi", "sort": "asc" if low_is_bad else "desc"},
    }


_DECIMALS: Final = {COUNT: 0, WORKERS: 0, SECONDS: 1, MINUTES: 1, TIMES: 1}


def _decimals(unit: str, *, fractions: bool = False) -> Json:
    if fractions:
        return {"decimals": 1} if unit == COUNT else {}
    return {"decimals": _DECIMALS[unit]} if unit in _DECIMALS else {}


# Of counts and shares: an axis of nothing but zeros does not end at 100.
_ENDS_AT_ONE: Final = frozenset({COUNT, "percentunit", PER_MINUTE})


def _lines(unit: str, steps: Steps, *, stacked: bool) -> Json:
    lines: Json = {
        "axisPlacement": "auto",
        "drawStyle": "line",
        "fillOpacity": 40 if stacked else 0,
        "lineInterpolation": "linear",
        "lineWidth": 1 if stacked else 2,
        # A point that stands alone between two gaps is seen only as a point.
        "pointSize": 4,
        "showPoints": "never" if stacked else "auto",
        # A gap is a time at which nothing was known. It is neither zero nor the value before.
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    if steps and unit != "percentunit":
        # So that the first threshold is in the picture when all is well.
        lines["axisSoftMax"] = round(steps[0][1] * 1.1, 3)
    elif unit in _ENDS_AT_ONE:
        lines["axisSoftMax"] = 1
    return lines


def heatmap(title: str, description: str, query: Query, *, width: int, interval: str) -> Panel:
    """Draw the buckets of a histogram over time; the query yields a series for each `le`."""
    return Panel(
        title=title,
        kind="heatmap",
        description=description,
        queries=[replace(query, legend="{{le}}", heatmap=True)],
        width=width,
        height=8,
        defaults={"custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}, "unit": "short"},
        options=_HEATMAP_OPTIONS,
        interval=interval,
    )


_HEATMAP_OPTIONS: Final[Json] = {
    "calculate": False,
    "cellGap": 1,
    "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "reverse": False},
    # A bucket in which nothing fell has no colour.
    "filterValues": {"le": 1e-9},
    "legend": {"show": True},
    "rowsFrame": {"layout": "auto"},
    "tooltip": {"mode": "single", "yHistogram": True},
    "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
}


def bars(title: str, description: str, query: Query, *, width: int, overrides: Sequence[Json] = ()) -> Panel:
    defaults: Json = {
        "color": {"mode": "palette-classic"},
        "mappings": [unknown_when_null()],
        "decimals": 0,
        "min": 0,
        "noValue": UNKNOWN,
        "thresholds": thresholds(NO_STEPS),
        "unit": COUNT,
    }
    return Panel(
        title=title,
        kind="bargauge",
        description=description,
        queries=[query],
        width=width,
        height=8,
        defaults=defaults,
        overrides=overrides,
        options=_BAR_OPTIONS,
    )


_BAR_OPTIONS: Final[Json] = {
    **_REDUCED,
    "displayMode": "basic",
    "minVizHeight": 16,
    "minVizWidth": 8,
    "namePlacement": "top",
    "orientation": "horizontal",
    "showUnfilled": True,
    "sizing": "auto",
    "valueMode": "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a query and its heading, or a label (`query` None)."""

    heading: str
    query: Query | None = None
    # Beside a query: show this label of its series, not its value.
    label: str = ""
    unit: str = COUNT
    steps: Steps = NO_STEPS
    mappings: Sequence[Json] = ()
    links: Sequence[Json] = ()
    width: int = 0
    decimals: int | None = None
    nothing: str = UNKNOWN
    """What stands where there is no value."""


def table(  # noqa: PLR0913 - a panel has that many sides
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    width: int,
    height: int,
    sort_by: str,
    descending: bool = False,
    no_value: str = UNKNOWN,
    only_with: str = "",
) -> Panel:
    """One row per combination of labels, one column per query; labels without a column are left out.

    `only_with`: the column without whose value there is no row.
    """
    return Panel(
        title=title,
        kind="table",
        description=description,
        queries=[column.query for column in columns if column.query],
        width=width,
        height=height,
        defaults={**_TABLE_DEFAULTS, "noValue": no_value},
        overrides=[_column_override(column) for column in columns],
        options={"cellHeight": "sm", "showHeader": True, "sortBy": [{"desc": descending, "displayName": sort_by}]},
        transformations=[*_joined(columns), *([_rows_with(only_with)] if only_with else [])],
    )


# So that no heading is cut off.
_NARROWEST: Final = 75
_TABLE_DEFAULTS: Final[Json] = {
    "color": {"mode": "thresholds"},
    "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "minWidth": _NARROWEST},
    "mappings": [unknown_when_null()],
    "thresholds": thresholds(NO_STEPS, base="text"),
    "unit": COUNT,
}


def _joined(columns: Sequence[Column]) -> list[Json]:
    heading_by_field = _heading_by_field(columns)
    organized: Json = {
        "excludeByName": {},
        "includeByName": {},
        "indexByName": {name: k for k, name in enumerate(heading_by_field)},
        "renameByName": heading_by_field,
    }
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(heading_by_field)}}},
        {"id": "organize", "options": organized},
    ]


def _rows_with(heading: str) -> Json:
    present = {"fieldName": heading, "config": {"id": "isNotNull", "options": {}}}
    return {"id": "filterByValue", "options": {"filters": [present], "match": "all", "type": "include"}}


def _heading_by_field(columns: Iterable[Column]) -> dict[str, str]:
    """Grafana's names of the fields: labels keep theirs, values are called after their query's letter."""
    letters = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    named = {}
    for column in columns:
        value = f"Value #{next(letters)}" if column.query else ""
        named[column.label or value] = column.heading
    values = [name for name in named if name.startswith("Value #")]
    # Grafana calls the values of a lone query just "Value".
    return named | {"Value": named[values[0]]} if len(values) == 1 else named


def _column_override(column: Column) -> Json:
    properties: list[Json] = [
        {"id": "unit", "value": "string" if column.label else column.unit},
        {"id": "mappings", "value": [*column.mappings, unknown_when_null(column.nothing)]},
    ]
    if column.steps or column.mappings:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        properties.append({"id": "thresholds", "value": thresholds(column.steps, base="text")})
    if column.links:
        properties.append({"id": "links", "value": list(column.links)})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    else:
        properties.append({"id": "custom.minWidth", "value": max(_NARROWEST, 15 * len(column.heading) // 2 + 20)})
    decimals = _DECIMALS.get(column.unit) if column.decimals is None and not column.label else column.decimals
    if decimals is not None:
        properties.append({"id": "decimals", "value": decimals})
    return by_name(column.heading, properties)


def text(title: str, description: str, content: str, *, width: int, height: int) -> Panel:
    return Panel(
        title=title,
        kind="text",
        description=description,
        width=width,
        height=height,
        options={
            "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False},
            "content": content,
            "mode": "markdown",
        },
    )


def by_name(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def painted(name: str, colour: str) -> Json:
    return by_name(name, [{"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}}])
