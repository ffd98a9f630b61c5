"""Discovery: which environments the organisation's list of them holds, asked every interval and never more often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from exporter.api.admission import CallRequest, Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError
from exporter.config.model import DISCOVERY_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.api.client import ApiContext, EnvironmentsApi, Observer
    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import Config
    from exporter.log import Log

NEVER = float("-inf")
PAGES_LIMIT = 1000
THROTTLED_RETRY_S = 5.0


@dataclass(slots=True)
class EnvironmentWalk:
    """The pages of the list of environments that have been read. `finish` goes on from there when it is called again."""

    environment_by_id: dict[str, RemoteEnvironment] = field(default_factory=dict)
    cursor: str | None = None
    cursors: set[str] = field(default_factory=set)

    async def finish(self, api: EnvironmentsApi) -> None:
        """Read the pages that are left. Raises ApiError, Throttled."""
        while len(self.cursors) < PAGES_LIMIT:
            reading = await api.page(self.cursor, DISCOVERY_PAGE_SIZE, CallRequest(priority=Priority.STATS))
            self.environment_by_id |= {each.id: each for each in reading.value.environments}
            cursor = reading.value.next_cursor
            if cursor is None:
                return
            if cursor in self.cursors:
                break
            self.cursor = cursor
            self.cursors.add(cursor)
        raise ApiError("bad_payload", "the pages of environments do not end")


class Discovery:
    """Reads the list of environments. `found` is the last complete answer, None until there was one."""

    def __init__(self, api: EnvironmentsApi, *, observer: Observer, log: Log) -> None:
        self._api = api
        self._observer = observer
        self._log = log
        self.found: tuple[RemoteEnvironment, ...] | None = None
        self.problem: str | None = None
        self._walk = EnvironmentWalk()

    def forget(self) -> None:
        """Drop what was found: from now on another list is read."""
        self.found, self._walk = None, EnvironmentWalk()

    async def refresh(self) -> bool:
        """Read all pages. A failure keeps what was found before. Return False where the budget did not allow it."""
        walk = self._walk
        try:
            await walk.finish(self._api)
        except Throttled:
            return False
        except ApiError as failed:
            self._observer.read_failed("environments", failed.reason)
            self._log_change(str(failed), failed.reason)
        else:
            if walk is self._walk:
                found = walk.environment_by_id.values()
                self.found = tuple(each for each in found if each.self_hosted and not each.archived)
            self._log_change(None, None)
        if walk is self._walk:
            self._walk = EnvironmentWalk()
        return True

    def _log_change(self, problem: str | None, reason: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            self._log.info("discovery_recovered")
        else:
            self._log.warning("discovery_failed", reason=reason, detail=problem)


class DiscoveryLoop:
    """Refreshes the discovery when it is due, and calls `apply` with each new answer."""

    def __init__(self, discovery: Discovery, context: ApiContext, apply: Callable[[], Awaitable[None]]) -> None:
        self.discovery = discovery
        self._config = context.config
        self._monotonic = context.clock.monotonic
        self._apply = apply
        self._refreshed_at = NEVER
        self._asked_for = _asked_for(context.config())
        self._answered = anyio.Event()
        self._reconfigured = anyio.Event()

    @property
    def environments(self) -> tuple[RemoteEnvironment, ...]:
        """What has been found, as far as it is asked for."""
        return (self.discovery.found or ()) if self._config().discovery.enabled else ()

    @property
    def is_complete(self) -> bool:
        """Whether it is known which environments exist."""
        return not self._config().discovery.enabled or self.discovery.found is not None

    @property
    def due_in_s(self) -> float:
        return max(0.0, self._refreshed_at + self._config().discovery.interval_s - self._monotonic())

    async def wait_for_answer(self, timeout_s: float) -> None:
        """Wait, `timeout_s` at most, until the first attempt to list the environments has ended."""
        with anyio.move_on_after(timeout_s):
            await self._answered.wait()

    def reconfigure(self) -> None:
        """Follow a changed configuration at once: what was found before it is shown only where a new process would ask the same."""
        asked_for = _asked_for(self._config())
        if asked_for != self._asked_for:
            self._asked_for = asked_for
            self.discovery.forget()
            self._refreshed_at = NEVER
        self._reconfigured.set()
        self._reconfigured = anyio.Event()

    async def run(self) -> None:
        while True:
            wait_s = await self._refresh_if_due()
            with anyio.move_on_after(wait_s):
                await self._reconfigured.wait()

    async def _refresh_if_due(self) -> float:
        """Return in how many seconds to look again."""
        if not self._config().discovery.enabled:
            self._answered.set()
            return float("inf")
        if self.due_in_s > 0:
            return self.due_in_s
        asked_for = self._asked_for
        if not await self.discovery.refresh():
            return THROTTLED_RETRY_S
        if asked_for != self._asked_for:
            return 0.0
        self._refreshed_at = self._monotonic()
        await self._apply()
        self._answered.set()
        return self.due_in_s


def _asked_for(config: Config) -> object:
    """Return what decides whether environments are listed, and whose."""
    return config.discovery.enabled, config.api.base_url, config.api.workspace_id, repr(config.api.api_key)
