"""The server around the simulated API: where it listens, and that it ends at once."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time

import httpx
import pytest

from exporter.simulator import Options, World, make_app, serving
from tests.ample import AMPLE_S
from tests.simulated import running
from tests.simulator.faults import FaultySimulator


@pytest.mark.anyio
@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_it_serves_at_the_address_it_names(host: str, shown: str) -> None:
    app = make_app(World(time.time), Options(prefix="/api/v1/cloud"))
    async with serving(app, host) as base_url, httpx.AsyncClient() as client:
        assert base_url.startswith(f"http://{shown}:")
        assert base_url.endswith("/api/v1/cloud")
        response = await client.get(f"{base_url}/environments")
        assert response.status_code in {400, 401}
        assert [name for name, _ in response.headers.multi_items()].count("date") == 1


@pytest.mark.anyio
async def test_an_address_in_use_is_an_error_of_the_caller() -> None:
    app = make_app(World(time.time))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with serving(app, port=taken.getsockname()[1]):
            pass


@pytest.mark.anyio
async def test_signals_stay_with_the_program() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(make_app(World(time.time))):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["hang", "stall", "drip-body", "endless-body"])
async def test_it_ends_at_once_whatever_hangs(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(time.time)
    world.add_environment("env_a")
    app = FaultySimulator(world, Options(check_headers=False))
    app.faults.inject(fault)
    headers = {"x-api-key": app.options.api_key}
    async with httpx.AsyncClient(timeout=2 * AMPLE_S) as client:
        async with serving(app) as base_url:
            path = f"{base_url}/environments/env_a/work/stats"
            calls = [asyncio.create_task(client.get(path, headers=headers)) for _ in range(3)]
            while app.calls.count() < 3:  # noqa: ASYNC110 - the simulator has no event for "somebody asked"
                await asyncio.sleep(0.005)
            ending_at = time.monotonic()
        assert time.monotonic() - ending_at < AMPLE_S
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, httpx.TransportError) for outcome in outcomes)
    assert [record.message for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


def test_a_caller_who_hangs_up_is_not_given_work() -> None:
    with running(options=Options(check_headers=False)) as sim:
        queue = sim.call(sim.world.add_environment, "env_a", key="key-a")
        path = f"{sim.base_url}/environments/env_a/work/poll?block_ms=999"
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(path, headers={"authorization": "Bearer key-a"}, timeout=0.05)
        while sim.call(lambda: queue.arrivals):
            time.sleep(0.005)
        sim.call(queue.create)
        assert sim.call(queue.stats).depth == 1


def test_the_thread_of_a_test_ends_with_it() -> None:
    with running() as sim:
        assert httpx.get(sim.base_url.removesuffix("/v1")).status_code == 200
        assert sim.call(lambda: threading.current_thread().name) == "simulator"
    assert "simulator" not in {thread.name for thread in threading.enumerate()}


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement() -> None:
    with running() as sim, httpx.Client(base_url=sim.base_url.removesuffix("/v1")) as client:
        client.get("/")
        took_s = []
        for _ in range(50):
            began = time.perf_counter()
            client.get("/")
            took_s.append(time.perf_counter() - began)
        assert min(took_s) < 0.035  # an acknowledgement is never sent sooner, however busy or idle the machine
