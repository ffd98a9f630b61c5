"""Every query of every panel, asked of a real Prometheus that scraped the demo once a second."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

import pytest

from tests.exported import exporter_process
from tests.patience import PATIENCE_S
from tests.prometheus_server import Prometheus, prometheus_server, scrape_config
from tests.shipped.panel_queries import DASHBOARDS, EMPTY_WHEN_WELL, ROOT, PanelQuery, panel_queries
from tests.shipped.shortened_rules import shortened_rules

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

# Long enough to hold several readings of the API, which come every 10 s.
RATE_INTERVAL = "45s"


def has_data(prometheus: Prometheus, query: PanelQuery) -> bool:
    """Whether the query answers anything that is a number."""
    answer = prometheus.query(query.filled_in(rate_interval=RATE_INTERVAL))
    return any(math.isfinite(float(series["value"][1])) for series in answer)


def assert_all_have_data(prometheus: Prometheus, queries: list[PanelQuery]) -> None:
    """Ask until each has answered once: some things happen every minute only, such as a stop."""
    deadline = time.monotonic() + PATIENCE_S
    while queries := [query for query in queries if not has_data(prometheus, query)]:
        assert time.monotonic() < deadline, queries
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
            assert not prometheus.complaints()


def assert_variables_have_values(prometheus: Prometheus, name: str) -> None:
    for variable in json.loads((ROOT / f"dashboards/{name}.json").read_text())["templating"]["list"]:
        if variable["type"] == "query":
            selector = variable["definition"].removeprefix("label_values(").rpartition(",")[0]
            for chosen in ("job", "instance"):
                selector = selector.replace(f'"${chosen}"', '".+"')
            assert prometheus.by(selector, variable["name"]), variable["definition"]
