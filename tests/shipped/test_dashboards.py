"""The dashboards as files: what Grafana, its linter and its schema demand, and that they agree with catalogue and alerts."""

from __future__ import annotations

import importlib
import json
import re
import warnings
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
import yaml

from dashboards import generate, recordings, rules
from dashboards import thresholds as t
from exporter.environments import trouble
from tests.shipped.panel_queries import summary_table
from tests.shipped.promql_reading import exposed, grouped_labels, selections

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
FILES = {name: ROOT / f"dashboards/{name}.json" for name in ("overview", "environment", "exporter")}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
KINDS = {"timeseries", "heatmap", "stat", "bargauge", "table", "text", "row"}
# Of Grafana's units, those in use; the linter knows them all.
UNITS = {
    "short",
    "s",
    "bytes",
    "percentunit",
    "bool_yes_no",
    "m",
    "suffix:/min",
    "suffix:s",
    "suffix:min",
    "suffix:workers",
    "suffix:×",  # noqa: RUF001 - the sign of multiplication is meant
    "locale",
    "string",
}
ENVIRONMENT = {"job", "environment_id", "environment_name"}
# Series that are not the exporter's: Prometheus' own, and the process collector's.
FOREIGN = {
    "ALERTS": {"alertname", "alertstate", "severity"} | ENVIRONMENT,
    "ALERTS_FOR_STATE": {"alertname", "severity"} | ENVIRONMENT,
    "scrape_duration_seconds": {"job", "instance"},
    "scrape_samples_scraped": {"job", "instance"},
    "process_cpu_seconds_total": {"job", "instance"},
    "process_resident_memory_bytes": {"job", "instance"},
    "process_open_fds": {"job", "instance"},
}


@pytest.fixture(params=FILES)
def board(request: pytest.FixtureRequest) -> Json:
    read: Json = json.loads(FILES[request.param].read_text())
    return read


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: Json) -> Iterator[tuple[Json, Json, str]]:
    """Yield panel, target and the expression as Prometheus gets it, with the macro filled in."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel, target, target["expr"].replace("$__rate_interval", "5m").replace("$__range", "6h")


def excluded(rule: str) -> set[str]:
    exclusions = yaml.safe_load((ROOT / "dashboards/.lint").read_text())["exclusions"]
    return {entry["panel"] for entry in exclusions.get(rule, {}).get("entries", [])}


def test_every_generated_file_is_what_the_generator_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_check_names_a_stale_file_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = FILES["overview"].read_text()
    monkeypatch.setattr(generate, "overview", lambda: {"title": "another"})
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "stale: dashboards/overview.json\n"
    assert FILES["overview"].read_text() == before


def test_dashboards_can_be_provisioned_as_they_are(board: Json) -> None:
    assert not {"__inputs", "__requires", "id", "version"} & board.keys()
    assert (board["schemaVersion"], board["editable"], board["tags"]) == (41, False, ["managed-agents"])
    assert {panel["type"] for panel in board["panels"]} <= KINDS


def test_uids_are_fixed() -> None:
    uids = {name: json.loads(path.read_text())["uid"] for name, path in FILES.items()}
    assert uids == {name: f"managed-agents-{name}" for name in FILES}


def test_dashboards_link_to_each_other_with_time_and_variables(board: Json) -> None:
    link, documentation = board["links"]
    assert documentation["url"].endswith("/docs/dashboards.md")
    wanted = {
        "type": "dashboards",
        "tags": ["managed-agents"],
        "asDropdown": True,
        "keepTime": True,
        "includeVars": True,
    }
    assert {key: link[key] for key in wanted} == wanted


def test_the_table_of_environments_leads_to_the_environment_with_time_and_variables() -> None:
    link = (
        "/d/managed-agents-environment?var-environment_name=${__value.text:percentencode}"
        "&${job:queryparam}&${instance:queryparam}&${datasource:queryparam}&${__url_time_range}"
    )
    # In the table of environments, and in that of the alerts.
    assert FILES["overview"].read_text().count(json.dumps(link)) == 2


def test_schema_of_grafana_keeps_every_key(board: Json) -> None:
    assert list(lost(board, read_back_by_grafanas_models(board))) == []


def read_back_by_grafanas_models(board: Json) -> Json:
    with warnings.catch_warnings():
        # On import the models recommend the next schema, which Grafana does not provision from files yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        plugins = importlib.import_module("grafana_foundation_sdk.cog.plugins")
        models = importlib.import_module("grafana_foundation_sdk.models.dashboard")
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder
    plugins.register_default_plugins()
    read: Json = json.loads(json.dumps(models.Dashboard.from_json(board), cls=encoder))
    return read


def lost(ours: object, theirs: object, place: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs.get(key), f"{place}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for k, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(mine, yours, f"{place}[{k}]")
    elif ours != theirs:
        yield place


def test_panels_lie_within_the_grid_and_do_not_overlap(board: Json) -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for grid in (panel["gridPos"] for panel in board["panels"]):
        assert 0 <= grid["x"] <= 24 - grid["w"], grid
        cells.update((grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"]))
    assert [cell for cell, count in cells.items() if count > 1] == []
    numbers = [panel["id"] for panel in board["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))


# What grafana/dashboard-linter checks, by its names for it.


def test_template_rules(board: Json) -> None:
    """template-datasource, template-job, template-instance, template-label-promql and template-on-time-change-reload."""
    datasource, *others = (v for v in board["templating"]["list"] if v["type"] != "custom")
    assert (datasource["name"], datasource["label"], datasource["type"], datasource["query"]) == (
        "datasource",
        "Data source",
        "datasource",
        "prometheus",
    )
    assert [(v["name"], v["label"]) for v in others] == [
        ("job", "Job"),
        ("instance", "Instance"),
        ("environment_name", "Environment"),
    ]
    for variable in others:
        assert (variable["type"], variable["datasource"]) == ("query", DATASOURCE)
        if variable["name"] == "environment_name" and board["uid"] == "managed-agents-environment":
            assert (variable["multi"], variable["includeAll"], variable["current"]) == (False, False, {})
            assert "allValue" not in variable
        else:
            assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["refresh"] == 2
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]  # no match fails the test
        (selected,) = selections(selector)
        assert label == variable["name"]
        assert {label, *selected.labels} <= exposed()[selected.name]


def test_panel_rules(board: Json) -> None:
    """panel-datasource, panel-title-description, panel-units and panel-no-targets."""
    for panel in panels(board):
        assert panel["datasource"] == DATASOURCE, panel["title"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
        assert panel["title"]
        assert len(panel["description"]) > 20
        if panel["type"] != "text":
            assert panel["targets"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
            units = [
                p["value"] for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "unit"
            ]
            assert set(units) <= UNITS
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_target_rules(board: Json) -> None:
    """target-promql, target-job, target-instance, target-rate-interval and target-counter-agg, target-histogram."""
    for panel, target, expr in targets(board):
        for selected in selections(expr):
            where = f"{panel['title']}: {expr}"
            assert ("job", "Re", "$job") in selected.matchers, where
            if panel["title"] not in excluded("target-instance-rule"):
                assert ("instance", "Re", "$instance") in selected.matchers, where
            counter = selected.name.endswith(("_total", "_bucket", "_sum", "_count"))
            assert (selected.calls[-1:] in {("rate",), ("increase",)}) == counter, where
            window = timedelta(minutes=30 if panel["title"] in excluded("target-rate-interval-rule") else 5)
            if panel["type"] == "table":
                window = timedelta(hours=6)
            over_time = {"max_over_time", "min_over_time"} & set(selected.calls)
            assert selected.window == (window if counter else timedelta(hours=6) if over_time else None), where
            of_buckets = "histogram_quantile" in selected.calls or panel["type"] == "heatmap"
            assert of_buckets == selected.name.endswith("_bucket"), where
        assert set(re.findall(r"\[(.+?)\]", target["expr"])) <= {"$__rate_interval", "$__range", "30m"}


def test_exclusions_from_the_linter_are_needed() -> None:
    titles = {panel["title"] for path in FILES.values() for panel in panels(json.loads(path.read_text()))}
    for rule in ("target-instance-rule", "target-rate-interval-rule", "panel-units-rule"):
        assert excluded(rule) <= titles


def test_expressions_name_only_metrics_and_labels_of_the_catalogue(board: Json) -> None:
    recorded = {rule.record: frozenset(ENVIRONMENT) for rule in recordings.RECORDINGS}
    known = {**exposed(), **recorded, **{name: frozenset(labels) for name, labels in FOREIGN.items()}}
    everywhere = {label for labels in known.values() for label in labels}
    for panel, _, expr in targets(board):
        for selected in selections(expr):
            assert selected.name in known, f"{panel['title']}: {selected.name}"
            assert selected.labels <= known[selected.name], f"{panel['title']}: {selected}"
        assert grouped_labels(expr) <= everywhere


def test_chosen_environments_filter_every_environment_series(board: Json) -> None:
    for panel, _, expr in targets(board):
        for selected in selections(expr):
            of_environments = "environment_name" in exposed().get(selected.name, ())
            if of_environments or selected.name.startswith("environment"):
                assert ("environment_name", "Re", "$environment_name") in selected.matchers, f"{panel['title']}: {expr}"


def test_two_exporters_do_not_double_a_number(board: Json) -> None:
    """Around every environment series the innermost aggregation is `max`, by whole environments unless the result is a maximum too."""
    for panel, _, expr in targets(board):
        for selected in selections(expr):
            if "environment_id" in exposed().get(selected.name, ()):
                operator, labels = selected.aggregations[-1]
                outer = [name for name, _ in selected.aggregations[:-1]]
                assert operator == "max", f"{panel['title']}: {expr}"
                assert labels >= ENVIRONMENT or not outer, f"{panel['title']}: {expr}"


def test_no_graph_of_the_fleet_has_a_line_for_each_of_200_environments() -> None:
    for name in ("overview", "exporter"):
        for panel, target, expr in targets(json.loads(FILES[name].read_text())):
            of_environments = [
                s for s in selections(expr) if "environment_id" in exposed().get(s.name, ()) or ":" in s.name
            ]
            if panel["type"] == "table" or target["instant"] or re.search(r"\b(topk|bottomk)\(10, ", expr):
                continue
            for selected in of_environments:
                assert selected.aggregations, f"{panel['title']}: {expr}"
                assert not selected.aggregations[0][1] & ENVIRONMENT, f"{panel['title']}: {expr}"


def test_the_table_of_the_fleet_begins_with_what_is_in_trouble() -> None:
    table, alerts = (p for p in panels(json.loads(FILES["overview"].read_text())) if p["type"] == "table")
    assert alerts["options"]["sortBy"] == [{"desc": False, "displayName": "Severity"}]
    assert table["options"]["sortBy"] == [{"desc": True, "displayName": "Trouble"}]
    (read,) = (p for p in panels(json.loads(FILES["exporter"].read_text())) if p["title"] == "Environments")
    assert read["options"]["sortBy"] == [{"desc": False, "displayName": "Stats readable"}]


def test_legends_begin_with_the_worst(board: Json) -> None:
    for panel in panels(board):
        if panel["type"] == "timeseries":
            legend, low_is_bad = panel["options"]["legend"], panel["title"].startswith("Taken in time")
            assert (legend["sortBy"], legend["sortDesc"]) == (("Min", False) if low_is_bad else ("Max", True)), panel[
                "title"
            ]
            assert legend["sortBy"].lower() in legend["calcs"]


def test_trouble_is_the_same_on_the_overview_and_on_the_status_page() -> None:
    (table, _) = (p for p in panels(json.loads(FILES["overview"].read_text())) if p["type"] == "table")
    compared = [float(number) for number in re.findall(r"(?:[<>]=? |[(+] ?|>= )([0-9.]+)", table["targets"][0]["expr"])]
    assert {
        *(trouble.WAIT_WARNING_OBJECTIVES, trouble.WAIT_CRITICAL_OBJECTIVES, trouble.NOBODY_POLLING_S),
        *(trouble.PENDING_S, trouble.STARTING_S, trouble.STOPPING_S),
        *(trouble.OVERDUE_CRITICAL_ITEMS, trouble.OVERDUE_CRITICAL_SHARE),
    } <= set(compared)


def test_marks_name_only_what_is_exported(board: Json) -> None:
    marks = board["annotations"]["list"]
    assert [mark["name"] for mark in marks] == ["Alerts", "Not readable", "Exporter starts", "Reloads"]
    known = {*exposed(), *FOREIGN, "process_start_time_seconds"}
    assert {selected.name for mark in marks for selected in selections(mark["expr"])} <= known


def steps_of(board: Json) -> dict[str, list[float]]:
    """Collect the values at which panels and columns change colour, by their title."""
    found = {}
    for panel in panels(board):
        found[panel["title"]] = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
        for override in panel["fieldConfig"]["overrides"]:
            for change in override["properties"]:
                if change["id"] == "thresholds":
                    found[f"{panel['title']}/{override['matcher']['options']}"] = change["value"]["steps"]
    values = {title: [step["value"] for step in steps[1:]] for title, steps in found.items()}
    return {title: steps for title, steps in values.items() if steps}


def limits(name: str) -> list[float]:
    """Numbers that the alert's conditions compare with, in the order of its severities."""
    exprs = [alert.expr for alert in rules.ALERTS if alert.name == name]
    return [float(number) for expr in exprs for number in re.findall(r">=? ([\d.]+)", expr)]


def test_colours_and_lines_begin_where_the_alerts_do() -> None:
    # What waits too long depends on each environment's objective: a query draws it, and no step.
    old = [t.DATA_AGE_S]
    overview, environment, exporter = (steps_of(json.loads(path.read_text())) for path in FILES.values())
    assert overview == {
        "In trouble": [1],
        "Unreadable": [1],
        "No workers": [1],
        "Short of": [1],
        "Claimed, not acknowledged": [1],
        "Environments: $show/Of objective": [t.WAIT_WARNING_OBJECTIVES, t.WAIT_CRITICAL_OBJECTIVES],
        "Environments: $show/Not acknowledged": [1],
        "Environments: $show/Longest starting": [seconds / 60 for seconds in limits("StuckStarting")],
        "Environments: $show/Longest stopping": [seconds / 60 for seconds in limits("StuckStopping")],
        "Environments: $show/Heartbeats overdue": [1],
        "Environments: $show/Data age": old,
        "Environments: $show/Short by": [1],
        "Taken in time, last hour": [t.OBJECTIVE_SHARE],
    }
    assert environment == {
        "Taken in time": [t.OBJECTIVE_SHARE],
        "Burn rate": [t.SLOW_BURN, t.FAST_BURN],
        "Claimed, not acknowledged": [1],
        "Heartbeats overdue": [1],
        "Longest starting": [seconds / 60 for seconds in limits("StuckStarting")],
        "Longest stopping": [seconds / 60 for seconds in limits("StuckStopping")],
        "Age of the numbers": old,
    }
    assert exporter == {
        "Unreadable": [1],
        "Failed reads": [t.ERROR_RATIO],
        "Budget left": [0.01, t.BUDGET_LEFT_RATIO],
        "429 wait": [1],
        "Environments/Stats age": old,
        "Age of stats": old,
    }


def test_what_waits_too_long_is_drawn_where_the_alerts_begin() -> None:
    objective = f"max by ({recordings.ENVIRONMENT}) (managed_agents_work_wait_objective_seconds"
    for name in ("overview", "environment"):
        (panel,) = (p for p in panels(json.loads(FILES[name].read_text())) if p["title"] == "Longest wait over time")
        drawn = {target["legendFormat"]: target["expr"] for target in panel["targets"]}
        for legend, factor in (("warning", t.WAIT_WARNING_OBJECTIVES), ("critical", t.WAIT_CRITICAL_OBJECTIVES)):
            assert f"{factor / 60:.10g} * max({objective}" in drawn[f"{legend} above"]


def test_the_longest_wait_is_coloured_by_each_environments_own_objective() -> None:
    """Of three queries one answers, and its colour is that of the alert."""
    for name in ("overview", "environment"):
        (panel,) = (p for p in panels(json.loads(FILES[name].read_text())) if p["title"] == "Longest wait")
        colour = {
            o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"]
            for o in panel["fieldConfig"]["overrides"]
        }
        assert colour == {"in time": "green", "late": "orange", "very late": "red"}
        exprs = {target["legendFormat"]: target["expr"] for target in panel["targets"]}
        late, very_late = f"({t.WAIT_WARNING_OBJECTIVES} * ", f"({t.WAIT_CRITICAL_OBJECTIVES} * "
        assert {legend: (late in expr, very_late in expr) for legend, expr in exprs.items()} == {
            "in time": (True, False),
            "late": (True, True),
            "very late": (False, True),
        }


def test_numbers_of_the_overview_lead_to_the_rows_that_they_count() -> None:
    board = json.loads(FILES["overview"].read_text())
    (show,) = (v for v in board["templating"]["list"] if v["type"] == "custom")
    words = show["query"].split(", ")
    assert (show["name"], show["current"]["value"], words) == ("show", "all", [o["value"] for o in show["options"]])
    found = {}
    for panel in panels(board):
        for link in panel["fieldConfig"]["defaults"].get("links", []):
            address, _, variables = link["url"].partition("?")
            chosen, kept = variables.split("&", 1)
            assert address == "/d/managed-agents-overview"
            assert kept == (
                "${job:queryparam}&${instance:queryparam}&${environment_name:queryparam}&${datasource:queryparam}&${__url_time_range}"
            )
            found[panel["title"]] = unquote(chosen.removeprefix("var-show="))
    assert found == {
        "In trouble": "in trouble",
        "Unreadable": "unreadable",
        "No workers": "without workers",
        "Short of": "short of workers",
        "Waiting": "with waiting work",
        "Longest wait": "with waiting work",
        "Claimed, not acknowledged": "not acknowledged",
    }
    assert set(words) == {"all", *found.values()}


def test_the_table_of_the_fleet_has_the_chosen_rows_alone() -> None:
    """One query knows which; rows without its number are left out."""
    board = json.loads(FILES["overview"].read_text())
    (table,) = (p for p in panels(board) if p["title"] == "Environments: $show")
    assert [target["refId"] for target in table["targets"] if "$show" in target["expr"]] == ["A"]
    assert table["transformations"][-1] == {
        "id": "filterByValue",
        "options": {
            "filters": [{"fieldName": "Trouble", "config": {"id": "isNotNull", "options": {}}}],
            "match": "all",
            "type": "include",
        },
    }
    organized = next(each for each in table["transformations"] if each["id"] == "organize")
    assert organized["options"]["renameByName"]["Value #A"] == "Trouble"
    (show,) = (v for v in board["templating"]["list"] if v["type"] == "custom")
    assert re.findall(r'label_replace\([^v].+?, "show", "([^$"]+)", "", ""\)', table["targets"][0]["expr"]) == show[
        "query"
    ].split(", ")


def test_an_environment_keeps_its_colour_and_none_has_a_thresholds() -> None:
    """Of every graph that has a line for each, and for any name of at least two characters exactly one colour."""
    for name in ("overview", "exporter"):
        for panel in panels(json.loads(FILES[name].read_text())):
            if any(target["legendFormat"] == "{{environment_name}}" for target in panel["targets"]):
                for environment in ("production", "batch", "ab", "Prod-EU-1", "9_", "日本", "x" * 60):
                    assert len(list(colours(panel, environment))) == 1, (panel["title"], environment)
    names = ("production", "batch", "staging", "research", "preview", "support")
    (backlog,) = (p for p in panels(json.loads(FILES["overview"].read_text())) if p["title"] == "Backlog")
    of_the_demo = [colour for each in names for colour in colours(backlog, each)]
    assert len(set(of_the_demo)) == len(names)
    assert not {"red", "orange"} & set(of_the_demo)


def colours(panel: Json, series: str) -> Iterator[str]:
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        if matcher["id"] == "byRegexp":
            pattern, flags = re.fullmatch(r"/(.*)/(i?)", matcher["options"]).groups()  # type: ignore[union-attr]  # no match fails the test
            if re.search(pattern, series, re.IGNORECASE if flags else 0):
                yield from (p["value"]["fixedColor"] for p in override["properties"] if p["id"] == "color")


def test_unknown_is_neither_red_nor_zero(board: Json) -> None:
    unknown = {"match": "null+nan", "result": {"text": "unknown", "color": "text", "index": 0}}
    for panel in panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "timeseries":
            assert defaults["custom"]["spanNulls"] is False
        elif panel["type"] in {"stat", "bargauge", "table"} and defaults["noValue"] == "unknown":
            assert unknown in [m["options"] for m in defaults["mappings"] if m["type"] == "special"]
        if panel["type"] in {"stat", "bargauge"}:
            assert panel["options"]["reduceOptions"]["calcs"] == ["last"]


def test_titles_are_unique_within_a_dashboard(board: Json) -> None:
    titles = [panel["title"] for panel in panels(board)]
    assert sorted(titles) == sorted(set(titles))


def test_the_documentation_counts_panels_and_queries_right() -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    table = page.partition("<!-- the table of queries -->\n")[2].partition("\n<!-- end of the table of queries -->")[0]
    assert table == summary_table()


def test_pictures_in_the_documentation_exist_and_are_small() -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    pictures = re.findall(r"\((images/[^)]+\.png)\)", page)
    assert len(set(pictures)) == 9
    assert {name: (ROOT / "docs" / name).stat().st_size < 400_000 for name in pictures} == dict.fromkeys(pictures, True)
