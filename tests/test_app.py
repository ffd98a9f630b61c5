"""The parts together: what a reload keeps and what it forgets."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import pytest

from exporter.app import App, Settings
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, DiscoveryConfig, EnvironmentConfig, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.environments import roster
from exporter.environments.naming import name_environments
from exporter.log import Log
from exporter.simulator import World
from exporter.web.routes import WebSettings
from exporter.web.web_config_reload import ReloadingWebConfig
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator() -> Iterator[Running]:
    world = World(time.time)
    world.add_environment("env_1", name="one", key="key-1").create()
    with running(world) as simulator:
        yield simulator


@dataclass
class Rig:
    """What the app loads; the test replaces it."""

    config: Config

    def load(self) -> Config:
        return self.config


@asynccontextmanager
async def app_of(rig: Rig) -> AsyncIterator[App]:
    log = Log("exporter.tests")
    app = App(
        Settings(load=rig.load, web=WebSettings(), web_config=ReloadingWebConfig(None, log), clock=Clock(), log=log),
    )
    async with app.running():
        yield app


def config_of(simulator: Running, *, discovery: bool = False, key: str = "KEY") -> Config:
    keys = {key: simulator.options.api_key, "ENVIRONMENT": "key-1"}
    configured = EnvironmentConfig(id="env_1", name="one", environment_key=EnvSecret("ENVIRONMENT", keys))
    return Config(
        api=ApiConfig(base_url=simulator.base_url, api_key=EnvSecret(key, keys)),
        scrape=ScrapeConfig(min_interval_s=0),
        discovery=DiscoveryConfig(enabled=discovery, interval_s=3600),
        environments=() if discovery else (configured,),
    )


async def test_a_reader_lives_as_long_as_what_it_remembers_is_of_the_same_thing(simulator: Running) -> None:
    first = config_of(simulator)
    rig = Rig(first)
    async with app_of(rig) as app:
        (reader,) = app.roster.readers
        (configured,) = first.environments
        rig.config = replace(
            first,
            environments=(replace(configured, name="renamed", worker_mode="webhook"),),
            api=replace(first.api, requests_per_minute=60),
        )
        assert await app.reload() == ()
        assert app.roster.readers == (reader,)
        assert (reader.environment.name, reader.environment.worker_mode) == ("renamed", "webhook")
        rig.config = replace(first, api=replace(first.api, workspace_id="another"))
        assert await app.reload() == ()
        assert app.roster.readers != (reader,)


async def test_another_organisation_is_listed_at_once_and_the_same_one_is_not(simulator: Running) -> None:
    rig = Rig(config_of(simulator, discovery=True))
    async with app_of(rig) as app:
        await listed(simulator, 1)
        assert await app.reload() == ()
        await anyio.wait_all_tasks_blocked()
        assert simulator.calls.count("environments") == 1
        rig.config = config_of(simulator, discovery=True, key="ANOTHER")
        assert await app.reload() == ()
        assert app.discovery.unlisted == ("",)
        await listed(simulator, 2)


async def test_a_wait_that_one_server_asked_for_does_not_hold_for_another(simulator: Running) -> None:
    rig = Rig(config_of(simulator))
    async with app_of(rig) as app:
        app.admission.rate_limited(300.0)
        assert await app.reload() == ()
        assert app.admission.wait_s > 0
        rig.config = replace(rig.config, api=replace(rig.config.api, base_url="http://127.0.0.1:1"))
        assert await app.reload() == ()
        assert app.admission.wait_s == 0


async def test_a_reload_that_breaks_half_way_leaves_the_same_readers_and_says_so(
    simulator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(config_of(simulator))
    async with app_of(rig) as app:
        before, readers = app.config, app.roster.readers
        rig.config = replace(before, environments=(), api=replace(before.api, concurrency=1))
        with monkeypatch.context() as patched:
            patched.setattr(roster, "name_environments", BreaksOnce(name_environments))
            assert await app.reload() == ("a defect of the exporter (RuntimeError); its log says more",)
        assert (app.config, app.roster.readers) == (before, readers)
        assert app.registry.get_sample_value("managed_agents_exporter_config_last_reload_successful") == 0
        assert await app.reload() == ()
        assert app.roster.readers == ()


class BreaksOnce:
    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._broke = False

    def __call__(self, *arguments: object) -> object:
        if not self._broke:
            self._broke = True
            raise RuntimeError("half done")
        return self._function(*arguments)


async def listed(simulator: Running, times: int) -> None:
    with anyio.fail_after(5):
        while simulator.calls.count("environments") < times:  # noqa: ASYNC110 -- the simulator lives in another thread
            await anyio.sleep(0.01)
