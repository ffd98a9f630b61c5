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
from selenium.webdriver.common.by import By

from dashboards.addresses import EXPORTER_URL, GRAFANA_URL
from exporter.simulator import World
from tests.ample import AMPLE_S
from tests.browser import chromium
from tests.exported import exporter_process, free_port, write_config
from tests.incidents.incidents import INCIDENTS
from tests.incidents.laboratory import course_of
from tests.incidents.notification import Alertmanager
from tests.incidents.test_notification import BY_KEY, MUTED, labels
from tests.prometheus_server import Prometheus, prometheus_server, scrape_config
from tests.shipped.shortened_rules import shortened_rules
from tests.simulated import running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        process.wait(timeout=AMPLE_S)


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
        prometheus.wait_for(lambda: of_nobody_polling(delivered))
        (to, alert), *_ = of_nobody_polling(delivered)
        assert to == "pager"
        assert alert["status"] == "firing"
        assert {name: alert["labels"][name] for name in ("alertname", "severity", "environment_name", "job")} == {
            "alertname": "ManagedAgentsNobodyPolling",
            "severity": "critical",
            "environment_name": "staging",
            "job": "managed-agents",
        }
        annotations = alert["annotations"]
        assert "Worker mode: always_on. Since " in annotations["description"]
        assert "item(s) wait in staging, the oldest for " in annotations["description"]
        assert annotations["runbook_url"].endswith("/docs/runbooks/ManagedAgentsNobodyPolling.md")
        board = "/d/managed-agents-environment?var-environment_name=staging"
        assert annotations["dashboard_url"] == GRAFANA_URL + board

        assert prometheus.query('managed_agents_environment_info{environment_name="support", worker_mode="webhook"}')
        assert not prometheus.query('ALERTS{alertstate="firing", environment_name="support"}')
        assert {each["labels"]["environment_name"] for _, each in of_nobody_polling(delivered)} == {"staging"}
        prometheus.wait_for(lambda: receivers_of_watchdog(delivered))
        assert receivers_of_watchdog(delivered) == {"deadman"}
        known = httpx.get(f"http://{address}/api/v2/alerts", timeout=AMPLE_S).json()
        assert "support" not in {each["labels"].get("environment_name") for each in known}
        assert not prometheus.complaints()


def of_nobody_polling(delivered: Delivered) -> Delivered:
    return [(to, alert) for to, alert in delivered if alert["labels"]["alertname"] == "ManagedAgentsNobodyPolling"]


def receivers_of_watchdog(delivered: Delivered) -> set[str]:
    return {to for to, alert in delivered if alert["labels"]["alertname"] == "ManagedAgentsWatchdog"}


def fire(address: str, alerts: Iterable[Mapping[str, str]]) -> None:
    posted = [{"labels": dict(labels)} for labels in alerts]
    response = httpx.post(f"http://{address}/api/v2/alerts", json=posted, timeout=AMPLE_S)
    assert response.status_code == 200


def test_alertmanager_inhibits_what_the_laboratory_says_it_does(tmp_path: Path) -> None:
    """Every alert that mutes others beside all that mute none, each in a job of its own."""
    firing_by_job = {
        f"job-{number}": [labels(key, job=f"job-{number}") for key in BY_KEY if key == source or key not in MUTED]
        for number, source in enumerate(MUTED)
    }
    with alertmanager(with_webhooks("http://127.0.0.1:9"), tmp_path) as address:
        wait_until_ready(address)
        fire(address, [dict(each) for firing in firing_by_job.values() for each in firing])
        found = httpx.get(f"http://{address}/api/v2/alerts", timeout=AMPLE_S).json()
    muted = {frozenset(each["labels"].items()) for each in found if each["status"]["inhibitedBy"]}
    ours = Alertmanager.shipped()
    assert muted == {each for firing in firing_by_job.values() for each in ours.muted(firing)}
    assert muted


def test_from_a_firing_alert_to_the_item_and_its_session_in_one_click(tmp_path: Path) -> None:
    """As the pager shows it: Alertmanager delivers the alert with a link, and the exporter's page behind it names the item."""
    world = World(lambda: now)
    now = time.time() - STUCK_S
    environment = world.add_environment("env_stuck", name="stuck", key="key")
    for _ in range(2):
        environment.create()
        now += 1
    stuck = environment.poll(worker_id="w")
    assert stuck is not None
    environment.ack(stuck.id)
    world.now = time.time
    with (
        running(world) as simulator,
        exporter_process(f"--config.file={write_config(tmp_path, simulator)}", directory=tmp_path) as exporter,
        receiver() as (webhook, delivered),
        alertmanager(with_webhooks(webhook), tmp_path) as address,
    ):
        config = {
            **scrape_config(exporter.base_url.removeprefix("http://")),
            "rule_files": rules_at_once("ManagedAgentsStuckStarting", exporter.base_url, tmp_path),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]},
        }
        with prometheus_server(config, tmp_path) as prometheus, chromium(tmp_path) as chrome:
            prometheus.wait_for(lambda: of(delivered, "ManagedAgentsStuckStarting"))
            link = of(delivered, "ManagedAgentsStuckStarting")[0]["annotations"]["items_url"]
            chrome.get(f"data:text/html,<a href='{link}'>items</a>")
            chrome.find_element(By.LINK_TEXT, "items").click()
            said = chrome.find_element(By.TAG_NAME, "body").text
    assert said.count("work_") == 1
    assert stuck.id in said
    assert stuck.data_id in said
    assert "starting" in said


STUCK_S = 900.0


def rules_at_once(name: str, exporter_url: str, directory: Path) -> list[str]:
    """Copy the rules with the exporter's address here, and without the wait of one alert."""
    copies = shortened_rules(directory)
    for path in map(Path, copies):
        document = yaml.safe_load(path.read_text().replace(EXPORTER_URL, exporter_url))
        for group in document["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == name:
                    rule["for"] = "0s"
        path.write_text(yaml.safe_dump(document))
    return copies


def of(delivered: Delivered, name: str) -> list[Alert]:
    return [alert for _, alert in delivered if alert["labels"]["alertname"] == name]


FASTER = 60
"""A minute of the incident takes a second."""


def sped_up(config: Alert) -> Alert:
    for route in (config["route"], *config["route"]["routes"]):
        for name in ("group_wait", "group_interval", "repeat_interval"):
            if name in route:
                route[name] = f"{max(1, round(in_seconds(route[name]) * 1000 / FASTER))}ms"
    return config


def in_seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def test_two_hundred_environments_cause_at_most_three_notifications_when_the_vendor_goes_down(tmp_path: Path) -> None:
    """The alerts of the laboratory's incident, as Prometheus would send them: again and again while they fire."""
    (incident,) = (each for each in INCIDENTS if each.name == "many_down")
    spells = [each for each in course_of(incident.play).spells if each.label("severity") != "none"]
    with receiver() as (webhook, delivered):
        config = with_webhooks(webhook) | {"route": shipped_route()}
        with alertmanager(sped_up(config), tmp_path) as address:
            wait_until_ready(address)
            began = time.monotonic()
            while (minute := incident.begins + (time.monotonic() - began)) < incident.begins + 30:
                fire(address, [dict(spell.labels) for spell in spells if spell.first <= minute <= spell.last])
                time.sleep(0.25)
    notified = {(to, alert["labels"]["alertname"]) for to, alert in delivered}
    assert ("pager", "ManagedAgentsApiUnavailable") in notified
    assert 1 <= len(delivered) <= 3


def shipped_route() -> Alert:
    route: Alert = yaml.safe_load((ROOT / "config/alertmanager/alertmanager.yml").read_text())["route"]
    return route


def wait_until_ready(address: str) -> None:
    deadline = time.monotonic() + AMPLE_S
    while True:
        try:
            if httpx.get(f"http://{address}/-/ready", timeout=AMPLE_S).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline
        time.sleep(0.1)
