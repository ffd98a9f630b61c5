"""The example of everything together: what it mounts exists and is where each program looks for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import exporter
from tests.exported import exporter_process

ROOT = Path(__file__).parents[2]
BIN = "/opt/managed-agents-exporter/bin"
COMPOSE = ROOT / "config/compose.yml"
SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "volumes",
}
# Where each program's files are mounted, and what must be found there.
MOUNTS = {
    "prometheus": {
        "/etc/prometheus": [
            "prometheus.yml",
            *(f"rules/{name}.yml" for name in ("absent", "alerts", "objectives", "recording")),
        ]
    },
    "alertmanager": {"/etc/alertmanager": ["alertmanager.yml"]},
    "grafana": {
        "/etc/grafana/provisioning": ["datasources/prometheus.yml", "dashboards/managed-agents.yml"],
        "/var/lib/grafana/dashboards": ["overview.json", "environment.json", "exporter.json"],
    },
}


@pytest.fixture
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def test_only_keys_of_the_compose_specification_are_used(compose: dict[str, Any]) -> None:
    assert set(compose) == {"name", "services", "volumes"}
    assert set(compose["services"]) == {"exporter", *MOUNTS}
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS
        assert set(service.get("depends_on", [])) <= set(compose["services"])


def test_every_image_is_pinned_and_the_exporter_is_this_version(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert images["exporter"] == f"managed-agents-exporter:{exporter.__version__}"
    assert compose["services"]["exporter"]["build"] == {"context": ".."}
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", image)


def test_ports_are_open_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items()}
    numbers = {"exporter": 9831, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}
    assert ports == {name: [f"127.0.0.1:{port}:{port}"] for name, port in numbers.items()}


@pytest.mark.e2e
def test_the_health_check_is_one_that_the_exporter_passes_and_a_dead_one_does_not(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    kind, python, *arguments = compose["services"]["exporter"]["healthcheck"]["test"]
    assert (kind, python) == ("CMD", f"{BIN}/python")
    with exporter_process("--demo", directory=tmp_path) as running:
        script = [each.replace("127.0.0.1:9831", running.base_url.removeprefix("http://")) for each in arguments]
        assert subprocess.run([sys.executable, *script], check=False, capture_output=True).returncode == 0
    assert subprocess.run([sys.executable, *script], check=False, capture_output=True).returncode == 1


def test_the_image_starts_what_the_health_check_expects() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f'ENTRYPOINT ["{BIN}/managed-agents-exporter"]' in dockerfile
    assert f'"{BIN}/python"' in dockerfile


def test_mounts_hold_what_each_program_reads(compose: dict[str, Any]) -> None:
    for name, wanted in MOUNTS.items():
        mounted = dict(_mounts(compose["services"][name]))
        assert set(mounted) == set(wanted)
        for target, files in wanted.items():
            source = (COMPOSE.parent / mounted[target]).resolve()
            assert source.is_relative_to(ROOT)
            assert [file for file in files if not (source / file).is_file()] == []


def _mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Target and source of what comes from this repository; it is mounted read-only."""
    binds = [volume.split(":") for volume in service.get("volumes", []) if volume.startswith(".")]
    assert all(bind[2:] == ["ro"] for bind in binds)
    return [(target, source) for source, target, _ in binds]


def test_named_volumes_are_declared(compose: dict[str, Any]) -> None:
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    assert {v.split(":")[0] for v in volumes if not v.startswith(".")} == set(compose["volumes"])


def test_programs_find_each_other_by_service_name(compose: dict[str, Any]) -> None:
    prometheus = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    (alertmanager,) = prometheus["alerting"]["alertmanagers"]
    (source,) = yaml.safe_load((ROOT / "config/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    addresses = [
        *job["static_configs"][0]["targets"],
        *alertmanager["static_configs"][0]["targets"],
        source["url"].removeprefix("http://"),
    ]
    assert addresses == ["exporter:9831", "alertmanager:9093", "prometheus:9090"]
    assert {address.split(":")[0] for address in addresses} <= set(compose["services"])
    assert job["job_name"] == "managed-agents"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_grafana_finds_the_dashboards(compose: dict[str, Any]) -> None:
    (provider,) = yaml.safe_load((ROOT / "config/grafana/provisioning/dashboards/managed-agents.yml").read_text())[
        "providers"
    ]
    (target,) = [t for t in MOUNTS["grafana"] if "dashboards" in t]
    assert provider["options"]["path"] == target
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{target}/overview.json"
    assert provider["allowUiUpdates"] is False
