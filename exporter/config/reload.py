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

    def __init__(self, load: Callable[[], Config], *, observer: LoadObserver, clock: Clock, log: Log) -> None:
        self._load = load
        self._observer = observer
        self._clock = clock
        self._log = log
        self._lock = anyio.Lock()
        self._requests = self._answered = 0
        self.problems: tuple[str, ...] = ()
        self._put_in_force(load())

    async def reload(self, activate: Callable[[], Awaitable[None]]) -> tuple[str, ...]:
        """Read the configuration again; if it can be used, put it in force and call `activate`. Return its problems.

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

    async def _reload(self, activate: Callable[[], Awaitable[None]]) -> tuple[str, ...]:
        try:
            config = await anyio.to_thread.run_sync(self._load)
        except ConfigError as refused:
            self._observer.config_refused()
            self._log.error("config_reload_refused", problems="; ".join(refused.problems))
            return refused.problems
        except Exception as defect:  # noqa: BLE001 -- a defect in reading a file must not end a running exporter
            self._observer.config_refused()
            self._log.error("config_reload_broke", exception=defect)
            return (f"a defect of the exporter ({type(defect).__name__}); its log says more",)
        self._put_in_force(config)
        await activate()
        return ()

    def _put_in_force(self, config: Config) -> None:
        self.current = config
        self.in_force_at = self._clock.monotonic()
        self._observer.config_loaded(at=self._clock.wall())
