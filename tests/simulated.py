"""The simulated Work API, served from a thread of its own while a test runs."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from exporter.simulator import Options, World, serving
from tests.ample import AMPLE_S
from tests.simulator.faults import Faults, FaultySimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.simulator.options import Calls

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A served simulator. Touch `world`, `options` and `faults` through `call`, or while no request is under way."""

    base_url: str
    app: FaultySimulator
    loop: asyncio.AbstractEventLoop

    @property
    def world(self) -> World:
        return self.app.world

    @property
    def options(self) -> Options:
        return self.app.options

    @property
    def faults(self) -> Faults:
        return self.app.faults

    @property
    def calls(self) -> Calls:
        return self.app.calls

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function between two requests and answer what it answers."""

        async def run() -> T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result()


class _Thread(threading.Thread):
    def __init__(self, app: FaultySimulator, port: int) -> None:
        super().__init__(daemon=True, name="simulator")
        self.app = app
        self.port = port
        self.ready = threading.Event()
        self.running: Running | None = None
        self.error: BaseException | None = None
        self.over: asyncio.Event | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - the thread's boundary; raised again where the test waits
            self.error = error
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        self.over = asyncio.Event()
        async with serving(self.app, port=self.port) as base_url:
            self.running = Running(base_url, self.app, asyncio.get_running_loop())
            self.ready.set()
            await self.over.wait()

    def end(self) -> None:
        if self.running is not None and self.over is not None:
            self.running.loop.call_soon_threadsafe(self.over.set)
        self.join(AMPLE_S)


@contextmanager
def running(
    world: World | None = None, options: Options | None = None, faults: Faults | None = None, *, port: int = 0
) -> Iterator[Running]:
    """Serve the world on a loopback port, 0 for a free one, while the block runs."""
    thread = _Thread(FaultySimulator(world or World(time.time), options, faults), port)
    thread.start()
    try:
        if not thread.ready.wait(AMPLE_S) or thread.running is None:
            raise RuntimeError("the simulator did not start") from thread.error
        yield thread.running
    finally:
        thread.end()
    if thread.error is not None:
        raise thread.error
