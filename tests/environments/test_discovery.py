"""Every page of the list of environments is read, when it is due, and a failure loses nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import anyio
import pytest

from exporter.api.admission import CallRequest, Throttled
from exporter.api.client import ApiError, Reading
from exporter.api.wire import EnvironmentPage, RemoteEnvironment
from exporter.config.model import DISCOVERY_PAGE_SIZE, ApiConfig, Config, DiscoveryConfig
from exporter.environments.discovery import Discovery, DiscoveryLoop
from exporter.log import Log
from tests.api.api_context import RecordingObserver
from tests.environments.fake_api import Surroundings

pytestmark = pytest.mark.anyio


def remote(number: int | str, name: str = "", *, self_hosted: bool = True, archived: bool = False) -> RemoteEnvironment:
    return RemoteEnvironment(f"env_{number}", name, self_hosted, archived)


@dataclass
class EnvironmentList:
    """Answers with what is queued, the last for ever; remembers the cursors it was asked with."""

    outcomes: deque[EnvironmentPage | Exception]
    cursors: list[str | None] = field(default_factory=list)

    async def page(self, cursor: str | None, limit: int, turn: CallRequest) -> Reading[EnvironmentPage]:
        assert limit == DISCOVERY_PAGE_SIZE
        assert turn.environment_id is None
        self.cursors.append(cursor)
        outcome = self.outcomes.popleft() if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return Reading(outcome, 0.0, 0.0)


def page(*environments: RemoteEnvironment, cursor: str | None = None) -> EnvironmentPage:
    return EnvironmentPage(environments, cursor)


def discovery_of(*outcomes: EnvironmentPage | Exception) -> tuple[Discovery, EnvironmentList, RecordingObserver]:
    api, observer = EnvironmentList(deque(outcomes)), RecordingObserver()
    return Discovery(api, observer=observer, log=Log()), api, observer  # type: ignore[arg-type]  # EnvironmentsApi's face


def ids(discovery: Discovery) -> list[str] | None:
    return None if discovery.found is None else [each.id for each in discovery.found]


async def test_all_pages_are_read_and_only_live_self_hosted_environments_found() -> None:
    discovery, api, _ = discovery_of(
        page(remote(1), remote(2, self_hosted=False), cursor="a"),
        page(remote(3, archived=True), cursor="b"),
        page(remote(4)),
    )
    assert ids(discovery) is None
    assert await discovery.refresh()
    assert (ids(discovery), api.cursors, discovery.problem) == (["env_1", "env_4"], [None, "a", "b"], None)


async def test_an_environment_on_two_pages_is_found_once_as_it_was_last() -> None:
    discovery, _, _ = discovery_of(page(remote(1), cursor="a"), page(remote(1, archived=True), remote(2)))
    await discovery.refresh()
    assert ids(discovery) == ["env_2"]


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]])
async def test_cursors_that_go_round_end_the_read_as_a_bad_payload(cursors: list[str]) -> None:
    discovery, api, observer = discovery_of(*(page(remote(1), cursor=cursor) for cursor in cursors))
    assert await discovery.refresh()
    assert (ids(discovery), observer.failed) == (None, [("environments", "bad_payload")])
    assert len(api.cursors) == len(cursors)


async def test_a_failure_keeps_what_was_found_and_says_so_until_it_is_over() -> None:
    discovery, _, observer = discovery_of(page(remote(1)), ApiError("server", "the API answered 500"), page(remote(2)))
    await discovery.refresh()
    assert await discovery.refresh()
    assert (ids(discovery), discovery.problem) == (["env_1"], "the API answered 500")
    assert observer.failed == [("environments", "server")]
    await discovery.refresh()
    assert (ids(discovery), discovery.problem) == (["env_2"], None)


async def test_a_failure_in_the_middle_keeps_what_was_found_and_starts_over() -> None:
    discovery, api, _ = discovery_of(
        page(remote(1)), page(remote(2), cursor="a"), ApiError("timeout", "no answer"), page(remote(3))
    )
    for _ in range(2):
        await discovery.refresh()
    assert ids(discovery) == ["env_1"]
    await discovery.refresh()
    assert (ids(discovery), api.cursors) == (["env_3"], [None, None, "a", None])


async def test_a_budget_too_small_for_a_whole_walk_lets_it_go_on_where_it_was() -> None:
    discovery, api, observer = discovery_of(page(remote(1), cursor="a"), Throttled(), page(remote(2)))
    assert not await discovery.refresh()
    assert ids(discovery) is None
    assert await discovery.refresh()
    assert (ids(discovery), api.cursors) == (["env_1", "env_2"], [None, "a", "a"])
    assert observer.failed == []


async def test_a_forgotten_list_is_read_from_the_start() -> None:
    discovery, api, _ = discovery_of(page(remote(1), cursor="a"), Throttled(), page(remote(2)))
    await discovery.refresh()
    discovery.forget()
    await discovery.refresh()
    assert (ids(discovery), api.cursors) == (["env_2"], [None, "a", None])


async def test_an_organisation_without_environments_is_found_empty() -> None:
    discovery, _, _ = discovery_of(page())
    await discovery.refresh()
    assert discovery.found == ()


# ---- when it is due


@dataclass
class LoopRig:
    """A loop over a list of environments, on a clock that the test moves."""

    around: Surroundings
    applied: int = 0

    def __post_init__(self) -> None:
        discovery, self.api, _ = discovery_of(page(remote(1)))
        self.loop = DiscoveryLoop(discovery, self.around.context, self.apply)

    async def apply(self) -> None:
        self.applied += 1

    async def pass_time(self, seconds: float) -> None:
        """Move the clock and let the loop look again, as it does after a reload."""
        self.around.now += seconds
        self.loop.reconfigure()
        await anyio.wait_all_tasks_blocked()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_list_is_read_at_once_and_then_every_interval() -> None:
    rig = LoopRig(Surroundings(Config(discovery=DiscoveryConfig(enabled=True, interval_s=300))))
    assert (rig.loop.environments, rig.loop.is_complete) == ((), False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.loop.run)
        await rig.loop.wait_for_answer(30)
        assert [each.id for each in rig.loop.environments] == ["env_1"]
        assert (rig.loop.is_complete, rig.loop.due_in_s, rig.applied) == (True, 300, 1)
        await rig.pass_time(299)
        assert len(rig.api.cursors) == 1
        await rig.pass_time(1)
        assert len(rig.api.cursors) == 2
        tasks.cancel_scope.cancel()


async def test_another_organisation_is_listed_at_once() -> None:
    config = Config(discovery=DiscoveryConfig(enabled=True))
    rig = LoopRig(Surroundings(config))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.loop.run)
        await rig.loop.wait_for_answer(30)
        rig.around.config = replace(config, api=ApiConfig(workspace_id="wrkspc_1"))
        rig.loop.reconfigure()
        assert rig.loop.environments == ()
        await anyio.wait_all_tasks_blocked()
        assert len(rig.api.cursors) == 2
        tasks.cancel_scope.cancel()


async def test_what_was_found_is_forgotten_while_discovery_is_off() -> None:
    on = Config(discovery=DiscoveryConfig(enabled=True))
    rig = LoopRig(Surroundings(on))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.loop.run)
        await rig.loop.wait_for_answer(30)
        rig.api.outcomes.append(page(remote(2)))
        rig.around.config = Config()
        await rig.pass_time(1)
        rig.around.config = on
        rig.loop.reconfigure()
        assert (rig.loop.environments, rig.loop.is_complete) == ((), False)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(rig.api.cursors) == 2


async def test_an_environment_that_has_become_another_type_is_dropped_and_one_that_came_back_is_found() -> None:
    discovery, _, _ = discovery_of(
        page(remote(1)), page(remote(1, self_hosted=False)), page(remote(1, archived=True)), page(remote(1, "new name"))
    )
    found = []
    for _ in range(4):
        await discovery.refresh()
        found.append([each.name for each in discovery.found or ()])
    assert found == [[""], [], [], ["new name"]]


async def test_discovery_that_is_off_asks_nothing_and_keeps_nobody_waiting() -> None:
    rig = LoopRig(Surroundings(Config()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.loop.run)
        with anyio.fail_after(30):
            await rig.loop.wait_for_answer(float("inf"))
        assert (rig.loop.environments, rig.loop.is_complete, rig.api.cursors) == ((), True, [])
        tasks.cancel_scope.cancel()
