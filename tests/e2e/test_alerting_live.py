"""The shipped rules and Alertmanager configuration, from the demo's exporter to a receiver's webhook."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.exported import exporter_process, free_port
from tests.patience import PATIENCE_S
from tests.prometheus_server import Prometheus, prometheus_server, scrape_config
from tests.shipped.shortened_rules import shortened_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
Alert = dict[str, Any]
Delivered = list[tuple[str, Alert]]


@contextmanager
def receiver() -> Iterator[tuple[str, Delivered]]:
    """Serve a webhook for every receiver, its name as the path; collect (name, alert) in the order of delivery."""
    delivered: Delivered = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            delivered.extend((self.path.strip("/"), alert) for alert in body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", delivered
        server.shutdown()


def with_webhooks(base_url: str) -> Alert:
    """Take the shipped configuration, give its receivers integrations, and shorten the wait for a group's first alerts."""
    config: Alert = yaml.safe_load((ROOT / "config/alertmanager/alertmanager.yml").read_text())
    for each in config["receivers"]:
        each["webhook_configs"] = [{"url": f"{base_url}/{each['name']}"}]
    for route in (config["route"], *config["route"]["routes"]):
        route["group_wait"] = "1s"
    return config


@contextmanager
def alertmanager(config: Alert, directory: Path) -> Iterator[str]:
    """Run Alertmanager on a free loopback port while the block runs; answer host and port."""
    address = f"127.0.0.1:{free_port()}"
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    with (directory / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus-alertmanager",
                f"--config.file={path}",
                f"--storage.path={directory}/alertmanager",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


@contextmanager
def watched_demo(directory: Path) -> Iterator[tuple[Prometheus, str, Delivered]]:
    """Run demo, Prometheus, Alertmanager and a receiver, as compose would wire them."""
    with (
        exporter_process("--demo", directory=directory) as exporter,
        receiver() as (webhook, delivered),
        alertmanager(with_webhooks(webhook), directory) as address,
    ):
        config = {
            **scrape_config(exporter.base_url.removeprefix("http://")),
            "rule_files": shortened_rules(directory),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]},
        }
        with prometheus_server(config, directory) as prometheus:
            yield prometheus, address, delivered


def test_nobody_polling_reaches_the_pager_and_the_idle_webhook_fleet_stays_silent(tmp_path: Path) -> None:
    with watched_demo(tmp_path) as (prometheus, address, delivered):
        prometheus.wait_for(lambda: delivered)
        (to, alert), *_ = delivered
        assert to == "pager"
        assert alert["status"] == "firing"
        assert {name: alert["labels"][name] for name in ("alertname", "severity", "environment_name", "job")} == {
            "alertname": "ManagedAgentsNobodyPolling",
            "severity": "critical",
            "environment_name": "staging",
            "job": "managed-agents",
        }
        annotations = alert["annotations"]
        assert annotations["description"].endswith("Worker mode: always_on.")
        assert "item(s) wait in staging, the oldest for " in annotations["description"]
        assert annotations["runbook_url"].endswith("/docs/runbooks/ManagedAgentsNobodyPolling.md")
        assert annotations["dashboard"] == "/d/managed-agents-environment?var-environment_name=staging"

        assert prometheus.query('managed_agents_environment_info{environment_name="support", worker_mode="webhook"}')
        assert not prometheus.query('ALERTS{alertstate="firing", environment_name="support"}')
        assert {each["labels"]["environment_name"] for _, each in delivered} == {"staging"}
        known = httpx.get(f"http://{address}/api/v2/alerts", timeout=PATIENCE_S).json()
        assert {each["labels"]["environment_name"] for each in known} == {"staging"}
        assert not prometheus.complaints()


def named(name: str, severity: str, environment_name: str = "") -> dict[str, str]:
    labels = {"alertname": f"ManagedAgents{name}", "severity": severity, "job": "managed-agents"}
    return labels | (
        {"environment_name": environment_name, "environment_id": f"env_{environment_name}"} if environment_name else {}
    )


def muted(address: str, *alerts: dict[str, str]) -> list[bool]:
    """Tell Alertmanager that these fire, and ask of each whether another one speaks for it."""
    url = f"http://{address}/api/v2/alerts"
    assert httpx.post(url, json=[{"labels": labels} for labels in alerts], timeout=PATIENCE_S).status_code == 200
    status_by_labels = {
        frozenset(each["labels"].items()): each["status"] for each in httpx.get(url, timeout=PATIENCE_S).json()
    }
    return [bool(status_by_labels[frozenset(labels.items())]["inhibitedBy"]) for labels in alerts]


def test_consequences_are_inhibited_where_their_cause_fires_and_nowhere_else(tmp_path: Path) -> None:
    nobody = named("NobodyPolling", "critical", "staging")
    ageing = [named("BacklogAgeing", "warning", where) for where in ("staging", "batch")]
    starting, down = named("StuckStarting", "warning", "staging"), named("ExporterDown", "critical")
    with alertmanager(with_webhooks("http://127.0.0.1:9"), tmp_path) as address:
        wait_until_ready(address)
        assert muted(address, nobody, *ageing, starting) == [False, True, False, False]
        assert muted(address, named("BacklogAgeing", "critical", "batch"), *ageing) == [False, True, True]
        assert muted(address, down, nobody, starting, named("SchemaDrift", "info")) == [False, True, True, True]


def wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(f"http://{address}/-/ready", timeout=PATIENCE_S).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline
        time.sleep(0.1)
