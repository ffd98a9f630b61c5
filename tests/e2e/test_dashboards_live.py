"""Every query of every panel, asked of a real Prometheus that scraped the demo once a second."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import demo_world
from exporter.simulator.fleet import CLOUD_ENVIRONMENT_ID
from tests.ample import AMPLE_S
from tests.exported import exporter_process, write_config
from tests.prometheus_server import Prometheus, prometheus_server, scrape_config
from tests.shipped.panel_queries import DASHBOARDS, EMPTY_WHEN_WELL, FLEET, ROOT, PanelQuery, panel_queries
from tests.shipped.shortened_rules import shortened_rules
from tests.simulated import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.e2e

# Long enough to hold several readings of the API, which come every 10 s.
RATE_INTERVAL = "45s"


def has_data(prometheus: Prometheus, query: PanelQuery) -> bool:
    """Whether the query answers anything that is a number."""
    answer = prometheus.query(query.filled_in(rate_interval=RATE_INTERVAL))
    return any(math.isfinite(float(series["value"][1])) for series in answer)


def assert_all_have_data(
    prometheus: Prometheus, queries: list[PanelQuery], live: Callable[[], None] = lambda: None
) -> None:
    """Ask until each has answered once: some things happen every minute only, such as a stop."""
    deadline = time.monotonic() + AMPLE_S
    while queries := [query for query in queries if not has_data(prometheus, query)]:
        assert time.monotonic() < deadline, queries
        live()
        time.sleep(1)


def test_every_query_of_every_panel_returns_data(tmp_path: Path) -> None:
    queries = panel_queries()
    with exporter_process("--demo", directory=tmp_path) as exporter:
        target = exporter.base_url.removeprefix("http://")
        config = {**scrape_config(target), "rule_files": shortened_rules(tmp_path)}
        with prometheus_server(config, tmp_path) as prometheus:
            assert_all_have_data(prometheus, [query for query in queries if query.place not in EMPTY_WHEN_WELL])
            for name in DASHBOARDS:
                assert_variables_have_values(prometheus, name)
            for board in ("overview", "environment"):
                assert_one_answers(
                    prometheus, [query for query in queries if query.place[:2] == (board, "Longest wait")]
                )
            assert_numbers_are_those_of_their_rows(prometheus, queries)
            assert not prometheus.complaints()


# By dashboard, panel and query: what speaks only while something cannot be read.
FILLED_BY_FAILURES = {
    ("overview", FLEET, "B"),
    ("overview", "Items by state", "B"),
    ("exporter", "Environments", "B"),
    ("exporter", "Failures by reason", "A"),
}


def test_what_can_be_read_is_shown_while_half_of_the_environments_can_not(tmp_path: Path) -> None:
    """Nothing else is empty than in the demo: only lines and rows are missing, and the boards say whose and why."""
    world, fleet = demo_world(time.time)
    with running(world) as simulator:
        config = write_config(tmp_path, simulator)
        document = json.loads(config.read_text())
        theirs = [each for each in document["environments"] if each["id"] != CLOUD_ENVIRONMENT_ID]
        for each in theirs[1::2]:
            each["id"] += "_of_nobody"
        config.write_text(json.dumps(document | {"environments": theirs}))
        with exporter_process(f"--config.file={config}", directory=tmp_path) as exporter:
            target = exporter.base_url.removeprefix("http://")
            rules = {"rule_files": shortened_rules(tmp_path)}
            with prometheus_server({**scrape_config(target), **rules}, tmp_path) as prometheus:
                empty = EMPTY_WHEN_WELL.keys() - FILLED_BY_FAILURES
                queries = [query for query in panel_queries() if query.place not in empty]

                def live() -> None:
                    simulator.call(fleet.advance, time.time())

                assert_all_have_data(prometheus, queries, live)
                (trouble,) = (each for each in queries if each.place == ("overview", FLEET, "A"))
                worst = sorted(
                    float(series["value"][1])
                    for series in prometheus.query(trouble.filled_in(rate_interval=RATE_INTERVAL))
                )
                assert (len(worst), worst[-3:]) == (6, [4, 4, 4])
                assert worst[2] < 4
                unreadable = {each["id"] for each in theirs[1::2]}
                narrowed = trouble.filled_in(rate_interval=RATE_INTERVAL, show="unreadable")
                assert {series["metric"]["environment_id"] for series in prometheus.query(narrowed)} == unreadable
                assert_numbers_are_those_of_their_rows(prometheus, queries)


def assert_one_answers(prometheus: Prometheus, queries: list[PanelQuery]) -> None:
    """At one instant, whatever the demo is doing then."""
    counts = (f"(count({query.filled_in(rate_interval=RATE_INTERVAL)}) or vector(0))" for query in queries)
    assert [series["value"][1] for series in prometheus.query(" + ".join(counts))] == ["1"]


def assert_numbers_are_those_of_their_rows(prometheus: Prometheus, queries: list[PanelQuery]) -> None:
    """Compare with the rows that the number's link leads to, at one instant."""
    by_place = {query.place: query for query in queries}
    table = by_place["overview", FLEET, "A"]
    for title, rows in (("In trouble", "in trouble"), ("Unreadable", "unreadable"), ("No workers", "without workers")):
        number = by_place["overview", title, "A"].filled_in(rate_interval=RATE_INTERVAL)
        shown = f"(count({table.filled_in(rate_interval=RATE_INTERVAL, show=rows)}) or vector(0))"
        assert [series["value"][1] for series in prometheus.query(f"sum({number}) - {shown}")] == ["0"], title


def assert_variables_have_values(prometheus: Prometheus, name: str) -> None:
    for variable in json.loads((ROOT / f"dashboards/{name}.json").read_text())["templating"]["list"]:
        if variable["type"] == "query":
            selector = variable["definition"].removeprefix("label_values(").rpartition(",")[0]
            for chosen in ("job", "instance"):
                selector = selector.replace(f'"${chosen}"', '".+"')
            assert prometheus.by(selector, variable["name"]), variable["definition"]
