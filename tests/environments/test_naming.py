"""Names are a function of the file and the list of environments: whoever reads the same gives the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.wire import RemoteEnvironment
from exporter.config.model import ApiConfig, Config, EnvironmentConfig, WorkConfig
from exporter.environments.naming import name_environments
from exporter.environments.snapshot import Environment

if TYPE_CHECKING:
    import random


def remote(suffix: str, name: str = "", created_at: float | None = None) -> RemoteEnvironment:
    return RemoteEnvironment(f"env_{suffix}", name, self_hosted=True, archived=False, created_at=created_at)


def file(*names: str) -> Config:
    return Config(
        environments=tuple(EnvironmentConfig(id=f"env_file{number}", name=name) for number, name in enumerate(names))
    )


def names(config: Config, *found: RemoteEnvironment) -> dict[str, str]:
    """Return the names of the found environments by the end of their ids."""
    named = name_environments(config, found)
    return {each.id.removeprefix("env_"): each.name for each in named if each.origin == "discovery"}


def test_environments_of_the_file_come_first_with_what_the_file_says_of_them() -> None:
    config = Config(
        api=ApiConfig(workspace_id="wrkspc_1"),
        work=WorkConfig(wait_objective_s=60),
        environments=(
            EnvironmentConfig(id="env_1", name="one", worker_mode="webhook", wait_objective_s=30),
            EnvironmentConfig(id="env_2", name="two", workspace_id="wrkspc_2"),
        ),
    )
    found = [replace(remote(*each), workspace_id="wrkspc_3") for each in (("1", "uno"), ("3", "three"))]
    assert name_environments(config, found) == (
        Environment(id="env_1", name="one", worker_mode="webhook", workspace_id="wrkspc_1", wait_objective_s=30),
        Environment(id="env_2", name="two", workspace_id="wrkspc_2", wait_objective_s=60),
        Environment(id="env_3", name="three", origin="discovery", workspace_id="wrkspc_3", wait_objective_s=60),
    )


@pytest.mark.parametrize(
    ("own", "of_api", "expected"),
    [("wrkspc_1", "wrkspc_2", "wrkspc_1"), (None, "wrkspc_2", "wrkspc_2"), (None, None, "wrkspc_3")],
)
def test_the_files_workspace_wins_and_where_it_names_none_the_list_knows_it(
    own: str | None, of_api: str | None, expected: str
) -> None:
    config = Config(
        api=ApiConfig(workspace_id=of_api),
        environments=(EnvironmentConfig(id="env_1", name="one", workspace_id=own),),
    )
    (environment,) = name_environments(config, [replace(remote("1", "uno"), workspace_id="wrkspc_3")])
    assert (environment.name, environment.origin, environment.workspace_id) == ("one", "config", expected)


def test_an_objective_of_0_is_one() -> None:
    config = Config(environments=(EnvironmentConfig(id="env_1", name="one", wait_objective_s=0),))
    (environment,) = name_environments(config, ())
    assert environment.wait_objective_s == 0


def test_of_two_with_one_name_the_older_keeps_it() -> None:
    found = remote("AAAA0001", "prod", 200.0), remote("BBBB0002", "prod", 100.0)
    assert names(file(), *found) == {"AAAA0001": "prod-AA0001", "BBBB0002": "prod"}


def test_of_two_as_old_as_each_other_the_first_by_id_keeps_it() -> None:
    found = remote("BBBB0002", "prod", 100.0), remote("AAAA0001", "prod", 100.0)
    assert names(file(), *found) == {"AAAA0001": "prod", "BBBB0002": "prod-BB0002"}


def test_one_whose_age_is_not_known_counts_as_the_youngest() -> None:
    found = remote("AAAA0001", "prod"), remote("BBBB0002", "prod", 100.0)
    assert names(file(), *found) == {"AAAA0001": "prod-AA0001", "BBBB0002": "prod"}


def test_the_files_names_are_taken() -> None:
    assert names(file("prod"), remote("AAAA0001", "prod", 1.0)) == {"AAAA0001": "prod-AA0001"}


def test_as_much_of_the_id_is_added_as_makes_the_name_unique() -> None:
    found = remote("XXXX000001", "prod", 2.0), remote("YYYY000001", "prod", 3.0), remote("Z", "prod", 1.0)
    assert names(file(), *found) == {"XXXX000001": "prod-000001", "YYYY000001": "prod-Y000001", "Z": "prod"}


def test_a_short_id_is_added_without_its_prefix() -> None:
    assert names(file("prod"), remote("new", "prod")) == {"new": "prod-new"}


def test_a_name_that_somebody_has_is_left_to_them() -> None:
    found = remote("AAAA0001", "prod", 1.0), remote("BBBB0002", "prod", 2.0), remote("CCCC0003", "prod-BB0002", 3.0)
    assert names(file(), *found) == {"AAAA0001": "prod", "BBBB0002": "prod-BBB0002", "CCCC0003": "prod-BB0002"}


@pytest.mark.parametrize("name", ["", "env_BBBB0002", "env_gone"])
def test_an_environment_without_a_usable_name_is_named_by_its_id(name: str) -> None:
    assert names(file(), remote("AAAA0001", name, 1.0)) == {"AAAA0001": "env_AAAA0001"}


def test_a_name_of_full_length_keeps_to_the_limit() -> None:
    named = names(file(), remote("AAAA0001", "p" * 128, 1.0), remote("BBBB0002", "p" * 128, 2.0))
    assert named == {"AAAA0001": "p" * 128, "BBBB0002": "p" * 121 + "-BB0002"}


def test_an_environment_that_comes_twice_is_exported_once() -> None:
    assert names(file(), remote("1", "one"), remote("1", "uno")) == {"1": "uno"}


few_names = st.sampled_from(["", "a", "b", "env_1", "a-000001", "a-X000001"])
ids = st.sampled_from(["1", "000001", "X000001", "Y000001", "XY000001", "b"])
lists = st.lists(
    st.builds(remote, ids, few_names, st.none() | st.integers(0, 2).map(float)),
    max_size=6,
    unique_by=lambda each: each.id,
)


@given(
    st.lists(st.sampled_from(["a", "b", "a-000001"]), unique=True, max_size=2), lists, st.randoms(use_true_random=False)
)
def test_names_are_unique_and_no_order_of_the_list_changes_them(
    names_of_file: list[str], found: list[RemoteEnvironment], shuffle: random.Random
) -> None:
    config = file(*names_of_file)
    named = name_environments(config, found)
    given_names = [each.name for each in named]
    assert len(set(given_names)) == len(given_names)
    assert all(not each.name.startswith("env_") or each.name == each.id for each in named)
    shuffled = list(found)
    shuffle.shuffle(shuffled)
    assert name_environments(config, shuffled) == named
