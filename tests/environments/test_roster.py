"""A reader lives as long as what it remembers is of the same environment, read with the same credentials."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.api.wire import RemoteEnvironment
from exporter.config.model import ApiConfig, Config, EnvironmentConfig, WorkConfig
from exporter.config.secret import EnvSecret
from exporter.environments.roster import Roster
from tests.environments.fake_api import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = {"A": "key-a", "B": "key-b"}
CONFIG = Config(
    environments=(
        EnvironmentConfig(id="env_1", name="one", environment_key=EnvSecret("A", KEYS)),
        EnvironmentConfig(id="env_2", name="two", environment_key=EnvSecret("A", KEYS)),
    )
)


def roster_of(config: Config) -> Roster:
    roster = Roster(Surroundings(config).context, lambda: None)  # type: ignore[arg-type, return-value]  # no call is made
    assert roster.apply(config, ()) == []
    return roster


def test_an_environment_is_found_by_its_id_and_by_its_name() -> None:
    roster = roster_of(CONFIG)
    one, two = roster.readers
    assert [roster.find(target) for target in ("env_1", "one", "env_2", "two", "three")] == [one, one, two, two, None]


def test_a_renamed_environment_keeps_its_reader() -> None:
    roster = roster_of(CONFIG)
    one, two = roster.readers
    renamed = replace(CONFIG, environments=(replace(CONFIG.environments[0], name="uno"), CONFIG.environments[1]))
    assert roster.apply(renamed, ()) == []
    assert roster.readers == (one, two)
    assert one.environment.name == "uno"


def test_what_is_exported_no_longer_is_handed_back_to_be_closed() -> None:
    roster = roster_of(CONFIG)
    one, two = roster.readers
    assert roster.apply(replace(CONFIG, environments=CONFIG.environments[:1]), ()) == [two]
    assert roster.readers == (one,)


def test_found_environments_come_and_go_beside_the_configured_ones() -> None:
    roster = roster_of(CONFIG)
    roster.apply(CONFIG, [RemoteEnvironment("env_3", "three", self_hosted=True, archived=False)])
    assert [reader.environment.name for reader in roster.readers] == ["one", "two", "three"]
    (gone,) = roster.apply(CONFIG, ())
    assert gone.environment.id == "env_3"


@pytest.mark.parametrize(
    "change",
    [
        lambda config: replace(config, api=replace(config.api, base_url="https://other.example/v1")),
        lambda config: replace(config, api=replace(config.api, workspace_id="wrkspc_1")),
        lambda config: replace(config, api=replace(config.api, query={"beta": "true"})),
        lambda config: replace(config, api=replace(config.api, api_key=EnvSecret("A", KEYS))),
        lambda config: replace(config, listing=replace(config.listing, page_size=100)),
        lambda config: replace(config, work=WorkConfig(duration_buckets=(1.0,))),
    ],
    ids=["base_url", "workspace_id", "query", "api_key", "page_size", "duration_buckets"],
)
def test_another_api_credential_list_or_histogram_begins_anew(change: Callable[[Config], Config]) -> None:
    roster = roster_of(CONFIG)
    before = roster.readers
    assert roster.apply(change(CONFIG), ()) == list(before)
    assert set(roster.readers).isdisjoint(before)


def test_another_key_of_one_environment_begins_that_one_anew() -> None:
    roster = roster_of(CONFIG)
    one, two = roster.readers
    rekeyed = replace(CONFIG.environments[0], environment_key=EnvSecret("B", KEYS))
    assert roster.apply(replace(CONFIG, environments=(rekeyed, CONFIG.environments[1])), ()) == [one]
    assert roster.readers[1] is two


def test_a_workspace_of_its_own_begins_one_environment_anew_and_keeps_it_whatever_the_others_is() -> None:
    roster = roster_of(CONFIG)
    one, two = roster.readers
    moved = replace(
        CONFIG, environments=(replace(CONFIG.environments[0], workspace_id="wrkspc_1"), CONFIG.environments[1])
    )
    assert roster.apply(moved, ()) == [one]
    one = roster.readers[0]
    assert roster.apply(replace(moved, api=replace(moved.api, workspace_id="wrkspc_2")), ()) == [two]
    assert roster.readers[0] is one
    assert [reader.environment.workspace_id for reader in roster.readers] == ["wrkspc_1", "wrkspc_2"]


def test_a_found_environment_that_has_moved_to_another_workspace_begins_anew() -> None:
    roster = roster_of(Config())
    found = RemoteEnvironment("env_3", "three", self_hosted=True, archived=False, workspace_id="wrkspc_1")
    roster.apply(Config(), [found])
    (before,) = roster.readers
    assert roster.apply(Config(), [replace(found, workspace_id="wrkspc_2")]) == [before]


def test_a_changed_budget_keeps_every_reader() -> None:
    roster = roster_of(CONFIG)
    before = roster.readers
    assert roster.apply(replace(CONFIG, api=ApiConfig(requests_per_minute=60)), ()) == []
    assert roster.readers == before
