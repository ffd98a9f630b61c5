"""An event loop in which waiting takes no time: no limit in seconds is ever missed because the machine is busy.

The loop's clock stands still while there is anything to do. When there is nothing, it jumps to the next timer:

    a task sleeps 30 s, another one 5 s  →  the clock reads 5, the second goes on  →  it reads 30, the first goes on

Sockets work as ever, as long as both ends are in this loop: what another thread or process does takes real time.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DELIVERY_S = 0.05
"""Real time for the kernel to hand over what one end has sent to the other; it needs less than a millisecond."""


class _JumpingSelector(selectors.DefaultSelector):
    """Waits in simulated time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        # One descriptor is the loop's own, by which threads wake it.
        in_real_time_s = DELIVERY_S if self.threads or len(self.get_map()) > 1 else 0
        ready = super().select(min(timeout, in_real_time_s))
        if not ready and not self.threads:
            self.now += timeout
        return ready


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Keep the clock from jumping while the thread works: it resolves names, for one."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._end_of_thread)
        return future

    async def shutdown_default_executor(self, *_: object) -> None:
        """Without the limit that Python 3.12 and later set: the clock would jump to it."""
        await super().shutdown_default_executor()

    def _end_of_thread(self, _: object) -> None:
        self._jumping.threads -= 1


SIMULATED_TIME = ("asyncio", {"loop_factory": SimulatedTimeLoop})
"""What a file's own fixture `anyio_backend` returns when its tests run in simulated time."""
