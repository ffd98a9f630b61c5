"""The demo: a simulated API that starts and ends, and a configuration that exports all of it."""

from __future__ import annotations

import httpx
import pytest

from exporter.config.secret import Secret
from exporter.demo import DEMO_WORKSPACES, demo_config, set_up_workspaces, simulated_api
from exporter.simulator import DEMO_ENVIRONMENTS
from exporter.web.addresses import AddressError, listen


@pytest.mark.anyio
async def test_the_simulated_api_answers_while_the_block_runs_and_no_longer() -> None:
    async with simulated_api("127.0.0.1:0") as (simulator, base_url), httpx.AsyncClient() as client:
        listed = (await client.get(base_url.removesuffix("v1"))).json()
        assert listed["api_key"] == simulator.options.api_key
        assert {each["id"] for each in listed["environments"]} >= {demo.id for demo in DEMO_ENVIRONMENTS}
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(base_url)


@pytest.mark.anyio
async def test_the_configuration_names_every_environment_of_the_demo_with_its_key() -> None:
    async with simulated_api("127.0.0.1:0") as (simulator, base_url):
        set_up_workspaces(simulator)
        config = demo_config(simulator, base_url)
    assert (config.api.base_url, config.discovery.enabled) == (base_url, True)
    assert config.api.api_key is not None
    assert config.api.api_key.read() == Secret(simulator.options.api_key)
    keys = {each.id: each.environment_key.read() for each in config.environments if each.environment_key}
    assert keys == {demo.id: Secret(demo.key) for demo in DEMO_ENVIRONMENTS}
    workspaces = [each.workspace_id for each in config.environments]
    assert workspaces == [simulator.world.workspace_of(demo.id) for demo in DEMO_ENVIRONMENTS]
    assert set(workspaces) == set(config.discovery.workspaces) == set(DEMO_WORKSPACES)


@pytest.mark.anyio
async def test_the_simulated_api_by_itself_has_no_workspaces() -> None:
    async with simulated_api("127.0.0.1:0") as (simulator, _):
        assert simulator.world.workspaces() == frozenset()
        set_up_workspaces(simulator)
        assert simulator.world.workspaces() == frozenset(DEMO_WORKSPACES)


@pytest.mark.anyio
async def test_an_address_in_use_is_named() -> None:
    (listener,) = listen("127.0.0.1:0")
    with listener as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"cannot listen on {address}: "):
            async with simulated_api(address):
                pass
