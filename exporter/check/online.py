"""Checks every environment once, with each credential by itself. It spends from the budget, and waits for it: nobody scrapes.

An environment costs one call per credential for each of `stats` and `list`, and a few more to count its items; one that can't be
reached costs one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from exporter.api.admission import CallRequest, Throttled
from exporter.api.budget import Priority
from exporter.api.client import ApiError, EnvironmentsApi, WorkApi, WorkspaceMissing
from exporter.check.report import EnvironmentList, EnvironmentReport, ItemCount, Report, Trial
from exporter.environments.discovery import EnvironmentWalk
from exporter.environments.list_read import wants_smaller_pages
from exporter.environments.naming import name_environments
from exporter.listing.ledger import SMALL_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from exporter.api.client import ApiContext, CredentialName, Reading, Reason, Source
    from exporter.api.transport import Transport
    from exporter.api.wire import RemoteEnvironment, WorkPage
    from exporter.check.report import Kind
    from exporter.config.model import Config
    from exporter.config.secret import SecretSource
    from exporter.environments.snapshot import Environment

T = TypeVar("T")
AT_ONCE: Final = 8
LIMIT_S: Final = 120.0
"""How long one environment may wait for the budget."""
THROTTLED_RETRY_S: Final = 0.25
FURTHER_PAGES: Final = 4
HOPELESS: Final[frozenset[Reason]] = frozenset({"connect", "timeout", "tls", "rate_limited", "server", "protocol"})
"""Another credential, or another call, would meet the same."""


async def check_online(context: ApiContext, new_transport: Callable[[], Transport]) -> Report:
    """Check every workspace's list and every environment of the configuration; of discovery too, where that is on."""
    config = context.config()
    check = _OnlineCheck(context, new_transport)
    lists, found = await check.environment_lists()
    discovered = [each for each in found if each.workspace_id in config.discovered_workspaces]
    environments = name_environments(config, (each for each in discovered if each.self_hosted and not each.archived))
    reports = await check.all_environments(environments, {each.id: each.self_hosted for each in found})
    if _api_key_serves(lists, reports):
        reports = [replace(each, api_key_serves=True) for each in reports]
    ahead = check.timer.server_ahead_s
    return Report(
        environment_lists=lists,
        environments=reports,
        server_ahead_s=max(ahead, key=abs) if ahead else None,
    )


class _CallTimer:
    """Measures how long calls take: the client's observer of a single check."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.server_ahead_s: list[float] = []

    def request_sent(self, source: Source, code: str, duration_s: float) -> None:  # noqa: ARG002 -- the observer's signature
        self.latency_s = duration_s

    def request_throttled(self, source: Source) -> None: ...
    def read_failed(self, source: Source, reason: Reason) -> None: ...
    def schema_drifted(self, fields: Sequence[str]) -> None: ...
    def clock_compared(self, offset_s: float) -> None: ...


class _OnlineCheck:
    def __init__(self, context: ApiContext, new_transport: Callable[[], Transport]) -> None:
        self._context = context
        self._new_transport = new_transport
        self.timer = _CallTimer()

    async def environment_lists(self) -> tuple[list[EnvironmentList], tuple[RemoteEnvironment, ...]]:
        """List the workspaces that discovery or an environment of the file names, one after the other."""
        config = self._context.config()
        if config.api.api_key is None:
            return [], ()
        workspaces = dict.fromkeys((*config.discovered_workspaces, *map(config.workspace_of, config.environments)))
        if len(workspaces) > 1:
            workspaces.pop("", None)  # an environment without a workspace may be in one of the others
        lists: list[EnvironmentList] = []
        found_by_id: dict[str, RemoteEnvironment] = {}
        for workspace_id in workspaces:
            environment_list, found = await self._environment_list(workspace_id)
            lists.append(environment_list)
            found_by_id = {each.id: each for each in found} | found_by_id
        return lists, tuple(found_by_id.values())

    async def _environment_list(self, workspace_id: str) -> tuple[EnvironmentList, tuple[RemoteEnvironment, ...]]:
        timer = _CallTimer()
        context = replace(self._context, observer=timer)
        api = EnvironmentsApi(context, self._new_transport(), workspace_id=workspace_id)
        walk = EnvironmentWalk()
        failed: ApiError | None = None
        try:
            await _paced(partial(walk.finish, api))
        except ApiError as error:
            failed = error
        finally:
            await api.aclose()
        found = tuple(walk.environment_by_id.values())
        self_hosted = sum(each.self_hosted for each in found)
        environment_list = EnvironmentList(
            workspace_id=workspace_id,
            trial=_trial("environments", "api_key", timer, failed),
            needed=workspace_id in self._context.config().discovered_workspaces,
            self_hosted=self_hosted,
            others=len(found) - self_hosted,
        )
        return environment_list, found

    async def all_environments(
        self, environments: Sequence[Environment], self_hosted_by_id: Mapping[str, bool]
    ) -> list[EnvironmentReport]:
        report_by_id: dict[str, EnvironmentReport] = {}
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def check_one(environment: Environment) -> None:
            async with limiter:
                check = _EnvironmentCheck(environment, self._context, self._new_transport, self.timer)
                report_by_id[environment.id] = await check.run(self_hosted=self_hosted_by_id.get(environment.id))

        async with anyio.create_task_group() as tasks:
            for environment in environments:
                tasks.start_soon(check_one, environment)
        return [report_by_id[environment.id] for environment in environments]


class _EnvironmentCheck:
    """The check of one environment."""

    def __init__(
        self,
        environment: Environment,
        context: ApiContext,
        new_transport: Callable[[], Transport],
        clock_timer: _CallTimer,
    ) -> None:
        self._environment = environment
        self._clock_timer = clock_timer
        self._clock = context.clock
        self._config = context.config()
        self._timer = _CallTimer()
        self._api_by_credential = {
            name: WorkApi(
                environment.id,
                replace(context, config=partial(_same, config), observer=self._timer),
                new_transport(),
                environment_key=key,
                workspace_id=environment.workspace_id,
            )
            for name, config, key in _each_credential_alone(self._config, environment.id)
        }
        self._trials: list[Trial] = []
        self._blank = False
        self._items: ItemCount | None = None

    async def run(self, *, self_hosted: bool | None) -> EnvironmentReport:
        with anyio.move_on_after(LIMIT_S) as within:
            try:
                await self._try_everything()
            finally:
                with anyio.CancelScope(shield=True):
                    for api in self._api_by_credential.values():
                        await api.aclose()
        return EnvironmentReport(
            environment=self._environment,
            kind=self._kind(self_hosted=self_hosted),
            trials=tuple(self._trials),
            listing_enabled=self._config.listing.enabled,
            items=self._items,
            finished=not within.cancelled_caught,
        )

    def _kind(self, *, self_hosted: bool | None) -> Kind:
        """Return the type; where the list of environments does not say it, a cloud environment has blank stats and no list."""
        listed = [trial.reason for trial in self._trials if trial.source == "list"]
        if self_hosted is not None:
            return "self-hosted" if self_hosted else "cloud"
        if None in listed:
            return "self-hosted"
        return "cloud" if self._blank and "not_found" in listed else "unknown"

    async def _try_everything(self) -> None:
        for name, api in self._api_by_credential.items():
            stats = await self._try("stats", name, partial(api.stats, CallRequest(priority=Priority.STATS)))
            if stats is not None:
                self._blank = stats.value.is_blank
            if self._trials[-1].reason in HOPELESS:
                return
        if not self._config.listing.enabled:
            return
        for name, api in reversed(self._api_by_credential.items()):
            await self._try_list(name, api)
            if self._trials[-1].reason in HOPELESS:
                return

    async def _try_list(self, name: CredentialName, api: WorkApi) -> None:
        page_size = self._config.listing.page_size
        page = await self._try("list", name, partial(_page, api, None, page_size))
        failed = self._trials[-1]
        if wants_smaller_pages(failed.reason, failed.status) and page_size > SMALL_PAGE_SIZE:
            self._trials.pop()
            page_size = SMALL_PAGE_SIZE
            page = await self._try("list", name, partial(_page, api, None, page_size))
        if page is not None and self._items is None:
            self._items = await _count_items(api, page.value, page_size)

    async def _try(
        self, source: Source, name: CredentialName, call: Callable[[], Awaitable[Reading[T]]]
    ) -> Reading[T] | None:
        try:
            reading = await _paced(call)
        except ApiError as error:
            self._trials.append(_trial(source, name, self._timer, error))
            return None
        self._trials.append(_trial(source, name, self._timer, None))
        self._clock_timer.server_ahead_s.append(reading.server_ahead_s)
        return reading


def _each_credential_alone(
    config: Config, environment_id: str
) -> Iterable[tuple[CredentialName, Config, SecretSource | None]]:
    """Yield the configuration as if it had one credential only, for each of those that the environment has."""
    keys = {each.id: each.environment_key for each in config.environments}
    key = keys.get(environment_id)
    if config.api.api_key is not None:
        yield "api_key", config, None
    if key is not None:
        yield "environment_key", replace(config, api=replace(config.api, api_key=None)), key


def _api_key_serves(lists: Iterable[EnvironmentList], reports: Iterable[EnvironmentReport]) -> bool:
    """Return whether the API key was taken for any call: then it is no wrong key, wherever else it is refused."""
    trials = [trial for report in reports for trial in report.trials if trial.credential == "api_key"]
    trials += [environment_list.trial for environment_list in lists]
    return any(trial.reason is None for trial in trials)


def _same(config: Config) -> Config:
    return config


async def _page(api: WorkApi, cursor: str | None, page_size: int) -> Reading[WorkPage]:
    return await api.page(cursor, page_size, CallRequest(priority=Priority.STATS))


async def _count_items(api: WorkApi, page: WorkPage, page_size: int) -> ItemCount:
    """Count the items of the first page and a few further ones."""
    ids = {item.id for item in page.items}
    for _ in range(FURTHER_PAGES):
        if page.next_cursor is None:
            break
        try:
            page = (await _paced(partial(_page, api, page.next_cursor, page_size))).value
        except ApiError:
            break  # the first page has shown that listing works
        ids |= {item.id for item in page.items}
    return ItemCount(len(ids), complete=page.next_cursor is None)


async def _paced(call: Callable[[], Awaitable[T]]) -> T:
    """Make the call as soon as the budget allows it. Raises ApiError."""
    while True:
        try:
            return await call()
        except Throttled:
            await anyio.sleep(THROTTLED_RETRY_S)


def _trial(source: Source, name: CredentialName, timer: _CallTimer, error: ApiError | None) -> Trial:
    if error is None:
        return Trial(source, name, timer.latency_s)
    return Trial(source, name, timer.latency_s, error.reason, error.status, isinstance(error, WorkspaceMissing))
