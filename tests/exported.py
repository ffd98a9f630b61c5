"""The exporter as its users meet it: a process to start, an exposition to read and to check."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.ample import AMPLE_S

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.simulated import Running

COMMAND = (sys.executable, "-m", "exporter")
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Exposition:
    """Every sample of one scrape, by name and labels."""

    value_by_series: Mapping[tuple[str, Labels], float]
    type_by_name: Mapping[str, str]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the one sample of that name which has these labels, and perhaps more; None where there is none."""
        found = [
            value
            for (each, has), value in self.value_by_series.items()
            if each == name and labels.items() <= dict(has).items()
        ]
        assert len(found) <= 1, f"{name} {labels} is ambiguous"
        return found[0] if found else None

    def names(self, **labels: str) -> set[str]:
        return {name for (name, has) in self.value_by_series if labels.items() <= dict(has).items()}

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        return {
            dict(has)[label]: value
            for (each, has), value in self.value_by_series.items()
            if each == name and labels.items() <= dict(has).items()
        }


def read_exposition(text: str) -> Exposition:
    """Parse and check what promtool does not: no sample twice, no value that is not finite, no counter below 0."""
    values: dict[tuple[str, Labels], float] = {}
    types: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in types, f"{family.name} comes twice"
        types[family.name] = family.type
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in values, f"{key} comes twice"
            assert math.isfinite(sample.value), f"{key} is {sample.value}"
            values[key] = sample.value
    return Exposition(values, types)


def assert_monotone(earlier: Exposition, later: Exposition) -> None:
    """No counter and no part of a histogram goes down or away."""
    for (name, labels), value in earlier.value_by_series.items():
        if name.endswith(("_total", "_bucket", "_count", "_sum")):
            assert later.value_by_series.get((name, labels), -1) >= value, (name, labels)


@dataclass(frozen=True, slots=True)
class Exporter:
    process: subprocess.Popen[str]
    base_url: str
    log_file: Path

    def scrape(self, path: str = "/metrics", *, timeout_s: float = AMPLE_S) -> Exposition:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout_s)}
        answer = httpx.get(f"{self.base_url}{path}", headers=headers, timeout=timeout_s + AMPLE_S)
        assert answer.status_code == 200, answer.text
        return read_exposition(answer.text)

    def log(self) -> str:
        return self.log_file.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def exporter_process(
    *arguments: str,
    directory: Path,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[Exporter]:
    """Run the exporter on a free loopback port while the block runs; end it with SIGTERM and check that it ends with 0."""
    port = free_port()
    log_file = directory / f"exporter-{port}.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**_bare_environ(), **(environ or {})},
        )
    exporter = Exporter(process, f"http://127.0.0.1:{port}", log_file)
    try:
        _wait_until_ready(exporter)
        yield exporter
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=AMPLE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code == 0, log_file.read_text()


def long_call_s(config: Path, directory: Path) -> float:
    """Return how long a call must take to be called hanging here and now: a multiple of a first scrape, while none hangs."""
    with exporter_process(f"--config.file={config}", directory=directory) as exporter:
        started = time.monotonic()
        exporter.scrape(timeout_s=AMPLE_S)
        return max(1.0, 5 * (time.monotonic() - started))


def free_port() -> int:
    import socket  # noqa: PLC0415 -- used here alone

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def write_config(directory: Path, simulator: Running, **sections: dict[str, Any]) -> Path:
    """Write a configuration of all the simulator's environments, each with its key. JSON is YAML."""
    api_key = directory / "api-key"
    api_key.write_text(simulator.options.api_key + "\n")
    environments = []
    for environment in simulator.world.environments():
        key = directory / f"{environment.id}.key"
        key.write_text(f"{environment.profile.key}\n")
        environments.append({"id": environment.id, "name": environment.profile.name, "environment_key_file": str(key)})
    api = {
        "base_url": simulator.base_url,
        "api_key_file": str(api_key),
        "requests_per_minute": 1_000_000,
        "timeout": f"{AMPLE_S:.0f}s",
    }
    document: dict[str, Any] = {"api": api, "scrape": {"min_interval": "0s"}, "environments": environments}
    for name, section in sections.items():
        document[name] = document.get(name, {}) | section
    path = directory / "exporter.yml"
    path.write_text(json.dumps(document))
    return path


def _bare_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}


def _wait_until_ready(exporter: Exporter) -> None:
    deadline = time.monotonic() + AMPLE_S
    while time.monotonic() < deadline:
        assert exporter.process.poll() is None, exporter.log()
        try:
            if httpx.get(f"{exporter.base_url}/-/ready", timeout=AMPLE_S).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"not ready within {AMPLE_S} s: {exporter.log()}")
