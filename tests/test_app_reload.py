"""What a reload keeps, what it forgets, and how often it reads the file when many ask for it."""

from __future__ import annotations

import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from exporter.app import App, Settings
from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, ConfigError, DiscoveryConfig, EnvironmentConfig, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.log import Log
from exporter.simulator import World
from exporter.web.routes import WebSettings
from exporter.web.web_config_reload import ReloadingWebConfig
from tests.simulated import Running, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def simulator() -> Iterator[Running]:
    world = World(time.time)
    world.add_environment("env_1", name="one", key="key-1").create()
    with running(world) as simulator:
        yield simulator


@dataclass
class Rig:
    """An app whose configuration the test replaces. `loads`: how often it was read."""

    config: Config | ConfigError
    loads: int = 0
    began: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_go_on.set()

    def load(self) -> Config:
        self.loads += 1
        if not self.may_go_on.is_set():
            self.began.set()
        assert self.may_go_on.wait(5)
        if isinstance(self.config, ConfigError):
            raise self.config
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


async def test_who_asks_during_a_reload_shares_the_next_one(simulator: Running) -> None:
    rig = Rig(config_of(simulator))
    async with app_of(rig) as app:
        rig.may_go_on.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.reload)
            await anyio.to_thread.run_sync(rig.began.wait, 5)
            # The file may have changed since the first read it: none of these can do with that.
            for _ in range(30):
                tasks.start_soon(app.reload)
            await anyio.wait_all_tasks_blocked()
            rig.may_go_on.set()
    at_the_start = 1
    assert rig.loads == at_the_start + 2


async def test_everybody_who_shares_a_refused_reload_hears_the_problems(simulator: Running) -> None:
    rig = Rig(config_of(simulator))
    async with app_of(rig) as app:
        in_force = app.config
        rig.config = ConfigError(("scrape.timeout: no duration",))
        answers: list[tuple[str, ...]] = []

        async def reload() -> None:
            answers.append(await app.reload())

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(reload)
        assert answers == [("scrape.timeout: no duration",)] * 5
        assert app.config is in_force


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


async def test_another_directory_is_listed_at_once_and_the_same_one_is_not(simulator: Running) -> None:
    rig = Rig(config_of(simulator, discovery=True))
    async with app_of(rig) as app:
        await listed(simulator, 1)
        assert await app.reload() == ()
        await anyio.wait_all_tasks_blocked()
        assert simulator.calls.count("environments") == 1
        rig.config = config_of(simulator, discovery=True, key="ANOTHER")
        assert await app.reload() == ()
        assert app.discovery.found is None
        await listed(simulator, 2)


async def listed(simulator: Running, times: int) -> None:
    with anyio.fail_after(5):
        while simulator.calls.count("environments") < times:  # noqa: ASYNC110 -- the simulator lives in another thread
            await anyio.sleep(0.01)
