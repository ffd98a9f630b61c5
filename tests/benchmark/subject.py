"""The two exporters under measurement, as processes: how long a scrape takes, what it costs, what it says."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.exported import exporter_process, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.api import Api, Calls

START_S = 15.0
END_S = 10.0
SCRAPE_S = 300.0
OK = 200
GZIP = b"\x1f\x8b"
SCRAPER = {  # as Prometheus 3 asks
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": str(SCRAPE_S),
}
ITEMS = re.compile(
    r'^(?:managed_agents|naive)_work_items\{environment_id="([^"]*)".*state="([^"]*)"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Scrape:
    """One scrape: when it was answered completely, and what that cost."""

    wall_s: float
    cpu_s: float
    calls: Calls
    text: str

    @property
    def series(self) -> int:
        return sum(not line.startswith("#") for line in self.text.splitlines())

    def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        for environment_id, state, count in ITEMS.findall(self.text):
            if state != "unknown":
                counts[environment_id][state] = int(float(count))
        return counts


@dataclass(frozen=True, slots=True)
class Subject:
    """A running exporter that reads `api`."""

    pid: int
    url: str
    api: Api

    def scrape(self) -> Scrape:
        calls, cpu_s = self.api.calls(), cpu_seconds(self.pid)
        started = time.perf_counter()
        body = _get(self.url)
        wall_s = time.perf_counter() - started
        return Scrape(wall_s, cpu_seconds(self.pid) - cpu_s, self.api.calls() - calls, text_of(body))

    def true_scrape(self) -> Scrape:
        """Scrape, and fail unless what is shown equals what the API holds: a fast answer that is wrong is no result."""
        scrape = self.scrape()
        truth = self.api.counts()
        shown = scrape.counts()
        wrong = [each for each in truth if shown.get(each) != truth[each]]
        if wrong:
            raise AssertionError(f"{self.url} shows {shown.get(wrong[0])} for {wrong[0]}, true is {truth[wrong[0]]}")
        return scrape

    def rss_mib(self) -> float:
        return resident_mib(self.pid)


@contextmanager
def exporter(
    api: Api, directory: Path, /, *, ca_file: Path | None = None, **sections: dict[str, Any]
) -> Iterator[Subject]:
    """Run the exporter itself, with a budget that never throttles and a new read at every scrape."""
    config = write_config(api, directory, ca_file=ca_file, **sections)
    environ = {"PYTHONPATH": without_test_tools(directory)}
    with exporter_process(f"--config.file={config}", directory=directory, environ=environ) as process:
        yield Subject(process.process.pid, f"{process.base_url}/metrics", api)


@contextmanager
def naive_exporter(api: Api, directory: Path) -> Iterator[Subject]:
    keys = directory / "keys.json"
    keys.write_text(json.dumps({each: environment_key(each) for each in api.scene.environment_ids}))
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.benchmark.naive",
            f"--port={port}",
            f"--base-url={api.base_url}",
            f"--keys={keys}",
        ]
    )
    try:
        wait_for_port(port, process)
        yield Subject(process.pid, f"http://127.0.0.1:{port}/metrics", api)
    finally:
        process.terminate()
        process.wait(END_S)


def without_test_tools(directory: Path) -> str:
    """Return a path on which the packages are missing that only the tests install.

    The HTTP libraries import these where they find them: 7 MiB and a quarter of the start that no user pays.
    """
    place = directory / "absent"
    place.mkdir(exist_ok=True)
    for name in ("rich", "trio"):
        (place / f"{name}.py").write_text("raise ImportError\n")
    return str(place)


def write_config(api: Api, directory: Path, /, *, ca_file: Path | None = None, **sections: dict[str, Any]) -> Path:
    """Write the configuration of every environment of the scene, each with a key file of its own."""
    api_key = directory / "api-key"
    api_key.write_text(api.api_key)
    environments = []
    for environment_id in api.scene.environment_ids:
        key = directory / f"{environment_id}.key"
        key.write_text(environment_key(environment_id))
        environments.append({"id": environment_id, "environment_key_file": str(key)})
    document: dict[str, Any] = {
        "api": {"base_url": api.base_url, "api_key_file": str(api_key), "requests_per_minute": 1_000_000},
        "scrape": {"min_interval": "0s"},
        "environments": environments,
    }
    if ca_file is not None:
        document["api"]["ca_file"] = str(ca_file)
    for name, section in sections.items():
        document[name] = document.get(name, {}) | section
    path = directory / "exporter.yml"
    path.write_text(json.dumps(document))
    return path


def seconds_to_first_scrape(api: Api, directory: Path) -> float:
    """Start the exporter and scrape it until it answers with everything; its first answer must be complete."""
    config, port = write_config(api, directory), free_port()
    command = [sys.executable, "-m", "exporter", f"--web.listen-address=127.0.0.1:{port}", f"--config.file={config}"]
    started = time.perf_counter()
    environ = os.environ | {"PYTHONPATH": without_test_tools(directory)}
    process = subprocess.Popen([*command, "--log.level=error"], env=environ)
    try:
        wait_for_port(port, process)
        text = text_of(_get(f"http://127.0.0.1:{port}/metrics"))
        took_s = time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(END_S)
    ups = re.findall(r"^managed_agents_(?:list_)?up\{.*\} (\S+)$", text, re.MULTILINE)
    if ups != ["1.0"] * (2 * api.scene.environments):
        raise AssertionError("the first scrape was not complete")
    return took_s


def cpu_seconds(pid: int) -> float:
    """Return the processor time the process has used, in steps of a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def environment_key(environment_id: str) -> str:
    """Return what the simulated world gives an environment that is given none."""
    return f"sk-ant-oat01-{environment_id}"


def received(connection: HTTPConnection, url: str) -> bytes:
    """Scrape as Prometheus does, and return the body as it was sent."""
    connection.request("GET", url.removeprefix(f"http://{connection.host}:{connection.port}"), headers=SCRAPER)
    response = connection.getresponse()
    body = response.read()
    if response.status != OK:
        raise RuntimeError(f"{url} answered {response.status}")
    return body


def text_of(body: bytes) -> str:
    return (gzip.decompress(body) if body.startswith(GZIP) else body).decode()


def _get(url: str) -> bytes:
    # http.client, because it costs a millisecond and httpx.get forty: it loads every certificate authority first.
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=SCRAPE_S)) as connection:
        return received(connection, url)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the exporter ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise TimeoutError(f"nothing listens on {port} after {START_S} s")
