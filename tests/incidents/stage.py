"""A whole deployment in simulated time: users and workers, the API, the exporters, and a Prometheus that scrapes them.

Nothing of it opens a socket or sleeps. The exporter is the real `App` with another transport and another clock; the API is the
simulator's. What comes out are the samples that Prometheus would have.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TYPE_CHECKING
from unittest import mock
from urllib.parse import urlencode, urlsplit

from exporter import app as composition
from exporter.api.transport import HttpResponse, TransportError
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, ConfigError, DiscoveryConfig, EnvironmentConfig, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.log import Log
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import families_of
from exporter.simulator import Simulator, World, make_app
from exporter.simulator.fleet import Crew, DemoEnvironment, Scene
from exporter.web.routes import WebSettings
from exporter.web.web_config_reload import ReloadingWebConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from exporter.environments.scraper import Scraper

STARTED_AT = 1_764_000_000.0
SCRAPE_S = 15
SCRAPE_TIMEOUT_S = 9.5
TICK_S = 1.0
LATENCY_S = 0.05
API_KEY = "sk-ant-api03-simulated"
JOB = "managed-agents"
START_TIME = "process_start_time_seconds"


def instant(minute: float) -> float:
    return STARTED_AT + 60 * minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One environment: who works there and what arrives. A session lasts `run_min`, in minutes."""

    name: str
    arrival_s: float = 60.0
    workers: int = 8
    run_min: tuple[float, float] = (0.2, 0.8)
    worker_mode: str = "always_on"
    workspace_id: str = ""
    has_key: bool = True
    scene: Mapping[str, object] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"env_{self.name}"

    @property
    def key(self) -> str:
        return f"sk-ant-oat01-{self.name}"

    def opening(self) -> Scene:
        demo = DemoEnvironment(self.id, self.name, self.key, self.worker_mode)  # type: ignore[arg-type]
        run_s = (60 * self.run_min[0], 60 * self.run_min[1])
        return replace(Scene(demo, self.arrival_s, self.workers, run_s=run_s), **self.scene)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One exporter of the deployment. `sites`: the environments in its file, None: all. `workspaces`: those that it discovers."""

    instance: str = "exporter-0:9831"
    sites: tuple[str, ...] | None = None
    discovery: bool = False
    workspaces: tuple[str, ...] = ()
    requests_per_minute: int = 120


class LaboratoryCrew(Crew):
    """The demo's workers, of whom some may come and go."""

    def _idle_until(self, next_poll_at: float) -> float:
        """Ask half as often as the demo does: an hour of it is simulated, and nobody looks."""
        return super()._idle_until(next_poll_at + self.random.uniform(2.0, 4.0))

    def hire(self, count: int, now: float) -> None:
        for _ in range(count):
            self._hire(self._after(now, 1.0, 8.0))

    def kill(self, count: int) -> None:
        """Let workers vanish with what they hold: no beat, no stop."""
        del self.workers[:count]

    def restart_one(self, now: float) -> None:
        """Replace the next worker of an earlier hiring: it ends its session first if it has one."""
        idle = next((worker for worker in self.workers if not worker.item_id), None)
        if idle is not None:
            self.workers.remove(idle)
            self._hire(self._after(now, 5.0, 20.0))

    def lose_one_that_stops(self) -> None:
        worker = next(worker for worker in self.workers if worker.last_heartbeat and worker.item_id)
        self.queue.stop(worker.item_id)
        self.workers.remove(worker)

    def abandon(self) -> None:
        """Let every worker give its session up, as one does whose beats are refused, and ask for the next."""
        for worker in self.workers:
            worker.item_id = ""
            worker.step = self._poll


@dataclass(frozen=True, slots=True)
class _Asked:
    environment_id: str | None
    call: str
    workspace_id: str | None


@dataclass(slots=True)
class Trouble:
    """What the network answers instead of the API. `answer`: a status, or timeout, connect."""

    answer: int | str
    environment_id: str | None = None
    call: str | None = None
    share: float = 1.0
    retry_after_s: int | None = None
    workspace_id: str | None = None

    def concerns(self, asked: _Asked, dice: random.Random) -> bool:
        return (
            self.environment_id in {None, asked.environment_id}
            and self.workspace_id in {None, asked.workspace_id}
            and self.call in {None, asked.call}
            and (self.share >= 1 or dice.random() < self.share)
        )


class Network:
    """Stands between the exporters and the simulated API: the exporter's transport."""

    def __init__(self, simulator: Simulator, dice: random.Random) -> None:
        self._simulator = simulator
        self._dice = dice
        self.troubles: list[Trouble] = []
        self.revoked: set[str] = set()
        self.strange_sites: set[str] = set()
        self.calls: Counter[tuple[str | None, str]] = Counter()

    async def get(
        self, url: str, *, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        path = urlsplit(url).path
        parts = path.split("/")
        asked = _Asked(
            environment_id=parts[3] if len(parts) > 3 else None,
            call={"stats": "stats", "work": "list"}.get(parts[-1], "environments"),
            workspace_id=headers.get("anthropic-workspace-id"),
        )
        self.calls[asked.environment_id, asked.call] += 1
        for trouble in self.troubles:
            if trouble.concerns(asked, self._dice):
                return await self._failed(trouble, timeout_s)
        await asyncio.sleep(LATENCY_S)
        if any(key in value for value in headers.values() for key in self.revoked):
            return self._response(
                401, {}, b'{"type":"error","error":{"type":"authentication_error","message":"revoked"}}'
            )
        return await self._asked(path, query, headers)

    async def aclose(self) -> None: ...

    async def _failed(self, trouble: Trouble, timeout_s: float) -> HttpResponse:
        if trouble.answer == "timeout":
            await asyncio.sleep(timeout_s)
            raise TransportError("timeout", "no answer in time")
        await asyncio.sleep(LATENCY_S)
        if isinstance(trouble.answer, str):
            raise TransportError("connect", "connection refused")
        more = {} if trouble.retry_after_s is None else {"retry-after": str(trouble.retry_after_s)}
        return self._response(
            trouble.answer, more, b'{"type":"error","error":{"type":"api_error","message":"trouble"}}'
        )

    def _response(self, status: int, headers: dict[str, str], body: bytes) -> HttpResponse:
        date = formatdate(self._simulator.world.time(), usegmt=True)
        return HttpResponse(status, {"date": date, "content-type": "application/json", **headers}, body)

    async def _asked(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> HttpResponse:
        """Hand the request to the simulator as an ASGI server would."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await self._simulator(scope, receive, send)  # type: ignore[arg-type]
        start, *bodies = sent
        pairs: list[tuple[bytes, bytes]] = start["headers"]  # type: ignore[assignment]
        body = b"".join(bytes(part.get("body", b"")) for part in bodies)  # type: ignore[call-overload]
        if any(f"/{site}/" in path for site in self.strange_sites):
            body = body.replace(b'"state": "active"', b'"state": "hibernating"', 1)
        received = {name.decode().lower(): value.decode() for name, value in pairs}
        return HttpResponse(int(str(start["status"])), received, body)


@dataclass(slots=True)
class _Running:
    app: composition.App
    scraper: Scraper
    stop: asyncio.Event
    started_at: float


class Stage:
    """The deployment while it runs. Actions change it; `minute` is the simulated time since the curtain rose."""

    def __init__(self, sites: Sequence[Site], exporters: Sequence[Exporter], *, seed: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.sites = {site.name: site for site in sites}
        self.world = World(self.true_time, record_limit=10_000)
        self.skew_s = 0.0
        self.configuration_is_bad = False
        self.tick_s = TICK_S
        self.crews: dict[str, LaboratoryCrew] = {}
        for site in sites:
            queue = self.world.add_environment(site.id, name=site.name, key=site.key)
            if site.workspace_id:
                self.world.place(site.workspace_id, site.id)
            crew = LaboratoryCrew(site.opening(), queue, random.Random(f"{seed} {site.id}"), self.true_time())  # noqa: S311
            crew.open()
            self.crews[site.name] = crew
        self.network = Network(make_app(self.world), random.Random(f"{seed} network"))  # noqa: S311
        self.exporters = {each.instance: each for each in exporters}
        self.targets = {each.instance for each in exporters}  # those that Prometheus knows of
        self._running: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def minute(self) -> float:
        return self._loop.time() / 60

    def true_time(self) -> float:
        return STARTED_AT + self._loop.time()

    async def until(self, seconds: float) -> None:
        """Let time pass until so many seconds after the curtain rose."""
        await asyncio.sleep(max(0.0, seconds - self._loop.time()))

    async def act(self) -> None:
        """Let users and workers do what is due, for ever."""
        while True:
            for crew in self.crews.values():
                crew.advance(self.true_time())
            await asyncio.sleep(self.tick_s)

    def change(self, site: str, **scene: object) -> None:
        crew = self.crews[site]
        crew.scene = replace(crew.scene, **scene)  # type: ignore[arg-type]

    async def start_exporter(self, instance: str) -> None:
        """Return when it can be scraped."""
        ready = asyncio.Event()
        task = asyncio.create_task(self._run_exporter(self.exporters[instance], ready))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await ready.wait()

    def stop_exporter(self, instance: str) -> None:
        running = self._running.pop(instance, None)
        if running is not None:
            running.stop.set()

    async def close(self) -> None:
        for instance in list(self._running):
            self.stop_exporter(instance)
        await asyncio.gather(*self._tasks)

    async def scrape(self, instance: str, names: frozenset[str]) -> list[tuple[str, float]] | None:
        """Return what is exposed under these names, (series, value), or None where nobody answers."""
        running = self._running.get(instance)
        if running is None:
            return None
        snapshots = await running.scraper.scrape(running.app.roster.readers, timeout_s=SCRAPE_TIMEOUT_S)
        families = families_of(
            snapshots,
            monotonic=self._loop.time(),
            heartbeat_overdue_s=running.app.config.work.heartbeat_overdue_s,
        )
        own = running.app.registry.restricted_registry(sorted(names))
        samples = list(_samples(expose(families, None, Wanted()).body.decode(), names))
        samples += [
            (_series(sample.name, sample.labels), sample.value)
            for family in own.collect()
            for sample in family.samples
            if sample.name in names
        ]
        if START_TIME in names:
            # The library would say when the test's process started.
            samples = [(series, value) for series, value in samples if series != START_TIME]
            samples.append((START_TIME, running.started_at))
        return samples

    async def _run_exporter(self, exporter: Exporter, ready: asyncio.Event) -> None:
        config = self._config(exporter)
        log = Log("tests.incidents")
        clock = Clock(wall=lambda: self.true_time() + self.skew_s, monotonic=self._loop.time)
        settings = composition.Settings(
            load=lambda: self._load(config),
            web=WebSettings(),
            web_config=ReloadingWebConfig(None, log),
            clock=clock,
            log=log,
        )
        app = composition.App(settings)
        async with app.running() as scraper:
            running = _Running(app, scraper, asyncio.Event(), self.true_time())
            self._running[exporter.instance] = running
            ready.set()
            await running.stop.wait()

    def _load(self, config: Config) -> Config:
        if self.configuration_is_bad:
            raise ConfigError(("environments: expected a list",))
        return config

    async def reload_bad_configuration(self, instance: str) -> None:
        self.configuration_is_bad = True
        assert await self._running[instance].app.reload()

    def _config(self, exporter: Exporter) -> Config:
        sites = [site for site in self.sites.values() if exporter.sites is None or site.name in exporter.sites]
        keys = {site.id: site.key for site in sites}
        return Config(
            api=ApiConfig(
                base_url="http://127.0.0.1/v1",
                api_key=EnvSecret("api_key", {"api_key": API_KEY}),
                requests_per_minute=exporter.requests_per_minute,
            ),
            scrape=ScrapeConfig(),
            discovery=DiscoveryConfig(enabled=exporter.discovery, workspaces=exporter.workspaces),
            environments=tuple(
                EnvironmentConfig(
                    id=site.id,
                    name=site.name,
                    environment_key=EnvSecret(site.id, keys) if site.has_key else None,
                    worker_mode=site.worker_mode,  # type: ignore[arg-type]
                    workspace_id=site.workspace_id or None,
                )
                for site in sites
            ),
        )


@asynccontextmanager
async def curtain(sites: Sequence[Site], exporters: Sequence[Exporter], *, seed: int = 1) -> AsyncIterator[Stage]:
    """Open the stage with every exporter running, and close it."""
    stage = Stage(sites, exporters, seed=seed)
    with mock.patch.object(composition, "HttpxTransport", return_value=stage.network):
        actors = asyncio.create_task(stage.act())
        for exporter in exporters:
            await stage.start_exporter(exporter.instance)
        try:
            yield stage
        finally:
            actors.cancel()
            await stage.close()


def _samples(text: str, names: frozenset[str]) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        series, _, number = line.rpartition(" ")
        if series.partition("{")[0] in names:
            yield series, float(number)


def _series(name: str, labels: Mapping[str, str]) -> str:
    listed = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{listed}}}" if listed else name
