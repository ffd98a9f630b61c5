"""Every page of every workspace's list is read, when it is due; a failure loses nothing and concerns no other workspace."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import pytest

from exporter.api.admission import CallRequest, Health, Throttled
from exporter.api.client import ApiError, Reading
from exporter.api.wire import EnvironmentPage, RemoteEnvironment
from exporter.config.model import DISCOVERY_PAGE_SIZE, ApiConfig, Config, DiscoveryConfig
from exporter.environments.discovery import Discovery, WorkspaceListing
from tests.environments.fake_api import Surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


def remote(number: int | str, name: str = "", *, self_hosted: bool = True, archived: bool = False) -> RemoteEnvironment:
    return RemoteEnvironment(f"env_{number}", name, self_hosted, archived)


@dataclass
class EnvironmentList:
    """Answers with what is queued, the last for ever; remembers the cursors it was asked with. None: never answers."""

    outcomes: deque[EnvironmentPage | Exception | None]
    workspace_id: str = ""
    closed: bool = False
    timed_out: bool = False
    healths: list[Health] = field(default_factory=list)
    cursors: list[str | None] = field(default_factory=list)

    async def page(self, cursor: str | None, limit: int, turn: CallRequest) -> Reading[EnvironmentPage]:
        assert limit == DISCOVERY_PAGE_SIZE
        assert turn.environment_id is None
        self.cursors.append(cursor)
        self.healths.append(turn.health)
        outcome = self.outcomes.popleft() if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is None:
            try:
                await anyio.sleep_forever()
            finally:
                self.timed_out = True
        self.timed_out = False
        if isinstance(outcome, Exception):
            raise outcome
        return Reading(outcome, 0.0, 0.0)  # type: ignore[arg-type]  # a page by now

    async def aclose(self) -> None:
        self.closed = True


def page(*environments: RemoteEnvironment, cursor: str | None = None) -> EnvironmentPage:
    return EnvironmentPage(environments, cursor)


def listing_of(*outcomes: EnvironmentPage | Exception | None) -> tuple[WorkspaceListing, EnvironmentList, Surroundings]:
    api, around = EnvironmentList(deque(outcomes)), Surroundings()
    return WorkspaceListing(api, around.context), api, around  # type: ignore[arg-type]  # EnvironmentsApi's face


def ids(listing: WorkspaceListing) -> list[str] | None:
    return None if listing.found is None else [each.id for each in listing.found]


async def test_all_pages_are_read_and_only_live_self_hosted_environments_found() -> None:
    listing, api, _ = listing_of(
        page(remote(1), remote(2, self_hosted=False), cursor="a"),
        page(remote(3, archived=True), cursor="b"),
        page(remote(4)),
    )
    assert ids(listing) is None
    assert await listing.refresh()
    assert (ids(listing), api.cursors, listing.problem) == (["env_1", "env_4"], [None, "a", "b"], None)


async def test_an_environment_on_two_pages_is_found_once_as_it_was_last() -> None:
    listing, _, _ = listing_of(page(remote(1), cursor="a"), page(remote(1, archived=True), remote(2)))
    await listing.refresh()
    assert ids(listing) == ["env_2"]


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]])
async def test_cursors_that_go_round_end_the_read_as_a_bad_payload(cursors: list[str]) -> None:
    listing, api, around = listing_of(*(page(remote(1), cursor=cursor) for cursor in cursors))
    assert await listing.refresh()
    assert (ids(listing), around.failed) == (None, [("environments", "bad_payload")])
    assert len(api.cursors) == len(cursors)


async def test_a_failure_keeps_what_was_found_and_says_so_until_it_is_over() -> None:
    listing, _, around = listing_of(page(remote(1)), ApiError("server", "the API answered 500"), page(remote(2)))
    await listing.refresh()
    assert await listing.refresh()
    assert (ids(listing), listing.problem) == (["env_1"], "the API answered 500")
    assert around.failed == [("environments", "server")]
    await listing.refresh()
    assert (ids(listing), listing.problem) == (["env_2"], None)


async def test_a_failure_in_the_middle_keeps_what_was_found_and_starts_over() -> None:
    listing, api, _ = listing_of(
        page(remote(1)), page(remote(2), cursor="a"), ApiError("timeout", "no answer"), page(remote(3))
    )
    for _ in range(2):
        await listing.refresh()
    assert ids(listing) == ["env_1"]
    await listing.refresh()
    assert (ids(listing), api.cursors) == (["env_3"], [None, None, "a", None])


async def test_a_budget_too_small_for_a_whole_walk_lets_it_go_on_where_it_was() -> None:
    listing, api, around = listing_of(page(remote(1), cursor="a"), Throttled(), page(remote(2)))
    assert not await listing.refresh()
    assert ids(listing) is None
    assert await listing.refresh()
    assert (ids(listing), api.cursors) == (["env_1", "env_2"], [None, "a", "a"])
    assert around.failed == []


async def test_an_organisation_without_environments_is_found_empty() -> None:
    listing, _, _ = listing_of(page())
    await listing.refresh()
    assert listing.found == ()


async def test_an_environment_that_has_become_another_type_is_dropped_and_one_that_came_back_is_found() -> None:
    listing, _, _ = listing_of(
        page(remote(1)), page(remote(1, self_hosted=False)), page(remote(1, archived=True)), page(remote(1, "new name"))
    )
    found = []
    for _ in range(4):
        await listing.refresh()
        found.append([each.name for each in listing.found or ()])
    assert found == [[""], [], [], ["new name"]]


# ---- many workspaces, each when it is due


@dataclass
class Rig:
    """A discovery of scripted workspaces, on a clock that the test moves."""

    around: Surroundings
    outcomes_by_workspace: dict[str, list[EnvironmentPage | Exception | None]]
    applied: int = 0
    apis: list[EnvironmentList] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.discovery = Discovery(self.around.context, self.new_api, self.apply)  # type: ignore[arg-type]  # as above

    def new_api(self, workspace_id: str) -> EnvironmentList:
        self.apis.append(EnvironmentList(deque(self.outcomes_by_workspace[workspace_id]), workspace_id))
        return self.apis[-1]

    async def apply(self) -> None:
        self.applied += 1

    async def pass_time(self, seconds: float) -> None:
        """Move the clock and let everybody look again, as a reload does."""
        self.around.now += seconds
        await self.reload(self.around.config)

    async def pass_interval(self) -> None:
        """Let an interval pass in which each workspace has its turn."""
        await self.pass_time(self.around.config.discovery.interval_s)
        for _ in self.discovery.listings[1:]:
            await self.pass_time(self.around.config.discovery.interval_s / len(self.discovery.listings))

    async def reload(self, config: Config) -> None:
        self.around.config = config
        self.discovery.reconfigure()
        await anyio.wait_all_tasks_blocked()

    def calls(self) -> dict[str, int]:
        return {api.workspace_id: len(api.cursors) for api in self.apis}

    def ids(self) -> list[str]:
        return sorted(each.id for each in self.discovery.environments)

    def listing(self, workspace_id: str) -> WorkspaceListing:
        (found,) = (each for each in self.discovery.listings if each.workspace_id == workspace_id)
        return found


@asynccontextmanager
async def running(
    outcomes_by_workspace: dict[str, list[EnvironmentPage | Exception | None]], config: Config
) -> AsyncIterator[Rig]:
    rig = Rig(Surroundings(config), outcomes_by_workspace)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.discovery.run)
        await anyio.wait_all_tasks_blocked()
        yield rig
        tasks.cancel_scope.cancel()


def config_of(
    *workspaces: str,
    interval_s: float = 300,
    base_url: str = "https://a.example/v1",
    requests_per_minute: int = 60,
) -> Config:
    return Config(
        api=ApiConfig(base_url=base_url, requests_per_minute=requests_per_minute),
        discovery=DiscoveryConfig(enabled=True, interval_s=interval_s, workspaces=workspaces),
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_list_is_read_at_once_and_then_every_interval() -> None:
    async with running({"": [page(remote(1))]}, config_of()) as rig:
        assert (rig.ids(), rig.discovery.unlisted, rig.applied) == (["env_1"], (), 1)
        assert rig.discovery.due_in_s == 300
        await rig.pass_time(299)
        assert rig.calls() == {"": 1}
        await rig.pass_time(1)
        assert rig.calls() == {"": 2}


async def test_the_workspace_of_the_api_is_listed_where_discovery_names_none() -> None:
    config = replace(config_of(), api=ApiConfig(workspace_id="a"))
    async with running({"a": [page(remote(1))]}, config) as rig:
        assert rig.ids() == ["env_1"]
        await rig.reload(replace(config, api=ApiConfig(workspace_id="a", requests_per_minute=60)))
        assert rig.calls() == {"a": 1}


async def test_one_workspace_that_fails_keeps_its_last_list_and_the_others_go_on() -> None:
    failure = ApiError("auth", "the API answered 403")
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "a": [page(remote(1)), page()],
        "b": [page(remote(2)), failure, page(remote(2), remote(4))],
        "c": [page(remote(3)), page(remote(3), remote(5))],
    }
    async with running(scripts, config_of("a", "b", "c")) as rig:
        assert rig.ids() == ["env_1", "env_2", "env_3"]
        succeeded_at = rig.listing("b").succeeded_at
        await rig.pass_interval()
        assert rig.ids() == ["env_2", "env_3", "env_5"]  # env_1 has vanished from a workspace that answered
        failed = rig.listing("b")
        failed_at = failed.tried_at
        assert (failed.problem, failed.failures, failed.succeeded_at) == (str(failure), {"auth": 1}, succeeded_at)
        assert [rig.listing(each).problem for each in "ac"] == [None, None]
        assert rig.around.failed == [("environments", "auth")]
        await rig.pass_interval()
        assert rig.ids() == ["env_2", "env_3", "env_4", "env_5"]
        assert rig.listing("b").problem is None
        assert rig.listing("b").found_at == rig.listing("b").tried_at > failed_at


async def test_lists_have_their_turns_evenly_over_the_interval() -> None:
    names = [f"w{number}" for number in range(6)]
    async with running({name: [page()] for name in names}, config_of(*names, requests_per_minute=600)) as rig:
        assert set(rig.calls().values()) == {1}
        most, total = 0, 6
        for _ in range(60):
            await rig.pass_time(25)
            calls = sum(rig.calls().values())
            most, total = max(most, calls - total), calls
        assert most == 1
        assert 4 <= min(rig.calls().values()) <= max(rig.calls().values()) <= 6  # at once, and in 1,500 s every 300 s


async def test_the_first_lists_of_many_workspaces_leave_half_of_the_budget() -> None:
    names = [f"w{number}" for number in range(20)]
    async with running({name: [page()] for name in names}, config_of(*names, requests_per_minute=60)) as rig:
        at_once = sum(rig.calls().values())
        assert at_once == 11
        for second in range(1, 2 * (len(names) - at_once) + 1):
            await rig.pass_time(1)
            assert sum(rig.calls().values()) == at_once + second // 2
        assert rig.discovery.unlisted == ()


async def test_the_pages_of_a_long_list_leave_half_of_the_budget_in_its_first_turn_and_in_later_ones() -> None:
    pages = [page(remote(number), cursor=str(number)) for number in range(19)]
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "long": [*pages, page(), *pages, page()],
        "short": [page()],
    }
    async with running(scripts, config_of("long", "short", requests_per_minute=60)) as rig:
        calls = [rig.calls()]
        for _ in range(370):
            await rig.pass_time(1)
            calls.append(rig.calls())
        read = [sum(each.values()) for each in calls]
        assert (read[0], read[19], calls[20]) == (11, 20, {"long": 20, "short": 1})  # 11 at once, then one in 2 s
        assert calls[-1] == {"long": 40, "short": 1}
        assert max(later - earlier for earlier, later in zip(read, read[10:], strict=False)) <= 11 + 10 / 2


async def test_a_workspace_that_goes_while_its_page_waits_for_its_turn_takes_none() -> None:
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "long": [page(cursor=str(number)) for number in range(30)],
        "new": [page(remote(1))],
    }
    async with running(scripts, config_of("long", requests_per_minute=60)) as rig:
        assert rig.calls() == {"long": 11}
        await rig.reload(config_of("new", requests_per_minute=60))
        assert rig.calls() == {"long": 11, "new": 0}
        await rig.pass_time(2)
        assert (rig.calls(), rig.ids()) == ({"long": 11, "new": 1}, ["env_1"])


async def test_a_list_that_the_budget_interrupts_keeps_its_turn() -> None:
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "": [page(), page(remote(1), cursor="next"), Throttled(), page(remote(2))],
    }
    async with running(scripts, config_of()) as rig:
        await rig.pass_time(300)
        assert (rig.ids(), rig.discovery.due_in_s) == ([], 0)
        await rig.pass_time(1)
        assert rig.ids() == ["env_1", "env_2"]


async def test_a_workspace_that_hangs_keeps_nobody_from_being_listed() -> None:
    async with running({"a": [None], "b": [page(remote(2))]}, config_of("a", "b")) as rig:
        assert (rig.ids(), rig.discovery.unlisted) == (["env_2"], ("a",))
        await rig.pass_time(300)
        assert rig.calls() == {"a": 1, "b": 2}


async def test_a_workspace_that_hangs_is_given_up_and_marked_as_one_that_may_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.environments.discovery.PAGE_LIMIT_S", 0.01)
    listing, api, around = listing_of(None, page(remote(1)), page(remote(1)))
    for expected in ("no answer in time", None, None):
        assert await listing.refresh()
        assert listing.problem == expected
    assert around.failed == [("environments", "timeout")]
    assert api.healths == [Health.UNKNOWN, Health.TIMING_OUT, Health.HEALTHY]


async def test_until_every_workspace_was_listed_once_the_environments_are_a_part() -> None:
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "a": [page()],
        "b": [ApiError("server", "the API answered 500"), page(remote(2)), ApiError("server", "the API answered 500")],
    }
    async with running(scripts, config_of("a", "b")) as rig:
        unlisted = [rig.discovery.unlisted]
        for _ in range(2):
            await rig.pass_time(300)
            unlisted.append(rig.discovery.unlisted)
        assert unlisted == [("b",), (), ()]  # a list that is old is a whole one


async def test_a_workspace_that_the_budget_keeps_waiting_is_tried_again_when_others_have_been_listed() -> None:
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "a": [Throttled(), page(remote(1))],
        "b": [page(remote(2))],
    }
    async with running(scripts, config_of("a", "b")) as rig:
        assert rig.ids() == ["env_1", "env_2"]
        assert rig.around.failed == []


async def test_a_reload_lists_what_is_new_at_once_and_forgets_what_is_gone() -> None:
    scripts: dict[str, list[EnvironmentPage | Exception | None]] = {
        "a": [page(remote(1))],
        "b": [None],
        "c": [page(remote(3))],
    }
    async with running(scripts, config_of("a", "b")) as rig:
        kept = rig.listing("a")
        await rig.reload(config_of("a", "c"))
        assert rig.calls() == {"a": 1, "b": 1, "c": 1}
        assert rig.ids() == ["env_1", "env_3"]
        assert rig.listing("a") is kept
        assert [api.closed for api in rig.apis] == [False, True, False]  # a call under way is cut short
    assert all(api.closed for api in rig.apis)


async def test_another_organisation_is_listed_at_once_and_nothing_of_the_first_is_shown() -> None:
    async with running({"a": [page(remote(1))]}, config_of("a")) as rig:
        rig.around.config = config_of("a", base_url="https://b.example/v1")
        rig.discovery.reconfigure()
        assert (rig.ids(), rig.discovery.unlisted) == ([], ("a",))
        await anyio.wait_all_tasks_blocked()
        assert [len(api.cursors) for api in rig.apis] == [1, 1]


async def test_what_was_found_is_forgotten_while_discovery_is_off() -> None:
    async with running({"": [page(remote(1))]}, config_of()) as rig:
        await rig.reload(Config())
        assert (rig.ids(), rig.discovery.unlisted) == ([], ())
        rig.around.config = config_of()
        rig.discovery.reconfigure()
        assert (rig.ids(), rig.discovery.unlisted) == ([], ("",))


async def test_an_environment_in_several_lists_is_in_the_first_workspace_of_the_configuration() -> None:
    lists = {each: [page(replace(remote(1), workspace_id=each))] for each in "ba"}
    async with running(lists, config_of("b", "a")) as rig:  # type: ignore[arg-type]  # pages alone
        assert [each.workspace_id for each in rig.discovery.environments] == ["b"]


async def test_a_scrape_waits_for_the_first_try_of_every_workspace_and_no_longer_than_it_has() -> None:
    rig = Rig(Surroundings(config_of("a", "b")), {"a": [page()], "b": [None]})
    with anyio.move_on_after(0.05) as scope:
        await rig.discovery.wait_for_answer(float("inf"))
    assert scope.cancelled_caught
    await rig.discovery.wait_for_answer(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.discovery.run)
        tasks.start_soon(rig.discovery.wait_for_answer, float("inf"))
        await anyio.wait_all_tasks_blocked()
        await rig.reload(config_of("a"))  # nobody waits for what is listed no more
        tasks.cancel_scope.cancel()


async def test_discovery_that_is_off_asks_nothing_and_keeps_nobody_waiting() -> None:
    async with running({}, Config()) as rig:
        with anyio.fail_after(30):
            await rig.discovery.wait_for_answer(float("inf"))
        assert (rig.ids(), rig.discovery.unlisted, rig.apis) == ([], (), [])
