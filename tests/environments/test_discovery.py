"""What the directory names is merged with the file under unique, stable names, and a failure loses nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.admission import CallRequest, Throttled
from exporter.api.client import ApiError, Reading
from exporter.api.wire import EnvironmentPage, RemoteEnvironment
from exporter.config.model import DISCOVERY_PAGE_SIZE, EnvironmentConfig
from exporter.environments.discovery import Discovery, merge
from exporter.log import Log
from tests.api.api_context import TransitionDetector

pytestmark = pytest.mark.anyio


def remote(number: int | str, name: str = "", *, self_hosted: bool = True, archived: bool = False) -> RemoteEnvironment:
    return RemoteEnvironment(f"env_{number}", name, self_hosted, archived)


def configured(number: int | str, name: str | None = None) -> EnvironmentConfig:
    return EnvironmentConfig(id=f"env_{number}", name=name or f"env_{number}")


# ---- merging


def names(file: list[EnvironmentConfig], found: list[RemoteEnvironment], *before: dict[str, str]) -> dict[str, str]:
    """Return the name of each environment by its id; `before`: what was found in earlier answers, in order."""
    exported = merge(file, ())
    for answer in before:
        exported = merge(file, [remote(key, name) for key, name in answer.items()], exported)
    return {each.id: each.name for each in merge(file, found, exported)}


def test_environments_of_the_file_come_first_and_keep_their_names_and_origin() -> None:
    merged = merge([configured(1, "one")], [remote(1, "uno"), remote(2, "two")])
    assert [(each.id, each.name, each.origin) for each in merged] == [
        ("env_1", "one", "config"),
        ("env_2", "two", "discovery"),
    ]


def test_a_name_that_the_file_has_given_is_not_given_again() -> None:
    assert names([configured(1, "one")], [remote(2, "one")]) == {"env_1": "one", "env_2": "env_2"}


def test_of_two_with_the_same_name_the_first_by_id_has_it() -> None:
    assert names([], [remote(2, "same"), remote(1, "same")]) == {"env_1": "same", "env_2": "env_2"}


def test_a_name_that_was_given_stays_when_another_comes_to_claim_it() -> None:
    assert names([], [remote(1, "same"), remote(2, "same")], {"2": "same"}) == {"env_1": "env_1", "env_2": "same"}


def test_nobody_is_named_by_the_id_of_another() -> None:
    assert names([], [remote(1, "env_2"), remote(2, "two")]) == {"env_1": "env_1", "env_2": "two"}


def test_an_environment_without_a_name_is_named_by_its_id() -> None:
    assert names([], [remote(1)]) == {"env_1": "env_1"}


def test_an_environment_that_comes_twice_is_exported_once() -> None:
    assert names([], [remote(1, "one"), remote(1, "uno")]) == {"env_1": "uno"}


few_names = st.sampled_from(["", "a", "b", "env_1", "env_2", "env_2-"])
few_names_of_the_file = st.sampled_from(["a", "b", "env_2-"])
answers = st.dictionaries(st.integers(0, 5), few_names, max_size=6)


@given(st.dictionaries(st.integers(0, 5), few_names_of_the_file, max_size=3), st.lists(answers, min_size=1, max_size=4))
def test_names_are_unique_and_stay_while_the_directory_s_answer_does(
    file: dict[int, str], directory: list[dict[int, str]]
) -> None:
    unique = {name: number for number, name in file.items()}
    ours = [configured(number, name) for name, number in unique.items()]
    exported = merge(ours, ())
    for answer in directory:
        found = [remote(number, name) for number, name in answer.items()]
        exported = merge(ours, found, exported)
        given_names = [each.name for each in exported]
        assert len(set(given_names)) == len(given_names)
        assert {each.id for each in exported} == {each.id for each in ours} | {each.id for each in found}
        assert set(merge(ours, found[::-1], exported)) == set(exported)


# ---- reading


@dataclass
class Directory:
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


def discovery_of(*outcomes: EnvironmentPage | Exception) -> tuple[Discovery, Directory, TransitionDetector]:
    directory, witness = Directory(deque(outcomes)), TransitionDetector()
    return Discovery(directory, observer=witness, log=Log()), directory, witness  # type: ignore[arg-type]  # EnvironmentsApi's face


def ids(discovery: Discovery) -> list[str] | None:
    return None if discovery.found is None else [each.id for each in discovery.found]


async def test_all_pages_are_read_and_only_live_self_hosted_environments_found() -> None:
    discovery, directory, _ = discovery_of(
        page(remote(1), remote(2, self_hosted=False), cursor="a"),
        page(remote(3, archived=True), cursor="b"),
        page(remote(4)),
    )
    assert ids(discovery) is None
    assert await discovery.refresh()
    assert (ids(discovery), directory.cursors, discovery.problem) == (["env_1", "env_4"], [None, "a", "b"], None)


async def test_an_environment_on_two_pages_is_found_once_as_it_was_last() -> None:
    discovery, _, _ = discovery_of(page(remote(1), cursor="a"), page(remote(1, archived=True), remote(2)))
    await discovery.refresh()
    assert ids(discovery) == ["env_2"]


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]])
async def test_cursors_that_go_round_end_the_read_as_a_bad_payload(cursors: list[str]) -> None:
    discovery, directory, witness = discovery_of(*(page(remote(1), cursor=cursor) for cursor in cursors))
    assert await discovery.refresh()
    assert (ids(discovery), witness.failed) == (None, [("environments", "bad_payload")])
    assert len(directory.cursors) == len(cursors)


async def test_a_failure_keeps_what_was_found_and_says_so_until_it_is_over() -> None:
    discovery, _, witness = discovery_of(page(remote(1)), ApiError("server", "the API answered 500"), page(remote(2)))
    await discovery.refresh()
    assert await discovery.refresh()
    assert (ids(discovery), discovery.problem) == (["env_1"], "the API answered 500")
    assert witness.failed == [("environments", "server")]
    await discovery.refresh()
    assert (ids(discovery), discovery.problem) == (["env_2"], None)


async def test_a_failure_in_the_middle_keeps_what_was_found_and_starts_over() -> None:
    discovery, directory, _ = discovery_of(
        page(remote(1)), page(remote(2), cursor="a"), ApiError("timeout", "no answer"), page(remote(3))
    )
    for _ in range(2):
        await discovery.refresh()
    assert ids(discovery) == ["env_1"]
    await discovery.refresh()
    assert (ids(discovery), directory.cursors) == (["env_3"], [None, None, "a", None])


async def test_a_budget_too_small_for_a_whole_walk_lets_it_go_on_where_it_was() -> None:
    discovery, directory, witness = discovery_of(page(remote(1), cursor="a"), Throttled(), page(remote(2)))
    assert not await discovery.refresh()
    assert ids(discovery) is None
    assert await discovery.refresh()
    assert (ids(discovery), directory.cursors) == (["env_1", "env_2"], [None, "a", "a"])
    assert witness.failed == []


async def test_a_forgotten_directory_is_read_from_the_start() -> None:
    discovery, directory, _ = discovery_of(page(remote(1), cursor="a"), Throttled(), page(remote(2)))
    await discovery.refresh()
    discovery.forget()
    await discovery.refresh()
    assert (ids(discovery), directory.cursors) == (["env_2"], [None, "a", None])


async def test_an_organisation_without_environments_is_found_empty() -> None:
    discovery, _, _ = discovery_of(page())
    await discovery.refresh()
    assert discovery.found == ()
