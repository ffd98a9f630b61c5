"""A real Prometheus, scraping what a test serves and answering PromQL."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tests.ample import AMPLE_S
from tests.exported import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Prometheus:
    base_url: str
    log_file: Path

    def query(self, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """Return the instant vector: `metric` and `value` of each series."""
        parameters = {"query": expression} | ({} if at is None else {"time": str(at)})
        answer = httpx.get(f"{self.base_url}/api/v1/query", params=parameters, timeout=AMPLE_S)
        body = answer.json()
        assert body["status"] == "success", body
        result: list[dict[str, Any]] = body["data"]["result"]
        return result

    def by(self, expression: str, label: str) -> dict[str, float]:
        return {series["metric"].get(label, ""): float(series["value"][1]) for series in self.query(expression)}

    def api(self, path: str) -> Any:
        return httpx.get(f"{self.base_url}/api/v1/{path}", timeout=AMPLE_S).json()["data"]

    def wait_for(self, holds: Callable[[], object], *, within_s: float = AMPLE_S) -> None:
        """Ask again and again until it holds; fail with the last answer after a while."""
        deadline = time.monotonic() + within_s
        while not (answer := holds()):
            assert time.monotonic() < deadline, (
                f"still {answer!r} after {within_s} s: {self.log_file.read_text()[-2000:]}"
            )
            time.sleep(POLL_S)

    def complaints(self) -> list[str]:
        return [
            line for line in self.log_file.read_text().splitlines() if "level=warn" in line or "level=error" in line
        ]


def scrape_config(target: str, *, interval: str = "1s", **more: object) -> dict[str, object]:
    """Configure the job as everything shipped calls it."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [{"job_name": "managed-agents", "static_configs": [{"targets": [target]}], **more}],
    }


@contextmanager
def prometheus_server(config: Mapping[str, object], directory: Path, *flags: str) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration on a free loopback port while the block runs."""
    port = free_port()
    home = directory / f"prometheus-{port}"
    home.mkdir()
    (home / "prometheus.yml").write_text(json.dumps(config))
    log_file = home / "log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={home}/prometheus.yml",
                f"--storage.tsdb.path={home}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                *flags,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    prometheus = Prometheus(f"http://127.0.0.1:{port}", log_file)
    try:
        prometheus.wait_for(lambda: _ready(prometheus))
        yield prometheus
    finally:
        process.terminate()
        process.wait(timeout=AMPLE_S)


def _ready(prometheus: Prometheus) -> bool:
    try:
        return httpx.get(f"{prometheus.base_url}/-/ready", timeout=AMPLE_S).status_code == 200
    except httpx.TransportError:
        return False
