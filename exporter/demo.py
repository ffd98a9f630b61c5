"""The embedded simulated Work API, started and ended, and the configuration that exports it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from exporter.clock import Clock
from exporter.config.model import ApiConfig, Config, DiscoveryConfig, EnvironmentConfig, ScrapeConfig
from exporter.config.secret import EnvSecret
from exporter.web.addresses import AddressError, parse_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.simulator import Simulator

DEMO_REQUESTS_PER_MINUTE = 6000
DEMO_MIN_INTERVAL_S = 0.5
DEMO_WORKSPACES = ("wrkspc_demo1_product", "wrkspc_demo2_labs")


@asynccontextmanager
async def simulated_api(address: str) -> AsyncIterator[tuple[Simulator, str]]:
    """Serve the demo's world while the block runs; yield the simulator and its base URL. Raises AddressError."""
    from exporter.simulator import demo_world, make_app, serving  # noqa: PLC0415 -- an exporter at work needs nothing of it

    host, port = parse_address(address)
    world, fleet = demo_world(Clock().wall)
    simulator = make_app(world)
    async with AsyncExitStack() as stack:
        try:
            base_url = await stack.enter_async_context(serving(simulator, host or "127.0.0.1", port))
        except OSError as problem:
            raise AddressError(f"cannot listen on {address}: {problem.strerror or problem}") from None
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(fleet.run)
        try:
            yield simulator, base_url
        finally:
            tasks.cancel_scope.cancel()


def set_up_workspaces(simulator: Simulator) -> None:
    """Divide the demo's environments among its workspaces. Without this the simulated organisation has none."""
    from exporter.simulator import DEMO_ENVIRONMENTS  # noqa: PLC0415 -- as in simulated_api

    for number, demo in enumerate(DEMO_ENVIRONMENTS):
        simulator.world.place(DEMO_WORKSPACES[number * len(DEMO_WORKSPACES) // len(DEMO_ENVIRONMENTS)], demo.id)


def demo_config(simulator: Simulator, base_url: str) -> Config:
    """Return what exports the demo's environments. The key is the organisation's: calls with it name the workspace."""
    from exporter.simulator import DEMO_ENVIRONMENTS  # noqa: PLC0415 -- as in simulated_api

    keys = {demo.id: demo.key for demo in DEMO_ENVIRONMENTS}
    return Config(
        api=ApiConfig(
            base_url=base_url,
            api_key=EnvSecret("api_key", {"api_key": simulator.options.api_key}),
            requests_per_minute=DEMO_REQUESTS_PER_MINUTE,
        ),
        scrape=ScrapeConfig(min_interval_s=DEMO_MIN_INTERVAL_S),
        discovery=DiscoveryConfig(enabled=True, workspaces=tuple(sorted(simulator.world.workspaces()))),
        environments=tuple(
            EnvironmentConfig(
                id=demo.id,
                name=demo.name,
                environment_key=EnvSecret(demo.id, keys),
                worker_mode=demo.worker_mode,
                workspace_id=simulator.world.workspace_of(demo.id) or None,
            )
            for demo in DEMO_ENVIRONMENTS
        ),
    )
