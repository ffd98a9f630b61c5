"""Discovery: which environments the lists of the workspaces hold, asked every interval and never more often.

Each workspace is listed by itself: one that fails or hangs keeps what it said last, and the others go on. The
tokens of many lists at once, or of a long one, would be missing for the environments' reads. So the pages of all lists have
their turns one after the other: they take half of the budget at most, a few of them ahead. And lists are begun
evenly over the interval, except those of new workspaces.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from exporter.api.admission import CallRequest, Health, Throttled
from exporter.api.budget import MINUTE_S, Priority
from exporter.api.client import ApiError
from exporter.config.model import DISCOVERY_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from anyio.abc import TaskGroup

    from exporter.api.client import ApiContext, EnvironmentsApi, Reason
    from exporter.api.wire import RemoteEnvironment
    from exporter.config.model import Config

NEVER = float("-inf")
PAGES_LIMIT = 1000
PAGE_LIMIT_S = 120.0
"""No scrape's deadline ends these calls, and `api.timeout` may set no limit."""
THROTTLED_RETRY_S = 5.0
PAGE_AHEAD_S = 20.0
"""How long before its slot a page may be read: so that a few of them are at once."""
PAGES_SHARE = 0.5
"""How much of the budget the pages may take."""
CLOSE_S = 3.0


@dataclass(slots=True)
class EnvironmentWalk:
    """The pages of a workspace's list that have been read. `finish` goes on from there when it is called again."""

    environment_by_id: dict[str, RemoteEnvironment] = field(default_factory=dict)
    cursor: str | None = None
    cursors: set[str] = field(default_factory=set)

    async def finish(
        self,
        api: EnvironmentsApi,
        health: Health = Health.HEALTHY,
        wait_for_slot: Callable[[], Awaitable[None]] = checkpoint,
    ) -> None:
        """Read the pages that are left, each in its slot. Raises ApiError, Throttled."""
        request = CallRequest(priority=Priority.STATS, health=health)
        while len(self.cursors) < PAGES_LIMIT:
            await wait_for_slot()
            try:
                with anyio.fail_after(PAGE_LIMIT_S):
                    reading = await api.page(self.cursor, DISCOVERY_PAGE_SIZE, request)
            except TimeoutError:
                raise ApiError("timeout", "no answer in time") from None
            self.environment_by_id |= {each.id: each for each in reading.value.environments}
            cursor = reading.value.next_cursor
            if cursor is None:
                return
            if cursor in self.cursors:
                break
            self.cursor = cursor
            self.cursors.add(cursor)
        raise ApiError("bad_payload", "the pages of environments do not end")


class WorkspaceListing:
    """Reads one workspace's list of environments. `found` is the last complete answer, None until there was one.

    When that was: `succeeded_at` on the exporter's wall clock, `found_at` on the monotonic one, on which `tried_at` is when a try
    ended last. `problem` says why that one failed, None if it did not; `failures` counts those that did. `throttled`: the budget has
    interrupted the try that is under way.
    """

    def __init__(self, api: EnvironmentsApi, context: ApiContext) -> None:
        self.workspace_id = api.workspace_id
        self.found: tuple[RemoteEnvironment, ...] | None = None
        self.succeeded_at: float | None = None
        self.found_at = self.tried_at = NEVER
        self.problem: str | None = None
        self.throttled = False
        self.failures: Counter[Reason] = Counter()
        self._api = api
        self._context = context
        self._walk = EnvironmentWalk()

    async def refresh(self, wait_for_slot: Callable[[], Awaitable[None]] = checkpoint) -> bool:
        """Read all pages, each in its slot. A failure keeps what was found before. Return False where the budget did not allow it."""
        failed: ApiError | None = None
        try:
            await self._walk.finish(self._api, self._health, wait_for_slot)
        except Throttled:
            self.throttled = True
            return False
        except ApiError as error:
            failed = error
        self.throttled = False
        self.tried_at = self._context.clock.monotonic()
        if failed is None:
            self._keep(self._walk.environment_by_id.values())
        else:
            self.failures[failed.reason] += 1
            self._context.observer.read_failed("environments", failed.reason)
        self._note(failed)
        self._walk = EnvironmentWalk()
        return True

    @property
    def _health(self) -> Health:
        """How it has answered so far. Those that hang must leave slots for the environments, as environments that hang do."""
        if self._api.timed_out:
            return Health.TIMING_OUT
        return Health.UNKNOWN if self.tried_at == NEVER else Health.HEALTHY

    async def aclose(self) -> None:
        await self._api.aclose()

    def _keep(self, found: Iterable[RemoteEnvironment]) -> None:
        self.found = tuple(each for each in found if each.self_hosted and not each.archived)
        self.found_at, self.succeeded_at = self.tried_at, self._context.clock.wall()

    def _note(self, failed: ApiError | None) -> None:
        """Keep the problem, and log when it begins, changes or ends; not at every try."""
        problem = None if failed is None else str(failed)
        if problem == self.problem:
            return
        self.problem = problem
        workspace = {"workspace_id": self.workspace_id} if self.workspace_id else {}
        if failed is None:
            self._context.log.info("discovery_recovered", **workspace)
        else:
            self._context.log.warning("discovery_failed", **workspace, reason=failed.reason, detail=problem)


class Discovery:
    """Lists every workspace of the configuration when it is due, and calls `apply` with each new answer."""

    def __init__(
        self, context: ApiContext, new_api: Callable[[str], EnvironmentsApi], apply: Callable[[], Awaitable[None]]
    ) -> None:
        self._context = context
        self._new_api = new_api
        self._apply = apply
        self._tasks: TaskGroup | None = None
        self._listing_by_workspace: dict[str, WorkspaceListing] = {}
        self._scope_by_workspace: dict[str, anyio.CancelScope] = {}
        self._organisation = _organisation(context.config())
        self._next_page_at = self._next_again_at = NEVER
        self._changed = anyio.Event()
        self._follow_configuration()

    @property
    def listings(self) -> tuple[WorkspaceListing, ...]:
        return tuple(self._listing_by_workspace.values())

    @property
    def environments(self) -> tuple[RemoteEnvironment, ...]:
        """What has been found. An environment that several lists hold is in the first workspace of the configuration."""
        found = (each for listing in reversed(self.listings) for each in listing.found or ())
        return tuple({each.id: each for each in found}.values())

    @property
    def unlisted(self) -> tuple[str, ...]:
        """The workspaces of which no complete list has been read yet: until there is none, `environments` is a part."""
        return tuple(listing.workspace_id for listing in self.listings if listing.found is None)

    @property
    def due_in_s(self) -> float:
        """Return when the next workspace is listed."""
        return min(map(self._due_in_s, self.listings), default=float("inf"))

    async def wait_for_answer(self, timeout_s: float) -> None:
        """Wait, `timeout_s` at most, until the first try to list each workspace has ended."""
        if self._is_answered():  # as at almost every scrape: a scope costs more than to look
            return
        with anyio.move_on_after(timeout_s):
            while not self._is_answered():
                await self._changed.wait()

    def _is_answered(self) -> bool:
        return all(listing.tried_at != NEVER for listing in self.listings)

    def reconfigure(self) -> None:
        """Follow a changed configuration at once: what was found before it is shown only where a new process would ask the same."""
        organisation = _organisation(self._context.config())
        if organisation != self._organisation:
            self._organisation = organisation
            self._drop(self.listings)
        self._follow_configuration()
        self._wake()

    async def run(self) -> None:
        async with anyio.create_task_group() as self._tasks:
            for listing in self.listings:
                self._start(listing)
            await anyio.sleep_forever()

    def _follow_configuration(self) -> None:
        workspaces = self._context.config().discovered_workspaces
        self._drop(listing for listing in self.listings if listing.workspace_id not in workspaces)
        known = self._listing_by_workspace
        new = {each: WorkspaceListing(self._new_api(each), self._context) for each in workspaces if each not in known}
        self._listing_by_workspace = {each: known.get(each) or new[each] for each in workspaces}
        for listing in new.values():
            self._start(listing)

    def _start(self, listing: WorkspaceListing) -> None:
        if self._tasks is not None:
            scope = self._scope_by_workspace[listing.workspace_id] = anyio.CancelScope()
            self._tasks.start_soon(self._keep_listing, listing, scope)

    def _drop(self, listings: Iterable[WorkspaceListing]) -> None:
        for listing in tuple(listings):
            del self._listing_by_workspace[listing.workspace_id]
            scope = self._scope_by_workspace.pop(listing.workspace_id, None)
            if scope is not None:
                scope.cancel()

    async def _keep_listing(self, listing: WorkspaceListing, scope: anyio.CancelScope) -> None:
        """List a workspace for as long as it is in the configuration."""
        try:
            with scope:
                while True:
                    wait_s = await self._refresh_if_due(listing)
                    with anyio.move_on_after(wait_s):
                        await self._changed.wait()
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await listing.aclose()

    async def _refresh_if_due(self, listing: WorkspaceListing) -> float:
        """Return in how many seconds to look again."""
        due_in_s = self._due_in_s(listing)
        if due_in_s > 0:
            return due_in_s
        if listing.tried_at != NEVER and not listing.throttled:
            interval_s = self._context.config().discovery.interval_s
            self._next_again_at = self._context.clock.monotonic() + interval_s / len(self.listings)
        if not await listing.refresh(self._wait_for_page_slot):
            return THROTTLED_RETRY_S
        with anyio.CancelScope(
            shield=True
        ):  # a reload that drops this workspace cuts its calls, not what closes others
            await self._apply()
        self._wake()
        return self._due_in_s(listing)

    def _wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def _due_in_s(self, listing: WorkspaceListing) -> float:
        if listing.throttled:
            return 0.0
        if listing.tried_at == NEVER:
            return self._page_due_in_s()
        now = self._context.clock.monotonic()
        return max(0.0, listing.tried_at + self._context.config().discovery.interval_s - now, self._next_again_at - now)

    def _page_due_in_s(self) -> float:
        return max(0.0, self._next_page_at - PAGE_AHEAD_S - self._context.clock.monotonic())

    async def _wait_for_page_slot(self) -> None:
        """Wait for the slot of a page, and let the pages of all lists wait until its token is there again."""
        while (wait_s := self._page_due_in_s()) > 0:
            with anyio.move_on_after(wait_s):
                await self._changed.wait()
        now, per_minute = self._context.clock.monotonic(), self._context.config().api.requests_per_minute
        self._next_page_at = max(self._next_page_at, now) + MINUTE_S / per_minute / PAGES_SHARE


def _organisation(config: Config) -> object:
    """Return what decides whose workspaces are listed."""
    return config.api.base_url, repr(config.api.api_key)
