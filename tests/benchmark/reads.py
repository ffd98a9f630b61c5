"""(g) Processor time of one read of the stats on `/metrics`, (h) on `/probe`, beside json_exporter where there is one.

json_exporter is the usual way to turn a JSON answer into series. It has no `/metrics` of targets: each is a probe of its own. So
that both do the same, the exporter is configured without lists here. All read the same simulated API, in turns, each over a connection that
its scraper keeps, and all that they show is compared with the truth.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from tests.benchmark.api import served
from tests.benchmark.scene import Scene
from tests.benchmark.subject import (
    END_S,
    SCRAPE_S,
    cpu_seconds,
    exporter,
    received,
    resident_mib,
    text_of,
    wait_for_port,
)
from tests.exported import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmark.api import Api

EXPORTER, PEER = "exporter", "json_exporter"
BINARY = "JSON_EXPORTER"
"""The environment variable with the path of json_exporter's binary."""
ENVIRONMENTS = 100
ROUNDS, WARM_ROUNDS = 20, 2
INTERVAL_S = 15
PEER_SERIES = {"queue_depth": "depth", "queue_pending": "pending", "workers_polling": "workers_polling"}
OF_AN_ENVIRONMENT = {EXPORTER: r"^\w+\{environment_id=", PEER: r"^[a-z]"}
SHOWN = re.compile(r"^(?:managed_agents_)?queue_(depth|pending)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`subject`: who read. `reads`: of one environment's stats. `series`: shown per environment."""

    subject: str
    path: str
    reads: int
    cpu_ms_per_read: float
    series: float
    rss_mib: float


class _Contender(NamedTuple):
    """Who is measured. `urls`: one scrape of each is a read of every environment; `label`: by name and path."""

    subject: str
    path: str
    pid: int
    urls: Sequence[str]


def measure(*, quick: bool) -> list[Row]:
    """Measure the exporter on both paths, and json_exporter if `JSON_EXPORTER` names it."""
    peer = os.environ.get(BINARY)
    with TemporaryDirectory() as place, served(Scene(environments=ENVIRONMENTS)) as api, ExitStack() as running:
        directory = Path(place)
        contenders = [
            *(running.enter_context(_ours(api, directory, path)) for path in ("/metrics", "/probe")),
            *([running.enter_context(_peer(api, directory, Path(peer)))] if peer else []),
        ]
        return _in_turns(api, contenders, rounds=1 if quick else ROUNDS)


@contextmanager
def _ours(api: Api, directory: Path, path: str) -> Iterator[_Contender]:
    with exporter(api, directory, listing={"enabled": False}) as subject:
        address = subject.url.removesuffix("/metrics")
        probes = [f"{address}/probe?target={each}" for each in api.scene.environment_ids]
        yield _Contender(EXPORTER, path, subject.pid, [subject.url] if path == "/metrics" else probes)


@contextmanager
def _peer(api: Api, directory: Path, binary: Path) -> Iterator[_Contender]:
    port, config = free_port(), directory / "json_exporter.yml"
    config.write_text(json.dumps(_peer_config(api)))
    process = subprocess.Popen(
        [binary, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    )
    try:
        wait_for_port(port, process)
        targets = [f"{api.base_url}/environments/{each}/work/stats" for each in api.scene.environment_ids]
        probes = [f"http://127.0.0.1:{port}/probe?target={quote(each, safe='')}" for each in targets]
        yield _Contender(PEER, "/probe", process.pid, probes)
    finally:
        process.terminate()
        process.wait(END_S)


def _peer_config(api: Api) -> object:
    metrics = [{"name": name, "help": name, "path": f"{{ .{field} }}"} for name, field in PEER_SERIES.items()]
    headers = {
        "x-api-key": api.api_key,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "managed-agents-2026-04-01",
    }
    return {"modules": {"default": {"headers": headers, "metrics": metrics}}}


def _in_turns(api: Api, contenders: Sequence[_Contender], *, rounds: int) -> list[Row]:
    """Let all read the same, one after the other, so that whatever else the machine does hits each alike."""
    with ExitStack() as connections:
        measured = [_Measured(each, connections.enter_context(_connection(each))) for each in contenders]
        for number in range(WARM_ROUNDS + rounds):
            api.advance(INTERVAL_S)
            waiting = {each: states["queued"] for each, states in api.counts().items()}
            for each in measured:
                each.read(waiting, warm=number >= WARM_ROUNDS)
        return [each.row(rounds * len(waiting)) for each in measured]


@contextmanager
def _connection(contender: _Contender) -> Iterator[HTTPConnection]:
    """Connect once, as Prometheus does: a connection for every scrape would cost more than some of these."""
    with closing(HTTPConnection(urlsplit(contender.urls[0]).netloc, timeout=SCRAPE_S)) as connection:
        yield connection


@dataclass(slots=True)
class _Measured:
    contender: _Contender
    connection: HTTPConnection
    cpu_s: float = 0.0
    text: str = ""

    def read(self, waiting: dict[str, int], *, warm: bool) -> None:
        """Read every environment once; fail unless all that wait are shown. `waiting`: the truth."""
        pid, urls = self.contender.pid, self.contender.urls
        before = cpu_seconds(pid)
        bodies = [received(self.connection, url) for url in urls]
        if warm:
            self.cpu_s += cpu_seconds(pid) - before
        self.text = "".join(map(text_of, bodies))
        shown = [round(float(value)) for _, value in SHOWN.findall(self.text)]
        if sum(shown) != sum(waiting.values()) or len(shown) != 2 * len(waiting):
            raise AssertionError(f"{self.contender.subject} shows {sum(shown)} items, true are {sum(waiting.values())}")

    def row(self, reads: int) -> Row:
        series = len(re.findall(OF_AN_ENVIRONMENT[self.contender.subject], self.text, re.MULTILINE))
        return Row(
            subject=self.contender.subject,
            path=self.contender.path,
            reads=reads,
            cpu_ms_per_read=self.cpu_s / reads * 1000,
            series=series / ENVIRONMENTS,
            rss_mib=resident_mib(self.contender.pid),
        )
