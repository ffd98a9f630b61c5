"""The configuration in force, and how another one takes its place: as a whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread

from exporter.config.model import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.clock import Clock
    from exporter.config.model import Config
    from exporter.log import Log


class LoadObserver(Protocol):
    def config_loaded(self, *, at: float) -> None: ...
    def config_refused(self) -> None: ...


class ReloadingConfig:
    """`load` reads the configuration, now and at each reload. Raises ConfigError when the first one can't be used.

    `current` is in force since `in_force_at` (monotonic); `problems` are those of the last reload.
    """

    current: Config

    def __init__(self, load: Callable[[], Config], *, observer: LoadObserver, clock: Clock, log: Log) -> None:
        self._load = load
        self._observer = observer
        self._clock = clock
        self._log = log
        self._lock = anyio.Lock()
        self._requests = self._answered = 0
        self.problems: tuple[str, ...] = ()
        self._put_in_force(load())

    async def reload(self, activate: Callable[[], Awaitable[int]]) -> tuple[str, ...]:
        """Read the configuration again; if it can be used, put it in force and call `activate`. Return its problems.

        `activate` makes the program follow `current`, and returns how many environments are exported. Where it fails, the
        configuration before is in force again, and `activate` is called for that one.
        Everybody who asks while a reload is under way shares the next one: the file may have changed since this one read it.
        """
        self._requests += 1
        request = self._requests
        async with self._lock:
            if request > self._answered:
                requests = self._requests
                self.problems = await self._reload(activate)
                self._answered = requests
            return self.problems

    async def _reload(self, activate: Callable[[], Awaitable[int]]) -> tuple[str, ...]:
        try:
            config = await anyio.to_thread.run_sync(self._load)
        except ConfigError as refused:
            self._observer.config_refused()
            self._log.error("config_reload_refused", problems="; ".join(refused.problems))
            return refused.problems
        except Exception as defect:  # noqa: BLE001 -- a defect in reading a file must not end a running exporter
            return self._broke(defect)
        before = self.current
        self.current = config
        try:
            environments = await activate()
        except Exception as defect:  # noqa: BLE001 -- nor a defect in following it
            self.current = before
            return self._broke(defect) + await self._restore(activate)
        self._put_in_force(config)
        self._log.info("config_reloaded", environments=environments)
        return ()

    async def _restore(self, activate: Callable[[], Awaitable[int]]) -> tuple[str, ...]:
        """Follow the configuration before again, as far as the one after it was followed. Return what went wrong."""
        try:
            await activate()
        except Exception as defect:  # noqa: BLE001 -- as above
            return (*self._broke(defect), "restart the exporter: it follows neither configuration in full")
        return ()

    def _broke(self, defect: Exception) -> tuple[str, ...]:
        self._observer.config_refused()
        self._log.error("config_reload_broke", exception=defect)
        return (f"a defect of the exporter ({type(defect).__name__}); its log says more",)

    def _put_in_force(self, config: Config) -> None:
        self.current = config
        self.in_force_at = self._clock.monotonic()
        self._observer.config_loaded(at=self._clock.wall())
