"""Composition root: builds the parts, owns the tasks and the signals. No logic of its own."""

from __future__ import annotations

import gc
import random
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from prometheus_client import disable_created_metrics

from exporter.api.admission import Admission
from exporter.api.budget import Budget
from exporter.api.client import ApiContext, EnvironmentsApi
from exporter.api.httpx_transport import HttpxTransport
from exporter.api.tls_reload import ConnectOptionsSource
from exporter.check.online import check_online
from exporter.config.reload import ReloadingConfig
from exporter.environments.discovery import Discovery
from exporter.environments.roster import Roster
from exporter.environments.scraper import Scraper
from exporter.metrics.telemetry import BudgetCollector, DiscoveryCollector, Telemetry, process_registry
from exporter.process import signals
from exporter.web.basic_auth import BasicAuthMiddleware, PasswordVerifier
from exporter.web.http_server import serve
from exporter.web.routes import Parts, Routes, WebSettings
from exporter.web.status import StatusSource

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from exporter.check.report import Report
    from exporter.clock import Clock
    from exporter.config.model import Config
    from exporter.environments.snapshot import Snapshot
    from exporter.log import Log
    from exporter.web.web_config_reload import ReloadingWebConfig

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
        self._log, clock = settings.log, settings.clock
        self.registry = process_registry()
        telemetry = Telemetry(self.registry)
        self._config = ReloadingConfig(settings.load, observer=telemetry, clock=clock, log=self._log)
        self.budget = Budget(
            per_minute=self.config.api.requests_per_minute,
            min_interval_s=self.config.scrape.min_interval_s,
            now=clock.monotonic(),
            jitter=random.SystemRandom().random,
        )
        self.registry.register(BudgetCollector(self.budget, clock))
        self.admission = Admission(self.budget, concurrency=self.config.api.concurrency, monotonic=clock.monotonic)
        self._context = ApiContext(
            config=lambda: self.config, admission=self.admission, observer=telemetry, clock=clock, log=self._log
        )
        self._connect_options = ConnectOptionsSource(lambda: self.config, self._log)
        self.roster = Roster(self._context, self._new_transport)
        self.discovery = Discovery(self._context, self._new_environments_api, self._apply)
        self.registry.register(DiscoveryCollector(lambda: self.discovery.listings))
        self._base_url = self.config.api.base_url
        self._started_at = clock.monotonic()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config.current

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scraper]:
        """Start the tasks that serve scrapes; end them all with the block."""
        await self._apply()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.discovery.run)
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

    async def read_once(self, target: str | None = None) -> tuple[Snapshot, ...]:
        """Read every environment once, or the one with that id or name, within the configured timeout."""
        async with self.running() as scraper:
            timeout_s = self.config.scrape.timeout_s
            await self.discovery.wait_for_answer(timeout_s)
            one = None if target is None else self.roster.find(target)
            readers = self.roster.readers if target is None else (one,) if one else ()
            return await scraper.scrape(readers, timeout_s=timeout_s)

    async def check_online(self) -> Report:
        """Try every credential on every call, for a first set-up."""
        return await check_online(self._context, self._new_transport)

    async def reload(self) -> tuple[str, ...]:
        """Put the configuration in force as it is now, whole or not at all. Return its problems."""
        return await self._config.reload(self._activate)

    async def _activate(self) -> int:
        config, now = self.config, self._settings.clock.monotonic()
        self.budget.configure(
            per_minute=config.api.requests_per_minute, min_interval_s=config.scrape.min_interval_s, now=now
        )
        if config.api.base_url != self._base_url:
            self._base_url = config.api.base_url
            self.budget.forget_server(now=now)
        self.admission.configure(concurrency=config.api.concurrency)
        self.discovery.reconfigure()
        await self._apply()
        return len(self.roster.readers)

    async def _apply(self) -> None:
        for reader in self.roster.apply(self.config, self.discovery.environments):
            await reader.aclose()

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
        status = StatusSource(
            telemetry_path=self._settings.web.telemetry_path,
            started_at=self._started_at,
            clock=self._settings.clock,
            config=self._config,
            budget=self.budget,
            discovery=self.discovery,
            connect_options=self._connect_options,
            web_config=self._settings.web_config,
        )
        return Parts(
            web=self._settings.web,
            config=lambda: self.config,
            clock=self._settings.clock,
            roster=self.roster,
            scraper=scraper,
            registry=self.registry,
            settle=self.discovery.wait_for_answer,
            unlisted=lambda: self.discovery.unlisted,
            reload=self.reload,
            status=status.status,
        )

    def _new_transport(self) -> HttpxTransport:
        return HttpxTransport(self._connect_options.options)

    def _new_environments_api(self, workspace_id: str) -> EnvironmentsApi:
        return EnvironmentsApi(self._context, self._new_transport(), workspace_id=workspace_id)

    async def _close(self) -> None:
        for reader in self.roster.readers:
            await reader.aclose()
