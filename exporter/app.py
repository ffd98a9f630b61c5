"""Composition root: builds the parts, owns the tasks, the signals and the reload. No logic of its own."""

from __future__ import annotations

import gc
import random
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from exporter import __version__, signals
from exporter.api.admission import Admission
from exporter.api.budget import Budget
from exporter.api.client import ApiContext, EnvironmentsApi
from exporter.api.httpx_transport import HttpxTransport
from exporter.api.tls_reload import ConnectOptionsSource
from exporter.check.online import check_online
from exporter.config.model import DISCOVERY_LEAST_INTERVAL_S, ConfigError
from exporter.environments.discovery import Discovery
from exporter.environments.roster import Roster
from exporter.environments.scraper import Scraper
from exporter.metrics.telemetry import BudgetCollector, Telemetry
from exporter.web import status_page
from exporter.web.basic_auth import BasicAuthMiddleware, PasswordVerifier
from exporter.web.http_server import serve
from exporter.web.routes import Parts, Routes, WebSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from exporter.check.report import Report
    from exporter.clock import Clock
    from exporter.config.model import Config
    from exporter.environments.snapshot import Snapshot
    from exporter.log import Log
    from exporter.web.web_config_reload import ReloadingWebConfig

THROTTLED_RETRY_S = 5.0
DRAIN_S = 3.0
OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""With the interpreter's 700 a tenth of a large scrape goes into looking for cycles, of which there are hardly any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the process was started with. `load` reads the configuration, again at each reload; raises ConfigError."""

    load: Callable[[], Config]
    web: WebSettings
    web_config: ReloadingWebConfig
    clock: Clock
    log: Log


class App:
    """The running exporter. Raises ConfigError when it is made with a configuration that can't be used."""

    def __init__(self, settings: Settings) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self._settings = settings
        self._log = settings.log
        self.config = settings.load()
        clock = settings.clock
        self.registry = _process_registry()
        self.telemetry = Telemetry(self.registry)
        self.budget = Budget(
            per_minute=self.config.api.requests_per_minute,
            min_interval_s=self.config.scrape.min_interval_s,
            now=clock.monotonic(),
            jitter=random.SystemRandom().random,
        )
        self.registry.register(BudgetCollector(self.budget, clock))
        self.admission = Admission(self.budget, concurrency=self.config.api.concurrency, monotonic=clock.monotonic)
        context = ApiContext(
            config=lambda: self.config,
            admission=self.admission,
            observer=self.telemetry,
            clock=clock,
            log=settings.log,
        )
        self._connect_options = ConnectOptionsSource(lambda: self.config, settings.log)
        self._context = context
        self.roster = Roster(context, self._new_transport)
        self._directory = EnvironmentsApi(context, self._new_transport())
        self.discovery = Discovery(self._directory, observer=self.telemetry, log=settings.log)
        self._reloaded = anyio.Event()
        self._settled = anyio.Event()
        self._reloading = anyio.Lock()
        self._reload_requests = self._reload_answers = 0
        self._reload_problems: tuple[str, ...] = ()
        self._discovered_at = float("-inf")
        self._started_at = self._in_force_at = clock.monotonic()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scraper]:
        """Start the tasks that serve scrapes; end them all with the block."""
        self.roster.apply(self.config, ())
        self.telemetry.config_loaded(at=self._settings.clock.wall())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discover)
            try:
                yield Scraper(
                    tasks, admission=self.admission, budget=self.budget, clock=self._settings.clock, log=self._log
                )
            finally:
                tasks.cancel_scope.cancel()
                with anyio.move_on_after(DRAIN_S, shield=True):
                    await self._close()

    async def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads."""
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
        web_config = self._settings.web_config
        async with self.running() as scraper, anyio.create_task_group() as tasks:
            stop = anyio.Event()
            tasks.start_soon(self._handle_signals, stop)
            tasks.start_soon(web_config.follow)
            with PasswordVerifier() as passwords:
                app = BasicAuthMiddleware(
                    Routes(self._parts(scraper)).app(),
                    passwords,
                    users=lambda: web_config.hash_by_user,
                    headers=lambda: web_config.headers,
                )
                await serve(app, sockets, stop=stop, tls=lambda: web_config.tls)
            tasks.cancel_scope.cancel()

    async def read_once(self) -> tuple[Snapshot, ...]:
        """Read every environment once, within the configured timeout."""
        async with self.running() as scraper:
            timeout_s = self.config.scrape.timeout_s or float("inf")
            await self._settle(timeout_s)
            return await scraper.scrape(self.roster.readers, timeout_s=timeout_s)

    async def check_online(self) -> Report:
        """Try every credential on every call, for a first set-up."""
        return await check_online(self._context, self._new_transport)

    async def reload(self) -> tuple[str, ...]:
        """Read the configuration again and put it into force, whole or not at all. Returns the problems.

        Who asks while another reload is under way shares the next one with all who do so.
        """
        self._reload_requests += 1
        request = self._reload_requests
        async with self._reloading:
            if request > self._reload_answers:
                answers = self._reload_requests
                self._reload_problems = await self._reload()
                self._reload_answers = answers
            return self._reload_problems

    async def _reload(self) -> tuple[str, ...]:
        try:
            config = await anyio.to_thread.run_sync(self._settings.load)
        except ConfigError as refused:
            self.telemetry.config_refused()
            self._log.error("config_reload_refused", problems="; ".join(refused.problems))
            return refused.problems
        await self._activate(config)
        return ()

    async def _activate(self, config: Config) -> None:
        now = self._settings.clock.monotonic()
        if _directory(config) != _directory(self.config):
            self.discovery.forget()
            self._discovered_at = float("-inf")
        self.config, self._in_force_at = config, now
        self.budget.configure(
            per_minute=config.api.requests_per_minute, min_interval_s=config.scrape.min_interval_s, now=now
        )
        self.admission.configure(concurrency=config.api.concurrency)
        await self._apply()
        self._reloaded.set()
        self._reloaded = anyio.Event()
        self.telemetry.config_loaded(at=self._settings.clock.wall())
        self._log.info("config_reloaded", environments=len(self.roster.readers))

    async def _apply(self) -> None:
        found = (self.discovery.found or ()) if self.config.discovery.enabled else ()
        for reader in self.roster.apply(self.config, found):
            await reader.aclose()

    async def _discover(self) -> None:
        """List the organisation's environments every interval, never more often."""
        while True:
            wait_s = await self._discover_if_due()
            with anyio.move_on_after(wait_s):
                await self._reloaded.wait()

    async def _discover_if_due(self) -> float:
        if not self.config.discovery.enabled:
            self._settled.set()
            return float("inf")
        monotonic = self._settings.clock.monotonic
        interval_s = max(DISCOVERY_LEAST_INTERVAL_S, self.config.discovery.interval_s)
        left_s = self._discovered_at + interval_s - monotonic()
        if left_s > 0:
            return left_s
        directory = _directory(self.config)
        if not await self.discovery.refresh():
            return THROTTLED_RETRY_S
        if directory != _directory(self.config):
            return 0.0  # a reload has turned to another one meanwhile
        self._discovered_at = monotonic()
        await self._apply()
        self._settled.set()
        return interval_s

    async def _settle(self, timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s):
            await self._settled.wait()

    async def _handle_signals(self, stop: anyio.Event) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            signals.unblock()
            async for number in received:
                if number == signal.SIGHUP:
                    await self.reload()
                else:
                    self._log.info("stopping", signal=signal.Signals(number).name)
                    stop.set()

    def _parts(self, scraper: Scraper) -> Parts:
        return Parts(
            web=self._settings.web,
            config=lambda: self.config,
            clock=self._settings.clock,
            roster=self.roster,
            scraper=scraper,
            registry=self.registry,
            settle=self._settle,
            discovered=lambda: not self.config.discovery.enabled or self.discovery.found is not None,
            reload=self.reload,
            status=self._status,
        )

    def _status(self) -> status_page.Status:
        now = self._settings.clock.monotonic()
        waits_until = self.budget.waits_until(now)
        return status_page.Status(
            version=__version__,
            telemetry_path=self._settings.web.telemetry_path,
            uptime_s=now - self._started_at,
            in_force_s=now - self._in_force_at,
            budget=status_page.BudgetStatus(
                limit_per_minute=self.budget.limit_per_minute(now),
                available=self.budget.available(now),
                waits_s=None if waits_until is None else waits_until - now,
            ),
            discovery=self._discovery_status(now),
            refused=self._reload_problems,
            warnings=tuple(self._stale_files()),
        )

    def _discovery_status(self, now: float) -> status_page.DiscoveryStatus | None:
        if not self.config.discovery.enabled:
            return None
        return status_page.DiscoveryStatus(
            found=None if self.discovery.found is None else len(self.discovery.found),
            due_in_s=max(0.0, self._discovered_at + self.config.discovery.interval_s - now),
            problem=self.discovery.problem,
        )

    def _stale_files(self) -> Iterator[str]:
        """Say which files have become unusable, so that what was read before is still in use."""
        keys = [("api", self.config.api.api_key)]
        keys += [(environment.name, environment.environment_key) for environment in self.config.environments]
        for owner, key in keys:
            if key is not None and key.problem is not None:
                yield f"{owner}: {key.problem}; the last good key is used"
        if self._connect_options.problem is not None:
            yield self._connect_options.problem
        yield from self._settings.web_config.problems

    def _new_transport(self) -> HttpxTransport:
        return HttpxTransport(self._connect_options.options)

    async def _close(self) -> None:
        for reader in self.roster.readers:
            await reader.aclose()
        await self._directory.aclose()


def _directory(config: Config) -> object:
    """Tell whose environments discovery lists."""
    return config.api.base_url, config.api.workspace_id, repr(config.api.api_key)


def _process_registry() -> CollectorRegistry:
    # With auto_describe the library's collectors, too, can be asked for by name[]; that costs one collect() of each here.
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
